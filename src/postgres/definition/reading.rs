// SPDX-License-Identifier: MPL-2.0

//! Reads a definition: assembles the rows of the one query.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::Type as Parameter;

use super::model::{
    Collation, Column, Constraint, ConstraintKind, Definition, Domain, DomainConstraint, Extension, Field, Function,
    Index, Other, Range, Sequence, Statistics, Table, Type, TypeKind,
};
use super::needs::{Edge, Place, Places};
use super::object::Object;
use super::query;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::session::Transaction;
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::ServerVersion;
use crate::postgres::work::Param;

const DOING: &str = "reading how tables are defined";

/// How many reads are made if something was changed meanwhile.
const TRIES: usize = 3;

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Tables and sequences.
    pub relations: BTreeSet<QualifiedName>,
    /// Types.
    pub types: BTreeSet<QualifiedName>,
    /// Collations, including system collations.
    pub collations: BTreeSet<QualifiedName>,
    /// Functions, by signature.
    pub functions: BTreeSet<String>,
    /// Whether to include the partitions of the relations.
    pub with_partitions: bool,
}

impl Wanted {
    /// These tables, with their partitions and all that they need.
    pub fn tables(tables: impl IntoIterator<Item = QualifiedName>) -> Self {
        Self { relations: tables.into_iter().collect(), with_partitions: true, ..Self::default() }
    }

    /// All objects with the names of the objects in this definition.
    pub fn like(definition: &Definition) -> Self {
        let relations = definition.tables.keys().chain(definition.sequences.keys());
        let named = definition.named_collations().into_iter().chain(definition.collations.keys());
        Self {
            relations: relations.cloned().collect(),
            types: definition.types.keys().cloned().collect(),
            collations: named.cloned().collect(),
            functions: definition.functions.keys().cloned().collect(),
            with_partitions: false,
        }
    }
}

/// Reads the definitions of the tables that exist, with everything that they need.
///
/// # Errors
/// When a query fails, or one of the tables is locked.
pub async fn read(db: &Database, wanted: &Wanted) -> Result<Definition> {
    let version = db.version().await?;
    let bound = Bound::of(wanted);
    let (sql, again, params) = (query::definition(version), query::digest(), bound.params());
    let mut rows = Vec::new();
    for _ in 0..TRIES {
        rows = db.query_in_turn(DOING, &[(&sql, &params), (&again, &params)]).await?;
        if is_of_one_moment(&rows) {
            break;
        }
    }
    assemble(&rows, version).map_err(|cause| db.error(DOING, cause))
}

/// Like [`read`], in a transaction, which sees its own changes.
///
/// # Errors
/// As [`read`].
pub async fn read_in(
    transaction: &mut Transaction<'_>,
    version: ServerVersion,
    wanted: &Wanted,
    limits: &Limits,
) -> Result<Definition> {
    let bound = Bound::of(wanted);
    let rows = transaction.query(DOING, &query::definition(version), &bound.params(), limits).await?;
    assemble(&rows, version).map_err(|cause| transaction.error(DOING, cause))
}

/// The objects among these that cannot be created from the catalogs and that the database lacks.
///
/// # Errors
/// When a query fails.
pub async fn missing_of(db: &Database, others: &[Other]) -> Result<Vec<Other>> {
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let identities: Vec<&str> = others.iter().map(|other| other.identity.as_str()).collect();
    let params: [Param<'_>; 1] = [(&identities, Parameter::TEXT_ARRAY)];
    let read = |row: &Row| Ok((row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?));
    let there: BTreeSet<_> =
        db.query_all("looking for what tables need", query::PRESENT, &params, read).await?.into_iter().collect();
    let is_missing = |other: &&Other| !there.contains(&(other.kind.clone(), other.identity.clone()));
    Ok(others.iter().filter(is_missing).cloned().collect())
}

/// The names as the query's parameters.
struct Bound<'a> {
    lists: [Vec<&'a str>; 7],
    with_partitions: bool,
}

impl<'a> Bound<'a> {
    fn of(wanted: &'a Wanted) -> Self {
        let schemas = |names: &'a BTreeSet<QualifiedName>| names.iter().map(|name| name.schema.as_str()).collect();
        let names = |names: &'a BTreeSet<QualifiedName>| names.iter().map(|name| name.name.as_str()).collect();
        let lists = [
            schemas(&wanted.relations),
            names(&wanted.relations),
            schemas(&wanted.types),
            names(&wanted.types),
            schemas(&wanted.collations),
            names(&wanted.collations),
            wanted.functions.iter().map(String::as_str).collect(),
        ];
        Self { lists, with_partitions: wanted.with_partitions }
    }

    fn params(&self) -> Vec<Param<'_>> {
        let lists =
            self.lists.iter().map(|list| (list as &(dyn tokio_postgres::types::ToSql + Sync), Parameter::TEXT_ARRAY));
        let last: Param<'_> = (&self.with_partitions, Parameter::BOOL);
        lists.chain([last]).collect()
    }
}

/// Whether nothing was changed while the rows were read: the digests before and after them are equal.
fn is_of_one_moment(rows: &[Row]) -> bool {
    let is_digest = |row: &&Row| row.try_get::<_, &str>(0).is_ok_and(|kind| kind == "digest");
    let mut digests = rows.iter().filter(is_digest).map(|row| row.try_get::<_, &str>(1).ok());
    digests.next() == digests.next()
}

/// The rows by kind.
struct Parts(BTreeMap<String, Vec<String>>);

impl Parts {
    fn of(rows: &[Row]) -> std::result::Result<Self, Cause> {
        let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            let (kind, text) = (row.try_get(0).map_err(Cause::Statement)?, row.try_get(1).map_err(Cause::Statement)?);
            parts.entry(kind).or_default().push(text);
        }
        Ok(Self(parts))
    }

    fn take<T: DeserializeOwned>(&mut self, kind: &str) -> std::result::Result<Vec<Read<T>>, Cause> {
        let texts = self.0.remove(kind).unwrap_or_default();
        let unread = |error: serde_json::Error| Cause::Unexpected(format!("the {kind} of a definition: {error}"));
        texts.iter().map(|text| Read::of(text).map_err(unread)).collect()
    }

    /// The rows of a kind whose oids are not needed.
    fn plain<T: DeserializeOwned>(&mut self, kind: &str) -> std::result::Result<Vec<T>, Cause> {
        Ok(self.take(kind)?.into_iter().map(|read| read.of).collect())
    }
}

/// A row, with its oids.
struct Read<T> {
    oid: i64,
    /// The oid of the relation that it is a part of.
    relation: i64,
    /// Whether it is the sequence of an identity column.
    is_identity: bool,
    of: T,
}

/// Facts about a row that are not part of its definition.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Numbers {
    oid: i64,
    relation: Option<i64>,
    is_identity: Option<bool>,
}

impl<T: DeserializeOwned> Read<T> {
    fn of(text: &str) -> serde_json::Result<Self> {
        let numbers: Numbers = serde_json::from_str(text)?;
        let (relation, is_identity) = (numbers.relation.unwrap_or_default(), numbers.is_identity.unwrap_or_default());
        Ok(Self { oid: numbers.oid, relation, is_identity, of: serde_json::from_str(text)? })
    }
}

#[derive(Deserialize)]
struct SchemaRow {
    name: Ident,
    comment: Option<String>,
}

#[derive(Deserialize)]
struct TypeRow {
    name: QualifiedName,
    kind: String,
    labels: Option<Vec<String>>,
    base: Option<String>,
    collation: Option<QualifiedName>,
    is_not_null: bool,
    name_of_not_null: Option<Ident>,
    default: Option<String>,
    constraints: Option<Vec<DomainConstraint>>,
    fields: Option<Vec<Field>>,
    subtype: Option<String>,
    opclass: Option<QualifiedName>,
    canonical: Option<QualifiedName>,
    difference: Option<QualifiedName>,
    multirange: Option<QualifiedName>,
    comment: Option<String>,
}

#[derive(Deserialize)]
struct TableRow {
    name: QualifiedName,
    is_unlogged: bool,
    partition_key: Option<String>,
    bound: Option<String>,
    parents: Option<Vec<QualifiedName>>,
    of_type: Option<String>,
    options: Option<Vec<String>>,
    toast_options: Option<Vec<String>>,
    access_method: Option<String>,
    replica_identity: String,
    identity_index: Option<Ident>,
    clustered_by: Option<Ident>,
    comment: Option<String>,
    attached: Vec<String>,
}

impl From<TypeRow> for Type {
    fn from(row: TypeRow) -> Self {
        let kind = match row.kind.as_str() {
            "e" => TypeKind::Enum(row.labels.unwrap_or_default()),
            "d" => TypeKind::Domain(Domain {
                base: row.base.unwrap_or_default(),
                collation: row.collation,
                is_not_null: row.is_not_null,
                name_of_not_null: row.name_of_not_null,
                default: row.default,
                constraints: named(row.constraints.unwrap_or_default(), |constraint| constraint.name.clone()),
            }),
            "r" => TypeKind::Range(Range {
                subtype: row.subtype.unwrap_or_default(),
                opclass: row.opclass,
                collation: row.collation,
                canonical: row.canonical,
                difference: row.difference,
                multirange: row.multirange.unwrap_or(row.name),
            }),
            _ => TypeKind::Composite(row.fields.unwrap_or_default()),
        };
        Self { kind, comment: row.comment }
    }
}

impl TableRow {
    fn into_table(self, oid: i64) -> Table {
        let toast = self.toast_options.into_iter().flatten().map(|option| format!("toast.{option}"));
        Table {
            oid,
            is_unlogged: self.is_unlogged,
            partition_key: self.partition_key,
            parents: self.parents.unwrap_or_default(),
            bound: self.bound,
            of_type: self.of_type,
            options: self.options.into_iter().flatten().chain(toast).collect(),
            access_method: self.access_method,
            replica_identity: self.replica_identity,
            identity_index: self.identity_index,
            clustered_by: self.clustered_by,
            comment: self.comment,
            attached: self.attached,
            ..Table::default()
        }
    }
}

/// Assembles a definition from the rows.
fn assemble(rows: &[Row], version: ServerVersion) -> std::result::Result<Definition, Cause> {
    let mut parts = Parts::of(rows)?;
    let mut places = Places::default();
    let definition = Definition {
        version,
        schemas: parts.plain::<SchemaRow>("schema")?.into_iter().map(|row| (row.name, row.comment)).collect(),
        extensions: named(parts.plain("extension")?, |one: &Extension| one.name.clone()),
        collations: read_collations(&mut parts, &mut places)?,
        types: read_types(&mut parts, &mut places)?,
        functions: read_functions(&mut parts, &mut places)?,
        sequences: BTreeMap::new(),
        tables: BTreeMap::new(),
        indexes: read_indexes(&mut parts, &mut places)?,
        statistics: read_statistics(&mut parts, &mut places)?,
        others: parts.plain::<Other>("other")?,
        needs: BTreeMap::new(),
    };
    let definition = with_relations(definition, &mut parts, &mut places)?;
    places.extend(parts.plain::<Place>("place")?);
    let needs = places.needs(parts.plain::<Edge>("edge")?);
    Ok(Definition { needs, ..definition })
}

fn named<K: Ord, T>(values: Vec<T>, name: impl Fn(&T) -> K) -> BTreeMap<K, T> {
    values.into_iter().map(|value| (name(&value), value)).collect()
}

fn read_collations(
    parts: &mut Parts,
    places: &mut Places,
) -> std::result::Result<BTreeMap<QualifiedName, Collation>, Cause> {
    let rows = parts.take::<Collation>("collation")?;
    rows.iter().for_each(|row| places.insert("pg_collation", row.oid, Object::Collation(row.of.name.clone())));
    Ok(rows.into_iter().map(|row| (row.of.name.clone(), row.of)).collect())
}

fn read_types(parts: &mut Parts, places: &mut Places) -> std::result::Result<BTreeMap<QualifiedName, Type>, Cause> {
    let rows = parts.take::<TypeRow>("type")?;
    rows.iter().for_each(|row| places.insert("pg_type", row.oid, Object::Type(row.of.name.clone())));
    Ok(rows.into_iter().map(|row| (row.of.name.clone(), Type::from(row.of))).collect())
}

fn read_functions(parts: &mut Parts, places: &mut Places) -> std::result::Result<BTreeMap<String, Function>, Cause> {
    let rows = parts.take::<Function>("function")?;
    rows.iter().for_each(|row| places.insert("pg_proc", row.oid, Object::Function(row.of.signature.clone())));
    Ok(rows.into_iter().map(|row| (row.of.signature.clone(), row.of)).collect())
}

fn read_indexes(parts: &mut Parts, places: &mut Places) -> std::result::Result<BTreeMap<QualifiedName, Index>, Cause> {
    let rows = parts.take::<Index>("index")?;
    rows.iter().for_each(|row| places.insert("pg_class", row.oid, Object::Index(row.of.name.clone())));
    Ok(rows.into_iter().map(|row| (row.of.name.clone(), row.of)).collect())
}

fn read_statistics(
    parts: &mut Parts,
    places: &mut Places,
) -> std::result::Result<BTreeMap<QualifiedName, Statistics>, Cause> {
    let rows = parts.take::<Statistics>("statistics")?;
    rows.iter().for_each(|row| places.insert("pg_statistic_ext", row.oid, Object::Statistics(row.of.name.clone())));
    Ok(rows.into_iter().map(|row| (row.of.name.clone(), row.of)).collect())
}

/// Adds tables with all of their parts, and sequences.
fn with_relations(
    definition: Definition,
    parts: &mut Parts,
    places: &mut Places,
) -> std::result::Result<Definition, Cause> {
    let mut tables: BTreeMap<i64, (QualifiedName, Table)> = BTreeMap::new();
    for row in parts.take::<TableRow>("table")? {
        places.insert("pg_class", row.oid, Object::Table(row.of.name.clone()));
        tables.insert(row.oid, (row.of.name.clone(), row.of.into_table(row.oid)));
    }
    for row in parts.take::<Column>("column")? {
        if let Some((_, table)) = tables.get_mut(&row.relation) {
            table.columns.push(row.of);
        }
    }
    for row in parts.take::<Constraint>("constraint")? {
        if let Some((name, table)) = tables.get_mut(&row.relation) {
            places.insert("pg_constraint", row.oid, Object::Constraint(name.clone(), row.of.name.clone()));
            table.take(row.of);
        }
    }
    let mut sequences = BTreeMap::new();
    for row in parts.take::<Sequence>("sequence")? {
        if !row.is_identity {
            places.insert("pg_class", row.oid, Object::Sequence(row.of.name.clone()));
            sequences.insert(row.of.name.clone(), row.of);
        } else if let Some((_, table)) = tables.get_mut(&row.relation) {
            table.take_identity(row.of);
        }
    }
    Ok(Definition { tables: tables.into_values().collect(), sequences, ..definition })
}

impl Table {
    /// Adds a constraint; NOT NULL becomes a property of its column.
    fn take(&mut self, constraint: Constraint) {
        if constraint.kind != ConstraintKind::NotNull {
            self.constraints.insert(constraint.name.clone(), constraint);
        } else if let Some(column) = self.columns.iter_mut().find(|column| constraint.columns.contains(&column.name)) {
            column.not_null = Some(constraint);
        }
    }

    /// Adds the sequence of an identity column.
    fn take_identity(&mut self, sequence: Sequence) {
        let owner = sequence.owner.as_ref().map(|(_, column)| column.clone());
        if let Some(column) = self.columns.iter_mut().find(|column| Some(&column.name) == owner.as_ref()) {
            column.sequence = Some(sequence);
        }
    }
}
