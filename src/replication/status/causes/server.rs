// SPDX-License-Identifier: MPL-2.0

//! The texts of causes that stop a whole subscription: its connection, its slot, its publications, and exhausted
//! resources.

use std::time::Duration;

use crate::postgres::settings::Login;
use crate::postgres::slot::{Home, Position};
use crate::postgres::subscription::Blocked;
use crate::postgres::{self, Ident, QualifiedName, SqlState};
use crate::replication::checks::Right;
use crate::replication::status::Cause;
use crate::replication::status::watching::Health;
use crate::replication::{Place, names, units};

/// The names of the two sides in texts.
#[derive(Debug, Clone)]
pub(in crate::replication::status) struct Names {
    /// The subscription.
    pub(in crate::replication::status) subscription: Ident,
    /// The publisher, as `host:port/database`; none if it is not known.
    pub(in crate::replication::status) publisher: Option<String>,
    /// The database of the publisher.
    pub(in crate::replication::status) database: Ident,
}

impl Names {
    fn publisher(&self) -> &str {
        self.publisher.as_deref().unwrap_or("the publisher")
    }
}

fn cause(kind: &'static str, message: String, evidence: impl Into<String>, remedy: impl Into<String>) -> Cause {
    Cause { kind, message, evidence: evidence.into(), remedy: remedy.into() }
}

const AGAIN: &str = "The subscription misses everything that was written since, so it must be recreated: empty its \
    tables on the subscriber, because every row is copied again, and apply with -replace and its address.";

/// There is no slot of that name.
pub(super) fn slot_missing(names: &Names, slot: &Ident) -> Cause {
    cause(
        "slot_missing",
        format!("Replication slot {slot} is no longer in database {:?} of the publisher.", names.database),
        format!("Asked on {}.", names.publisher()),
        AGAIN,
    )
}

/// Its WAL was removed.
pub(super) fn slot_lost(names: &Names, slot: &Ident, position: &Position) -> Cause {
    let why = match position.invalidation.as_deref() {
        Some(reason) => format!("Its invalidation_reason on {} is {reason}.", names.publisher()),
        None => format!("Its wal_status on {} is lost.", names.publisher()),
    };
    cause(
        "slot_lost",
        format!("Replication slot {slot} has lost WAL that it needs."),
        why,
        format!("{AGAIN} Before that, raise max_slot_wal_keep_size on the publisher."),
    )
}

/// It belongs to another database, or is not a slot for subscriptions.
pub(super) fn slot_elsewhere(names: &Names, slot: &Ident, position: &Position) -> Option<Cause> {
    let (kind, what) = match &position.home {
        Home::Cluster => ("slot_physical", "it is a physical slot".to_owned()),
        Home::Database(home) if *home != names.database.as_str() => {
            ("slot_of_another_database", format!("it is a slot of database {home:?}"))
        }
        Home::Database(_) => match position.plugin.as_deref() {
            Some(plugin) if plugin != "pgoutput" => ("slot_plugin", format!("its plugin is {plugin:?}")),
            _ => return None,
        },
    };
    let subscription = &names.subscription;
    Some(cause(
        kind,
        format!("The subscription cannot read from replication slot {slot}: {what}."),
        format!("The subscription connects to database {:?} on {}.", names.database, names.publisher()),
        format!(
            "Restore the subscription's former connection: set database in its publisher block, or on the \
             subscriber, as the owner of the subscription: ALTER SUBSCRIPTION {subscription} CONNECTION '…';"
        ),
    ))
}

/// Somebody else reads from it.
pub(super) fn slot_in_use(names: &Names, slot: &Ident, reader: Option<&str>) -> Cause {
    let who = reader.map_or_else(|| "Something else".to_owned(), |reader| format!("{reader:?}"));
    cause(
        "slot_in_use",
        format!("{who} reads from replication slot {slot}, and only one may at a time."),
        format!("The slot is active on {}, and the subscription's worker has no connection.", names.publisher()),
        format!(
            "If two subscriptions share a slot, each misses the changes that the other receives. Give each its own \
             slot (slot_name), or stop the other reader. On the publisher, as a role that may end it: SELECT \
             pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}';",
            slot.as_str()
        ),
    )
}

/// The subscription has no slot at all.
pub(super) fn no_slot_name(names: &Names) -> Cause {
    let subscription = &names.subscription;
    cause(
        "no_slot",
        "The subscription has no slot to read from: its slot_name is NONE.".to_owned(),
        "It is detached from its publisher.",
        format!(
            "On the publisher: SELECT pg_create_logical_replication_slot('…', 'pgoutput'); On the subscriber: ALTER \
             SUBSCRIPTION {subscription} SET (slot_name = '…'); The slot begins at the present, so the tables must \
             be copied again."
        ),
    )
}

/// Publications are missing.
pub(super) fn publication_missing(names: &Names, slot: Option<&Ident>, missing: &[Ident], skips: bool) -> Cause {
    let listed = names::list(missing.iter().map(ToString::to_string));
    let what = if skips {
        "Rows that are written in the meantime are skipped, and the subscription never receives them."
    } else {
        "The publisher ends the connection at the next change, and creating the publication again does not help \
         with changes from before."
    };
    let remedy = match skips {
        true => format!(
            "On the publisher, as the owner of the tables: CREATE PUBLICATION {} FOR TABLE …; Then compare the tables: what was \
             written in between is missing on the subscriber.",
            missing.first().map(ToString::to_string).unwrap_or_default()
        ),
        false => format!(
            "On the publisher: CREATE PUBLICATION {} FOR TABLE …; Then recreate the subscription with its tables \
             emptied. Or give up the changes in between. {}",
            missing.first().map(ToString::to_string).unwrap_or_default(),
            slot.map(|slot| skipping(names, slot)).unwrap_or_default()
        ),
    };
    cause(
        "publication_missing",
        format!("Publication {listed} is missing in database {:?} of the publisher.", names.database),
        what,
        remedy,
    )
}

/// The steps that skip everything that a slot still has to send.
fn skipping(names: &Names, slot: &Ident) -> String {
    let steps = postgres::publication::skip_missed(Some(&names.subscription), slot);
    steps.into_iter().map(|(side, statement)| format!("On the {side}: {statement}")).collect::<Vec<_>>().join(" ")
}

/// A publisher's refusal of a subscription's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::replication::status) struct Refusal {
    /// Why it is refused.
    pub(super) why: Why,
    /// The error, as it occurred from here.
    pub(super) error: String,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replication::status) enum Why {
    /// The password is wrong, or the role may not log in.
    Login,
    /// There is no such database.
    NoDatabase,
    /// The role may not connect to the database.
    NoConnect,
    /// Nobody answers.
    Unreachable,
}

impl Refusal {
    /// The refusal that an error of connecting means; none if it is an answer of another kind.
    pub(in crate::replication::status) fn of(error: &postgres::Error) -> Option<Self> {
        let is = |code: &SqlState| error.is(code);
        let why = if is(&SqlState::INVALID_PASSWORD) || is(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
            Why::Login
        } else if is(&SqlState::INVALID_CATALOG_NAME) {
            Why::NoDatabase
        } else if is(&SqlState::INSUFFICIENT_PRIVILEGE) {
            Why::NoConnect
        } else if error.is_transient() || error.is_connect() {
            Why::Unreachable
        } else {
            return None;
        };
        Some(Self { why, error: error.to_string() })
    }
}

/// The publisher cannot be reached, or has refused the connection.
pub(super) fn refused(names: &Names, refusal: &Refusal) -> Cause {
    let answer = format!("Tried from here: {}.", refusal.error.trim_end_matches('.'));
    let subscription = &names.subscription;
    let sends = format!(
        "Correct the publisher block of the subscription, and change connection_version so that it is sent again. \
         Or on the subscriber, as the owner of the subscription: ALTER SUBSCRIPTION {subscription} CONNECTION '…';"
    );
    match refusal.why {
        Why::Login => {
            let message =
                "The publisher refuses the login of the subscription: a wrong password, or a role that may not log in.";
            cause("login_refused", message.to_owned(), answer, sends)
        }
        Why::NoDatabase => {
            let message = format!("There is no database {} on the publisher.", names.database);
            cause("no_database", message, answer, sends)
        }
        Why::NoConnect => {
            let message = "The role of the subscription may not connect to the publisher's database.".to_owned();
            let remedy = format!(
                "On the publisher, as the owner of the database: GRANT CONNECT ON DATABASE {} TO …;",
                names.database
            );
            cause("no_connect", message, answer, remedy)
        }
        Why::Unreachable => cause(
            "publisher_unreachable",
            "The publisher cannot be reached.".to_owned(),
            answer,
            format!(
                "Check that it runs, that host and port are right, and that its firewall lets the subscriber \
                 in. {sends}"
            ),
        ),
    }
}

/// The rights that the subscription's login role lacks.
pub(super) fn login_lacks(names: &Names, role: &Ident, login: Option<&Login>) -> Option<Cause> {
    let on = format!("Asked on {}.", names.publisher());
    let lacking = Right::lacking(login);
    // Rights to log in come before rights that are needed after the login.
    let order = [Right::Exist, Right::LogIn, Right::Connect];
    let first = order.into_iter().find(|right| lacking.contains(right)).or_else(|| lacking.first().copied())?;
    let (kind, what) = match first {
        Right::Exist => ("no_role", None),
        Right::LogIn => ("no_login", Some("log in")),
        Right::Connect => ("no_connect", Some("connect to the database")),
        Right::Replicate { .. } => ("no_replication", Some("replicate")),
    };
    let message = match what {
        None => format!("There is no role {role} on the publisher, as which the subscription logs in."),
        Some(what) => {
            format!("Role {}, as which the subscription logs in, may not {what} on the publisher.", role.as_str())
        }
    };
    Some(cause(kind, message, on, first.remedy(Place::Publisher.as_str(), role, names.database.as_str())))
}

/// A resource that a server has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replication::status) enum Shortage {
    /// The publisher has no replication slot left.
    Slots,
    /// The publisher has no WAL sender left.
    Senders,
    /// The subscriber has no worker for replication left.
    Workers,
    /// The subscriber has no background process left.
    Processes,
}

/// A resource is exhausted.
pub(super) fn shortage(names: &Names, shortage: Shortage) -> Cause {
    let (kind, side, what, setting) = match shortage {
        Shortage::Slots => ("no_free_slot", "publisher", "replication slot", "max_replication_slots"),
        Shortage::Senders => ("no_free_sender", "publisher", "WAL sender", "max_wal_senders"),
        Shortage::Workers => {
            ("no_free_worker", "subscriber", "worker for replication", "max_logical_replication_workers")
        }
        Shortage::Processes => ("no_free_process", "subscriber", "background process", "max_worker_processes"),
    };
    let evidence = match side {
        "publisher" => {
            format!("All of {setting} are in use on {}. The copy of each table needs one.", names.publisher())
        }
        _ => format!("All of {setting} are in use. Each subscription needs one, and the copy of each table another."),
    };
    let or = if kind == "no_free_slot" { ", or drop slots that nothing reads from" } else { "" };
    cause(
        kind,
        format!("The {side} has no {what} left."),
        evidence,
        format!("On the {side}, raise {setting} and restart the server{or}."),
    )
}

/// No subscription runs on a standby.
pub(super) fn standby() -> Cause {
    cause(
        "subscriber_is_standby",
        "The subscriber is a standby, on which no subscription runs.".to_owned(),
        "It is in recovery.",
        "Connect to its primary, or promote it.",
    )
}

/// An error has disabled it.
pub(super) fn disabled_by_error(names: &Names, errors: u64) -> Cause {
    let subscription = &names.subscription;
    cause(
        "disabled_by_error",
        "An error has disabled the subscription.".to_owned(),
        format!(
            "disable_on_error is true, and {} counted.",
            if errors == 1 { "an error was".to_owned() } else { format!("{} errors were", units::count(errors)) }
        ),
        format!(
            "Fix what stopped it; then on the subscriber, as the owner of the subscription: ALTER SUBSCRIPTION \
             {subscription} ENABLE; The log of the subscriber's server has the error."
        ),
    )
}

/// A sent row already exists.
pub(super) fn duplicate_key(names: &Names, evidence: String) -> Cause {
    let subscription = &names.subscription;
    cause(
        "duplicate_key",
        "A row that the publisher sends already exists on the subscriber, and violates a primary key or another \
         unique index."
            .to_owned(),
        evidence,
        format!(
            "On the subscriber, delete the row that is in the way; the log of its server names the key. The worker \
             then goes on by itself. Make sure that nothing writes there again before the cutover. If the row \
             cannot be deleted (Postgres 15): ALTER SUBSCRIPTION {subscription} SKIP (lsn = '…'); with the position \
             from the log skips the whole transaction."
        ),
    )
}

/// Another session holds a lock that a worker waits for.
pub(super) fn blocked(blocked: &Blocked) -> Cause {
    let lock =
        blocked.relation.as_ref().map_or_else(|| "a lock".to_owned(), |table| format!("a lock on {}", table.to_text()));
    let message = format!("Another session on the subscriber blocks the subscription: its worker waits for {lock}.");
    let waits = format!("It has waited for {}.", units::duration(blocked.waits));
    let Some(process) = blocked.blocker else {
        let remedy = "On the subscriber, SELECT gid, database FROM pg_prepared_xacts; lists it. In its database, as its owner: COMMIT \
                      PREPARED '…'; or ROLLBACK PREPARED '…';";
        return cause("blocked", message, format!("{waits} A prepared transaction holds it."), remedy);
    };
    let whose = if blocked.whose.is_empty() { String::new() } else { format!(" ({})", blocked.whose) };
    let state = blocked.state.as_ref().map(|state| format!("it is {state}"));
    let open = blocked.transaction.map(|age| format!("its transaction has been open for {}", units::duration(age)));
    let query = blocked.query.map(|age| format!("its last statement began {} ago", units::duration(age)));
    let known = [state, open, query].into_iter().flatten().collect::<Vec<_>>();
    let known = if known.is_empty() { String::new() } else { format!(": {}", and(&known)) };
    cause(
        "blocked",
        message,
        format!("{waits} Process {process}{whose} holds it{known}."),
        format!(
            "Let that session end its transaction. Or on the subscriber, as its role or a member of pg_signal_backend: SELECT \
             pg_terminate_backend({process});"
        ),
    )
}

/// Parts of a sentence, with `and` before the last one.
fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [one, other] => format!("{one} and {other}"),
        [before @ .., last] => format!("{}, and {last}", before.join(", ")),
    }
}

/// Nothing was found.
pub(super) fn unexplained(names: &Names, is_away: bool) -> Cause {
    let (kind, message) = match is_away {
        true => (
            "worker_away",
            "The worker of the subscription is not connected to the publisher, so nothing is replicated.",
        ),
        false => ("worker_fails", "The worker of the subscription fails repeatedly."),
    };
    let evidence = match &names.publisher {
        Some(publisher) => format!(
            "Slot, publications, rights and tables were compared with {publisher}, and \
             nothing wrong was found."
        ),
        None => "It is not known from here which server its publisher is, so nothing could be compared: its \
                 connection leads to another address than the provider's, or may not be read."
            .to_owned(),
    };
    let log = "The log of the subscriber's server has the error.";
    let remedy = match is_away {
        false => log.to_owned(),
        true => format!(
            "A changed password or address is a likely reason. A change of connection_version sends the configured \
             connection again. Or on the subscriber, as the owner of the subscription: ALTER SUBSCRIPTION {} \
             CONNECTION '…'; {log}",
            names.subscription
        ),
    };
    cause(kind, message.to_owned(), evidence, remedy)
}

/// Rows differ on both sides, and nothing has stopped.
pub(super) fn conflicts(kinds: &str) -> Cause {
    cause(
        "conflicts",
        "Rows that the publisher changes differ or are missing on the subscriber.".to_owned(),
        format!("Conflicts were counted in the meantime: {kinds}."),
        "Something else has written to the replicated tables on the subscriber. Compare the tables, and stop those \
         writes.",
    )
}

/// Copies fail, or do not begin, and nothing was found.
pub(super) fn unexplained_copy(servers: &Names, health: &Health) -> Cause {
    let message = match health.failing.is_empty() {
        false => format!("Copying fails repeatedly: {}.", names::tables(&health.failing)),
        true => format!("No copy begins: {}.", names::tables(&health.stalled)),
    };
    let Cause { evidence, remedy, .. } = unexplained(servers, false);
    cause("copy_fails", message, evidence, remedy)
}

/// One example of each, for the guide.
pub(super) fn examples() -> Vec<Cause> {
    let name = |text: &str| Ident::new(text).ok();
    let examples = || {
        let names = Names {
            subscription: name("shop")?,
            publisher: Some("db.example:5432/shop".to_owned()),
            database: name("shop")?,
        };
        let slot = name("shop")?;
        let position = |home: Home| Position {
            home,
            plugin: Some("pgoutput".to_owned()),
            active: false,
            reader: None,
            wal_status: Some("lost".to_owned()),
            restart_lsn: None,
            confirmed: None,
            safe_wal_size: None,
            lag: None,
            invalidation: None,
        };
        let elsewhere = slot_elsewhere(&names, &slot, &position(Home::Database("mall".to_owned())))?;
        let refusal = |why, error: &str| refused(&names, &Refusal { why, error: error.to_owned() });
        let role = name("replicator")?;
        let right = Login { can_login: true, replicates: false, connects: true, is_rds: false };
        let unknown = Names { publisher: None, ..names.clone() };
        Some(vec![
            refusal(Why::Unreachable, "connecting to database \"shop\" on db.example:5432: connection refused"),
            refusal(
                Why::Login,
                "connecting to database \"shop\" on db.example:5432: password authentication failed (28P01)",
            ),
            refusal(
                Why::NoDatabase,
                "connecting to database \"shop\" on db.example:5432: database \"shop\" does not exist (3D000)",
            ),
            login_lacks(&names, &role, None)?,
            login_lacks(&names, &role, Some(&right))?,
            login_lacks(&names, &role, Some(&Login { can_login: false, ..right }))?,
            login_lacks(&names, &role, Some(&Login { connects: false, ..right }))?,
            slot_missing(&names, &slot),
            slot_lost(&names, &slot, &position(Home::Database("shop".to_owned()))),
            elsewhere,
            slot_in_use(&names, &slot, Some("reports")),
            no_slot_name(&names),
            publication_missing(&names, Some(&slot), std::slice::from_ref(&slot), false),
            shortage(&names, Shortage::Slots),
            shortage(&names, Shortage::Senders),
            shortage(&names, Shortage::Workers),
            shortage(&names, Shortage::Processes),
            disabled_by_error(&names, 1),
            duplicate_key(&names, "Conflicts were counted meanwhile: insert_exists.".to_owned()),
            conflicts("update_missing"),
            blocked(&Blocked {
                relation: QualifiedName::parse("public.orders").ok(),
                waits: Duration::from_secs(95),
                blocker: Some(4711),
                whose: "reports, psql".to_owned(),
                state: Some("idle in transaction".to_owned()),
                transaction: Some(Duration::from_secs(110)),
                query: Some(Duration::from_secs(100)),
            }),
            standby(),
            unexplained(&unknown, true),
            unexplained(&names, false),
        ])
    };
    examples().unwrap_or_default()
}
