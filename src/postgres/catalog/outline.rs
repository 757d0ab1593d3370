// SPDX-License-Identifier: MPL-2.0

//! All relations of a database, read together: what each is, what identifies its rows, and its partition tree.
//!
//! Source: the catalogs `pg_class`, `pg_index`, `pg_attribute`, `pg_inherits` and `ALTER TABLE … REPLICA IDENTITY` in
//! the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};

/// The relations of one database, and the settings of its server that matter for publishing them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Tables, views, sequences and other relations that could be mistaken for tables, except in system schemas.
    pub relations: BTreeMap<QualifiedName, Relation>,
    /// The leaf partitions at any depth, by partitioned table.
    pub partitions: BTreeMap<QualifiedName, Vec<QualifiedName>>,
    /// The schemas, including system schemas.
    pub schemas: BTreeSet<Ident>,
    /// `wal_level`: `minimal`, `replica` or `logical`.
    pub wal_level: String,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its kind.
    pub kind: Kind,
    /// Whether it is unlogged.
    pub is_unlogged: bool,
    /// Its `REPLICA IDENTITY` setting.
    pub replica_identity: ReplicaIdentity,
    /// Whether it has a primary key.
    pub has_primary_key: bool,
    /// What identifies its old rows, as follows from that setting and its keys.
    pub identity: Identity,
    /// The stored generated columns of the identity.
    pub stored_generated: BTreeSet<Ident>,
    /// The virtual generated columns of the identity (Postgres 18).
    pub virtual_generated: BTreeSet<Ident>,
    /// The partitioned tables above it, from its parent to the root.
    pub ancestors: Vec<QualifiedName>,
}

/// The kind of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table with rows of its own.
    Table,
    /// A partitioned table, whose rows are in its partitions.
    Partitioned,
    /// Something that cannot be published, in words: "a view".
    Other(&'static str),
}

/// What identifies an old row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// There is none.
    Missing,
    /// The whole row.
    Full,
    /// These columns, of the primary key or of another index.
    Columns(BTreeSet<Ident>),
}

impl Outline {
    /// Adds a relation, as a partition of its ancestors too.
    pub fn insert(&mut self, name: QualifiedName, relation: Relation) {
        if relation.kind == Kind::Table {
            for ancestor in &relation.ancestors {
                self.partitions.entry(ancestor.clone()).or_default().push(name.clone());
            }
        }
        self.relations.insert(name, relation);
    }
}

/// The kind of tables in system schemas, which no query reads.
pub(in crate::postgres) const SYSTEM_TABLE: Kind = Kind::Other("a system table");

/// Whether a schema is the server's own.
pub fn is_system_schema(schema: &Ident) -> bool {
    let name = schema.as_str();
    name == "pg_catalog" || name == "pg_toast" || name.starts_with("pg_temp_") || name.starts_with("pg_toast_temp_")
}

/// `REPLICA IDENTITY` of a table: what identifies the old row of an update or a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// A unique index.
    Index,
    /// Every column.
    Full,
    /// Nothing.
    Nothing,
}

impl ReplicaIdentity {
    /// Its keyword in `ALTER TABLE … REPLICA IDENTITY`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Index => "index",
            Self::Full => "full",
            Self::Nothing => "nothing",
        }
    }

    pub(in crate::postgres) fn from_catalog(code: &str) -> Self {
        match code {
            "i" => Self::Index,
            "f" => Self::Full,
            "n" => Self::Nothing,
            _ => Self::Default,
        }
    }
}

/// All relations of the database, from a snapshot that is at most two seconds old.
///
/// Unlike other snapshots, changes of this process do not invalidate it: no such change affects a relation, and an
/// apply plans each object again, so it would read the whole catalog for each.
pub async fn outline(db: &Database) -> Result<Arc<Outline>> {
    db.snapshot::<Outline>().get(|| 0, load(db)).await
}

/// One row for each relation, or for a schema without any. A deferrable or invalid index cannot identify rows.
const QUERY: &str = "SELECT current_setting('wal_level'), n.nspname, c.relname, c.relkind::text, c.relpersistence::text, \
     c.oid < 16384, c.relreplident::text, i.indexrelid IS NOT NULL, k.names, k.stored, k.virtual, \
     u.schemas, u.names, EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary) \
     FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
       AND n.nspname NOT IN ('pg_catalog', 'pg_toast') \
     LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
       AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident) \
     LEFT JOIN LATERAL (SELECT array_agg(a.attname::text) AS names, \
       array_agg(a.attname::text) FILTER (WHERE a.attgenerated = 's') AS stored, \
       array_agg(a.attname::text) FILTER (WHERE a.attgenerated = 'v') AS virtual FROM pg_attribute a \
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') \
       AND (c.relreplident = 'f' OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))) k ON true \
     LEFT JOIN LATERAL (SELECT array_agg(pn.nspname::text ORDER BY a.place) AS schemas, \
       array_agg(p.relname::text ORDER BY a.place) AS names \
       FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (relid, place) JOIN pg_class p ON p.oid = a.relid \
       JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE c.relispartition AND p.oid <> c.oid) u ON true";

async fn load(db: &Database) -> Result<Outline> {
    let doing = "reading the tables";
    let rows = db.query(doing, QUERY, &[]).await?;
    read_rows(&rows).map_err(|error| db.error(doing, Cause::Statement(error)))
}

fn read_rows(rows: &[Row]) -> std::result::Result<Outline, tokio_postgres::Error> {
    let mut found = Outline::default();
    for row in rows {
        if found.wal_level.is_empty() {
            found.wal_level = row.try_get(0)?;
        }
        let schema: &str = row.try_get(1)?;
        found.schemas.insert(Ident::from_catalog(schema));
        if let Some(name) = row.try_get::<_, Option<&str>>(2)? {
            found.insert(QualifiedName::from_catalog(schema, name), read_relation(row)?);
        }
    }
    Ok(found)
}

fn read_relation(row: &Row) -> std::result::Result<Relation, tokio_postgres::Error> {
    let columns = |at: usize| -> std::result::Result<BTreeSet<Ident>, tokio_postgres::Error> {
        let names: Option<Vec<&str>> = row.try_get(at)?;
        Ok(names.into_iter().flatten().map(Ident::from_catalog).collect())
    };
    let has_index: bool = row.try_get(7)?;
    let replica_identity = ReplicaIdentity::from_catalog(row.try_get(6)?);
    let identity = match replica_identity {
        ReplicaIdentity::Full => Identity::Full,
        _ if has_index => Identity::Columns(columns(8)?),
        _ => Identity::Missing,
    };
    let schemas: Option<Vec<&str>> = row.try_get(11)?;
    let names: Option<Vec<&str>> = row.try_get(12)?;
    let ancestors = schemas.into_iter().flatten().zip(names.into_iter().flatten());
    Ok(Relation {
        kind: kind(row.try_get(3)?, row.try_get(4)?, row.try_get(5)?),
        is_unlogged: row.try_get::<_, &str>(4)? == "u",
        replica_identity,
        has_primary_key: row.try_get(13)?,
        identity,
        stored_generated: columns(9)?,
        virtual_generated: columns(10)?,
        ancestors: ancestors.map(|(schema, name)| QualifiedName::from_catalog(schema, name)).collect(),
    })
}

/// The kind that follows from `relkind` and `relpersistence`.
fn kind(kind: &str, persistence: &str, system: bool) -> Kind {
    match (kind, persistence) {
        ("v", _) => Kind::Other("a view"),
        ("m", _) => Kind::Other("a materialized view"),
        ("f", _) => Kind::Other("a foreign table"),
        ("S", _) => Kind::Other("a sequence"),
        (_, "u") => Kind::Other("an unlogged table"),
        (_, "t") => Kind::Other("a temporary table"),
        _ if system => SYSTEM_TABLE,
        ("p", _) => Kind::Partitioned,
        _ => Kind::Table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_published_has_a_name() {
        assert_eq!(kind("r", "p", false), Kind::Table);
        assert_eq!(kind("p", "p", false), Kind::Partitioned);
        assert_eq!(kind("v", "p", false), Kind::Other("a view"));
        assert_eq!(kind("r", "u", false), Kind::Other("an unlogged table"));
        assert_eq!(kind("S", "u", false), Kind::Other("a sequence"));
        assert_eq!(kind("r", "p", true), SYSTEM_TABLE);
    }

    #[test]
    fn replica_identities_have_the_names_of_their_statement() {
        let names = ["d", "i", "f", "n"].map(|code| ReplicaIdentity::from_catalog(code).as_str());
        assert_eq!(names, ["default", "index", "full", "nothing"]);
    }

    #[test]
    fn the_schemas_of_the_server_are_known() {
        let is_system = |name: &str| is_system_schema(&Ident::new(name).unwrap());
        assert!(is_system("pg_catalog") && is_system("pg_toast") && is_system("pg_temp_3"));
        assert!(!is_system("public") && !is_system("pg_tempting"));
    }
}
