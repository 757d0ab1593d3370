// SPDX-License-Identifier: MPL-2.0

//! Whether the servers have room for the stream that a switch starts, and whether its role may log in.

use super::super::run::Run;
use crate::postgres::Ident;
use crate::postgres::settings::{self, Room, WorkerRoom};
use crate::replication::Place;
use crate::replication::checks::{self, Objection, Right};
use crate::replication::error::{Error, Result};

/// The limits that leave no room for a stream whose slot is created on a side. There must be room by the
/// time of the switch.
///
/// # Errors
/// When a query fails.
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
        let error = Error::new(format!("the {side} has no free replication slot, and the switch creates one there"));
        error.detail(raising(side, "max_replication_slots", "drop slots that nothing reads from"))
    })
}

fn no_sender(room: &Room, side: Place) -> Option<Error> {
    let side = side.as_str();
    (room.senders <= 0).then(|| {
        let error =
            Error::new(format!("the {side} has no free WAL sender, so no change would flow back after the switch"));
        error.detail(raising(side, "max_wal_senders", "end readers that are not needed"))
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
        format!("the {side} has no free logical replication worker, so no change would flow back after the switch");
    Some(Error::new(error).detail(raising(side, setting, "disable subscriptions that are not needed")))
}

fn raising(side: &str, setting: &str, or: &str) -> String {
    format!(
        "Raise {setting} on the {side} and restart it, or {or}. As a superuser: ALTER SYSTEM SET {setting} = …; on \
         a managed server, change it in the provider's settings."
    )
}

/// The rights that are missing from the role as which the publisher's server logs in to the subscriber. Another
/// resource may still grant them.
///
/// # Errors
/// When a query fails.
pub(super) async fn login(run: &Run<'_>) -> Result<Vec<Objection>> {
    let role = run.back_subscription().as_ref().and_then(checks::login);
    let Some(role) = role else { return Ok(Vec::new()) };
    let db = run.db(Place::Subscriber);
    let login = run.operation().unless_stopped(settings::login(db, &role)).await?;
    let lacking = Right::lacking(login.as_ref()).into_iter();
    Ok(lacking.map(|right| Objection::Warning(lacks(&role, right, db.name()))).collect())
}

/// A right that the role lacks, with the statement that grants it.
fn lacks(role: &Ident, right: Right, database: &str) -> Error {
    let what = match right {
        Right::Exist => "does not exist there",
        Right::LogIn => "may not log in",
        Right::Replicate { .. } => "may not replicate",
        Right::Connect => "may not connect to the database",
    };
    Error::new(format!("role {role} {what}, and the way back logs in to the subscriber as it"))
        .detail(right.remedy(Place::Subscriber.as_str(), role, database))
        .about("reverse")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::settings::Login;
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
            the subscriber has no free replication slot, and the switch creates one there

            Raise max_replication_slots on the subscriber and restart it, or drop slots that nothing reads from. As a superuser: ALTER SYSTEM SET max_replication_slots = …; on a managed server, change it in the provider's settings.
            the subscriber has no free WAL sender, so no change would flow back after the switch

            Raise max_wal_senders on the subscriber and restart it, or end readers that are not needed. As a superuser: ALTER SYSTEM SET max_wal_senders = …; on a managed server, change it in the provider's settings.
            the publisher has no free logical replication worker, so no change would flow back after the switch

            Raise max_logical_replication_workers on the publisher and restart it, or disable subscriptions that are not needed. As a superuser: ALTER SYSTEM SET max_logical_replication_workers = …; on a managed server, change it in the provider's settings.
            the publisher has no free logical replication worker, so no change would flow back after the switch

            Raise max_worker_processes on the publisher and restart it, or disable subscriptions that are not needed. As a superuser: ALTER SYSTEM SET max_worker_processes = …; on a managed server, change it in the provider's settings.
        "#]].assert_eq(&said);
        let free = Room { slots: 1, senders: 1, is_standby: false };
        assert!(no_slot(&free, Place::Publisher).is_none() && no_sender(&free, Place::Publisher).is_none());
        assert!(no_worker(&workers(1, 1), Place::Publisher).is_none());
    }

    #[test]
    fn what_the_role_lacks_comes_with_its_statement() {
        let role = Ident::new("replicator").unwrap();
        let shown = |login: Option<&Login>| {
            let all = Right::lacking(login).into_iter().map(|right| lacks(&role, right, "shop"));
            all.map(|error| format!("{error}\n")).collect::<String>()
        };
        let login = Login { can_login: false, replicates: false, connects: false, is_rds: false };
        expect![[r#"
            role "replicator" may not log in, and the way back logs in to the subscriber as it

            On the subscriber, as a superuser: ALTER ROLE "replicator" LOGIN;
            role "replicator" may not replicate, and the way back logs in to the subscriber as it

            On the subscriber, as a superuser: ALTER ROLE "replicator" REPLICATION;
            role "replicator" may not connect to the database, and the way back logs in to the subscriber as it

            On the subscriber, as the owner of the database: GRANT CONNECT ON DATABASE "shop" TO "replicator";
        "#]]
        .assert_eq(&shown(Some(&login)));
        let rds = Login { can_login: true, connects: true, is_rds: true, ..login };
        expect![[r#"
            role "replicator" may not replicate, and the way back logs in to the subscriber as it

            On the subscriber, as a member of rds_superuser: GRANT rds_replication TO "replicator";
        "#]]
        .assert_eq(&shown(Some(&rds)));
        expect![[r#"
            role "replicator" does not exist there, and the way back logs in to the subscriber as it

            On the subscriber, as a superuser: CREATE ROLE "replicator" LOGIN REPLICATION PASSWORD '…';
        "#]]
        .assert_eq(&shown(None));
        assert_eq!(shown(Some(&Login { replicates: true, ..rds })), "");
    }
}
