// SPDX-License-Identifier: MPL-2.0

//! A definition as values.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::object::Object;
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::ServerVersion;

/// The definitions of tables, with everything that they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The server's version.
    pub version: ServerVersion,
    /// The schemas that the database has, with their comments.
    pub schemas: BTreeMap<Ident, Option<String>>,
    /// The extensions that the database has.
    pub extensions: BTreeMap<Ident, Extension>,
    /// Collations.
    pub collations: BTreeMap<QualifiedName, Collation>,
    /// Types.
    pub types: BTreeMap<QualifiedName, Type>,
    /// Functions, by signature.
    pub functions: BTreeMap<String, Function>,
    /// Sequences, without those of identity columns.
    pub sequences: BTreeMap<QualifiedName, Sequence>,
    /// Tables.
    pub tables: BTreeMap<QualifiedName, Table>,
    /// Indexes that do not belong to a constraint.
    pub indexes: BTreeMap<QualifiedName, Index>,
    /// Extended statistics.
    pub statistics: BTreeMap<QualifiedName, Statistics>,
    /// Needed objects that cannot be created from the catalogs.
    pub others: Vec<Other>,
    /// The objects that must exist before each object, by the catalog.
    pub needs: BTreeMap<Object, BTreeSet<Object>>,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: Ident,
    /// Its version.
    pub version: String,
    /// The schema of its objects.
    pub schema: Ident,
    /// Whether an object here belongs to it.
    pub is_needed: bool,
}

/// A collation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Collation {
    /// Its name.
    pub name: QualifiedName,
    /// `c` for libc, `i` for ICU, `b` for built-in, `d` for the database's default.
    pub provider: String,
    /// `LC_COLLATE`, of libc.
    pub collate: Option<String>,
    /// `LC_CTYPE`, of libc.
    pub ctype: Option<String>,
    /// The locale, of the others.
    pub locale: Option<String>,
    /// Rules beyond the locale's (Postgres 16).
    pub rules: Option<String>,
    /// Whether equal texts have the same bytes.
    pub is_deterministic: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Its kind.
    pub kind: TypeKind,
    /// Its comment.
    pub comment: Option<String>,
}

/// The kind of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// One of these labels, in this order.
    Enum(Vec<String>),
    /// Values of another type that satisfy constraints.
    Domain(Domain),
    /// Several fields.
    Composite(Vec<Field>),
    /// A range, with its multirange.
    Range(Range),
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its base type.
    pub base: String,
    /// Its collation, if it is not its type's.
    pub collation: Option<QualifiedName>,
    /// Whether it is NOT NULL.
    pub is_not_null: bool,
    /// The name of its NOT NULL constraint (Postgres 18).
    pub name_of_not_null: Option<Ident>,
    /// Its default.
    pub default: Option<String>,
    /// Its constraints, by name.
    pub constraints: BTreeMap<Ident, DomainConstraint>,
}

/// A constraint of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DomainConstraint {
    /// Its name.
    pub name: Ident,
    /// Its declaration after the name.
    pub definition: String,
    /// Its comment.
    pub comment: Option<String>,
}

/// A field of a composite type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: String,
    /// Its collation, if it is not its type's.
    pub collation: Option<QualifiedName>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A range type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The type of its bounds.
    pub subtype: String,
    /// The operator class that orders them, if it is not the type's default.
    pub opclass: Option<QualifiedName>,
    /// Their collation, if it is not the type's.
    pub collation: Option<QualifiedName>,
    /// The canonicalization function, which must be written in C.
    pub canonical: Option<QualifiedName>,
    /// The function that returns the distance between two bounds.
    pub difference: Option<QualifiedName>,
    /// Its multirange type.
    pub multirange: QualifiedName,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Function {
    /// Its signature, such as `public.f(integer)`.
    pub signature: String,
    /// Its schema.
    pub schema: Ident,
    /// The statement that creates it.
    pub definition: String,
    /// Its comment.
    pub comment: Option<String>,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sequence {
    /// Its name.
    pub name: QualifiedName,
    /// Its type, such as `bigint`.
    pub ty: String,
    /// Its first number.
    pub start: i64,
    /// Its increment.
    pub increment: i64,
    /// The lowest number.
    pub min: i64,
    /// The highest number.
    pub max: i64,
    /// How many numbers a session takes at once.
    pub cache: i64,
    /// Whether it starts again after the last number.
    pub cycles: bool,
    /// Whether it is unlogged (Postgres 15).
    pub is_unlogged: bool,
    /// The column that owns it.
    pub owner: Option<(QualifiedName, Ident)>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its number in the catalog, which survives renaming.
    pub oid: i64,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
    /// Whether it is unlogged.
    pub is_unlogged: bool,
    /// Its partition key, if it is partitioned.
    pub partition_key: Option<String>,
    /// The tables that it inherits from; for a partition, only the partitioned table.
    pub parents: Vec<QualifiedName>,
    /// The rows that it takes as a partition: `FOR VALUES …` or `DEFAULT`.
    pub bound: Option<String>,
    /// The type of a typed table (`OF`).
    pub of_type: Option<String>,
    /// Storage parameters, as `name=value`; those of its TOAST table begin with `toast.`.
    pub options: BTreeSet<String>,
    /// Its access method, if it is not `heap`.
    pub access_method: Option<String>,
    /// Its constraints by name, without NOT NULL.
    pub constraints: BTreeMap<Ident, Constraint>,
    /// `d` for its primary key, `f` for the whole row, `n` for nothing, `i` for an index.
    pub replica_identity: String,
    /// The index that identifies old rows.
    pub identity_index: Option<Ident>,
    /// The index by which it is clustered.
    pub clustered_by: Option<Ident>,
    /// Its comment.
    pub comment: Option<String>,
    /// Triggers, rules and policies, in words, which are not copied.
    pub attached: Vec<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Column {
    /// Its number in the catalog, which survives renaming.
    pub number: i16,
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: String,
    /// Its collation, if it is not its type's.
    pub collation: Option<QualifiedName>,
    /// Whether it is NOT NULL.
    pub is_not_null: bool,
    /// The constraint of NOT NULL (Postgres 18).
    #[serde(skip)]
    pub not_null: Option<Constraint>,
    /// Its default or generation expression.
    pub expression: Option<String>,
    /// `s` if it is generated and stored, `v` if it is generated when it is read (Postgres 18).
    pub generated: Option<String>,
    /// `a` (always) or `d` (by default) if it is an identity column.
    pub identity: Option<String>,
    /// The sequence of an identity column.
    #[serde(skip)]
    pub sequence: Option<Sequence>,
    /// Its storage, if it is not the type's: `p`, `e`, `x` or `m`.
    pub storage: Option<String>,
    /// Its compression, if one was set: `p` for pglz, `l` for lz4.
    pub compression: Option<String>,
    /// The statistics target, if one was set.
    pub statistics: Option<i32>,
    /// Options, as `name=value`.
    pub options: Option<BTreeSet<String>>,
    /// Whether the table itself declares it.
    pub is_local: bool,
    /// Whether a parent has it.
    pub is_inherited: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Constraint {
    /// Its name.
    pub name: Ident,
    /// Its kind.
    pub kind: ConstraintKind,
    /// Its declaration after the name.
    pub definition: String,
    /// Whether the table itself declares it.
    pub is_local: bool,
    /// Whether partitions and children do not inherit it.
    pub is_not_inherited: bool,
    /// Whether all rows are known to satisfy it.
    pub is_valid: bool,
    /// Whether it is enforced (Postgres 18; before, all are).
    pub is_enforced: bool,
    /// Whether it is temporal, with `PERIOD` or `WITHOUT OVERLAPS` (Postgres 18).
    pub is_temporal: bool,
    /// Whether a partition inherits it from its parent.
    pub is_clone: bool,
    /// Whether it treats nulls as equal (Postgres 15).
    pub nulls_are_equal: bool,
    /// Whether a deletion sets only some of its columns (Postgres 15).
    pub sets_some: bool,
    /// Storage parameters of its index.
    pub index_options: Option<BTreeSet<String>>,
    /// The table that it refers to.
    pub references: Option<QualifiedName>,
    /// The unique index of that table that it depends on.
    pub counts_on: Option<QualifiedName>,
    /// Its columns.
    pub columns: Vec<Ident>,
    /// Its comment.
    pub comment: Option<String>,
}

/// What a constraint requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ConstraintKind {
    /// A condition is not false.
    #[serde(rename = "c")]
    Check,
    /// A column is not null (Postgres 18).
    #[serde(rename = "n")]
    NotNull,
    /// Its columns identify a row.
    #[serde(rename = "p")]
    PrimaryKey,
    /// No two rows have the same values in its columns.
    #[serde(rename = "u")]
    Unique,
    /// No two rows satisfy all of its operators.
    #[serde(rename = "x")]
    Exclusion,
    /// The referenced row exists in another table.
    #[serde(rename = "f")]
    ForeignKey,
}

impl ConstraintKind {
    /// Whether an index of its name comes with it.
    pub fn has_index(self) -> bool {
        matches!(self, Self::PrimaryKey | Self::Unique | Self::Exclusion)
    }
}

/// An index that does not belong to a constraint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Index {
    /// Its name.
    pub name: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// The statement that creates it, including partitions.
    pub definition: String,
    /// The part of that statement after the table: method, keys, condition and the rest.
    pub tail: String,
    /// Whether it is unique.
    pub is_unique: bool,
    /// Whether it treats nulls as equal (Postgres 15).
    pub nulls_are_equal: bool,
    /// Whether queries may use it.
    pub is_valid: bool,
    /// Whether it identifies old rows.
    pub is_replica_identity: bool,
    /// Whether a partition inherits it from its parent.
    pub is_clone: bool,
    /// The index of the partitioned table that it is a part of.
    pub parent: Option<QualifiedName>,
    /// Statistics targets of its expressions, by their number.
    pub statistics: Option<BTreeMap<String, i32>>,
    /// Its comment.
    pub comment: Option<String>,
}

/// Extended statistics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Statistics {
    /// Its name.
    pub name: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// The statement that creates it.
    pub definition: String,
    /// The target, if one was set.
    pub target: Option<i32>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A needed object that cannot be created from the catalogs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Other {
    /// A description in words.
    pub description: String,
    /// Its type, as `pg_identify_object` prints it.
    pub kind: String,
    /// Its identity, as `pg_identify_object` prints it.
    pub identity: String,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &Ident) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// Whether it is a partition.
    pub fn is_partition(&self) -> bool {
        self.bound.is_some()
    }
}

impl Column {
    /// Its default; none if it is generated.
    pub fn default(&self) -> Option<&str> {
        self.expression.as_deref().filter(|_| self.generated.is_none())
    }
}

impl Definition {
    /// Whether it has this object.
    pub fn has(&self, object: &Object) -> bool {
        match object.whole() {
            Object::Schema(name) => self.schemas.contains_key(&name),
            Object::Collation(name) => self.collations.contains_key(&name),
            Object::Type(name) => self.types.contains_key(&name),
            Object::Function(signature) => self.functions.contains_key(&signature),
            Object::Sequence(name) => self.sequences.contains_key(&name),
            Object::Table(name) => self.tables.contains_key(&name),
            Object::Index(name) => self.indexes.contains_key(&name),
            Object::Statistics(name) => self.statistics.contains_key(&name),
            _ => false,
        }
    }

    /// Whether a table has an index of that name, including those of constraints.
    pub(super) fn has_index(&self, table: &QualifiedName, index: &Ident) -> bool {
        let own = QualifiedName { schema: table.schema.clone(), name: index.clone() };
        let of_constraint = self.tables.get(table).and_then(|table| table.constraints.get(index));
        of_constraint.is_some_and(|one| one.kind.has_index())
            || self.indexes.get(&own).is_some_and(|own| own.table == *table)
    }

    /// The collations that are used here, including system collations.
    pub fn named_collations(&self) -> BTreeSet<&QualifiedName> {
        let columns =
            self.tables.values().flat_map(|table| &table.columns).filter_map(|column| column.collation.as_ref());
        columns.chain(self.types.values().flat_map(|ty| ty.kind.collations())).collect()
    }

    /// The partitions and other children of each table that has any, by name.
    pub(super) fn children(&self) -> BTreeMap<&QualifiedName, Vec<&QualifiedName>> {
        let mut children: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, table) in &self.tables {
            table.parents.iter().for_each(|parent| children.entry(parent).or_default().push(name));
        }
        children
    }

    /// The depth of a table below its topmost parent.
    pub(super) fn depth(&self, table: &QualifiedName) -> usize {
        let parents = self.tables.get(table).map(|table| table.parents.as_slice()).unwrap_or_default();
        parents.iter().filter(|parent| *parent != table).map(|parent| 1 + self.depth(parent)).max().unwrap_or_default()
    }
}

impl TypeKind {
    fn collations(&self) -> Vec<&QualifiedName> {
        match self {
            Self::Enum(_) => Vec::new(),
            Self::Domain(domain) => domain.collation.iter().collect(),
            Self::Composite(fields) => fields.iter().filter_map(|field| field.collation.as_ref()).collect(),
            Self::Range(range) => range.collation.iter().collect(),
        }
    }
}
