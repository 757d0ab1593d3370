// SPDX-License-Identifier: MPL-2.0

//! How to resolve a difference: by safe statements, or by steps for a person, in order.
//!
//! Changes that only add something, or only allow more rows, are safe at any time: a new column, a new label, a wider type, a dropped
//! NOT NULL. Changes that remove something, or allow fewer rows, stop a running replication if they come too early.

mod columns;

use std::collections::BTreeSet;
use std::fmt;

use self::columns::{Place, of_column};
use super::facets::{CLUSTERED_BY, Part, SHORT};
use super::making::comment;
use super::model::{ConstraintKind, Definition, Domain, Field, Index, Sequence, Type, TypeKind};
use super::object::Object;
use super::promoting::{holder, index_for};
use super::table::assignments;
use crate::postgres::sql::{Ident, Literal, QualifiedName};

/// How to make the subscriber like the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// By safe statements. Empty if another difference resolves this one.
    Additive(Vec<String>),
    /// By a person, with statements if there are any; the text says when to run them.
    Person {
        /// The statements.
        statements: Vec<String>,
        /// When to run them.
        when: &'static str,
    },
}

impl Remedy {
    pub(super) fn person(statements: Vec<String>, when: &'static str) -> Self {
        Self::Person { statements, when }
    }

    fn one(statement: String) -> Self {
        Self::Additive(vec![statement])
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = |statements: &[String]| match statements {
            [] => String::new(),
            statements => format!("on the subscriber: {};", statements.join("; ")),
        };
        match self {
            Self::Additive(statements) => f.write_str(&run(statements)),
            Self::Person { statements, when: "" } => f.write_str(&run(statements)),
            Self::Person { statements, when } if statements.is_empty() => f.write_str(when),
            Self::Person { statements, when } => write!(f, "{} ({when})", run(statements)),
        }
    }
}

/// The remedy of a difference.
pub(super) fn remedy(
    publisher: &Definition,
    subscriber: &Definition,
    object: &Object,
    part: &Part,
    attribute: &str,
) -> Remedy {
    match (object, part) {
        (Object::Table(name), Part::Column(column)) => {
            of_column(publisher, subscriber, &Place { table: name, column }, attribute)
        }
        (Object::Table(name), Part::Constraint(constraint)) => {
            of_constraint(publisher, subscriber, name, constraint, attribute)
        }
        (Object::Table(name), Part::Whole) => of_table(publisher, subscriber, name, attribute),
        (Object::Type(name), part) => of_type(publisher, subscriber, name, part, attribute),
        (Object::Sequence(name), _) => of_sequence(publisher, name, attribute),
        (Object::Function(signature), _) => {
            let function = publisher.functions.get(signature);
            match (attribute, function) {
                ("comment", Some(function)) => {
                    Remedy::one(remark(&format!("FUNCTION {signature}"), function.comment.as_ref()))
                }
                (_, function) => Remedy::person(
                    function.map(|one| one.definition.clone()).into_iter().collect(),
                    "it is called for rows",
                ),
            }
        }
        (Object::Index(name), _) => of_index(publisher, subscriber, name, attribute),
        (Object::Statistics(name), _) => of_statistics(publisher, name, attribute),
        (Object::Collation(name), _) if attribute == "comment" => {
            let collation = publisher.collations.get(name);
            Remedy::one(remark(&format!("COLLATION {name}"), collation.and_then(|one| one.comment.as_ref())))
        }
        _ => Remedy::person(
            Vec::new(),
            "it cannot be altered: drop it on the subscriber with what uses it, and apply again",
        ),
    }
}

/// The statement that sets or removes a comment.
fn remark(what: &str, text: Option<&String>) -> String {
    comment(what, text).unwrap_or_else(|| format!("COMMENT ON {what} IS NULL"))
}

/// The clauses that replace old options with new ones: first those that reset, then those that set.
fn turned(new: &BTreeSet<String>, old: &BTreeSet<String>) -> Vec<String> {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let kept: BTreeSet<_> = new.iter().map(|option| name(option)).collect();
    let gone: Vec<_> = old.iter().map(|option| name(option)).filter(|name| !kept.contains(name)).collect();
    let reset = (!gone.is_empty()).then(|| format!("RESET ({})", gone.join(", ")));
    let set = (!new.is_empty()).then(|| format!("SET ({})", assignments(new)));
    reset.into_iter().chain(set).collect()
}

fn of_constraint(
    publisher: &Definition,
    subscriber: &Definition,
    table: &QualifiedName,
    name: &Ident,
    attribute: &str,
) -> Remedy {
    let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {name}");
    let Some(constraint) = publisher.tables.get(table).and_then(|table| table.constraints.get(name)) else {
        return Remedy::person(vec![drop], "rows that the publisher takes may stop at it");
    };
    if attribute == "comment" {
        return Remedy::one(remark(&format!("CONSTRAINT {name} ON {table}"), constraint.comment.as_ref()));
    }
    let index = format!("{}.{name}", table.schema);
    if attribute == "storage parameters" {
        let of = |side: &Definition| {
            let found = side.tables.get(table).and_then(|table| table.constraints.get(name));
            found.and_then(|one| one.index_options.clone()).unwrap_or_default()
        };
        let changes = turned(&of(publisher), &of(subscriber));
        return Remedy::Additive(changes.into_iter().map(|change| format!("ALTER INDEX {index} {change}")).collect());
    }
    let is_missing =
        attribute == SHORT && !subscriber.tables.get(table).is_some_and(|there| there.constraints.contains_key(name));
    if let Some(index) = index_for(publisher, subscriber, table, constraint).filter(|_| is_missing) {
        return Remedy::Additive(constraint.statements_with(table, index));
    }
    let add = constraint.statements(table);
    let when = match constraint.kind {
        ConstraintKind::Check => "once the rows there keep it, and rows from before have arrived",
        ConstraintKind::ForeignKey => "once the rows there keep it; replication does not check it",
        _ => "once the rows there keep it; the table is locked while its index is built",
    };
    let first = match holder(subscriber, table, name).filter(|_| is_missing && constraint.kind.has_index()) {
        Some((index, _)) => Some(format!("DROP INDEX {index}")),
        None => (!is_missing).then_some(drop),
    };
    Remedy::person(first.into_iter().chain(add).collect(), when)
}

fn of_table(publisher: &Definition, subscriber: &Definition, name: &QualifiedName, attribute: &str) -> Remedy {
    let (Some(table), Some(there)) = (publisher.tables.get(name), subscriber.tables.get(name)) else {
        return Remedy::person(Vec::new(), "");
    };
    match attribute {
        "comment" => Remedy::one(remark(&format!("TABLE {name}"), table.comment.as_ref())),
        "storage parameters" => {
            let changes = turned(&table.options, &there.options).into_iter();
            Remedy::Additive(changes.map(|change| format!("ALTER TABLE {name} {change}")).collect())
        }
        CLUSTERED_BY => Remedy::one(match &table.clustered_by {
            Some(index) => format!("ALTER TABLE {name} CLUSTER ON {index}"),
            None => format!("ALTER TABLE {name} SET WITHOUT CLUSTER"),
        }),
        "replica identity" => {
            let identity = match (table.replica_identity.as_str(), &table.identity_index) {
                ("f", _) => "FULL".to_owned(),
                ("n", _) => "NOTHING".to_owned(),
                ("i", Some(index)) => format!("USING INDEX {index}"),
                _ => "DEFAULT".to_owned(),
            };
            Remedy::one(format!("ALTER TABLE ONLY {name} REPLICA IDENTITY {identity}"))
        }
        "unlogged" => {
            let kind = if table.is_unlogged { "UNLOGGED" } else { "LOGGED" };
            Remedy::person(vec![format!("ALTER TABLE {name} SET {kind}")], "it writes the whole table")
        }
        "partition" | "parents" => match (&table.bound, table.parents.first()) {
            (Some(bound), Some(parent)) => {
                let attach = format!("ALTER TABLE {parent} ATTACH PARTITION {name} {bound}");
                Remedy::person(vec![attach], "where it is a partition of another table, detach it first")
            }
            (None, Some(parent)) => Remedy::person(vec![format!("ALTER TABLE {name} INHERIT {parent}")], ""),
            _ => Remedy::person(Vec::new(), "detach it from its parent on the subscriber"),
        },
        _ => {
            Remedy::person(Vec::new(), "it cannot be altered: make the table again on the subscriber, or leave it out")
        }
    }
}

fn of_type(
    publisher: &Definition,
    subscriber: &Definition,
    name: &QualifiedName,
    part: &Part,
    attribute: &str,
) -> Remedy {
    let by_hand = |statements| Remedy::person(statements, "");
    match (publisher.types.get(name), subscriber.types.get(name)) {
        (Some(Type { kind: TypeKind::Enum(new), .. }), Some(Type { kind: TypeKind::Enum(old), .. }))
            if attribute == "labels" =>
        {
            match new_labels(name, new, old) {
                Some(statements) => Remedy::Additive(statements),
                None => Remedy::person(
                    Vec::new(),
                    "labels were renamed or taken away: ALTER TYPE … RENAME VALUE on the subscriber",
                ),
            }
        }
        (Some(Type { kind: TypeKind::Domain(new), comment }), _) => match (part, attribute) {
            (Part::Whole, "not null") if !new.is_not_null => Remedy::one(format!("ALTER DOMAIN {name} DROP NOT NULL")),
            (Part::Whole, "not null") => by_hand(vec![format!("ALTER DOMAIN {name} SET NOT NULL")]),
            (Part::Whole, "default") => Remedy::one(match &new.default {
                Some(default) => format!("ALTER DOMAIN {name} SET DEFAULT {default}"),
                None => format!("ALTER DOMAIN {name} DROP DEFAULT"),
            }),
            (Part::Whole, "comment") => Remedy::one(remark(&format!("DOMAIN {name}"), comment.as_ref())),
            (Part::Whole, "name of not null") => rename_domains_not_null(name, new, subscriber),
            (Part::Constraint(constraint), attribute) => match new.constraints.get(constraint) {
                Some(declared) if attribute == "comment" => {
                    let what = format!("CONSTRAINT {constraint} ON DOMAIN {name}");
                    Remedy::one(remark(&what, declared.comment.as_ref()))
                }
                Some(declared) => {
                    by_hand(vec![format!("ALTER DOMAIN {name} ADD CONSTRAINT {constraint} {}", declared.definition)])
                }
                None => by_hand(vec![format!("ALTER DOMAIN {name} DROP CONSTRAINT {constraint}")]),
            },
            _ => {
                Remedy::person(Vec::new(), "a domain keeps its type: make it again on the subscriber with what uses it")
            }
        },
        (Some(Type { kind: TypeKind::Composite(new), .. }), Some(Type { kind: TypeKind::Composite(old), .. }))
            if *part != Part::Whole =>
        {
            let both = new.iter().filter(|field| old.iter().any(|old| old.name == field.name));
            let field = both.into_iter().find(|field| *part == Part::Column(field.name.clone()));
            let remark = |field: &Field| remark(&format!("COLUMN {name}.{}", field.name), field.comment.as_ref());
            Remedy::Additive(field.map(remark).into_iter().collect())
        }
        (Some(ty), _) if attribute == "comment" => Remedy::one(remark(&format!("TYPE {name}"), ty.comment.as_ref())),
        _ => Remedy::person(Vec::new(), "alter the type on the subscriber by hand"),
    }
}

/// Renames a domain's NOT NULL, if both sides have one.
fn rename_domains_not_null(name: &QualifiedName, domain: &Domain, subscriber: &Definition) -> Remedy {
    let there = match subscriber.types.get(name) {
        Some(Type { kind: TypeKind::Domain(there), .. }) => there.name_of_not_null.as_ref(),
        _ => None,
    };
    let both = domain.name_of_not_null.as_ref().zip(there);
    let rename = both.map(|(new, old)| format!("ALTER DOMAIN {name} RENAME CONSTRAINT {old} TO {new}"));
    Remedy::Additive(rename.into_iter().collect())
}

/// The statements that add an enum's new labels, if the old ones are still there in the same order.
fn new_labels(name: &QualifiedName, new: &[String], old: &[String]) -> Option<Vec<String>> {
    let kept: Vec<&String> = new.iter().filter(|label| old.contains(label)).collect();
    if !kept.into_iter().eq(old) {
        return None;
    }
    let added = new.iter().enumerate().filter(|(_, label)| !old.contains(label));
    let statement = |(at, label): (usize, &String)| {
        let add = format!("ALTER TYPE {name} ADD VALUE {}", Literal(label));
        match at.checked_sub(1).and_then(|before| new.get(before)) {
            Some(before) => format!("{add} AFTER {}", Literal(before)),
            None => match old.first() {
                Some(first) => format!("{add} BEFORE {}", Literal(first)),
                None => add,
            },
        }
    };
    Some(added.map(statement).collect())
}

fn of_sequence(publisher: &Definition, name: &QualifiedName, attribute: &str) -> Remedy {
    let Some(sequence) = publisher.sequences.get(name) else { return Remedy::person(Vec::new(), "") };
    let Sequence { ty, owner, .. } = sequence;
    match attribute {
        "comment" => Remedy::one(remark(&format!("SEQUENCE {name}"), sequence.comment.as_ref())),
        "owner" => Remedy::one(match owner {
            Some((table, column)) => format!("ALTER SEQUENCE {name} OWNED BY {table}.{column}"),
            None => format!("ALTER SEQUENCE {name} OWNED BY NONE"),
        }),
        "unlogged" => Remedy::person(Vec::new(), "make it again on the subscriber"),
        _ => {
            let cycle = if sequence.cycles { "" } else { " NO CYCLE" };
            Remedy::one(format!("ALTER SEQUENCE {name} AS {ty} {}{cycle}", sequence.options()))
        }
    }
}

fn of_statistics(publisher: &Definition, name: &QualifiedName, attribute: &str) -> Remedy {
    let Some(statistics) = publisher.statistics.get(name) else { return Remedy::person(Vec::new(), "") };
    match attribute {
        "comment" => Remedy::one(remark(&format!("STATISTICS {name}"), statistics.comment.as_ref())),
        "target" => Remedy::one(format!("ALTER STATISTICS {name} SET STATISTICS {}", statistics.target.unwrap_or(-1))),
        _ => Remedy::person(vec![format!("DROP STATISTICS {name}"), statistics.definition.clone()], ""),
    }
}

fn of_index(publisher: &Definition, subscriber: &Definition, name: &QualifiedName, attribute: &str) -> Remedy {
    let Some(index) = publisher.indexes.get(name) else { return Remedy::person(Vec::new(), "") };
    match attribute {
        "statistics targets" => {
            let of = |index: &Index| index.statistics.clone().unwrap_or_default();
            let (new, old) = (of(index), subscriber.indexes.get(name).map(of).unwrap_or_default());
            let gone = old.keys().filter(|number| !new.contains_key(*number)).map(|number| (number, -1));
            let all = gone.chain(new.iter().map(|(number, target)| (number, *target)));
            let set = |(number, target)| format!("ALTER INDEX {name} ALTER COLUMN {number} SET STATISTICS {target}");
            Remedy::Additive(all.map(set).collect())
        }
        "comment" => Remedy::one(remark(&format!("INDEX {name}"), index.comment.as_ref())),
        "invalid" => Remedy::person(vec![format!("REINDEX INDEX CONCURRENTLY {name}")], "it could not be built"),
        _ => Remedy::person(vec![format!("DROP INDEX {name}"), index.definition.clone()], ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_where_they_stand() {
        let labels = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let name = QualifiedName::parse("mood").unwrap();
        let added = |new, old| new_labels(&name, &labels(new), &labels(old)).map(|all| all.join("; "));
        assert_eq!(added("abc", "abc"), Some(String::new()));
        let both = r#"ALTER TYPE "public"."mood" ADD VALUE 'a' BEFORE 'b'; ALTER TYPE "public"."mood" ADD VALUE 'c' AFTER 'b'"#;
        assert_eq!(added("abc", "b"), Some(both.to_owned()));
        assert_eq!(added("ba", "ab"), None);
        assert_eq!(added("a", "ab"), None);
    }
}
