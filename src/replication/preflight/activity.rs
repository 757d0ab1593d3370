// SPDX-License-Identifier: MPL-2.0

//! Other activity on the servers, and facts that could not be checked.

use std::time::Duration;

use super::facts::{Facts, OLD_TRANSACTION, Side, Unchecked};
use crate::postgres::Ident;
use crate::postgres::server_facts::{OldTransaction, PreparedTransaction, RoleSetting, SlotInUse};
use crate::replication::{Finding, Severity, names, units};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let publishers: &[_] =
        if facts.question.reverse { &[&facts.publisher, &facts.subscriber] } else { &[&facts.publisher] };
    let mut found: Vec<_> = facts.unchecked.iter().map(unchecked).collect();
    for side in publishers {
        found.extend(side.transactions.old.iter().map(|open| old_transaction(side, open)));
        found.extend(side.transactions.prepared.iter().map(|prepared| prepared_transaction(side, prepared)));
        found.extend(hidden_transactions(side));
    }
    for side in [&facts.publisher, &facts.subscriber] {
        found.extend(
            side.role_settings.iter().filter(|setting| matters(setting)).map(|setting| role_setting(side, setting)),
        );
    }
    found.extend(subscriptions_into_publisher(facts));
    found.extend(facts.publisher.slots.iter().filter(|slot| !is_own(facts, &slot.name)).map(other_slot));
    found
}

fn unchecked(one: &Unchecked) -> Finding {
    let says = format!("This could not be checked: {}. {}.", one.what, one.why.trim_end_matches('.'));
    Finding::new(Severity::Warning, "unchecked", one.place).about(&one.what).says(says)
}

fn old_transaction(side: &Side, open: &OldTransaction) -> Finding {
    let OldTransaction { process, whose, database, seconds } = open;
    Finding::new(Severity::Warning, "old_transactions", side.place)
        .about(format!("process {process}"))
        .says(format!(
            "A transaction of {whose} in database {database:?} has been open for {}. Creating a replication slot \
             waits for its end, and so does every new subscription, in any database of the server.",
            units::duration(Duration::from_secs(*seconds))
        ))
        .mended_by(format!("End it, or on the {}: SELECT pg_terminate_backend({process});", side.place.as_str()))
}

fn prepared_transaction(side: &Side, prepared: &PreparedTransaction) -> Finding {
    let PreparedTransaction { name, database, seconds } = prepared;
    let quoted = name.replace('\'', "''");
    Finding::new(Severity::Warning, "prepared_transactions", side.place)
        .about(name)
        .says(format!(
            "A transaction in database {database:?} was prepared {} ago and has not ended. Creating a replication \
             slot waits for it, and so does closing the database to writes.",
            units::duration(Duration::from_secs(*seconds))
        ))
        .mended_by(format!(
            "On the {}, in database {database:?}: COMMIT PREPARED '{quoted}'; or ROLLBACK PREPARED '{quoted}';",
            side.place.as_str()
        ))
}

fn hidden_transactions(side: &Side) -> Option<Finding> {
    let own = &side.roles.own;
    let sees = side.roles.known.get(own).is_some_and(|role| role.is_superuser || role.reads_all_stats);
    let old = OLD_TRANSACTION.as_secs() / 60;
    let found = Finding::new(Severity::Info, "hidden_transactions", side.place)
        .about(own.as_str())
        .says(format!(
            "Role {own} may not see since when the transactions of other roles are open. So it was not checked \
             whether some are older than {old} minutes, which creating a slot would wait for. At the moment {} of \
             them {} written and not ended.",
            side.transactions.hidden,
            if side.transactions.hidden == 1 { "has" } else { "have" }
        ))
        .mended_by(format!("On the {}: GRANT pg_read_all_stats TO {own};", side.place.as_str()));
    (!sees).then_some(found)
}

/// Whether a setting differs from the server's behavior.
fn matters(setting: &RoleSetting) -> bool {
    let usual = match setting.name.as_str() {
        "row_security" => "on",
        "session_replication_role" => "origin",
        "default_transaction_read_only" => "",
        _ => "0",
    };
    setting.value != usual
}

fn role_setting(side: &Side, setting: &RoleSetting) -> Finding {
    let RoleSetting { role, name, value, in_database } = setting;
    let means = match name.as_str() {
        "default_transaction_read_only" => {
            "it overrides the database's setting, so closing the database to writes by its default does not apply \
                                            to this role"
        }
        "row_security" => "reading a table with row security fails instead of leaving rows out",
        "session_replication_role" => "triggers that protect tables do not fire for its writes",
        _ => "a copy by a subscription that logs in as this role is aborted if it takes longer",
    };
    let within = if *in_database {
        format!(
            " IN DATABASE {}",
            Ident::new(&side.database).map_or_else(|_| side.database.clone(), |name| name.to_string())
        )
    } else {
        String::new()
    };
    Finding::new(Severity::Warning, "role_settings", side.place)
        .about(format!("{}.{name}", role.as_str()))
        .says(format!("Role {role} has {name} = {value:?} for itself: {means}."))
        .mended_by(format!("On the {}: ALTER ROLE {role}{within} RESET {name};", side.place.as_str()))
}

fn subscriptions_into_publisher(facts: &Facts) -> Option<Finding> {
    let there = &facts.publisher.subscriptions;
    if there.is_empty() {
        return None;
    }
    let listed = names::list(there.keys().map(ToString::to_string));
    let found = Finding::new(Severity::Warning, "subscriptions_into_publisher", facts.publisher.place)
        .about(&listed)
        .says(format!(
            "The publisher's database is a subscriber itself: {listed}. What it receives is replicated further, and \
         keeps arriving when its own writers are stopped."
        ));
    Some(found.mended_by("Stop the writes at their origin, or disable these subscriptions before the cutover."))
}

fn is_own(facts: &Facts, slot: &Ident) -> bool {
    let own = facts.own.keys().filter_map(|name| facts.subscriber.subscriptions.get(name));
    own.filter_map(|subscription| subscription.slot_name()).any(|name| name == slot)
}

fn other_slot(slot: &SlotInUse) -> Finding {
    let SlotInUse { name, database, active, wal_status, held_back } = slot;
    let (severity, reads) = if *active {
        (Severity::Info, "something reads from it")
    } else {
        (Severity::Warning, "nothing reads from it")
    };
    let mend = if *active {
        String::new()
    } else {
        format!("If it is no longer needed, on the publisher: SELECT pg_drop_replication_slot('{}');", name.as_str())
    };
    Finding::new(severity, "other_slots", crate::replication::Place::Publisher)
        .about(name.as_str())
        .says(format!(
            "Logical replication slot {name} of database {database:?} is {wal_status}, and {reads}. The server keeps {} of WAL \
             for it.",
            units::bytes(*held_back)
        ))
        .mended_by(mend)
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, ident, shown};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    #[test]
    fn what_goes_on_beside_is_told() {
        let busy = |facts: &mut Facts| {
            let (whose, database) = ("etl, nightly".to_owned(), "shop".to_owned());
            let side = &mut facts.publisher;
            side.transactions.old.push(OldTransaction { process: 7, whose, database: database.clone(), seconds: 3600 });
            let prepared = PreparedTransaction { name: "it's".to_owned(), database: database.clone(), seconds: 60 };
            side.transactions.prepared.push(prepared);
            let slot = |name: &str, active| {
                let wal_status = "reserved".to_owned();
                SlotInUse { name: ident(name), database: database.clone(), active, wal_status, held_back: 3 << 30 }
            };
            side.slots = vec![slot("cdc", true), slot("forgotten", false)];
            let setting = |name: &str, value: &str, in_database| {
                let (name, value) = (name.to_owned(), value.to_owned());
                RoleSetting { role: ident("app"), name, value, in_database }
            };
            side.role_settings = vec![
                setting("default_transaction_read_only", "off", true),
                setting("statement_timeout", "0", false),
                setting("statement_timeout", "30s", false),
            ];
            // The subscriber's own transactions matter if it will publish.
            facts.subscriber.transactions = facts.publisher.transactions.clone();
        };
        check(
            busy,
            &expect![[r#"
                old_transactions: warning on publisher, process 7: A transaction of etl, nightly in database "shop" has been open for 1 h 00 min. Creating a replication slot waits for its end, and so does every new subscription, in any database of the server. End it, or on the publisher: SELECT pg_terminate_backend(7);
                prepared_transactions: warning on publisher, it's: A transaction in database "shop" was prepared 1 min 00 s ago and has not ended. Creating a replication slot waits for it, and so does closing the database to writes. On the publisher, in database "shop": COMMIT PREPARED 'it''s'; or ROLLBACK PREPARED 'it''s';
                role_settings: warning on publisher, app.default_transaction_read_only: Role "app" has default_transaction_read_only = "off" for itself: it overrides the database's setting, so closing the database to writes by its default does not apply to this role. On the publisher: ALTER ROLE "app" IN DATABASE "shop" RESET default_transaction_read_only;
                role_settings: warning on publisher, app.statement_timeout: Role "app" has statement_timeout = "30s" for itself: a copy by a subscription that logs in as this role is aborted if it takes longer. On the publisher: ALTER ROLE "app" RESET statement_timeout;
                other_slots: info on publisher, cdc: Logical replication slot "cdc" of database "shop" is reserved, and something reads from it. The server keeps 3.0 GiB of WAL for it.
                other_slots: warning on publisher, forgotten: Logical replication slot "forgotten" of database "shop" is reserved, and nothing reads from it. The server keeps 3.0 GiB of WAL for it. If it is no longer needed, on the publisher: SELECT pg_drop_replication_slot('forgotten');
            "#]],
        );
    }

    #[test]
    fn a_role_that_does_not_see_the_transactions_of_others_says_so() {
        let blind = |facts: &mut Facts| {
            facts.publisher.roles.known.get_mut(&ident("me")).unwrap().reads_all_stats = false;
            facts.publisher.transactions.hidden = 2;
        };
        check(
            blind,
            &expect![[r#"
                hidden_transactions: info on publisher, me: Role "me" may not see since when the transactions of other roles are open. So it was not checked whether some are older than 5 minutes, which creating a slot would wait for. At the moment 2 of them have written and not ended. On the publisher: GRANT pg_read_all_stats TO "me";
            "#]],
        );
    }
}
