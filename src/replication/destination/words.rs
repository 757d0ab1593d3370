// SPDX-License-Identifier: MPL-2.0

//! The messages of a plan.

use super::Plan;
use crate::postgres::definition::{Difference, Object, Step};
use crate::replication::Operation;
use crate::replication::error::Error;

/// How many lines a list has at most.
const LINES: usize = 40;

/// The error with all obstacles: objects that cannot be copied, and existing ones that differ. An existing table must
/// be right before rows arrive.
pub(super) fn refusal(operation: &Operation<'_>, plan: &Plan) -> Option<Error> {
    if plan.refused.is_empty() {
        return None;
    }
    Some(refused(operation.doing(), plan))
}

impl Plan {
    /// The error that something cannot be copied, if so.
    pub fn refusal(&self, doing: &str) -> Option<Error> {
        (!self.refused.is_empty()).then(|| refused(doing, self))
    }

    /// The error that existing objects differ, if so.
    pub fn objection(&self, doing: &str) -> Option<Error> {
        let lines: Vec<_> = self.differences.iter().map(line).collect();
        if lines.is_empty() {
            return None;
        }
        let count = counted(lines.len(), "difference");
        let what = format!("{doing}: the subscriber differs from the publisher: {count}");
        Some(Error::new(what).detail(listed("Not the same:", lines)).detail(
            "Existing objects are never replaced. Change them as the lines say, drop them if they are empty and not \
             used, or leave them out.",
        ))
    }

    /// The warning that both sides differ, if the configuration does not change them.
    pub fn drift(&self, doing: &str) -> Option<Error> {
        let unlike = self.unlike();
        if unlike.is_empty() {
            return None;
        }
        let lines = unlike.iter().map(|one| format!("{} {}: {}", one.object, one.attribute, one.remedy)).collect();
        let what =
            format!("{doing}: the subscriber differs from the publisher: {}", counted(unlike.len(), "difference"));
        Some(Error::new(what).detail(listed("Not the same:", lines)))
    }

    /// What apply will do, for a plan.
    pub fn announcement(&self, doing: &str) -> Option<Error> {
        if self.is_done() {
            return None;
        }
        let tables = self.made.iter().filter(|step| matches!(step.object, Object::Table(_))).count();
        let mut what = Vec::new();
        if !self.made.is_empty() {
            what.push(format!(
                "makes {} on the subscriber",
                if tables > 0 { counted(tables, "table") } else { counted(self.made.len(), "object") }
            ));
        }
        let changes = self.changed.len() + self.renamed.len() + self.renamed_tables.len();
        if changes > 0 {
            what.push(format!("changes what is there: {}", counted(changes, "difference")));
        }
        let renamed = self
            .renamed
            .iter()
            .map(|one| format!("{}: column {} becomes {}", one.object(), one.from.as_str(), one.to.as_str()));
        let tables = self.renamed_tables.iter().map(|one| {
            let (from, to) = (one.from.to_text(), one.to.to_text());
            format!("table {from} becomes {to}")
        });
        let changed = tables.chain(renamed).chain(self.changed.iter().map(line)).collect();
        let made =
            self.made.iter().filter(|step| step.object.whole() == step.object).map(|step| step.object.to_string());
        let first = if self.refused.is_empty() { "" } else { "once nothing stands in the way, " };
        let warning = Error::new(format!("{first}{doing} {}", what.join(", and ")))
            .detail(listed("It creates, all in one transaction:", made.collect()))
            .detail(listed("Changed in place:", changed));
        Some(warning.detail(self.left_for_later()).detail(self.what_is_not_copied()))
    }

    fn left_for_later(&self) -> String {
        let lines = self.later.iter().flat_map(statements).collect();
        listed("Left for later, once the rows have been copied (the attribute later has all of them):", lines)
    }

    fn what_is_not_copied(&self) -> String {
        listed("Not copied:", self.not_copied.iter().map(|left| format!("{}: {}", left.object, left.reason)).collect())
    }
}

fn statements(step: &Step) -> Vec<String> {
    step.statements.iter().map(|statement| format!("{statement};")).collect()
}

fn refused(doing: &str, plan: &Plan) -> Error {
    let lines = plan.refused.iter().map(|one| format!("{}: {}. {}", one.object, one.reason, one.remedy));
    let count = counted(plan.refused.len(), "object");
    Error::new(format!("{doing}: {count} cannot be copied to the subscriber"))
        .detail(listed("Cannot be copied:", lines.collect()))
        .detail("Nothing was changed.")
}

/// The error about remaining differences after the statements ran.
pub(super) fn unproven(operation: &Operation<'_>, before: &Plan, after: &Plan) -> Option<Error> {
    let made = |one: &&Difference| before.made.iter().any(|step| step.object == one.object);
    let unlike = after.differences.iter().chain(&after.changed).filter(made).map(line);
    let unlike = unlike.chain(after.made.iter().map(|step| format!("{}: it is missing", step.object)));
    let lines: Vec<_> = unlike.collect();
    if lines.is_empty() {
        return None;
    }
    Some(
        operation
            .error("the subscriber still differs from the publisher afterwards, so everything was undone")
            .detail(listed("Not the same:", lines))
            .detail(
                "Create these tables on the subscriber by hand, and apply again: existing tables that are equal are \
                 left alone.",
            ),
    )
}

fn line(one: &Difference) -> String {
    let text = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    let (publisher, subscriber) = (text(&one.publisher), text(&one.subscriber));
    let remedy = one.remedy();
    let remedy = if remedy.is_empty() { remedy } else { format!("; {remedy}") };
    format!("{}: {}: {publisher} on the publisher, {subscriber} on the subscriber{remedy}", one.object, one.attribute)
}

pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { format!("{count} {what}s") }
}

/// A title and the lines; empty without lines.
pub(super) fn listed(title: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let more = lines.len().saturating_sub(LINES);
    let shown = lines.into_iter().take(LINES).map(|line| format!("\n- {line}")).collect::<String>();
    let more = if more > 0 { format!("\n- and {more} more") } else { String::new() };
    format!("{title}{shown}{more}")
}
