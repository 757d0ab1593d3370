// SPDX-License-Identifier: MPL-2.0

//! Whether the provider's roles have the rights for the switch of a cutover, and for the switch back if there is a way
//! back: every reason for which `neonrepl_cutover` would be refused. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, Side};
use super::planned_switch::PlannedSwitch;
use super::roles::{error, lacks_create, replication};
use super::tables::capital;
use crate::postgres::fence;
use crate::postgres::sequence::Definition;
use crate::postgres::{Ident, QualifiedName, quoted};
use crate::replication::checks::statistics;
use crate::replication::{Finding, Place, Severity, names};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    if !facts.question.plans_cutover() {
        return Vec::new();
    }
    let reverse = facts.question.reverse;
    let mut found = Vec::new();
    for side in [&facts.publisher, &facts.subscriber] {
        // The side that writes leave; with a way back, both sides.
        let is_left = side.place == Place::Publisher || reverse;
        found.extend(is_left.then(|| slots(facts, side)).flatten());
        let Some(switch) = &side.switch else { continue };
        found.extend(schema(side, switch, reverse));
        found.extend(owners(side, switch));
        found.extend(is_left.then(|| database(side, switch)).flatten());
        // Sequences are read on the side that writes leave, and raised on the other one.
        found.extend(sequences(side, switch, side.place == Place::Subscriber || reverse));
    }
    found.extend(statistics(facts));
    found
}

/// A switch drops the slot of the stream to the new side, and creates that of the way back. The connection's role does
/// both; a subscription's login role has a finding of its own.
fn slots(facts: &Facts, side: &Side) -> Option<Finding> {
    let (name, login) = (&side.roles.own, facts.login_on(side.place));
    let lacks = side.roles.known.get(name).is_some_and(|role| !role.may_replicate()) && name != login;
    let mend = replication(side, name);
    let keeps =
        if facts.question.reverse { "" } else { " Or keep the slot: forward = \"disable\" of neonrepl_cutover." };
    lacks.then(|| {
        error("slot_rights", side, name)
            .says(format!("Role {name} may not create and drop replication slots, which a cutover needs."))
            .mended_by(format!("{mend}{keeps}"))
    })
}

/// The schema of the fence's function, and the publication of the way back.
fn schema(side: &Side, switch: &PlannedSwitch, reverse: bool) -> Option<Finding> {
    let (name, standing) = (&side.roles.own, &switch.standing);
    let publishes = reverse && side.place == Place::Subscriber;
    let creates = side.roles.known.get(name).is_none_or(|role| role.creates);
    if standing.has_schema && !standing.may_make {
        let schema = fence::schema();
        let says = format!(
            "Role {name} may not create the fence of a cutover in schema {schema}, which another role created."
        );
        let mend =
            format!("On the {}, as its owner: GRANT USAGE, CREATE ON SCHEMA {schema} TO {name};", side.place.as_str());
        return Some(error("fence_schema", side, name).says(says).mended_by(mend));
    }
    let why = match (standing.has_schema, publishes) {
        (false, true) => "which the fence of a cutover and the publication of the way back need",
        (false, false) => "which the fence of a cutover needs",
        (true, true) => "which the publication of the way back needs",
        (true, false) => return None,
    };
    (!creates).then(|| lacks_create(side, name, why))
}

/// The tables with all relations through which they can be written to: partitions, parents and children.
fn owners(side: &Side, switch: &PlannedSwitch) -> Vec<Finding> {
    let (name, server) = (&side.roles.own, side.place.as_str());
    let mut owners: BTreeMap<&Ident, Vec<&QualifiedName>> = BTreeMap::new();
    for relation in switch.standing.relations.iter().filter(|relation| !relation.is_owned) {
        owners.entry(&relation.owner).or_default().push(&relation.name);
    }
    let each = owners.into_iter().map(|(owner, tables)| {
        let says = format!(
            "Role {name} may not put the fence of a cutover on tables that role {owner} owns: {}.",
            names::tables(tables.iter().copied())
        );
        error("fence_owner", side, owner).says(says).mended_by(format!("On the {server}: GRANT {owner} TO {name};"))
    });
    each.collect()
}

/// The database's default closes tables that are not replicated.
fn database(side: &Side, switch: &PlannedSwitch) -> Option<Finding> {
    let (name, server) = (&side.roles.own, side.place.as_str());
    (!switch.may_default).then(|| {
        let says = format!(
            "Role {name} does not own database {:?}, so it may not make the database read-only by default, as a \
             cutover does to block writes to tables that are not replicated.",
            side.database
        );
        let mend = format!(
            "On the {server}: ALTER DATABASE {} OWNER TO {name}; or set unpublished_writes = \"allow\" of neonrepl_cutover.",
            quoted(&side.database)
        );
        Finding::new(Severity::Warning, "database_owner", side.place).about(name.as_str()).says(says).mended_by(mend)
    })
}

/// Sequences that are read, and maybe raised.
fn sequences(side: &Side, switch: &PlannedSwitch, raises: bool) -> Option<Finding> {
    let may = |one: &Definition| one.may_use_schema && one.may_read && (one.may_set || !raises);
    let lacking: Vec<_> = switch.sequences.iter().filter(|(_, one)| !may(one)).map(|(name, _)| name).collect();
    let (name, server) = (&side.roles.own, side.place.as_str());
    lacking.first()?;
    let (verb, rights) = if raises { ("raise", "SELECT, UPDATE") } else { ("read", "SELECT") };
    let unused = switch.sequences.iter().filter(|(_, one)| !one.may_use_schema);
    let schemas: BTreeSet<String> = unused.map(|(sequence, _)| sequence.schema.to_string()).collect();
    let schemas = match schemas.is_empty() {
        true => String::new(),
        false => format!("GRANT USAGE ON SCHEMA {} TO {name}; ", schemas.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let all = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let says = format!(
        "Role {name} may not {verb} sequences, which a cutover copies: {}.",
        names::tables(lacking.iter().copied())
    );
    let mend = format!("On the {server}, as the owner: {schemas}GRANT {rights} ON SEQUENCE {all} TO {name};");
    Some(error("sequence_rights", side, name).says(says).mended_by(mend))
}

/// Only tables that are already replicated: tables that are not copied yet have no statistics yet.
fn statistics(facts: &Facts) -> Vec<Finding> {
    let side = &facts.subscriber;
    let Some(switch) = &side.switch else { return Vec::new() };
    let new: BTreeSet<_> = facts.new_tables().collect();
    let there = switch.unanalyzed.iter().filter(|(table, _)| !new.contains(table));
    let there = there.map(|(table, why)| (table.clone(), *why)).collect();
    let unknown = statistics::unknown(&there, side.place, &side.database);
    let each = unknown.into_iter().map(|one| {
        let about = names::tables(one.tables.iter().copied());
        let finding = Finding::new(Severity::Warning, "statistics", side.place).about(about);
        finding.says(capital(&one.says)).mended_by(one.remedy)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, ident, shown, table};
    use super::*;
    use crate::postgres::catalog::Unanalyzed;
    use crate::postgres::fence::{Fenced, Gate, Standing};
    use expect_test::{Expect, expect};

    fn switch() -> PlannedSwitch {
        let orders =
            Fenced { name: table("orders"), is_covered: false, is_owned: true, may_lock: true, owner: ident("me") };
        let standing = Standing {
            gate: Gate::Missing,
            comment: None,
            has_schema: false,
            may_make: true,
            may_change: true,
            role: ident("me"),
            relations: vec![orders],
        };
        PlannedSwitch { standing, may_default: true, sequences: BTreeMap::new(), unanalyzed: BTreeMap::new() }
    }

    /// A pair with a planned cutover.
    fn planned(reverse: bool) -> Facts {
        let mut facts = example::facts();
        (facts.question.cutover, facts.question.reverse) = (true, reverse);
        for side in [&mut facts.publisher, &mut facts.subscriber] {
            side.switch = Some(switch());
        }
        facts
    }

    fn check(mut facts: Facts, change: impl Fn(&mut Side), expected: &Expect) {
        change(&mut facts.publisher);
        change(&mut facts.subscriber);
        expected.assert_eq(&shown(&find(&facts)));
    }

    #[test]
    fn owners_may_switch() {
        for reverse in [false, true] {
            check(planned(reverse), |_| {}, &expect![""]);
        }
        let mut facts = planned(true);
        (facts.question.cutover, facts.question.reverse) = (false, false);
        check(facts, lacks_all, &expect![""]);
    }

    fn lacks_all(side: &mut Side) {
        let role = side.roles.known.get_mut(&ident("me")).unwrap();
        (role.has_replication, role.creates) = (false, false);
        let switch = side.switch.as_mut().unwrap();
        (switch.standing.may_make, switch.may_default) = (false, false);
        let relation = &mut switch.standing.relations[0];
        (relation.is_owned, relation.owner) = (false, ident("app"));
        let definition = Definition {
            increment: 1,
            min: 1,
            max: 9,
            role: ident("me"),
            may_use_schema: true,
            may_read: true,
            may_set: false,
        };
        switch.sequences.insert(table("numbers"), definition);
    }

    #[test]
    fn each_right_that_a_switch_needs_comes_with_its_statement() {
        let with_login = |reverse| {
            let mut facts = planned(reverse);
            facts.question.subscription_role = Some(ident("replicator"));
            facts.question.reverse_role = Some(ident("returner"));
            facts
        };
        check(
            with_login(false),
            lacks_all,
            &expect![[r#"
                slot_rights: error on publisher, me: Role "me" may not create and drop replication slots, which a cutover needs. On the publisher, as a superuser: ALTER ROLE "me" REPLICATION; Or keep the slot: forward = "disable" of neonrepl_cutover.
                create_on_database: error on publisher, me: Role "me" may not create objects in database "shop", which the fence of a cutover needs. On the publisher: GRANT CREATE ON DATABASE "shop" TO "me";
                fence_owner: error on publisher, app: Role "me" may not put the fence of a cutover on tables that role "app" owns: public.orders. On the publisher: GRANT "app" TO "me";
                database_owner: warning on publisher, me: Role "me" does not own database "shop", so it may not make the database read-only by default, as a cutover does to block writes to tables that are not replicated. On the publisher: ALTER DATABASE "shop" OWNER TO "me"; or set unpublished_writes = "allow" of neonrepl_cutover.
                create_on_database: error on subscriber, me: Role "me" may not create objects in database "shop", which the fence of a cutover needs. On the subscriber: GRANT CREATE ON DATABASE "shop" TO "me";
                fence_owner: error on subscriber, app: Role "me" may not put the fence of a cutover on tables that role "app" owns: public.orders. On the subscriber: GRANT "app" TO "me";
                sequence_rights: error on subscriber, me: Role "me" may not raise sequences, which a cutover copies: public.numbers. On the subscriber, as the owner: GRANT SELECT, UPDATE ON SEQUENCE "public"."numbers" TO "me";
            "#]],
        );
        check(
            with_login(true),
            lacks_all,
            &expect![[r#"
                slot_rights: error on publisher, me: Role "me" may not create and drop replication slots, which a cutover needs. On the publisher, as a superuser: ALTER ROLE "me" REPLICATION;
                create_on_database: error on publisher, me: Role "me" may not create objects in database "shop", which the fence of a cutover needs. On the publisher: GRANT CREATE ON DATABASE "shop" TO "me";
                fence_owner: error on publisher, app: Role "me" may not put the fence of a cutover on tables that role "app" owns: public.orders. On the publisher: GRANT "app" TO "me";
                database_owner: warning on publisher, me: Role "me" does not own database "shop", so it may not make the database read-only by default, as a cutover does to block writes to tables that are not replicated. On the publisher: ALTER DATABASE "shop" OWNER TO "me"; or set unpublished_writes = "allow" of neonrepl_cutover.
                sequence_rights: error on publisher, me: Role "me" may not raise sequences, which a cutover copies: public.numbers. On the publisher, as the owner: GRANT SELECT, UPDATE ON SEQUENCE "public"."numbers" TO "me";
                slot_rights: error on subscriber, me: Role "me" may not create and drop replication slots, which a cutover needs. On the subscriber, as a superuser: ALTER ROLE "me" REPLICATION;
                create_on_database: error on subscriber, me: Role "me" may not create objects in database "shop", which the fence of a cutover and the publication of the way back need. On the subscriber: GRANT CREATE ON DATABASE "shop" TO "me";
                fence_owner: error on subscriber, app: Role "me" may not put the fence of a cutover on tables that role "app" owns: public.orders. On the subscriber: GRANT "app" TO "me";
                database_owner: warning on subscriber, me: Role "me" does not own database "shop", so it may not make the database read-only by default, as a cutover does to block writes to tables that are not replicated. On the subscriber: ALTER DATABASE "shop" OWNER TO "me"; or set unpublished_writes = "allow" of neonrepl_cutover.
                sequence_rights: error on subscriber, me: Role "me" may not raise sequences, which a cutover copies: public.numbers. On the subscriber, as the owner: GRANT SELECT, UPDATE ON SEQUENCE "public"."numbers" TO "me";
            "#]],
        );
        let schema = |side: &mut Side| {
            let standing = &mut side.switch.as_mut().unwrap().standing;
            (standing.has_schema, standing.may_make) = (true, false);
        };
        check(
            planned(true),
            schema,
            &expect![[r#"
                fence_schema: error on publisher, me: Role "me" may not create the fence of a cutover in schema "neonrepl", which another role created. On the publisher, as its owner: GRANT USAGE, CREATE ON SCHEMA "neonrepl" TO "me";
                fence_schema: error on subscriber, me: Role "me" may not create the fence of a cutover in schema "neonrepl", which another role created. On the subscriber, as its owner: GRANT USAGE, CREATE ON SCHEMA "neonrepl" TO "me";
            "#]],
        );
    }

    #[test]
    fn what_was_copied_and_never_analyzed_is_told() {
        let unanalyzed = |side: &mut Side| {
            side.switch.as_mut().unwrap().unanalyzed.insert(table("orders"), Unanalyzed::Never);
        };
        check(planned(false), unanalyzed, &expect![""]);
        let mut running = planned(false);
        running.own.insert(ident("shop"), BTreeSet::from([table("orders")]));
        check(
            running,
            unanalyzed,
            &expect![[r#"
                statistics: warning on subscriber, public.orders: The subscriber has no statistics of the rows of public.orders, so queries there may be slow at first. On the subscriber, in database "shop", as the owner of the tables: ANALYZE "public"."orders"; The resource neonrepl_destination_indexes does it after the initial copy.
            "#]],
        );
    }
}
