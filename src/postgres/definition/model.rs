// SPDX-License-Identifier: MPL-2.0

//! A definition as values.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::object::Object;
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::ServerVersion;

/// How tables are defined, with what they need.
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
    /// Indexes that no constraint has made.
    pub indexes: BTreeMap<QualifiedName, Index>,
    /// Extended statistics.
    pub statistics: BTreeMap<QualifiedName, Statistics>,
    /// What is needed and cannot be made from the catalogs.
    pub others: Vec<Other>,
    /// What each object needs to be there before it, by the catalog.
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
    /// Whether something here comes with it.
    pub is_needed: bool,
}

/// A collation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Collation {
    /// Its name.
    pub name: QualifiedName,
    /// `c` for libc, `i` for ICU, `b` for what Postgres brings, `d` for the database's own.
    pub provider: String,
    /// `LC_COLLATE`, of libc.
    pub collate: Option<String>,
    /// `LC_CTYPE`, of libc.
    pub ctype: Option<String>,
    /// The locale, of the others.
    pub locale: Option<String>,
    /// Rules beyond the locale's (Postgres 16).
    pub rules: Option<String>,
    /// Whether texts that are equal to it have the same bytes.
    pub is_deterministic: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// What it is.
    pub kind: TypeKind,
    /// Its comment.
    pub comment: Option<String>,
}

/// What a type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// One of these labels, in this order.
    Enum(Vec<String>),
    /// Values of another type that keep to constraints.
    Domain(Domain),
    /// Several fields.
    Composite(Vec<Field>),
    /// A range, with its multirange.
    Range(Range),
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The type that it is made of.
    pub base: String,
    /// Its collation, where it is not its type's.
    pub collation: Option<QualifiedName>,
    /// Whether it takes no nulls.
    pub is_not_null: bool,
    /// The name of the constraint that takes none (Postgres 18).
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
    /// What follows the name in its declaration.
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
    /// Its collation, where it is not its type's.
    pub collation: Option<QualifiedName>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A range type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The type of its bounds.
    pub subtype: String,
    /// The operator class that orders them, where it is not the type's default.
    pub opclass: Option<QualifiedName>,
    /// Their collation, where it is not the type's.
    pub collation: Option<QualifiedName>,
    /// The function that makes equal ranges the same, which only a function in C can be.
    pub canonical: Option<QualifiedName>,
    /// The function that tells how far two bounds are apart.
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
    /// The statement that makes it.
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
    /// What each further number adds.
    pub increment: i64,
    /// The lowest number.
    pub min: i64,
    /// The highest number.
    pub max: i64,
    /// How many numbers a session takes at once.
    pub cache: i64,
    /// Whether it begins again after the last.
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
    /// Its number in the catalog, which outlives a new name.
    pub oid: i64,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
    /// Whether it is unlogged.
    pub is_unlogged: bool,
    /// What its partitions are chosen by, where it has some.
    pub partition_key: Option<String>,
    /// The tables that it has its columns from; the partitioned table alone where it is a partition.
    pub parents: Vec<QualifiedName>,
    /// The rows that it takes as a partition: `FOR VALUES …` or `DEFAULT`.
    pub bound: Option<String>,
    /// The type that it is declared to be of.
    pub of_type: Option<String>,
    /// Storage parameters, as `name=value`; those of its TOAST table begin with `toast.`.
    pub options: BTreeSet<String>,
    /// Its access method, where it is another than `heap`.
    pub access_method: Option<String>,
    /// Its constraints, by name, NOT NULL not among them.
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
    /// Its number in the catalog, which outlives a new name.
    pub number: i16,
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: String,
    /// Its collation, where it is not its type's.
    pub collation: Option<QualifiedName>,
    /// Whether it takes no nulls.
    pub is_not_null: bool,
    /// The constraint that says so (Postgres 18).
    #[serde(skip)]
    pub not_null: Option<Constraint>,
    /// Its default, or what it is generated from.
    pub expression: Option<String>,
    /// `s` where it is generated and stored, `v` where it is generated when it is read (Postgres 18).
    pub generated: Option<String>,
    /// `a` or `d` where it is an identity column: always, or by default.
    pub identity: Option<String>,
    /// The sequence of an identity column.
    #[serde(skip)]
    pub sequence: Option<Sequence>,
    /// How long values are stored, where it is not as its type says: `p`, `e`, `x` or `m`.
    pub storage: Option<String>,
    /// How they are compressed, where that was chosen: `p` for pglz, `l` for lz4.
    pub compression: Option<String>,
    /// The statistics target, where one was chosen.
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
    /// What it demands.
    pub kind: ConstraintKind,
    /// What follows the name in its declaration.
    pub definition: String,
    /// Whether the table itself declares it.
    pub is_local: bool,
    /// Whether partitions and children do without it.
    pub is_not_inherited: bool,
    /// Whether all rows are known to keep it.
    pub is_valid: bool,
    /// Whether it is enforced (Postgres 18; before, all are).
    pub is_enforced: bool,
    /// Whether it is about periods (Postgres 18).
    pub is_temporal: bool,
    /// Whether a partition has it from its parent.
    pub is_clone: bool,
    /// Whether two nulls are the same to it (Postgres 15).
    pub nulls_are_equal: bool,
    /// Whether a deletion sets some of its columns only (Postgres 15).
    pub sets_some: bool,
    /// Storage parameters of its index.
    pub index_options: Option<BTreeSet<String>>,
    /// The table that it refers to.
    pub references: Option<QualifiedName>,
    /// The index of that table which it counts on.
    pub counts_on: Option<QualifiedName>,
    /// The columns that it is about.
    pub columns: Vec<Ident>,
    /// Its comment.
    pub comment: Option<String>,
}

/// What a constraint demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ConstraintKind {
    /// That a condition is not false.
    #[serde(rename = "c")]
    Check,
    /// That a column has a value (Postgres 18).
    #[serde(rename = "n")]
    NotNull,
    /// That its columns identify a row.
    #[serde(rename = "p")]
    PrimaryKey,
    /// That no two rows are the same in its columns.
    #[serde(rename = "u")]
    Unique,
    /// That no two rows meet its operators.
    #[serde(rename = "x")]
    Exclusion,
    /// That the row of another table is there.
    #[serde(rename = "f")]
    ForeignKey,
}

impl ConstraintKind {
    /// Whether an index of its name comes with it.
    pub fn has_index(self) -> bool {
        matches!(self, Self::PrimaryKey | Self::Unique | Self::Exclusion)
    }
}

/// An index that no constraint has made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Index {
    /// Its name.
    pub name: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// The statement that makes it, partitions included.
    pub definition: String,
    /// What follows the table in that statement: method, keys, condition and the rest.
    pub tail: String,
    /// Whether no two rows may be the same to it.
    pub is_unique: bool,
    /// Whether two nulls are the same to it (Postgres 15).
    pub nulls_are_equal: bool,
    /// Whether queries may use it.
    pub is_valid: bool,
    /// Whether it identifies old rows.
    pub is_replica_identity: bool,
    /// Whether a partition has it from its parent.
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
    /// The statement that makes it.
    pub definition: String,
    /// The target, where one was chosen.
    pub target: Option<i32>,
    /// Its comment.
    pub comment: Option<String>,
}

/// Something that is needed and that the catalogs do not tell how to make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Other {
    /// What it is, in words.
    pub description: String,
    /// Its kind and its name, as `pg_identify_object` prints them.
    pub kind: String,
    /// The same.
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
    /// Its default; none where it is generated.
    pub fn default(&self) -> Option<&str> {
        self.expression.as_deref().filter(|_| self.generated.is_none())
    }
}

impl Definition {
    /// Whether it has this.
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

    /// Whether a table has an index of that name, a constraint's or its own.
    pub(super) fn has_index(&self, table: &QualifiedName, index: &Ident) -> bool {
        let own = QualifiedName { schema: table.schema.clone(), name: index.clone() };
        let of_constraint = self.tables.get(table).and_then(|table| table.constraints.get(index));
        of_constraint.is_some_and(|one| one.kind.has_index())
            || self.indexes.get(&own).is_some_and(|own| own.table == *table)
    }

    /// The collations that something here names, the system's included.
    pub fn named_collations(&self) -> BTreeSet<&QualifiedName> {
        let columns =
            self.tables.values().flat_map(|table| &table.columns).filter_map(|column| column.collation.as_ref());
        columns.chain(self.types.values().flat_map(|ty| ty.kind.collations())).collect()
    }

    /// The partitions and other children of each table that has some, by name.
    pub(super) fn children(&self) -> BTreeMap<&QualifiedName, Vec<&QualifiedName>> {
        let mut children: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, table) in &self.tables {
            table.parents.iter().for_each(|parent| children.entry(parent).or_default().push(name));
        }
        children
    }

    /// How deep below its topmost parent a table is.
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
