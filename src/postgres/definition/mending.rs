// SPDX-License-Identifier: MPL-2.0

//! How a difference is resolved: by statements that do no harm, or by what a person has to do, in which order.
//!
//! Changes that only add something, or only allow more rows, are safe at any time: a new column, a new label, a wider type, a dropped
//! NOT NULL. Changes that remove something, or allow fewer rows, stop a running replication if they come too early.

use std::collections::BTreeSet;
use std::fmt;

use super::facets::{CLUSTERED_BY, Part, SHORT};
use super::making::{collate, comment};
use super::model::{Column, ConstraintKind, Definition, Domain, Field, Index, Sequence, Table, Type, TypeKind};
use super::object::Object;
use super::promoting::{holder, index_for};
use super::table::{assignments, compression_name, storage_name};
use crate::postgres::sql::{Ident, Literal, QualifiedName};

/// How the subscriber becomes as the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// By statements that harm nothing. None where another difference takes this one along.
    Additive(Vec<String>),
    /// By a person, with statements where there are some, when the text says.
    Person {
        /// The statements.
        statements: Vec<String>,
        /// What to know about them.
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

/// How a difference goes away.
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

/// A comment, or that there is none.
fn remark(what: &str, text: Option<&String>) -> String {
    comment(what, text).unwrap_or_else(|| format!("COMMENT ON {what} IS NULL"))
}

/// A column by name.
#[derive(Clone, Copy)]
struct Place<'a> {
    table: &'a QualifiedName,
    column: &'a Ident,
}

impl Place<'_> {
    fn of<'d>(&self, definition: &'d Definition) -> Option<(&'d Table, &'d Column)> {
        let table = definition.tables.get(self.table)?;
        Some((table, table.column(self.column)?))
    }

    fn alter(&self, what: impl fmt::Display) -> String {
        format!("ALTER TABLE {} ALTER COLUMN {} {what}", self.table, self.column)
    }

    fn alter_only(&self, what: impl fmt::Display) -> String {
        format!("ALTER TABLE ONLY {} ALTER COLUMN {} {what}", self.table, self.column)
    }
}

fn of_column(publisher: &Definition, subscriber: &Definition, place: &Place<'_>, attribute: &str) -> Remedy {
    let Some((table, column)) = place.of(publisher) else {
        let drop = format!("ALTER TABLE {} DROP COLUMN {}", place.table, place.column);
        return Remedy::person(vec![drop], "once the publisher has dropped it and all rows from before have arrived");
    };
    let Some((_, there)) = place.of(subscriber) else {
        return missing_column(publisher, place, table, column, subscriber);
    };
    let default = match column.default() {
        Some(default) => format!("SET DEFAULT {default}"),
        None => "DROP DEFAULT".to_owned(),
    };
    match attribute {
        SHORT => {
            let alter = place.alter(format!("TYPE {}{}", column.ty, collate(column.collation.as_ref())));
            if column.collation == there.collation && is_wider(&column.ty, &there.ty) {
                Remedy::one(alter)
            } else {
                Remedy::person(vec![alter], "values that do not fit stop it, or the rows that bring them")
            }
        }
        "not null" if !column.is_not_null => Remedy::one(place.alter("DROP NOT NULL")),
        "not null" => Remedy::person(vec![place.alter("SET NOT NULL")], "once no row there has a null"),
        "default" if there.generated.is_none() => Remedy::one(place.alter_only(default)),
        "storage" => Remedy::one(place.alter_only(match column.storage.as_deref() {
            Some(storage) => format!("SET STORAGE {}", storage_name(storage)),
            None if subscriber.version.major() >= 16 => "SET STORAGE DEFAULT".to_owned(),
            None => "SET STORAGE EXTENDED".to_owned(),
        })),
        "compression" => Remedy::one(place.alter_only(match column.compression.as_deref() {
            Some(method) => format!("SET COMPRESSION {}", compression_name(method)),
            None => "SET COMPRESSION DEFAULT".to_owned(),
        })),
        "statistics target" => {
            Remedy::one(place.alter_only(format!("SET STATISTICS {}", column.statistics.unwrap_or(-1))))
        }
        "options" => Remedy::Additive(options(place, column, there)),
        "comment" => Remedy::one(remark(&format!("COLUMN {}.{}", place.table, place.column), column.comment.as_ref())),
        "name of not null" => rename_not_null(place, column, there),
        "comment of not null" => match &column.not_null {
            Some(of) => Remedy::one(remark(&format!("CONSTRAINT {} ON {}", of.name, place.table), of.comment.as_ref())),
            None => Remedy::Additive(Vec::new()),
        },
        "comment of identity" => match (&column.sequence, &there.sequence) {
            (Some(sequence), Some(there)) => {
                Remedy::one(remark(&format!("SEQUENCE {}", there.name), sequence.comment.as_ref()))
            }
            _ => Remedy::Additive(Vec::new()),
        },
        _ => Remedy::person(Vec::new(), "it cannot be altered: drop the column on the subscriber, or alter it by hand"),
    }
}

fn rename_not_null(place: &Place<'_>, column: &Column, there: &Column) -> Remedy {
    match (&column.not_null, &there.not_null) {
        (Some(new), Some(old)) => {
            Remedy::one(format!("ALTER TABLE {} RENAME CONSTRAINT {} TO {}", place.table, old.name, new.name))
        }
        // It goes or comes with NOT NULL itself.
        _ => Remedy::Additive(Vec::new()),
    }
}

/// A column that the subscriber lacks. One that takes no nulls has no value for rows that are there, unless it has a default.
fn missing_column(
    publisher: &Definition,
    place: &Place<'_>,
    table: &Table,
    column: &Column,
    subscriber: &Definition,
) -> Remedy {
    if let Some(parent) = lacking_parent(publisher, table, column, subscriber) {
        return match missing_column(publisher, &Place { table: parent.0, ..*place }, parent.1, parent.2, subscriber) {
            // The parent brings the column, and what else is set is each table's own.
            Remedy::Additive(_) => Remedy::Additive(own_settings(place, column)),
            of_parent => of_parent,
        };
    }
    if let Some(old) = subscriber.tables.get(place.table).and_then(|there| renamed_from(table, there, column)) {
        let rename = format!("ALTER TABLE {} RENAME COLUMN {} TO {}", place.table, old.name, place.column);
        let when = "if that is the column's old name; if it is another one that the publisher has dropped, drop it here too, and \
            apply again";
        return Remedy::person(vec![rename], when);
    }
    let fills = column.expression.is_some() || column.identity.is_some();
    let new = Column { is_not_null: column.is_not_null && fills, ..column.clone() };
    let new = Column { not_null: new.not_null.clone().filter(|_| fills), ..new };
    let default = new.default().map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
    let add = format!("ALTER TABLE {} ADD COLUMN {}{default}", place.table, new.declaration());
    let comments = new.comments(place.table);
    Remedy::Additive([add].into_iter().chain(new.settings(place.table)).chain(comments).collect())
}

/// The parent that brings a column which it lacks itself.
fn lacking_parent<'a>(
    publisher: &'a Definition,
    table: &'a Table,
    column: &Column,
    subscriber: &Definition,
) -> Option<(&'a QualifiedName, &'a Table, &'a Column)> {
    let mut parents = table.parents.iter().filter(|_| !column.is_local);
    parents.find_map(|name| {
        let is_lacked = subscriber.tables.get(name)?.column(&column.name).is_none();
        let parent = publisher.tables.get(name).filter(|_| is_lacked)?;
        Some((name, parent, parent.column(&column.name)?))
    })
}

/// What a table sets of a column that its parent brings, with the parent's default.
fn own_settings(place: &Place<'_>, column: &Column) -> Vec<String> {
    let default = match column.default() {
        _ if column.generation().is_some() => None,
        Some(default) => Some(place.alter_only(format!("SET DEFAULT {default}"))),
        None => Some(place.alter_only("DROP DEFAULT")),
    };
    let own = Column { not_null: None, sequence: None, ..column.clone() };
    default.into_iter().chain(own.settings(place.table)).chain(own.comments(place.table)).collect()
}

/// A column of the same type that the publisher does not have: it may be the one, under its old name. A new column in its
/// place would be empty in every row that is there.
fn renamed_from<'a>(table: &Table, there: &'a Table, column: &Column) -> Option<&'a Column> {
    there.columns.iter().find(|old| table.column(&old.name).is_none() && old.ty == column.ty)
}

fn options(place: &Place<'_>, column: &Column, there: &Column) -> Vec<String> {
    let of = |column: &Column| column.options.clone().unwrap_or_default();
    turned(&of(column), &of(there)).into_iter().map(|change| place.alter_only(change)).collect()
}

/// What gives something these options in place of those that it has: what is gone first.
fn turned(new: &BTreeSet<String>, old: &BTreeSet<String>) -> Vec<String> {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let kept: BTreeSet<_> = new.iter().map(|option| name(option)).collect();
    let gone: Vec<_> = old.iter().map(|option| name(option)).filter(|name| !kept.contains(name)).collect();
    let reset = (!gone.is_empty()).then(|| format!("RESET ({})", gone.join(", ")));
    let set = (!new.is_empty()).then(|| format!("SET ({})", assignments(new)));
    reset.into_iter().chain(set).collect()
}

/// Whether every value of the old type is one of the new type, and is sent in the same way.
fn is_wider(new: &str, old: &str) -> bool {
    let integers = ["smallint", "integer", "bigint", "numeric"];
    let place = |ty: &str| integers.iter().position(|integer| *integer == ty);
    match (place(new), place(old)) {
        (Some(new), Some(old)) => return new > old,
        _ if (new, old) == ("double precision", "real") => return true,
        _ => {}
    }
    let ((new, more), (old, less)) = (with_modifiers(new), with_modifiers(old));
    match (new, old) {
        ("text" | "character varying", "character varying") if more.is_empty() => !less.is_empty() || new == "text",
        ("character varying", "character varying") | ("bit varying", "bit varying") => {
            more.len() == 1 && less.len() == 1 && more > less
        }
        ("numeric", "numeric") if more.is_empty() => !less.is_empty(),
        // As many digits after the point, and at least as many before it.
        ("numeric", "numeric") => match (more.as_slice(), less.as_slice()) {
            ([more, scale], [less, old_scale]) => {
                (more, scale) != (less, old_scale) && scale >= old_scale && more - scale >= less - old_scale
            }
            _ => false,
        },
        _ => false,
    }
}

/// A type's name, and the numbers behind it.
fn with_modifiers(ty: &str) -> (&str, Vec<i64>) {
    match ty.strip_suffix(')').and_then(|ty| ty.split_once('(')) {
        Some((name, numbers)) => (name, numbers.split(',').filter_map(|number| number.trim().parse().ok()).collect()),
        None => (ty, Vec::new()),
    }
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

/// The other name of a domain's NOT NULL, unless it goes or comes with that.
fn rename_domains_not_null(name: &QualifiedName, domain: &Domain, subscriber: &Definition) -> Remedy {
    let there = match subscriber.types.get(name) {
        Some(Type { kind: TypeKind::Domain(there), .. }) => there.name_of_not_null.as_ref(),
        _ => None,
    };
    let both = domain.name_of_not_null.as_ref().zip(there);
    let rename = both.map(|(new, old)| format!("ALTER DOMAIN {name} RENAME CONSTRAINT {old} TO {new}"));
    Remedy::Additive(rename.into_iter().collect())
}

/// The statements that give an enum its new labels, where the old ones are still there in their order.
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
    fn a_type_is_wider_where_every_value_fits() {
        for (new, old) in [
            ("bigint", "integer"),
            ("numeric", "bigint"),
            ("double precision", "real"),
            ("text", "character varying(20)"),
            ("text", "character varying"),
            ("character varying", "character varying(20)"),
            ("character varying(30)", "character varying(20)"),
            ("numeric", "numeric(10,2)"),
            ("numeric(12,2)", "numeric(10,2)"),
            ("numeric(12,4)", "numeric(10,2)"),
        ] {
            assert!(is_wider(new, old), "{new} {old}");
            assert!(!is_wider(old, new), "{old} {new}");
            assert!(!is_wider(new, new), "{new}");
        }
        for (new, old) in [("numeric(10,4)", "numeric(10,2)"), ("text", "integer"), ("character(30)", "character(20)")]
        {
            assert!(!is_wider(new, old), "{new} {old}");
        }
    }

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
