// SPDX-License-Identifier: MPL-2.0

//! Facts about the two servers, and whether they have room for one more subscription.

use std::time::Duration;

use super::facts::{Facts, Side};
use crate::postgres::ServerVersion;
use crate::replication::{Finding, Place, Severity, units};

/// This version of Aurora fails to decode some changes.
const FLAWED_AURORA: u32 = 160_001;

/// A timeout of minutes may interrupt the copy of a table of this size.
const LARGE_TABLE: u64 = 100 << 30;

/// A timeout below this, in milliseconds, may interrupt the copy of a large table.
const SHORT_TIMEOUT: i64 = 300_000;

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let publisher = &facts.publisher;
    let mut found = vec![];
    found.extend([publisher, &facts.subscriber].into_iter().filter_map(standby));
    found.extend(wal_level(publisher));
    found.extend(same_place(facts));
    found.extend(flawed_aurora(publisher));
    found.extend(room(publisher, &facts.subscriber, &Need::of(facts)));
    found.extend(kept_wal(facts));
    found.extend(idle_slots(publisher));
    found.extend(timeouts(facts));
    if facts.question.reverse {
        found.extend(wal_level(&facts.subscriber));
        found.extend(room(&facts.subscriber, publisher, &Need::back(facts)));
    }
    found
}

/// A standby cannot be a publisher before Postgres 16, and cannot create publications or subscriptions.
fn standby(side: &Side) -> Option<Finding> {
    let found = Finding::new(Severity::Error, "standby", side.place)
        .says(
            "This server is a standby or a reader: it replays another server's WAL, and nothing can be created on \
             it.",
        )
        .mended_by(format!(
            "Give the provider's {} block the host of the primary, or of Aurora's writer.",
            side.place.as_str()
        ));
    side.server.in_recovery.then_some(found)
}

fn wal_level(side: &Side) -> Option<Finding> {
    let level = side.outline.wal_level.as_str();
    if level == "logical" {
        return None;
    }
    let found = Finding::new(Severity::Error, "wal_level", side.place).about("wal_level").says(format!(
        "wal_level is {level}, so no logical replication slot can be created: nobody can subscribe to this server."
    ));
    Some(found.mended_by(match side.server.setting("rds.logical_replication") {
        Some(_) => "Set rds.logical_replication to 1 in its parameter group and reboot the writer: the resource \
                    neonrepl_aurora_logical_replication does both, neonrepl_rds_logical_replication on an instance of RDS."
            .to_owned(),
        None => raised(side, "wal_level", "logical"),
    }))
}

/// How to change a setting that takes effect at the next start.
fn raised(side: &Side, setting: &str, value: &str) -> String {
    if side.server.is_rds() {
        return format!(
            "Set {setting} to {value} in the parameter group of the {}, and reboot it.",
            side.place.as_str()
        );
    }
    format!(
        "On the {}, as a superuser: ALTER SYSTEM SET {setting} = {value}; then restart the server. On a managed \
         server, change it in the provider's settings.",
        side.place.as_str()
    )
}

fn same_place(facts: &Facts) -> Option<Finding> {
    if !facts.is_one_cluster {
        return None;
    }
    if facts.publisher.database == facts.subscriber.database {
        let says = format!(
            "Publisher and subscriber are the same database, {:?} of the same server.",
            facts.publisher.database
        );
        let found =
            Finding::new(Severity::Error, "same_database", Place::Both).about(&facts.publisher.database).says(says);
        return Some(found.mended_by("Check the host and the database of both blocks of the provider."));
    }
    let says = "Publisher and subscriber are databases of one server. This provider can replicate between them; \
                CREATE SUBSCRIPTION by hand waits for itself there.";
    Some(Finding::new(Severity::Info, "one_server", Place::Both).says(says))
}

fn flawed_aurora(publisher: &Side) -> Option<Finding> {
    let is_flawed = publisher.server.is_aurora && publisher.version == ServerVersion::from_num(FLAWED_AURORA);
    let found = Finding::new(Severity::Warning, "aurora_16_1", Place::Publisher)
        .says("Aurora PostgreSQL 16.1 is known to stop logical decoding with \"could not map filenumber\".")
        .mended_by("Upgrade the cluster to 16.2 or later first.");
    is_flawed.then_some(found)
}

/// What one more subscription needs.
struct Need {
    /// Whether it does not exist yet.
    is_new: bool,
    /// Whether it has tables to copy.
    copies: bool,
    /// How many tables it would copy at the same time.
    at_a_time: i64,
}

impl Need {
    fn of(facts: &Facts) -> Self {
        let at_a_time = facts.subscriber.server.number("max_sync_workers_per_subscription").unwrap_or(2);
        let new = i64::try_from(facts.new_tables().count()).unwrap_or(i64::MAX);
        Self { is_new: facts.own.is_empty(), copies: new > 0, at_a_time: at_a_time.min(new) }
    }

    /// The way back copies nothing.
    fn back(facts: &Facts) -> Self {
        let is_new = facts.publisher.subscriptions.is_empty();
        Self { is_new, copies: false, at_a_time: 0 }
    }

    fn least(&self) -> i64 {
        i64::from(self.is_new) + i64::from(self.copies)
    }

    fn wanted(&self) -> i64 {
        i64::from(self.is_new) + self.at_a_time
    }
}

/// A limited resource of a server.
struct Supply<'a> {
    side: &'a Side,
    check: &'static str,
    setting: &'static str,
    /// Its name in the plural.
    what: &'static str,
    free: i64,
}

/// Whether there is room for a subscription on `to` that reads from `from`.
fn room(from: &Side, to: &Side, need: &Need) -> Vec<Finding> {
    let mut supplies = Vec::new();
    if let Some(room) = from.room {
        let slots = ("replication_slots", "max_replication_slots", "replication slots", room.slots);
        let senders = ("wal_senders", "max_wal_senders", "WAL senders", room.senders);
        supplies.extend([slots, senders].map(|(check, setting, what, free)| Supply {
            side: from,
            check,
            setting,
            what,
            free,
        }));
    }
    supplies.extend(workers(to));
    supplies.extend(origins(to));
    supplies.iter().filter_map(|supply| supply.short(need)).collect()
}

fn workers(side: &Side) -> Option<Supply<'_>> {
    let used = i64::try_from(side.server.workers).unwrap_or(i64::MAX);
    let most = side.server.number("max_logical_replication_workers")?;
    // One of the server's workers only launches the others.
    let processes = side.server.number("max_worker_processes")?.saturating_sub(1);
    let (setting, most) =
        if processes < most { ("max_worker_processes", processes) } else { ("max_logical_replication_workers", most) };
    let (check, what) = ("replication_workers", "workers of logical replication");
    Some(Supply { side, check, setting, what, free: most - used })
}

/// The limit of active replication origins, which has its own setting since Postgres 18.
fn origins(side: &Side) -> Option<Supply<'_>> {
    let names = ["max_active_replication_origins", "max_replication_slots"];
    let (setting, most) = names.into_iter().find_map(|name| Some((name, side.server.number(name)?)))?;
    let free = most - i64::try_from(side.server.origins).unwrap_or(i64::MAX);
    Some(Supply { side, check: "replication_origins", setting, what: "replication origins", free })
}

impl Supply<'_> {
    fn short(&self, need: &Need) -> Option<Finding> {
        let (least, wanted, free) = (need.least(), need.wanted(), self.free.max(0));
        if free >= wanted.max(least) {
            return None;
        }
        let (severity, means) = match (free < least, free == 0 && need.is_new) {
            (true, true) => (Severity::Error, "no subscription can run"),
            (true, false) => (Severity::Error, "the subscription runs, but its tables are never copied"),
            (false, _) => (Severity::Warning, "fewer tables are copied at a time, and none if others use up the rest"),
        };
        let Self { side, setting, what, .. } = self;
        let says = format!("Free {what}: {free}. A subscription takes {wanted} while it copies: {means}.");
        let most = side.server.number(setting).unwrap_or_default() + wanted.max(least) - free;
        let found = Finding::new(severity, self.check, side.place).about(*setting).says(says);
        Some(found.mended_by(format!("{} Or drop what is not used.", raised(side, setting, &most.to_string()))))
    }
}

/// A slot keeps WAL for as long as the copy takes.
fn kept_wal(facts: &Facts) -> Option<Finding> {
    let kept = facts.publisher.server.number("max_slot_wal_keep_size")?;
    let kept = u64::try_from(kept).ok()?.saturating_mul(1 << 20);
    let new = facts.new_tables().filter_map(|table| facts.totals.get(table));
    let bytes: u64 = new.map(|extent| extent.bytes).sum();
    if bytes == 0 || bytes < kept {
        return None;
    }
    let setting = "max_slot_wal_keep_size";
    let found = Finding::new(Severity::Warning, "slot_wal_keep_size", Place::Publisher).about(setting).says(format!(
        "{} are to be copied, and {setting} lets a slot keep {} of WAL: if more is written in the meantime, the \
         slot is lost, and everything must be copied again.",
        units::bytes(bytes),
        units::bytes(kept)
    ));
    let reload = "On the publisher, as a superuser: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT \
                  pg_reload_conf(); or as much as its disk has room for.";
    Some(found.mended_by(reload))
}

/// A slot without a reader for that long is lost (Postgres 18).
fn idle_slots(publisher: &Side) -> Option<Finding> {
    let setting = "idle_replication_slot_timeout";
    let seconds = publisher.server.number(setting).filter(|seconds| *seconds > 0)?;
    let found = Finding::new(Severity::Warning, "idle_slots", Place::Publisher).about(setting).says(format!(
        "A slot that nothing reads from for {} is lost: a subscription that is disabled, or cannot reach the \
         publisher, for that long must copy everything again.",
        units::duration(Duration::from_secs(seconds.unsigned_abs()))
    ));
    let mend = "On the publisher, as a superuser: ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();";
    Some(found.mended_by(mend))
}

fn timeouts(facts: &Facts) -> Vec<Finding> {
    let is_large =
        facts.new_tables().filter_map(|table| facts.totals.get(table)).any(|extent| extent.bytes > LARGE_TABLE);
    let settings = [(&facts.publisher, "wal_sender_timeout"), (&facts.subscriber, "wal_receiver_timeout")];
    let short = settings.into_iter().filter(|(side, name)| {
        is_large && side.server.number(name).is_some_and(|time| time > 0 && time < SHORT_TIMEOUT)
    });
    let found = short.map(|(side, name)| {
        Finding::new(Severity::Info, "replication_timeout", side.place)
            .about(name)
            .says(format!(
                "{name} is less than five minutes, and a table is larger than {}: a pause in its copy may abort it.",
                units::bytes(LARGE_TABLE)
            ))
            .mended_by(format!(
                "On the {}, as a superuser: ALTER SYSTEM SET {name} = '10min'; SELECT pg_reload_conf();",
                side.place.as_str()
            ))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, shown};
    use super::*;
    use crate::postgres::settings::Room;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    fn set(side: &mut Side, name: &str, value: &str) {
        side.server.settings.insert(name.to_owned(), value.to_owned());
    }

    #[test]
    fn what_a_server_lacks_is_named_with_how_it_gets_it() {
        let replica = |side: &mut Side| std::sync::Arc::make_mut(&mut side.outline).wal_level = "replica".to_owned();
        check(
            |facts| replica(&mut facts.publisher),
            &expect![[r#"
                wal_level: error on publisher, wal_level: wal_level is replica, so no logical replication slot can be created: nobody can subscribe to this server. On the publisher, as a superuser: ALTER SYSTEM SET wal_level = logical; then restart the server. On a managed server, change it in the provider's settings.
            "#]],
        );
        check(
            |facts| {
                replica(&mut facts.publisher);
                set(&mut facts.publisher, "rds.logical_replication", "off");
            },
            &expect![[r#"
                wal_level: error on publisher, wal_level: wal_level is replica, so no logical replication slot can be created: nobody can subscribe to this server. Set rds.logical_replication to 1 in its parameter group and reboot the writer: the resource neonrepl_aurora_logical_replication does both, neonrepl_rds_logical_replication on an instance of RDS.
            "#]],
        );
        // The subscriber publishes only if changes flow back.
        check(|facts| replica(&mut facts.subscriber), &expect![[""]]);
        check(
            |facts| {
                replica(&mut facts.subscriber);
                facts.question.reverse = true;
            },
            &expect![[r#"
                wal_level: error on subscriber, wal_level: wal_level is replica, so no logical replication slot can be created: nobody can subscribe to this server. On the subscriber, as a superuser: ALTER SYSTEM SET wal_level = logical; then restart the server. On a managed server, change it in the provider's settings.
            "#]],
        );
    }

    #[test]
    fn room_is_asked_for_as_much_as_there_is_to_do() {
        let slots =
            |facts: &mut Facts, slots| facts.publisher.room = Some(Room { slots, senders: 10, is_standby: false });
        check(
            |facts| slots(facts, 0),
            &expect![[r#"
                replication_slots: error on publisher, max_replication_slots: Free replication slots: 0. A subscription takes 2 while it copies: no subscription can run. On the publisher, as a superuser: ALTER SYSTEM SET max_replication_slots = 12; then restart the server. On a managed server, change it in the provider's settings. Or drop what is not used.
            "#]],
        );
        check(
            |facts| slots(facts, 1),
            &expect![[r#"
                replication_slots: error on publisher, max_replication_slots: Free replication slots: 1. A subscription takes 2 while it copies: the subscription runs, but its tables are never copied. On the publisher, as a superuser: ALTER SYSTEM SET max_replication_slots = 11; then restart the server. On a managed server, change it in the provider's settings. Or drop what is not used.
            "#]],
        );
        check(|facts| slots(facts, 2), &expect![[""]]);
        // A running subscription that has copied everything needs nothing more.
        check(
            |facts| {
                slots(facts, 0);
                let tables = facts.sent.tables.keys().cloned().collect();
                facts.own.insert(example::ident("running"), tables);
            },
            &expect![[""]],
        );
        check(
            |facts| facts.subscriber.server.workers = 4,
            &expect![[r#"
                replication_workers: error on subscriber, max_logical_replication_workers: Free workers of logical replication: 0. A subscription takes 2 while it copies: no subscription can run. On the subscriber, as a superuser: ALTER SYSTEM SET max_logical_replication_workers = 6; then restart the server. On a managed server, change it in the provider's settings. Or drop what is not used.
            "#]],
        );
    }

    #[test]
    fn what_may_break_a_long_copy_is_said_before() {
        check(
            |facts| {
                let size = facts.totals.get_mut(&example::table("orders")).unwrap();
                size.bytes = 200 << 30;
                set(&mut facts.publisher, "max_slot_wal_keep_size", "1024");
                set(&mut facts.subscriber, "wal_receiver_timeout", "0");
            },
            &expect![[r#"
                slot_wal_keep_size: warning on publisher, max_slot_wal_keep_size: 200 GiB are to be copied, and max_slot_wal_keep_size lets a slot keep 1.0 GiB of WAL: if more is written in the meantime, the slot is lost, and everything must be copied again. On the publisher, as a superuser: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); or as much as its disk has room for.
                replication_timeout: info on publisher, wal_sender_timeout: wal_sender_timeout is less than five minutes, and a table is larger than 100 GiB: a pause in its copy may abort it. On the publisher, as a superuser: ALTER SYSTEM SET wal_sender_timeout = '10min'; SELECT pg_reload_conf();
            "#]],
        );
    }

    #[test]
    fn one_server_is_told_from_one_database() {
        check(
            |facts| facts.is_one_cluster = true,
            &expect![[r#"
            same_database: error on both, shop: Publisher and subscriber are the same database, "shop" of the same server. Check the host and the database of both blocks of the provider.
        "#]],
        );
        check(
            |facts| {
                facts.is_one_cluster = true;
                facts.subscriber.database = "other".to_owned();
            },
            &expect![[r#"
                one_server: info on both: Publisher and subscriber are databases of one server. This provider can replicate between them; CREATE SUBSCRIPTION by hand waits for itself there.
            "#]],
        );
        check(
            |facts| facts.subscriber.server.in_recovery = true,
            &expect![[r#"
            standby: error on subscriber: This server is a standby or a reader: it replays another server's WAL, and nothing can be created on it. Give the provider's subscriber block the host of the primary, or of Aurora's writer.
        "#]],
        );
        check(
            |facts| {
                facts.publisher.server.is_aurora = true;
                facts.publisher.version = ServerVersion::from_num(160_001);
            },
            &expect![[r#"
                aurora_16_1: warning on publisher: Aurora PostgreSQL 16.1 is known to stop logical decoding with "could not map filenumber". Upgrade the cluster to 16.2 or later first.
            "#]],
        );
    }
}
