// SPDX-License-Identifier: MPL-2.0

//! The rows that prevent an index or a foreign key from being created.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::limits::Limits;
use crate::postgres::sql::{Ident, QualifiedName, list};

/// How many keys are shown.
const SHOWN: usize = 5;

/// How long to look for them: the table may be of any size, and the server has named one already.
const TIME: Duration = Duration::from_secs(60);

/// Rows that prevent the creation of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations {
    /// The query that finds all of them.
    pub query: String,
    /// The first of their keys, as rows of text: `(7,x)`.
    pub keys: Vec<String>,
    /// Whether there are more.
    pub has_more: bool,
}

/// The keys that several rows have, so that a unique index could not be built. None if the index does not exist.
///
/// # Errors
/// When a query fails.
pub async fn duplicates(db: &Database, index: &QualifiedName) -> Result<Option<Violations>> {
    let sql = "SELECT tn.nspname::text, t.relname::text, pg_get_expr(x.indpred, x.indrelid), \
         coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::bool, false), \
         ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, false) FROM generate_series(1, x.indnkeyatts) k ORDER BY k) \
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid JOIN pg_index x ON x.indexrelid = c.oid \
         JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2";
    let params = [(&index.schema.as_str() as _, Type::TEXT), (&index.name.as_str() as _, Type::TEXT)];
    let read = |row: &Row| {
        let table = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
        let (condition, nulls): (Option<String>, bool) = (row.try_get(2)?, row.try_get(3)?);
        Ok(duplicates_query(&table, condition.as_deref(), nulls, &row.try_get::<_, Vec<String>>(4)?))
    };
    match db.query_all("reading the keys of an index", sql, &params, read).await?.pop() {
        Some((query, keys)) => Ok(Some(found(db, query, &keys).await)),
        None => Ok(None),
    }
}

/// The query, and the keys that it groups by.
fn duplicates_query(
    table: &QualifiedName,
    condition: Option<&str>,
    nulls_are_equal: bool,
    keys: &[String],
) -> (String, String) {
    let nulls = keys.iter().filter(|_| !nulls_are_equal).map(|key| format!("{key} IS NOT NULL"));
    let conditions: Vec<_> = condition.map(str::to_owned).into_iter().chain(nulls).collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let keys = list(keys);
    (format!("SELECT {keys}, count(*) FROM {table}{filter} GROUP BY {keys} HAVING count(*) > 1"), keys)
}

/// The keys by which rows reference a missing row. None if the foreign key does not exist, or is temporal.
///
/// # Errors
/// When a query fails.
pub async fn orphans(db: &Database, table: &QualifiedName, key: &Ident) -> Result<Option<Violations>> {
    let sql = "SELECT rn.nspname::text, r.relname::text, \
         ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY AS k (number, place) \
           JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.number ORDER BY k.place), \
         ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY AS k (number, place) \
           JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.number ORDER BY k.place) \
         FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_class r ON r.oid = o.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND o.conname = $3 AND o.contype = 'f' \
         AND NOT coalesce((to_jsonb(o) ->> 'conperiod')::bool, false)";
    let params = [
        (&table.schema.as_str() as _, Type::TEXT),
        (&table.name.as_str() as _, Type::TEXT),
        (&key.as_str() as _, Type::TEXT),
    ];
    let read = |row: &Row| {
        let references = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
        Ok(orphans_query(table, &row.try_get::<_, Vec<&str>>(2)?, &references, &row.try_get::<_, Vec<&str>>(3)?))
    };
    match db.query_all("reading the columns of a foreign key", sql, &params, read).await?.pop() {
        Some((query, keys)) => Ok(Some(found(db, query, &keys).await)),
        None => Ok(None),
    }
}

fn orphans_query(
    table: &QualifiedName,
    columns: &[&str],
    references: &QualifiedName,
    referenced: &[&str],
) -> (String, String) {
    let column = |of: &str, name: &str| format!("{of}.{}", Ident::from_catalog(name));
    let keys = list(columns.iter().map(|name| column("c", name)));
    let nulls = columns.iter().map(|name| format!("{} IS NOT NULL", column("c", name)));
    let equal =
        columns.iter().zip(referenced).map(|(one, other)| format!("{} = {}", column("p", other), column("c", one)));
    let (nulls, equal) = (nulls.collect::<Vec<_>>().join(" AND "), equal.collect::<Vec<_>>().join(" AND "));
    let missing = format!("NOT EXISTS (SELECT 1 FROM {references} p WHERE {equal})");
    (format!("SELECT {keys}, count(*) FROM {table} c WHERE {nulls} AND {missing} GROUP BY {keys}"), keys)
}

/// Reads the first keys. None are shown if that takes too long, or the role may not read the table.
async fn found(db: &Database, query: String, keys: &str) -> Violations {
    let of_text = query.replacen(&format!("SELECT {keys}, count(*)"), &format!("SELECT ROW({keys})::text"), 1);
    let sql = format!("{of_text} LIMIT {}", SHOWN + 1);
    let db = db.within(&Limits::within(TIME));
    let found = db.query_all("looking for rows that stand in the way", &sql, &[], |row| row.try_get::<_, String>(0));
    let mut keys = found.await.unwrap_or_else(|cause| {
        tracing::info!(%cause, "the rows that stand in the way could not be listed");
        Vec::new()
    });
    let has_more = keys.len() > SHOWN;
    keys.truncate(SHOWN);
    Violations { query, keys, has_more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> QualifiedName {
        QualifiedName::parse(name).unwrap()
    }

    #[test]
    fn a_person_can_ask_for_all_of_them() {
        let keys = ["lower(email)".to_owned(), "\"Tenant\"".to_owned()];
        let (query, _) = duplicates_query(&table("app.users"), Some("(NOT gone)"), false, &keys);
        assert_eq!(
            query,
            "SELECT lower(email), \"Tenant\", count(*) FROM \"app\".\"users\" WHERE (NOT gone) AND lower(email) IS NOT NULL AND \
             \"Tenant\" IS NOT NULL GROUP BY lower(email), \"Tenant\" HAVING count(*) > 1"
        );
        let (query, _) = duplicates_query(&table("app.users"), None, true, &keys[1..]);
        assert_eq!(query, "SELECT \"Tenant\", count(*) FROM \"app\".\"users\" GROUP BY \"Tenant\" HAVING count(*) > 1");
        let (query, _) = orphans_query(&table("app.orders"), &["user", "t"], &table("app.users"), &["id", "t"]);
        assert_eq!(
            query,
            "SELECT c.\"user\", c.\"t\", count(*) FROM \"app\".\"orders\" c WHERE c.\"user\" IS NOT NULL AND c.\"t\" IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM \"app\".\"users\" p WHERE p.\"id\" = c.\"user\" AND p.\"t\" = c.\"t\") \
             GROUP BY c.\"user\", c.\"t\""
        );
    }
}
