//! Sequences, whose values are not replicated: whether the subscriber can go on where the publisher was.

use super::facts::{Facts, Side};
use crate::postgres::QualifiedName;
use crate::postgres::catalog::Sequence;
use crate::replication::{Finding, Place, Severity, names};

/// A sequence of which more than so many of a hundred numbers are taken comes to its end soon.
const NEARLY_USED_UP: u64 = 80;

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (table, sequences) in &facts.publisher.sequences {
        for sequence in sequences {
            found.extend(used_up(sequence));
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
        "If its column can hold more, on the publisher: ALTER SEQUENCE {} AS bigint NO MAXVALUE; and make the column bigint first \
         where it is not.",
        sequence.name
    );
    let found = warning("sequence_used_up", Place::Publisher, sequence).says(says).mended_by(mend);
    (percent > NEARLY_USED_UP && !sequence.cycles).then_some(found)
}

/// The sequence of the same column there.
fn compared(facts: &Facts, table: &QualifiedName, sequence: &Sequence) -> Option<Finding> {
    let target = facts.tables.targets().get(table)?.column(&sequence.column)?;
    let there = facts.subscriber.sequences.get(table).map(Vec::as_slice).unwrap_or_default();
    let Some(other) = there.iter().find(|other| other.column == sequence.column) else {
        let says = format!(
            "Column {} of {} takes its numbers from it, and from no sequence there: after the cutover inserts get no number.",
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
    let means = if is_outside { " The number that was taken last does not fit already." } else { "" };
    let says = format!(
        "It has numbers from {} to {} there, and from {} to {} on the publisher: its value may not fit at the cutover.{means}",
        other.min, other.max, sequence.min, sequence.max
    );
    let mend = format!(
        "On the subscriber: ALTER SEQUENCE {} AS {} MINVALUE {} MAXVALUE {};",
        other.name, sequence.ty, sequence.min, sequence.max
    );
    Some(warning("sequence_narrower", Place::Subscriber, other).says(says).mended_by(mend))
}

/// The sequences of which the role does not see the number.
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
            "Role {own} does not see the values of sequences, so how far they are was not checked, and it cannot copy them: {}.",
            names::list(hidden.iter().map(|name| name.to_text()))
        ))
        .mended_by(format!("On the publisher: GRANT SELECT ON SEQUENCE {} TO {own};", grants.join(", ")));
    (!hidden.is_empty()).then_some(found)
}
