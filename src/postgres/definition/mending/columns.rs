// SPDX-License-Identifier: MPL-2.0

//! How to resolve a difference of a column.

use std::fmt;

use super::super::facets::SHORT;
use super::super::making::collate;
use super::super::model::{Column, Definition, Table};
use super::super::table::{compression_name, storage_name};
use super::{Remedy, remark, turned};
use crate::postgres::sql::{Ident, QualifiedName};

/// A column by name.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: &'a QualifiedName,
    pub(super) column: &'a Ident,
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

pub(super) fn of_column(publisher: &Definition, subscriber: &Definition, place: &Place<'_>, attribute: &str) -> Remedy {
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
        // It changes together with NOT NULL itself.
        _ => Remedy::Additive(Vec::new()),
    }
}

/// A column that the subscriber lacks. If it is NOT NULL without a default, there is no value for existing rows.
fn missing_column(
    publisher: &Definition,
    place: &Place<'_>,
    table: &Table,
    column: &Column,
    subscriber: &Definition,
) -> Remedy {
    if let Some(parent) = lacking_parent(publisher, table, column, subscriber) {
        return match missing_column(publisher, &Place { table: parent.0, ..*place }, parent.1, parent.2, subscriber) {
            // The parent brings the column; other settings are each table's own.
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

/// The parent that will bring a column and lacks it too.
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

/// The statements for a table's own settings of a column that its parent brings with the parent's default.
fn own_settings(place: &Place<'_>, column: &Column) -> Vec<String> {
    let default = match column.default() {
        _ if column.generation().is_some() => None,
        Some(default) => Some(place.alter_only(format!("SET DEFAULT {default}"))),
        None => Some(place.alter_only("DROP DEFAULT")),
    };
    let own = Column { not_null: None, sequence: None, ..column.clone() };
    default.into_iter().chain(own.settings(place.table)).chain(own.comments(place.table)).collect()
}

/// A column of the same type that the publisher does not have: it may be the same column under its old name. A new
/// column in its place would be empty in every existing row.
fn renamed_from<'a>(table: &Table, there: &'a Table, column: &Column) -> Option<&'a Column> {
    there.columns.iter().find(|old| table.column(&old.name).is_none() && old.ty == column.ty)
}

fn options(place: &Place<'_>, column: &Column, there: &Column) -> Vec<String> {
    let of = |column: &Column| column.options.clone().unwrap_or_default();
    turned(&of(column), &of(there)).into_iter().map(|change| place.alter_only(change)).collect()
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
        // The same number of digits after the point, and at least as many before it.
        ("numeric", "numeric") => match (more.as_slice(), less.as_slice()) {
            ([more, scale], [less, old_scale]) => {
                (more, scale) != (less, old_scale) && scale >= old_scale && more - scale >= less - old_scale
            }
            _ => false,
        },
        _ => false,
    }
}

/// A type's name and its modifiers.
fn with_modifiers(ty: &str) -> (&str, Vec<i64>) {
    match ty.strip_suffix(')').and_then(|ty| ty.split_once('(')) {
        Some((name, numbers)) => (name, numbers.split(',').filter_map(|number| number.trim().parse().ok()).collect()),
        None => (ty, Vec::new()),
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
}
