// SPDX-License-Identifier: MPL-2.0

//! The statements between two subscriptions.

use std::collections::BTreeSet;

use super::{Options, SlotName, Subscription};
use crate::postgres::conninfo::Conninfo;
use crate::postgres::sql::{Ident, Literal, Statement, list};
use crate::postgres::version::{self, ServerVersion, Unsupported};

/// Options of a change that no catalog stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct How {
    /// At creation: connect to the publisher. Otherwise no slot is created and no table is subscribed.
    pub connect: bool,
    /// At creation: create the slot. Otherwise one of that name must exist.
    pub create_slot: bool,
    /// Copy the rows of newly subscribed tables.
    pub copy_data: bool,
    /// Look for tables that the publications have gained or lost.
    pub refresh: bool,
    /// Set the connection even if it does not differ, or cannot be compared.
    pub resend_connection: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { connect: true, create_slot: true, copy_data: true, refresh: false, resend_connection: false }
    }
}

/// The statements that turn `current` into `desired`; none if they are equal and `how` asks for nothing.
///
/// If Postgres changes an option only while the subscription is disabled, the statements disable it, wait for its
/// worker to end, and enable it again. Fails if the server's version lacks a feature of `desired`.
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

/// The statement that drops a subscription, and its slot on the publisher if it has one.
pub fn drop_with_slot(current: &Subscription) -> Statement {
    let text = format!("DROP SUBSCRIPTION {}", current.name);
    if current.slot == Some(SlotName::None) { Statement::new(text) } else { Statement::alone(text) }
}

/// The statements that drop a subscription without connecting to its publisher; an existing slot stays there.
pub fn drop_detached(name: &Ident) -> Vec<Statement> {
    vec![disable(name), set(name, ["slot_name = NONE".to_owned()]), Statement::new(format!("DROP SUBSCRIPTION {name}"))]
}

/// The statement that changes the list of publications to others with the same tables. It does not refresh, so it may
/// share a transaction, and it also works while the subscription is disabled.
pub fn rename_publications(name: &Ident, publications: &BTreeSet<Ident>) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} SET PUBLICATION {} WITH (refresh = false)", list(publications)))
}

pub(super) fn disable(name: &Ident) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} DISABLE"))
}

pub(super) fn enable(name: &Ident) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} ENABLE"))
}

pub(super) fn set(name: &Ident, options: impl IntoIterator<Item = String>) -> Statement {
    Statement::new(format!("ALTER SUBSCRIPTION {name} SET ({})", list(options)))
}

pub(super) fn change_owner(name: &Ident, owner: &Ident) -> Statement {
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

/// Builds the statement twice: with the connection, and with its redacted form.
fn with_connection(connection: &Conninfo, text: impl Fn(Literal<'_>) -> String) -> (String, String) {
    (text(Literal(connection.to_secret().expose())), text(Literal(&connection.to_string())))
}

fn create(desired: &Subscription, how: &How) -> Vec<Statement> {
    let options = creation_options(desired, how);
    let options = if options.is_empty() { String::new() } else { format!(" WITH ({})", list(options)) };
    let (name, publications) = (&desired.name, list(&desired.publications));
    let connection = desired.connection.clone().unwrap_or_default();
    let (text, shown) = with_connection(&connection, |connection| {
        format!("CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION {publications}{options}")
    });
    let makes_slot = how.connect && how.create_slot && desired.slot != Some(SlotName::None);
    let create = if makes_slot { Statement::alone(text) } else { Statement::new(text) };
    let enable = (!how.connect && desired.enabled).then(|| enable(name));
    let owner = desired.owner.as_ref().map(|owner| change_owner(name, owner));
    [create.showing(shown)].into_iter().chain(enable).chain(owner).collect()
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
        options.extend(unlike_default.into_iter().filter(|(given, _)| *given).map(|(_, option)| option.to_owned()));
    } else {
        // Postgres then treats the three options above as false, and refuses other values.
        options.push("connect = false".to_owned());
    }
    options.extend(desired.slot.as_ref().map(slot_option));
    options.extend(given_options(&desired.options, &Options::default()));
    options.extend(desired.options.two_phase.map(|value| format!("two_phase = {value}")));
    options.extend(desired.options.failover.map(|value| format!("failover = {value}")));
    options
}

fn slot_option(slot: &SlotName) -> String {
    match slot {
        SlotName::Named(slot) => format!("slot_name = {}", Literal(slot.as_str())),
        SlotName::None => "slot_name = NONE".to_owned(),
    }
}

/// The given options that differ, of those that Postgres can change at any time.
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
        option("streaming", &desired.streaming, &current.streaming, |value| value.as_str().to_owned()),
        option("synchronous_commit", &desired.synchronous_commit, &current.synchronous_commit, |value| {
            Literal(&value).to_string()
        }),
        option("disable_on_error", &desired.disable_on_error, &current.disable_on_error, yes_no),
        option("password_required", &desired.password_required, &current.password_required, yes_no),
        option("run_as_owner", &desired.run_as_owner, &current.run_as_owner, yes_no),
        option("origin", &desired.origin, &current.origin, |value| value.as_str().to_owned()),
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
        statements.push(Statement::new(format!("ALTER SUBSCRIPTION {} RENAME TO {name}", current.name)));
    }
    statements.extend(change_connection(current, desired, how));
    let mut options = given_options(&desired.options, &current.options);
    let new_slot = desired.slot.as_ref().filter(|slot| current.slot.as_ref() != Some(*slot));
    if let Some(slot @ SlotName::Named(_)) = new_slot {
        options.push(slot_option(slot));
    }
    if !options.is_empty() {
        statements.push(set(name, options));
    }
    let disabled_only = disabled_only(current, desired, version)?;
    let publications = change_publications(current, desired, how);
    statements.extend(order(current.enabled, desired, disabled_only, publications));
    if let Some(owner) = desired.owner.as_ref().filter(|owner| current.owner.as_ref() != Some(owner)) {
        statements.push(change_owner(name, owner));
    }
    Ok(statements)
}

fn change_connection(current: &Subscription, desired: &Subscription, how: &How) -> Option<Statement> {
    let connection = desired.connection.as_ref()?;
    let differs = current.connection.as_ref().is_some_and(|current| current != connection);
    if !differs && !how.resend_connection {
        return None;
    }
    let name = &desired.name;
    let (text, shown) =
        with_connection(connection, |connection| format!("ALTER SUBSCRIPTION {name} CONNECTION {connection}"));
    Some(Statement::new(text).showing(shown))
}

/// The changes that need a disabled subscription.
fn disabled_only(
    current: &Subscription,
    desired: &Subscription,
    version: ServerVersion,
) -> Result<Vec<Statement>, Unsupported> {
    let name = &desired.name;
    let mut statements = Vec::new();
    if let Some(two_phase) =
        desired.options.two_phase.filter(|_| desired.options.two_phase != current.options.two_phase)
    {
        version.require(version::ALTER_TWO_PHASE)?;
        statements.push(Statement::alone(format!("ALTER SUBSCRIPTION {name} SET (two_phase = {two_phase})")));
    }
    if let Some(failover) = desired.options.failover.filter(|_| desired.options.failover != current.options.failover) {
        statements.push(Statement::alone(format!("ALTER SUBSCRIPTION {name} SET (failover = {failover})")));
    }
    if desired.slot == Some(SlotName::None) && current.slot != Some(SlotName::None) {
        statements.push(set(name, ["slot_name = NONE".to_owned()]));
    }
    Ok(statements)
}

/// The change of the publications, with its refresh or the requested one. Postgres refreshes only enabled
/// subscriptions: for one that stays disabled, only the list changes.
fn change_publications(current: &Subscription, desired: &Subscription, how: &How) -> Option<Statement> {
    let name = &desired.name;
    let can_refresh = current.enabled || desired.enabled;
    let copy_data = if how.copy_data { "" } else { "copy_data = false" };
    if current.publications == desired.publications {
        let with = if copy_data.is_empty() { String::new() } else { format!(" WITH ({copy_data})") };
        return (how.refresh && can_refresh)
            .then(|| Statement::alone(format!("ALTER SUBSCRIPTION {name} REFRESH PUBLICATION{with}")));
    }
    let added: Vec<_> = desired.publications.difference(&current.publications).collect();
    let dropped: Vec<_> = current.publications.difference(&desired.publications).collect();
    let (verb, publications) = match (added.is_empty(), dropped.is_empty()) {
        (false, true) => ("ADD", list(added)),
        // DROP always copies tables that join now, for example partitions whose root leaves. This cannot be turned off.
        (true, false) if how.copy_data || !can_refresh => ("DROP", list(dropped)),
        _ => ("SET", list(&desired.publications)),
    };
    let with = match (can_refresh, verb, copy_data) {
        (false, ..) => " WITH (refresh = false)",
        (true, "ADD" | "SET", "copy_data = false") => " WITH (copy_data = false)",
        _ => "",
    };
    let text = format!("ALTER SUBSCRIPTION {name} {verb} PUBLICATION {publications}{with}");
    Some(if can_refresh { Statement::alone(text) } else { Statement::new(text) })
}

/// Adds the disabling and enabling in the right places: publications are refreshed while enabled, the rest is changed
/// while disabled.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::subscription::{Origin, Streaming};
    use expect_test::{Expect, expect};

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn subscription() -> Subscription {
        let mut connection = Conninfo::new();
        connection.set("host", "h");
        connection.set("password", "it's");
        Subscription::new(ident("s"), connection, [ident("p")])
    }

    fn changed(change: impl FnOnce(&mut Subscription)) -> Subscription {
        let mut subscription = subscription();
        change(&mut subscription);
        subscription
    }

    fn text(current: Option<&Subscription>, desired: Option<&Subscription>, how: &How, major: u32) -> String {
        let line = |statement: &Statement| format!("{:?}: {statement}", statement.scope());
        match diff(current, desired, how, ServerVersion::major_only(major)) {
            Ok(statements) => statements.iter().map(line).collect::<Vec<_>>().join("\n"),
            Err(error) => error.to_string(),
        }
    }

    fn check_create(change: impl FnOnce(&mut Subscription), how: &How, expected: Expect) {
        expected.assert_eq(&text(None, Some(&changed(change)), how, 18));
    }

    fn check_alter(
        current: impl FnOnce(&mut Subscription),
        desired: impl FnOnce(&mut Subscription),
        how: &How,
        expected: Expect,
    ) {
        expected.assert_eq(&text(Some(&changed(current)), Some(&changed(desired)), how, 18));
    }

    fn check_change(desired: impl FnOnce(&mut Subscription), expected: Expect) {
        check_alter(|_| (), desired, &How::default(), expected);
    }

    fn refresh() -> How {
        How { refresh: true, ..How::default() }
    }

    #[test]
    fn equal_in_empty_out() {
        check_change(|_| (), expect![""]);
        // Options that are not given stay unchanged.
        check_alter(|s| s.options.binary = Some(true), |_| (), &How::default(), expect![""]);
        check_alter(|s| s.slot = Some(SlotName::Named(ident("s"))), |_| (), &How::default(), expect![""]);
        check_alter(|s| s.connection = None, |_| (), &How::default(), expect![""]);
    }

    #[test]
    fn creating() {
        check_create(
            |_| (),
            &How::default(),
            expect![[r#"Alone: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p""#]],
        );
        check_create(
            |s| s.enabled = false,
            &How { create_slot: false, copy_data: false, ..How::default() },
            expect![[
                r#"Transaction: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (create_slot = false, enabled = false, copy_data = false)"#
            ]],
        );
        check_create(
            |_| (),
            &How { connect: false, ..How::default() },
            expect![[r#"
                Transaction: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (connect = false)
                Transaction: ALTER SUBSCRIPTION "s" ENABLE"#]],
        );
        check_create(
            |s| s.slot = Some(SlotName::Named(ident("other"))),
            &How::default(),
            expect![[
                r#"Alone: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (slot_name = 'other')"#
            ]],
        );
        check_create(
            |s| (s.slot, s.enabled) = (Some(SlotName::None), false),
            &How::default(),
            expect![[
                r#"Transaction: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (create_slot = false, enabled = false, slot_name = NONE)"#
            ]],
        );
        check_create(
            |s| s.owner = Some(ident("me")),
            &How::default(),
            expect![[r#"
                Alone: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p"
                Transaction: ALTER SUBSCRIPTION "s" OWNER TO "me""#]],
        );
    }

    #[test]
    fn creating_with_every_option() {
        let all = |s: &mut Subscription| {
            s.options = Options {
                binary: Some(true),
                streaming: Some(Streaming::Parallel),
                synchronous_commit: Some("remote_apply".to_owned()),
                two_phase: Some(true),
                disable_on_error: Some(true),
                password_required: Some(false),
                run_as_owner: Some(true),
                origin: Some(Origin::None),
                failover: Some(true),
            };
        };
        check_create(
            all,
            &How::default(),
            expect![[
                r#"Alone: CREATE SUBSCRIPTION "s" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (binary = true, streaming = parallel, synchronous_commit = 'remote_apply', disable_on_error = true, password_required = false, run_as_owner = true, origin = none, two_phase = true, failover = true)"#
            ]],
        );
    }

    #[test]
    fn a_secret_reaches_the_server_only() {
        let statements = diff(None, Some(&subscription()), &How::default(), ServerVersion::major_only(18)).unwrap();
        assert!(statements[0].holds_secret());
        expect![[r#"CREATE SUBSCRIPTION "s" CONNECTION E'host=h password=''it\\''s''' PUBLICATION "p""#]]
            .assert_eq(statements[0].text());
        assert!(!statements[0].to_string().contains("it"));
    }

    #[test]
    fn changing_in_place() {
        check_change(|s| s.name = ident("t"), expect![[r#"Transaction: ALTER SUBSCRIPTION "s" RENAME TO "t""#]]);
        check_change(
            |s| s.options.binary = Some(true),
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" SET (binary = true)"#]],
        );
        check_change(
            |s| s.slot = Some(SlotName::Named(ident("other"))),
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" SET (slot_name = 'other')"#]],
        );
        check_change(|s| s.enabled = false, expect![[r#"Transaction: ALTER SUBSCRIPTION "s" DISABLE"#]]);
        check_alter(
            |s| s.enabled = false,
            |_| (),
            &How::default(),
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" ENABLE"#]],
        );
        check_change(
            |s| s.owner = Some(ident("me")),
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" OWNER TO "me""#]],
        );
        check_change(
            |s| s.connection = Some(Conninfo::parse("host=i").unwrap()),
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" CONNECTION 'host=i'"#]],
        );
        check_alter(
            |s| s.connection = None,
            |_| (),
            &How { resend_connection: true, ..How::default() },
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" CONNECTION 'host=h password=***'"#]],
        );
    }

    #[test]
    fn changing_publications() {
        let publications = |names: &str| {
            let names: BTreeSet<_> = names.split(' ').map(ident).collect();
            move |s: &mut Subscription| s.publications = names
        };
        check_change(publications("p q"), expect![[r#"Alone: ALTER SUBSCRIPTION "s" ADD PUBLICATION "q""#]]);
        check_alter(
            publications("p q"),
            publications("p"),
            &How::default(),
            expect![[r#"Alone: ALTER SUBSCRIPTION "s" DROP PUBLICATION "q""#]],
        );
        check_alter(
            publications("p q"),
            publications("p"),
            &How { copy_data: false, ..How::default() },
            expect![[r#"Alone: ALTER SUBSCRIPTION "s" SET PUBLICATION "p" WITH (copy_data = false)"#]],
        );
        check_alter(
            publications("p"),
            publications("q"),
            &How { copy_data: false, ..refresh() },
            expect![[r#"Alone: ALTER SUBSCRIPTION "s" SET PUBLICATION "q" WITH (copy_data = false)"#]],
        );
        check_alter(
            |s| s.enabled = false,
            |s| {
                publications("p q")(s);
                s.enabled = false;
            },
            &refresh(),
            expect![[r#"Transaction: ALTER SUBSCRIPTION "s" ADD PUBLICATION "q" WITH (refresh = false)"#]],
        );
        check_alter(
            |s| s.enabled = false,
            publications("p q"),
            &How::default(),
            expect![[r#"
                Transaction: ALTER SUBSCRIPTION "s" ENABLE
                Alone: ALTER SUBSCRIPTION "s" ADD PUBLICATION "q""#]],
        );
        check_change(
            |s| {
                publications("p q")(s);
                s.enabled = false;
            },
            expect![[r#"
                Alone: ALTER SUBSCRIPTION "s" ADD PUBLICATION "q"
                Transaction: ALTER SUBSCRIPTION "s" DISABLE"#]],
        );
    }

    #[test]
    fn refreshing() {
        check_alter(|_| (), |_| (), &refresh(), expect![[r#"Alone: ALTER SUBSCRIPTION "s" REFRESH PUBLICATION"#]]);
        check_alter(
            |_| (),
            |_| (),
            &How { copy_data: false, ..refresh() },
            expect![[r#"Alone: ALTER SUBSCRIPTION "s" REFRESH PUBLICATION WITH (copy_data = false)"#]],
        );
        check_alter(|s| s.enabled = false, |s| s.enabled = false, &refresh(), expect![""]);
    }

    #[test]
    fn what_needs_it_disabled_disables_and_enables_it() {
        check_change(
            |s| s.options.failover = Some(true),
            expect![[r#"
            Transaction: ALTER SUBSCRIPTION "s" DISABLE
            Alone: SELECT NOT EXISTS (SELECT 1 FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = 's' AND w.pid IS NOT NULL)
            Alone: ALTER SUBSCRIPTION "s" SET (failover = true)
            Transaction: ALTER SUBSCRIPTION "s" ENABLE"#]],
        );
        check_alter(
            |s| s.enabled = false,
            |s| s.options.two_phase = Some(true),
            &refresh(),
            expect![[r#"
                Alone: ALTER SUBSCRIPTION "s" SET (two_phase = true)
                Transaction: ALTER SUBSCRIPTION "s" ENABLE
                Alone: ALTER SUBSCRIPTION "s" REFRESH PUBLICATION"#]],
        );
        check_change(
            |s| (s.slot, s.enabled) = (Some(SlotName::None), false),
            expect![[r#"
                Transaction: ALTER SUBSCRIPTION "s" DISABLE
                Alone: SELECT NOT EXISTS (SELECT 1 FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = 's' AND w.pid IS NOT NULL)
                Transaction: ALTER SUBSCRIPTION "s" SET (slot_name = NONE)"#]],
        );
    }

    #[test]
    fn dropping() {
        expect![[r#"Alone: DROP SUBSCRIPTION "s""#]].assert_eq(&text(Some(&subscription()), None, &How::default(), 14));
        let detached = changed(|s| s.slot = Some(SlotName::None));
        expect![[r#"Transaction: DROP SUBSCRIPTION "s""#]].assert_eq(&text(Some(&detached), None, &How::default(), 14));
        expect![[r#"ALTER SUBSCRIPTION "s""t" DISABLE, ALTER SUBSCRIPTION "s""t" SET (slot_name = NONE), DROP SUBSCRIPTION "s""t""#]].assert_eq(&list(drop_detached(&ident("s\"t"))));
    }

    #[test]
    fn older_servers_refuse_by_name() {
        let error = |change: fn(&mut Options), major| {
            text(None, Some(&changed(|s| change(&mut s.options))), &How::default(), major)
        };
        expect![[r#"streaming = "parallel" needs Postgres 16 or newer; the server runs 15.0"#]]
            .assert_eq(&error(|o| o.streaming = Some(Streaming::Parallel), 15));
        expect!["two_phase needs Postgres 15 or newer; the server runs 14.0"]
            .assert_eq(&error(|o| o.two_phase = Some(false), 14));
        expect!["failover needs Postgres 17 or newer; the server runs 16.0"]
            .assert_eq(&error(|o| o.failover = Some(false), 16));
        let two_phase = changed(|s| s.options.two_phase = Some(true));
        expect!["a change of two_phase needs Postgres 18 or newer; the server runs 17.0"].assert_eq(&text(
            Some(&subscription()),
            Some(&two_phase),
            &How::default(),
            17,
        ));
    }
}
