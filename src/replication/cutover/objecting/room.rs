// SPDX-License-Identifier: MPL-2.0

//! Whether the servers have room for the stream that a switch starts, and whether its role may log in.

use super::super::run::Run;
use crate::postgres::settings::{self, Login, Room, WorkerRoom};
use crate::postgres::{Ident, quoted};
use crate::replication::Place;
use crate::replication::checks::{self, Objection};
use crate::replication::error::{Error, Result};

/// What is full for a stream whose slot is made on a side: there must be room by the time of the switch.
///
/// # Errors
/// When a server cannot be asked.
pub(super) async fn full(run: &Run<'_>, slot: Place) -> Result<Vec<Objection>> {
    let reader = slot.other();
    let room = run.operation().unless_stopped(settings::room(run.db(slot))).await?;
    let workers = run.operation().unless_stopped(settings::worker_room(run.db(reader))).await?;
    let mut found = Vec::new();
    found.extend(no_slot(&room, slot).map(Objection::Warning));
    found.extend(no_sender(&room, slot).map(Objection::Warning));
    found.extend(no_worker(&workers, reader).map(Objection::Warning));
    Ok(found)
}

fn no_slot(room: &Room, side: Place) -> Option<Error> {
    let side = side.as_str();
    (room.slots <= 0).then(|| {
        let error = Error::new(format!("the {side} has no replication slot left, and the switch makes one there"));
        error.detail(raising(side, "max_replication_slots", "drop slots that nothing reads from"))
    })
}

fn no_sender(room: &Room, side: Place) -> Option<Error> {
    let side = side.as_str();
    (room.senders <= 0).then(|| {
        let error =
            Error::new(format!("the {side} has no WAL sender left, so that no change flows back after the switch"));
        error.detail(raising(side, "max_wal_senders", "end what reads from it and is not needed"))
    })
}

fn no_worker(room: &WorkerRoom, side: Place) -> Option<Error> {
    let side = side.as_str();
    let setting = match (room.workers, room.processes) {
        (..=0, _) => "max_logical_replication_workers",
        (_, ..=0) => "max_worker_processes",
        _ => return None,
    };
    let error =
        format!("the {side} has no worker of logical replication left, so that no change flows back after the switch");
    Some(Error::new(error).detail(raising(side, setting, "disable subscriptions that are not needed")))
}

fn raising(side: &str, setting: &str, or: &str) -> String {
    format!(
        "Raise {setting} on the {side} and restart it, or {or}. As a superuser: ALTER SYSTEM SET {setting} = …; a managed server has \
         it in its own settings."
    )
}

/// What the role lacks as which the publisher's server logs in to the subscriber. Another resource may still give it.
///
/// # Errors
/// When the subscriber cannot be asked.
pub(super) async fn login(run: &Run<'_>) -> Result<Vec<Objection>> {
    let role = run.back_subscription().as_ref().and_then(checks::login);
    let Some(role) = role else { return Ok(Vec::new()) };
    let db = run.db(Place::Subscriber);
    let login = run.operation().unless_stopped(settings::login(db, &role)).await?;
    let lacks = lacking(&role, login.as_ref(), db.name());
    let warnings = lacks.into_iter().map(|(what, mend)| {
        let error = Error::new(format!("role {role} {what}, and the way back logs in to the subscriber as it"));
        Objection::Warning(error.detail(mend).about("reverse"))
    });
    Ok(warnings.collect())
}

/// What a role may not do, with the statement that lets it.
fn lacking(role: &Ident, login: Option<&Login>, database: &str) -> Vec<(&'static str, String)> {
    let Some(login) = login else {
        return vec![(
            "does not exist there",
            format!("On the subscriber: CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…';"),
        )];
    };
    let replication = match login.is_rds {
        true => format!("On the subscriber: GRANT rds_replication TO {role};"),
        false => format!("On the subscriber, as a superuser: ALTER ROLE {role} REPLICATION;"),
    };
    let rights = [
        (login.can_login, "may not log in", format!("On the subscriber: ALTER ROLE {role} LOGIN;")),
        (login.replicates, "may not replicate", replication),
        (
            login.connects,
            "may not connect to the database",
            format!("On the subscriber: GRANT CONNECT ON DATABASE {} TO {role};", quoted(database)),
        ),
    ];
    rights.into_iter().filter(|(has, ..)| !has).map(|(_, what, mend)| (what, mend)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_is_full_is_named_with_its_setting() {
        let full = Room { slots: 0, senders: 0, is_standby: false };
        let workers = |workers, processes| WorkerRoom { workers, processes, is_standby: false };
        let said = [
            no_slot(&full, Place::Subscriber),
            no_sender(&full, Place::Subscriber),
            no_worker(&workers(0, 5), Place::Publisher),
            no_worker(&workers(2, 0), Place::Publisher),
        ];
        let said: String = said.into_iter().flatten().map(|error| format!("{error}\n")).collect();
        expect![[r#"
            the subscriber has no replication slot left, and the switch makes one there

            Raise max_replication_slots on the subscriber and restart it, or drop slots that nothing reads from. As a superuser: ALTER SYSTEM SET max_replication_slots = …; a managed server has it in its own settings.
            the subscriber has no WAL sender left, so that no change flows back after the switch

            Raise max_wal_senders on the subscriber and restart it, or end what reads from it and is not needed. As a superuser: ALTER SYSTEM SET max_wal_senders = …; a managed server has it in its own settings.
            the publisher has no worker of logical replication left, so that no change flows back after the switch

            Raise max_logical_replication_workers on the publisher and restart it, or disable subscriptions that are not needed. As a superuser: ALTER SYSTEM SET max_logical_replication_workers = …; a managed server has it in its own settings.
            the publisher has no worker of logical replication left, so that no change flows back after the switch

            Raise max_worker_processes on the publisher and restart it, or disable subscriptions that are not needed. As a superuser: ALTER SYSTEM SET max_worker_processes = …; a managed server has it in its own settings.
        "#]].assert_eq(&said);
        let free = Room { slots: 1, senders: 1, is_standby: false };
        assert!(no_slot(&free, Place::Publisher).is_none() && no_sender(&free, Place::Publisher).is_none());
        assert!(no_worker(&workers(1, 1), Place::Publisher).is_none());
    }

    #[test]
    fn what_the_role_lacks_comes_with_its_statement() {
        let role = Ident::new("replicator").unwrap();
        let shown = |login: Option<&Login>| {
            let all = lacking(&role, login, "shop");
            all.iter().map(|(what, mend)| format!("{what}: {mend}\n")).collect::<String>()
        };
        let login = Login { can_login: false, replicates: false, connects: false, is_rds: false };
        expect![[r#"
            may not log in: On the subscriber: ALTER ROLE "replicator" LOGIN;
            may not replicate: On the subscriber, as a superuser: ALTER ROLE "replicator" REPLICATION;
            may not connect to the database: On the subscriber: GRANT CONNECT ON DATABASE "shop" TO "replicator";
        "#]]
        .assert_eq(&shown(Some(&login)));
        let rds = Login { can_login: true, connects: true, is_rds: true, ..login };
        expect![[r#"
            may not replicate: On the subscriber: GRANT rds_replication TO "replicator";
        "#]]
        .assert_eq(&shown(Some(&rds)));
        expect![[r#"
            does not exist there: On the subscriber: CREATE ROLE "replicator" LOGIN REPLICATION PASSWORD '…';
        "#]]
        .assert_eq(&shown(None));
        assert_eq!(shown(Some(&Login { replicates: true, ..rds })), "");
    }
}
