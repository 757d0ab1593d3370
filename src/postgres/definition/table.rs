// SPDX-License-Identifier: MPL-2.0

//! The statements that create a table.

use std::collections::BTreeSet;

use super::making::{collate, comment};
use super::model::{Column, Constraint, ConstraintKind, Definition, Sequence, Table};
use super::object::Object;
use crate::postgres::sql::{Ident, Literal, QualifiedName, list};

/// The statements that create a table with its columns. Its other parts have statements of their own.
pub(super) fn statements(definition: &Definition, name: &QualifiedName, table: &Table) -> Vec<String> {
    let is_heir = inherits_in_order(definition, table);
    let declared = table.columns.iter().filter(|column| !is_heir || column.is_local);
    let declared = declared.map(|column| {
        let default = column.default().filter(|_| declares_default(definition, name, table, column));
        let default = default.map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
        format!("{}{default}", column.declared(is_heir))
    });
    let declared = declared.chain(own_not_nulls(table).filter(|_| is_heir));
    let unlogged = if table.is_unlogged { "UNLOGGED " } else { "" };
    let inherits = if is_heir { format!(" INHERITS ({})", list(&table.parents)) } else { String::new() };
    let key = table.partition_key.as_ref().map(|key| format!(" PARTITION BY {key}")).unwrap_or_default();
    let method = table.access_method.as_ref().map(|method| format!(" USING \"{method}\"")).unwrap_or_default();
    let create =
        format!("CREATE {unlogged}TABLE {name} ({}){inherits}{key}{method}{}", list(declared), with(&table.options));
    let of_type = table.of_type.as_ref().map(|ty| format!("ALTER TABLE {name} OF {ty}"));
    let left = table.columns.iter().filter(|column| is_heir && !column.is_local && column.is_not_null);
    let left = left.filter(|column| column.not_null.is_none() && !inherits_not_null(definition, table, &column.name));
    let not_null = left.map(|column| format!("ALTER TABLE ONLY {name} ALTER COLUMN {} SET NOT NULL", column.name));
    let counted = table.columns.iter().filter(|column| is_heir && !column.is_local);
    let counted = counted.flat_map(|column| column.added_identity(name));
    let settings = table.columns.iter().flat_map(|column| column.settings(name));
    let comments = comment(&format!("TABLE {name}"), table.comment.as_ref());
    let of_columns = table.columns.iter().flat_map(|column| column.comments(name));
    let made = [create].into_iter().chain(of_type).chain(not_null).chain(counted);
    made.chain(settings).chain(comments).chain(of_columns).collect()
}

/// The NOT NULL constraints that a table itself declares on inherited columns (Postgres 18).
fn own_not_nulls(table: &Table) -> impl Iterator<Item = String> {
    let columns = table.columns.iter().filter(|column| !column.is_local);
    let own = columns.filter_map(|column| Some((column, column.not_null.as_ref()?)));
    own.filter(|(_, of)| of.is_local && of.is_valid)
        .map(|(column, of)| format!("CONSTRAINT {} NOT NULL {}", of.name, column.name))
}

/// A `WITH` clause of storage parameters, with a leading space.
fn with(options: &BTreeSet<String>) -> String {
    if options.is_empty() { String::new() } else { format!(" WITH ({})", assignments(options)) }
}

/// Options in the form of a statement.
pub(super) fn assignments(options: &BTreeSet<String>) -> String {
    list(options.iter().map(|option| match option.split_once('=') {
        Some((name, value)) => format!("{name} = {}", Literal(value)),
        None => option.clone(),
    }))
}

/// Whether the table gets the right order of columns if it is created as a child of its parents, whose columns come
/// first. Otherwise it is created alone and becomes their child later.
pub(super) fn inherits_in_order(definition: &Definition, table: &Table) -> bool {
    if table.parents.is_empty() || table.is_partition() {
        return false;
    }
    let parents = table.parents.iter().filter_map(|parent| definition.tables.get(parent));
    let mut expected: Vec<&Ident> = Vec::new();
    for column in parents.flat_map(|parent| &parent.columns).chain(&table.columns) {
        if !expected.contains(&&column.name) {
            expected.push(&column.name);
        }
    }
    expected.into_iter().eq(table.columns.iter().map(|column| &column.name))
}

/// Whether the declaration of a column can have its default: if that needs only sequences and the table's own needs. A
/// function, for example, may take a row of the table.
pub(super) fn declares_default(definition: &Definition, name: &QualifiedName, table: &Table, column: &Column) -> bool {
    let needs = |object| definition.needs.get(&object);
    let of_table = needs(Object::Table(name.clone()));
    let is_there =
        |need: &Object| matches!(need, Object::Sequence(_)) || of_table.is_some_and(|of_table| of_table.contains(need));
    let of_default = needs(Object::Default(name.clone(), column.name.clone()));
    column.default().is_some()
        && !inherits_in_order(definition, table)
        && of_default.into_iter().flatten().all(is_there)
}

/// The sequences that the defaults in a table's declaration use.
pub(super) fn sequences(definition: &Definition, name: &QualifiedName, table: &Table) -> Vec<Object> {
    let columns = table.columns.iter().filter(|column| declares_default(definition, name, table, column));
    let defaults = columns.map(|column| Object::Default(name.clone(), column.name.clone()));
    let needs = defaults.flat_map(|default| definition.needs.get(&default).into_iter().flatten());
    needs.filter(|need| matches!(need, Object::Sequence(_))).cloned().collect()
}

/// Whether the column is NOT NULL in a parent.
fn inherits_not_null(definition: &Definition, table: &Table, name: &Ident) -> bool {
    let parents = table.parents.iter().filter_map(|parent| definition.tables.get(parent));
    parents.filter_map(|parent| parent.column(name)).any(|column| column.is_not_null)
}

impl Column {
    /// Like [`Column::declaration`], without a NOT NULL that the table inherits (Postgres 18).
    fn declared(&self, is_heir: bool) -> String {
        match &self.not_null {
            Some(constraint) if is_heir && !constraint.is_local => {
                Self { not_null: None, is_not_null: false, ..self.clone() }.declaration()
            }
            _ => self.declaration(),
        }
    }

    /// Its declaration in a table, without its default.
    pub(super) fn declaration(&self) -> String {
        let generated = self.generation().map(|text| format!(" {text}")).unwrap_or_default();
        let not_null = self.not_null_declaration().map(|text| format!(" {text}")).unwrap_or_default();
        format!("{} {}{}{generated}{not_null}", self.name, self.ty, collate(self.collation.as_ref()))
    }

    /// Its generation expression or identity clause.
    pub(super) fn generation(&self) -> Option<String> {
        match (&self.generated, &self.expression, &self.identity, &self.sequence) {
            (Some(kind), Some(expression), _, _) => {
                let kept = if kind == "v" { "VIRTUAL" } else { "STORED" };
                Some(format!("GENERATED ALWAYS AS ({expression}) {kept}"))
            }
            (_, _, Some(kind), Some(sequence)) => Some(identity(kind, sequence)),
            _ => None,
        }
    }

    /// The statements that make an inherited column an identity, after dropping an inherited default.
    fn added_identity(&self, table: &QualifiedName) -> Vec<String> {
        let Some(identity) = self.generation().filter(|_| self.generated.is_none()) else { return Vec::new() };
        let alter = format!("ALTER TABLE ONLY {table} ALTER COLUMN {}", self.name);
        vec![format!("{alter} DROP DEFAULT"), format!("{alter} ADD {identity}")]
    }

    /// Its NOT NULL, if it has one. One that is not valid is added afterwards.
    fn not_null_declaration(&self) -> Option<String> {
        match &self.not_null {
            Some(constraint) if !constraint.is_valid => None,
            Some(constraint) => {
                let inherited = if constraint.is_not_inherited { " NO INHERIT" } else { "" };
                Some(format!("CONSTRAINT {} NOT NULL{inherited}", constraint.name))
            }
            None => self.is_not_null.then(|| "NOT NULL".to_owned()),
        }
    }

    /// The comments on it, on its NOT NULL and on the sequence of its identity.
    pub(super) fn comments(&self, table: &QualifiedName) -> Vec<String> {
        let own = comment(&format!("COLUMN {table}.{}", self.name), self.comment.as_ref());
        let not_null = self.not_null.as_ref().filter(|constraint| constraint.is_local);
        let not_null =
            not_null.and_then(|of| comment(&format!("CONSTRAINT {} ON {table}", of.name), of.comment.as_ref()));
        let sequence = self.sequence.as_ref();
        let sequence = sequence.and_then(|of| comment(&format!("SEQUENCE {}", of.name), of.comment.as_ref()));
        [own, not_null, sequence].into_iter().flatten().collect()
    }

    /// The statements for settings that its declaration cannot have.
    pub(super) fn settings(&self, table: &QualifiedName) -> Vec<String> {
        let alter = |what: String| format!("ALTER TABLE ONLY {table} ALTER COLUMN {} {what}", self.name);
        let late = self.not_null.as_ref().filter(|constraint| !constraint.is_valid);
        let late =
            late.map(|of| format!("ALTER TABLE {table} ADD CONSTRAINT {} NOT NULL {} NOT VALID", of.name, self.name));
        let storage = self.storage.as_deref().map(|storage| alter(format!("SET STORAGE {}", storage_name(storage))));
        let compression = self.compression.as_deref();
        let compression = compression.map(|method| alter(format!("SET COMPRESSION {}", compression_name(method))));
        let statistics = self.statistics.map(|target| alter(format!("SET STATISTICS {target}")));
        let options = self.options.as_ref().map(|options| alter(format!("SET ({})", assignments(options))));
        [late, storage, compression, statistics, options].into_iter().flatten().collect()
    }
}

/// The declaration of an identity column.
fn identity(kind: &str, sequence: &Sequence) -> String {
    let when = if kind == "a" { "ALWAYS" } else { "BY DEFAULT" };
    format!("GENERATED {when} AS IDENTITY (SEQUENCE NAME {} {})", sequence.name, sequence.options())
}

/// The keyword of a storage.
pub(super) fn storage_name(letter: &str) -> &str {
    match letter {
        "p" => "PLAIN",
        "e" => "EXTERNAL",
        "m" => "MAIN",
        _ => "EXTENDED",
    }
}

/// The keyword of a compression.
pub(super) fn compression_name(letter: &str) -> &str {
    match letter {
        "p" => "pglz",
        _ => "lz4",
    }
}

impl Constraint {
    /// The statements that add it to its table.
    pub(super) fn statements(&self, table: &QualifiedName) -> Vec<String> {
        self.added_as(table, &self.definition)
    }

    /// The statements that create it from an existing index of the table.
    pub(super) fn statements_with(&self, table: &QualifiedName, index: &Ident) -> Vec<String> {
        let kind = if self.kind == ConstraintKind::PrimaryKey { "PRIMARY KEY" } else { "UNIQUE" };
        let deferrable = self.definition.find(" DEFERRABLE").map_or("", |at| &self.definition[at..]);
        self.added_as(table, &format!("{kind} USING INDEX {index}{deferrable}"))
    }

    fn added_as(&self, table: &QualifiedName, definition: &str) -> Vec<String> {
        let add = format!("ALTER TABLE {table} ADD CONSTRAINT {} {definition}", self.name);
        let options = self.index_options.as_ref().filter(|_| self.kind != ConstraintKind::ForeignKey);
        let options =
            options.map(|options| format!("ALTER INDEX {}.{} SET ({})", table.schema, self.name, assignments(options)));
        let comment = comment(&format!("CONSTRAINT {} ON {table}", self.name), self.comment.as_ref());
        [add].into_iter().chain(options).chain(comment).collect()
    }
}
