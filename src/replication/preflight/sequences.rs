// SPDX-License-Identifier: MPL-2.0

//! Sequences, whose values are not replicated: whether the subscriber can continue where the publisher was.

use super::facts::{Facts, Side};
use crate::postgres::QualifiedName;
use crate::postgres::catalog::Sequence;
use crate::replication::{Finding, Place, Severity, names};

/// A sequence with more than this percentage of its numbers taken will soon reach its end.
const NEARLY_USED_UP: u64 = 80;

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (table, sequences) in &facts.publisher.sequences {
        for sequence in sequences {
            found.extend(used_up(sequence));
            found.extend(behind(facts, table, sequence));
            found.extend(compared(facts, table, sequence));
        }
    }
    found.extend(hidden(&facts.publisher));
    found.sort();
    found.dedup();
    found
}

fn warning(check: &'static str, place: Place, sequence: &Sequence) -> Finding {
    Finding::new(Severity::Warning, check, place).about(sequence.name.to_text())
}

fn used_up(sequence: &Sequence) -> Option<Finding> {
    let percent = sequence.used_percent();
    let says = format!(
        "{percent} % of its numbers are taken: it ends at {}.",
        if sequence.increment > 0 { sequence.max } else { sequence.min }
    );
    let mend = format!(
        "On the publisher: ALTER SEQUENCE {} AS bigint NO MAXVALUE; If its column is not bigint, change that first.",
        sequence.name
    );
    let found = warning("sequence_used_up", Place::Publisher, sequence).says(says).mended_by(mend);
    (percent > NEARLY_USED_UP && !sequence.cycles).then_some(found)
}

/// A sequence that returns numbers that its column already has: some inserts fail, and even more will fail on the other
/// side.
fn behind(facts: &Facts, table: &QualifiedName, sequence: &Sequence) -> Option<Finding> {
    let most = *facts.highest.get(&(table.clone(), sequence.column.clone()))?;
    let next = sequence.next().filter(|next| sequence.increment > 0 && !sequence.cycles && *next <= most)?;
    let column = sequence.column.as_str();
    let says = format!("Its next number is {next}, and column {column} of {} already holds {most}.", table.to_text());
    let literal = sequence.name.to_string().replace('\'', "''");
    let mend = format!("On the publisher: SELECT setval('{literal}', {most});");
    Some(warning("sequence_behind", Place::Publisher, sequence).says(says).mended_by(mend))
}

/// Compares it with the sequence of the same column on the subscriber.
fn compared(facts: &Facts, table: &QualifiedName, sequence: &Sequence) -> Option<Finding> {
    let target = facts.tables.targets().get(table)?.column(&sequence.column)?;
    let there = facts.subscriber.sequences.get(table).map(Vec::as_slice).unwrap_or_default();
    let Some(other) = there.iter().find(|other| other.column == sequence.column) else {
        let says = format!(
            "Column {} of {} takes its numbers from it, but from no sequence there: after the cutover, inserts get \
             no number.",
            sequence.column.as_str(),
            table.to_text()
        );
        let mend = format!(
            "On the subscriber: CREATE SEQUENCE {name} AS {ty} START {start} INCREMENT {increment} MINVALUE {min} MAXVALUE {max} \
             OWNED BY {table}.{column}; ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nextval('{literal}');",
            name = sequence.name,
            ty = sequence.ty,
            start = sequence.start,
            increment = sequence.increment,
            min = sequence.min,
            max = sequence.max,
            column = sequence.column,
            literal = sequence.name.to_string().replace('\'', "''"),
        );
        let found = warning("sequence_missing", Place::Subscriber, sequence).says(says).mended_by(mend);
        return (!target.has_default).then_some(found);
    };
    if other.min <= sequence.min && other.max >= sequence.max {
        return None;
    }
    let is_outside = sequence.last.is_some_and(|last| last < other.min || last > other.max);
    let means = if is_outside { " Even the number that was taken last does not fit." } else { "" };
    let says = format!(
        "Its range is {} to {} there, and {} to {} on the publisher: its value may not fit at the cutover.{means}",
        other.min, other.max, sequence.min, sequence.max
    );
    let mend = format!(
        "On the subscriber: ALTER SEQUENCE {} AS {} MINVALUE {} MAXVALUE {};",
        other.name, sequence.ty, sequence.min, sequence.max
    );
    Some(warning("sequence_narrower", Place::Subscriber, other).says(says).mended_by(mend))
}

/// The sequences whose numbers the role may not see.
fn hidden(publisher: &Side) -> Option<Finding> {
    let all = publisher.sequences.values().flatten();
    let mut hidden: Vec<_> = all.filter(|one| !one.is_visible).map(|one| &one.name).collect();
    hidden.sort();
    hidden.dedup();
    let grants: Vec<_> = hidden.iter().map(ToString::to_string).collect();
    let own = &publisher.roles.own;
    let found = Finding::new(Severity::Info, "hidden_sequences", publisher.place)
        .about(own.as_str())
        .says(format!(
            "Role {own} may not read the values of sequences, so they were not checked, and it cannot copy them: {}.",
            names::list(hidden.iter().map(|name| name.to_text()))
        ))
        .mended_by(format!("On the publisher: GRANT SELECT ON SEQUENCE {} TO {own};", grants.join(", ")));
    (!hidden.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, ident, shown, table};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    fn sequence(last: i64) -> Sequence {
        Sequence {
            name: table("orders_id_seq"),
            column: ident("id"),
            tie: crate::postgres::catalog::Tie::Owned,
            ty: "integer".to_owned(),
            start: 1,
            increment: 1,
            min: 1,
            max: 1000,
            cache: 1,
            cycles: false,
            last: Some(last),
            is_visible: true,
        }
    }

    #[test]
    fn sequences_that_do_not_fit_are_named() {
        let both = |facts: &mut Facts, here: Sequence, there: Option<Sequence>| {
            facts.publisher.sequences.insert(table("orders"), vec![here]);
            facts.subscriber.sequences.extend(there.map(|there| (table("orders"), vec![there])));
        };
        check(|facts| both(facts, sequence(500), Some(sequence(1))), &expect![[r#""#]]);
        let narrow = || Sequence { max: 100, ..sequence(1) };
        check(
            |facts| both(facts, sequence(500), Some(narrow())),
            &expect![[r#"
                sequence_narrower: warning on subscriber, public.orders_id_seq: Its range is 1 to 100 there, and 1 to 1000 on the publisher: its value may not fit at the cutover. Even the number that was taken last does not fit. On the subscriber: ALTER SEQUENCE "public"."orders_id_seq" AS integer MINVALUE 1 MAXVALUE 1000;
            "#]],
        );
        check(
            |facts| both(facts, sequence(900), None),
            &expect![[r#"
                sequence_missing: warning on subscriber, public.orders_id_seq: Column id of public.orders takes its numbers from it, but from no sequence there: after the cutover, inserts get no number. On the subscriber: CREATE SEQUENCE "public"."orders_id_seq" AS integer START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 1000 OWNED BY "public"."orders"."id"; ALTER TABLE "public"."orders" ALTER COLUMN "id" SET DEFAULT nextval('"public"."orders_id_seq"');
                sequence_used_up: warning on publisher, public.orders_id_seq: 89 % of its numbers are taken: it ends at 1000. On the publisher: ALTER SEQUENCE "public"."orders_id_seq" AS bigint NO MAXVALUE; If its column is not bigint, change that first.
            "#]],
        );
        let behind = |facts: &mut Facts| {
            both(facts, sequence(500), Some(sequence(1)));
            facts.highest.insert((table("orders"), ident("id")), 501);
        };
        check(
            behind,
            &expect![[r#"
                sequence_behind: warning on publisher, public.orders_id_seq: Its next number is 501, and column id of public.orders already holds 501. On the publisher: SELECT setval('"public"."orders_id_seq"', 501);
            "#]],
        );
        let hidden = || Sequence { last: None, is_visible: false, ..sequence(1) };
        check(
            |facts| both(facts, hidden(), Some(sequence(1))),
            &expect![[r#"
                hidden_sequences: info on publisher, me: Role "me" may not read the values of sequences, so they were not checked, and it cannot copy them: public.orders_id_seq. On the publisher: GRANT SELECT ON SEQUENCE "public"."orders_id_seq" TO "me";
            "#]],
        );
    }
}
