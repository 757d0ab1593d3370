// SPDX-License-Identifier: MPL-2.0

//! Slots that are in use. A new slot in the place of one begins at the current position, and its reader continues
//! without the rows in between, without an error. So this is refused if it can be detected.

use std::collections::BTreeSet;

use super::checks::Objection;
use super::error::{Error, Result};
use super::units;
use crate::postgres::slot::{self, Namer, Reads, Usage};
use crate::postgres::{self, Database, Ident, Server, ServerVersion, settings, version};

/// The server whose subscriptions may use a slot.
#[derive(Clone, Copy)]
pub enum Subscriber<'a> {
    /// There is none.
    None,
    /// There is one, but it is not known yet.
    Later,
    /// This one.
    At(&'a Server),
}

/// The users of a slot, as far as its server and the subscriber show them.
pub struct Users {
    /// Its use; absent if there is no such slot.
    pub(super) usage: Option<Usage>,
    /// The subscriptions that use a slot of this name, except those that read from other servers.
    pub(super) namers: Vec<(Namer, Reads)>,
    /// The subscriber's version, if it was read.
    pub(super) subscriber: Option<ServerVersion>,
    /// Why the subscriber could not be queried, if there is one.
    unasked: Option<String>,
}

/// Finds all users of the slot of this name.
///
/// # Errors
/// When a query of its own server fails. A failed query of the subscriber is part of the result.
pub async fn users(publisher: &Database, subscriber: Subscriber<'_>, name: &Ident) -> Result<Users> {
    let usage = slot::usage(publisher, name).await?;
    let mut users = Users { usage, namers: Vec::new(), subscriber: None, unasked: None };
    let server = match subscriber {
        Subscriber::None => return Ok(users),
        Subscriber::Later => {
            users.unasked = Some("its configuration is only known at apply".to_owned());
            return Ok(users);
        }
        Subscriber::At(server) => server,
    };
    match asked(&server.database(None), name).await {
        Ok((found, version)) => {
            let used = users.usage.clone().unwrap_or_default();
            let found = found.into_iter().map(|namer| (namer.reads_from(publisher, &used), namer));
            let found = found.filter(|(reads, _)| *reads != Reads::Not).map(|(reads, namer)| (namer, reads));
            (users.namers, users.subscriber) = (found.collect(), Some(version));
        }
        Err(error) => users.unasked = Some(error.to_string()),
    }
    Ok(users)
}

async fn asked(subscriber: &Database, name: &Ident) -> postgres::Result<(Vec<Namer>, ServerVersion)> {
    let mut found = slot::named_by(subscriber, &BTreeSet::from([name.clone()])).await?;
    Ok((found.remove(name).unwrap_or_default(), subscriber.version().await?))
}

impl Users {
    #[cfg(test)]
    pub(super) fn of(usage: Usage, namers: Vec<(Namer, Reads)>, subscriber: ServerVersion) -> Self {
        Self { usage: Some(usage), namers, subscriber: Some(subscriber), unasked: None }
    }

    /// Whether there is such a slot.
    pub fn has_slot(&self) -> bool {
        self.usage.is_some()
    }

    /// Each subscription that uses the slot, with what is not known about it; and whether the subscriber could not be
    /// queried.
    pub(super) fn names(&self) -> Vec<String> {
        let namers = self.namers.iter().map(|(namer, reads)| describe(namer, *reads));
        let unasked = self.unasked.iter().map(|cause| {
            format!("the provider's subscriber could not be asked whether one of its subscriptions uses it: {cause}")
        });
        namers.chain(unasked).collect()
    }

    /// Why a new slot in its place would lose changes; empty if nothing shows that. `made_at` is its recorded start,
    /// if any.
    fn reasons(&self, made_at: Option<&str>) -> Vec<String> {
        let mut reasons = self.names();
        let Some(usage) = &self.usage else { return reasons };
        let is_reader = |namer: &(Namer, Reads)| usage.reader.as_deref() == Some(namer.0.name.as_str());
        if usage.active && !self.namers.iter().any(is_reader) {
            let reader = usage.reader.as_ref().map(|reader| format!(" that calls itself {reader:?}"));
            reasons.push(format!("something{} reads from it", reader.unwrap_or_default()));
        }
        let went_on = made_at.is_some_and(|made_at| usage.confirmed.as_deref().is_some_and(|now| now != made_at));
        if reasons.is_empty() && usage.held_back.is_some() && (usage.was_read || went_on) {
            reasons.push("it has been read from, and its reader may return".to_owned());
        }
        reasons
    }
}

fn describe(namer: &Namer, reads: Reads) -> String {
    let Namer { database, name, .. } = namer;
    let unsure = match (reads, namer.address()) {
        (Reads::Surely | Reads::Not, _) => String::new(),
        (Reads::Perhaps, Some((host, port))) => {
            format!(" (its connection leads to {host}:{port}, which may be this server)")
        }
        (Reads::Perhaps, None) => {
            " (the provider's role may not read its connection, so it may use another server's slot)".to_owned()
        }
    };
    format!("subscription {name} of database {database:?} on the subscriber uses it{unsure}")
}

/// The text about what is lost with a slot.
fn lost(usage: &Usage) -> String {
    match usage.held_back {
        Some(bytes) => format!(
            "A new slot begins at the present. Its reader misses the {} of WAL from the old slot's restart_lsn \
             until now, and whatever is written until the new slot exists.",
            units::bytes(bytes)
        ),
        None => "The old slot has already lost its WAL; a new one begins at the present.".to_owned(),
    }
}

/// The objection to replacing a slot by a new one. `made_at` is its recorded start, if any, `forced` says that a person
/// has agreed to the loss, and `option` is the option that requires a new one.
pub fn loss(
    doing: &str,
    users: &Users,
    made_at: Option<&str>,
    forced: bool,
    option: Option<&'static str>,
) -> Option<Objection> {
    let usage = users.usage.as_ref()?;
    let reasons = users.reasons(made_at);
    let because = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", and ")) };
    let said = Error::new(format!("{doing} loses its position{because}")).detail(lost(usage)).detail(instead(option));
    let said = match option {
        Some(option) => said.about(option),
        None => said,
    };
    if reasons.is_empty() || forced {
        let afresh = "Its reader must start again from the beginning; a subscription with its tables emptied.";
        return Some(Objection::Warning(said.detail(afresh)));
    }
    Some(Objection::Refusal(said.detail(
        "To do it anyway, apply force_destroy = true first, and afterwards recreate the subscription with its \
         tables emptied.",
    )))
}

/// How to keep the slot.
fn instead(option: Option<&str>) -> &'static str {
    match option {
        Some("two_phase") => {
            "To keep the slot, leave two_phase out here. From Postgres 18 on, the two_phase of the subscription \
             changes it in place."
        }
        Some("name") | None => {
            "To keep a slot that is not in the state, import it. To keep one that is, leave it \
             as it is."
        }
        Some(_) => "To keep it, leave it as it is.",
    }
}

/// What a server lacks for one more slot: support for decoding, logical WAL (unless another resource of this run sets
/// it), and room.
///
/// # Errors
/// When it cannot be queried.
pub async fn room(publisher: &Database, doing: &str, will_be_logical: bool) -> Result<Vec<Objection>> {
    let address = publisher.config().address();
    let found = settings::fetch(publisher).await?;
    let is_logical = found.wal_level == "logical" || will_be_logical;
    let wal_level = (!is_logical).then(|| {
        Error::new(format!("{doing}: wal_level of {address} is {}, not logical", found.wal_level)).detail(
            "No slot can be created before wal_level is logical and the server has been restarted. On Aurora and \
             RDS this takes rds.logical_replication = 1 and a reboot: neonrepl_aurora_logical_replication and \
             neonrepl_rds_logical_replication do both. It must be done by the time this is applied.",
        )
    });
    let room = settings::room(publisher).await?;
    if room.is_standby && !publisher.version().await?.has(version::STANDBY_SLOTS) {
        let standby = Error::new(format!("{doing}: {address} is read-only, as a standby or a reader is"));
        return Ok(vec![Objection::Refusal(standby.detail(
            "Before Postgres 16 such a server cannot have logical slots. Connect to the primary, which for an \
             Aurora cluster is the writer endpoint.",
        ))]);
    }
    let full = (room.slots <= 0).then(|| {
        Error::new(format!("{doing}: {address} has no free replication slot")).detail(
            "Raise max_replication_slots there and restart it, or drop slots that nothing reads from, before this is applied.",
        )
    });
    Ok(wal_level.into_iter().chain(full).map(Objection::Warning).collect())
}

/// The warning about subscriptions that use a slot that does not exist yet.
pub fn late(name: &Ident, users: &Users) -> Option<Objection> {
    if users.has_slot() || users.namers.is_empty() {
        return None;
    }
    let said = Error::new(format!("there is no replication slot {name} yet, and {}", users.names().join(", and ")));
    Some(Objection::Warning(
        said.detail(
            "Once the slot is created, the subscription goes on from there: it misses what was written before, \
             without an error. A subscription that has replicated before should be recreated, with its tables \
             emptied.",
        )
        .about("name"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(usage: Usage, namers: &[Reads]) -> Users {
        let namer = |reads: &Reads| {
            let name = Ident::new("reader").unwrap();
            (Namer { database: "there".to_owned(), name, enabled: true, connection: None, receives: false }, *reads)
        };
        Users { usage: Some(usage), namers: namers.iter().map(namer).collect(), subscriber: None, unasked: None }
    }

    fn check(users: &Users, made_at: Option<&str>, expected: &[&str]) {
        let reasons = users.reasons(made_at);
        assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
        for (reason, part) in reasons.iter().zip(expected) {
            assert!(reason.contains(part), "{part} is not in {reason}");
        }
    }

    #[test]
    fn whoever_may_read_is_a_reason() {
        let idle = || Usage { held_back: Some(1), confirmed: Some("0/10".to_owned()), ..Usage::default() };
        check(&users(idle(), &[]), None, &[]);
        check(&users(idle(), &[]), Some("0/10"), &[]);
        check(&users(idle(), &[]), Some("0/8"), &["has been read"]);
        check(&users(Usage { was_read: true, ..idle() }, &[]), None, &["has been read"]);
        check(&users(Usage { was_read: true, held_back: None, ..idle() }, &[]), None, &[]);
        check(
            &users(Usage { active: true, reader: Some("app".to_owned()), ..idle() }, &[]),
            None,
            &["calls itself \"app\""],
        );
        check(&users(Usage { active: true, ..idle() }, &[]), None, &["something reads from it"]);
        check(
            &users(idle(), &[Reads::Perhaps]),
            None,
            &["subscription \"reader\" of database \"there\" on the subscriber uses it ("],
        );
        let reader = Usage { active: true, reader: Some("reader".to_owned()), ..idle() };
        check(&users(reader, &[Reads::Surely]), None, &["uses it"]);
        let unasked = Users { unasked: Some("it is down".to_owned()), ..users(idle(), &[]) };
        check(&unasked, None, &["could not be asked whether one of its subscriptions uses it: it is down"]);
    }
}
