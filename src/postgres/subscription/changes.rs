//! The statements between two subscriptions.

use super::{Options, SlotName, Subscription};
use crate::postgres::conninfo::Conninfo;
use crate::postgres::sql::{Ident, Literal, Statement, list};
use crate::postgres::version::{self, ServerVersion, Unsupported};

/// What a change should do that no catalog stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct How {
    /// At creation: connect to the publisher. Without, no slot is made and no table is subscribed.
    pub connect: bool,
    /// At creation: make the slot. Without, one of that name must exist.
    pub create_slot: bool,
    /// Copy the rows of tables that become subscribed.
    pub copy_data: bool,
    /// Look for tables that the publications have gained or lost.
    pub refresh: bool,
    /// Send the connection even where it does not differ, or cannot be compared.
    pub resend_connection: bool,
}

impl Default for How {
    fn default() -> Self {
        Self {
            connect: true,
            create_slot: true,
            copy_data: true,
            refresh: false,
            resend_connection: false,
        }
    }
}

/// The statements that turn `current` into `desired`; none when they are equal and `how` asks for nothing.
///
/// Where Postgres changes an option of a disabled subscription only, the statements disable it, wait for its worker to
/// end, and enable it again. Fails where the server's version lacks something that `desired` asks for.
pub fn diff(
    current: Option<&Subscription>,
    desired: Option<&Subscription>,
    how: &How,
    version: ServerVersion,
) -> Result<Vec<Statement>, Unsupported> {
    match (current, desired) {
        (None, None) => Ok(Vec::new()),
        (Some(current), None) => Ok(vec![drop_with_slot(current)]),
        (None, Some(desired)) => {
            desired.options.check_supported(version)?;
            Ok(create(desired, how))
        }
        (Some(current), Some(desired)) => {
            desired.options.check_supported(version)?;
            alter(current, desired, how, version)
        }
    }
}

/// The statement that drops a subscription, and its slot on the publisher where it has one.
pub fn drop_with_slot(current: &Subscription) -> Statement {
    let text = format!("DROP SUBSCRIPTION {}", current.name);
    if current.slot == Some(SlotName::None) {
        Statement::new(text)
    } else {
        Statement::alone(text)
    }
}

/// The statements that drop a subscription without its publisher; the slot stays there, if it is there.
pub fn drop_detached(name: &Ident) -> Vec<Statement> {
    vec![
        disable(name),
        set(name, ["slot_name = NONE".to_owned()]),
        Statement::new(format!("DROP SUBSCRIPTION {name}")),
    ]
}

pub(super) fn disable(name: &Ident) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} DISABLE"))
}

pub(super) fn enable(name: &Ident) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} ENABLE"))
}

fn set(name: &Ident, options: impl IntoIterator<Item = String>) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} SET ({})", list(options)))
}

fn change_owner(name: &Ident, owner: &Ident) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} OWNER TO {owner}"))
}

/// Waits until the worker of a disabled subscription has ended.
fn wait_for_worker(name: &Ident) -> Statement {
    Statement::wait_until(format!(
        "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid \
         JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = {} AND w.pid IS NOT NULL)",
        Literal(name.as_str())
    ))
}

/// Makes the statement twice, with the connection and with what may be shown of it.
fn with_connection(
    connection: &Conninfo,
    text: impl Fn(Literal<'_>) -> String,
) -> (String, String) {
    (
        text(Literal(connection.to_secret().expose())),
        text(Literal(&connection.to_string())),
    )
}

fn create(desired: &Subscription, how: &How) -> Vec<Statement> {
    let options = creation_options(desired, how);
    let options = if options.is_empty() {
        String::new()
    } else {
        format!(" WITH ({})", list(options))
    };
    let (name, publications) = (&desired.name, list(&desired.publications));
    let connection = desired.connection.clone().unwrap_or_default();
    let (text, shown) = with_connection(&connection, |connection| {
        format!(
            "CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION {publications}{options}"
        )
    });
    let makes_slot = how.connect && how.create_slot && desired.slot != Some(SlotName::None);
    let create = if makes_slot {
        Statement::alone(text)
    } else {
        Statement::new(text)
    };
    let enable = (!how.connect && desired.enabled).then(|| enable(name));
    let owner = desired
        .owner
        .as_ref()
        .map(|owner| change_owner(name, owner));
    [create.showing(shown)]
        .into_iter()
        .chain(enable)
        .chain(owner)
        .collect()
}

fn creation_options(desired: &Subscription, how: &How) -> Vec<String> {
    let mut options = Vec::new();
    if how.connect {
        let no_slot = !how.create_slot || desired.slot == Some(SlotName::None);
        let unlike_default = [
            (no_slot, "create_slot = false"),
            (!desired.enabled, "enabled = false"),
            (!how.copy_data, "copy_data = false"),
        ];
        options.extend(
            unlike_default
                .into_iter()
                .filter(|(given, _)| *given)
                .map(|(_, option)| option.to_owned()),
        );
    } else {
        // Postgres takes the three options above as false then, and refuses anything else.
        options.push("connect = false".to_owned());
    }
    options.extend(desired.slot.as_ref().map(slot_option));
    options.extend(given_options(&desired.options, &Options::default()));
    options.extend(
        desired
            .options
            .two_phase
            .map(|value| format!("two_phase = {value}")),
    );
    options.extend(
        desired
            .options
            .failover
            .map(|value| format!("failover = {value}")),
    );
    options
}

fn slot_option(slot: &SlotName) -> String {
    match slot {
        SlotName::Named(slot) => format!("slot_name = {}", Literal(slot.as_str())),
        SlotName::None => "slot_name = NONE".to_owned(),
    }
}

/// The options that are given and differ, of those that Postgres changes at any time.
fn given_options(desired: &Options, current: &Options) -> Vec<String> {
    fn option<T: PartialEq + Clone>(
        name: &str,
        desired: &Option<T>,
        current: &Option<T>,
        text: impl Fn(T) -> String,
    ) -> Option<String> {
        let value = desired.clone().filter(|_| desired != current)?;
        Some(format!("{name} = {}", text(value)))
    }
    let yes_no = |value: bool| value.to_string();
    let options = [
        option("binary", &desired.binary, &current.binary, yes_no),
        option(
            "streaming",
            &desired.streaming,
            &current.streaming,
            |value| value.as_str().to_owned(),
        ),
        option(
            "synchronous_commit",
            &desired.synchronous_commit,
            &current.synchronous_commit,
            |value| Literal(&value).to_string(),
        ),
        option(
            "disable_on_error",
            &desired.disable_on_error,
            &current.disable_on_error,
            yes_no,
        ),
        option(
            "password_required",
            &desired.password_required,
            &current.password_required,
            yes_no,
        ),
        option(
            "run_as_owner",
            &desired.run_as_owner,
            &current.run_as_owner,
            yes_no,
        ),
        option("origin", &desired.origin, &current.origin, |value| {
            value.as_str().to_owned()
        }),
    ];
    options.into_iter().flatten().collect()
}

fn alter(
    current: &Subscription,
    desired: &Subscription,
    how: &How,
    version: ServerVersion,
) -> Result<Vec<Statement>, Unsupported> {
    let name = &desired.name;
    let mut statements = Vec::new();
    if current.name != *name {
        statements.push(Statement::new(format!(
            "ALTER SUBSCRIPTION {} RENAME TO {name}",
            current.name
        )));
    }
    statements.extend(change_connection(current, desired, how));
    let mut options = given_options(&desired.options, &current.options);
    let new_slot = desired
        .slot
        .as_ref()
        .filter(|slot| current.slot.as_ref() != Some(*slot));
    if let Some(slot @ SlotName::Named(_)) = new_slot {
        options.push(slot_option(slot));
    }
    if !options.is_empty() {
        statements.push(set(name, options));
    }
    let disabled_only = disabled_only(current, desired, version)?;
    let publications = change_publications(current, desired, how);
    statements.extend(order(current.enabled, desired, disabled_only, publications));
    if let Some(owner) = desired
        .owner
        .as_ref()
        .filter(|owner| current.owner.as_ref() != Some(owner))
    {
        statements.push(change_owner(name, owner));
    }
    Ok(statements)
}

fn change_connection(
    current: &Subscription,
    desired: &Subscription,
    how: &How,
) -> Option<Statement> {
    let connection = desired.connection.as_ref()?;
    let differs = current
        .connection
        .as_ref()
        .is_some_and(|current| current != connection);
    if !differs && !how.resend_connection {
        return None;
    }
    let name = &desired.name;
    let (text, shown) = with_connection(connection, |connection| {
        format!("ALTER SUBSCRIPTION {name} CONNECTION {connection}")
    });
    Some(Statement::new(text).showing(shown))
}

/// What Postgres changes only while the subscription is disabled.
fn disabled_only(
    current: &Subscription,
    desired: &Subscription,
    version: ServerVersion,
) -> Result<Vec<Statement>, Unsupported> {
    let name = &desired.name;
    let mut statements = Vec::new();
    if let Some(two_phase) = desired
        .options
        .two_phase
        .filter(|_| desired.options.two_phase != current.options.two_phase)
    {
        version.require(version::ALTER_TWO_PHASE)?;
        statements.push(Statement::alone(format!(
            "ALTER SUBSCRIPTION {name} SET (two_phase = {two_phase})"
        )));
    }
    if let Some(failover) = desired
        .options
        .failover
        .filter(|_| desired.options.failover != current.options.failover)
    {
        statements.push(Statement::alone(format!(
            "ALTER SUBSCRIPTION {name} SET (failover = {failover})"
        )));
    }
    if desired.slot == Some(SlotName::None) && current.slot != Some(SlotName::None) {
        statements.push(set(name, ["slot_name = NONE".to_owned()]));
    }
    Ok(statements)
}

/// The change of the publications, with the refresh that goes with it or that is asked for. Postgres refreshes enabled
/// subscriptions only: one that stays disabled gets its list alone.
fn change_publications(
    current: &Subscription,
    desired: &Subscription,
    how: &How,
) -> Option<Statement> {
    let name = &desired.name;
    let can_refresh = current.enabled || desired.enabled;
    let copy_data = if how.copy_data {
        ""
    } else {
        "copy_data = false"
    };
    if current.publications == desired.publications {
        let with = if copy_data.is_empty() {
            String::new()
        } else {
            format!(" WITH ({copy_data})")
        };
        return (how.refresh && can_refresh).then(|| {
            Statement::alone(format!(
                "ALTER SUBSCRIPTION {name} REFRESH PUBLICATION{with}"
            ))
        });
    }
    let added: Vec<_> = desired
        .publications
        .difference(&current.publications)
        .collect();
    let dropped: Vec<_> = current
        .publications
        .difference(&desired.publications)
        .collect();
    let (verb, publications) = match (added.is_empty(), dropped.is_empty()) {
        (false, true) => ("ADD", list(added)),
        (true, false) => ("DROP", list(dropped)),
        _ => ("SET", list(&desired.publications)),
    };
    let with = match (can_refresh, verb, copy_data) {
        (false, ..) => " WITH (refresh = false)",
        // DROP knows no copy_data before Postgres 15, and copies nothing that ADD would.
        (true, "ADD" | "SET", "copy_data = false") => " WITH (copy_data = false)",
        _ => "",
    };
    let text = format!("ALTER SUBSCRIPTION {name} {verb} PUBLICATION {publications}{with}");
    Some(if can_refresh {
        Statement::alone(text)
    } else {
        Statement::new(text)
    })
}

/// Puts the disabling and enabling where it belongs: publications are refreshed while enabled, the rest is changed while disabled.
fn order(
    enabled: bool,
    desired: &Subscription,
    disabled_only: Vec<Statement>,
    publications: Option<Statement>,
) -> Vec<Statement> {
    let name = &desired.name;
    let pause = |statements: &mut Vec<Statement>| {
        statements.push(disable(name));
        if !disabled_only.is_empty() {
            statements.push(wait_for_worker(name));
        }
    };
    let mut statements = Vec::new();
    match (enabled, desired.enabled) {
        (true, true) if disabled_only.is_empty() => statements.extend(publications),
        (true, true) => {
            pause(&mut statements);
            statements.extend(disabled_only);
            statements.push(enable(name));
            statements.extend(publications);
        }
        (true, false) => {
            statements.extend(publications);
            pause(&mut statements);
            statements.extend(disabled_only);
        }
        (false, true) => {
            statements.extend(disabled_only);
            statements.push(enable(name));
            statements.extend(publications);
        }
        (false, false) => {
            statements.extend(disabled_only);
            statements.extend(publications);
        }
    }
    statements
}
