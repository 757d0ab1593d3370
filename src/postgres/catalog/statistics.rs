// SPDX-License-Identifier: MPL-2.0

//! Whether the server has good enough statistics to plan queries on tables.
//!
//! Source: the view `pg_stats`, the catalog `pg_class` and the functions of the cumulative statistics in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::wanted::Wanted;
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{QualifiedName, Statement, list};

/// Why plans for a table may be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unanalyzed {
    /// It, or a partition of it, has more than a few rows but no statistics.
    Never,
    /// So many rows have been inserted, updated or deleted since it was analyzed: more than half of its rows.
    Since(u64),
}

/// The tables that have rows but no good statistics. A partitioned table is included if one of its partitions is, or if
/// it has no statistics of its own: the server never collects these by itself. If the role may not see a table's
/// statistics, the table is included only if neither ANALYZE nor VACUUM has ever run on it.
///
/// # Errors
/// When a query fails.
pub async fn unanalyzed(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
) -> Result<BTreeMap<QualifiedName, Unanalyzed>> {
    let wanted = Wanted::of(tables);
    let params = wanted.params();
    let read = |row: &tokio_postgres::Row| {
        let name = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
        let (is_missing, since): (bool, i64) = (row.try_get(2)?, row.try_get(3)?);
        let since = Unanalyzed::Since(u64::try_from(since).unwrap_or_default());
        Ok((name, if is_missing { Unanalyzed::Never } else { since }))
    };
    let found = db.query_all("reading what is known of the rows of tables", UNANALYZED, &params, read).await?;
    Ok(found.into_iter().collect())
}

/// The statement that analyzes the tables.
pub fn analyze<'a>(tables: impl IntoIterator<Item = &'a QualifiedName>) -> Statement {
    Statement::new(format!("ANALYZE {}", list(tables)))
}

/// `reltuples` is -1 before the first VACUUM or ANALYZE, and VACUUM alone leaves no row in `pg_stats`. For a locked
/// table, for which `pg_relation_size` would wait, the previous size is used. Up to 50 rows, which no server analyzes
/// by itself, do not matter. A crashed server may have lost the number of rows; then the size decides. A few changed
/// rows do not matter.
const UNANALYZED: &str = "WITH locked AS MATERIALIZED (SELECT k.relation FROM pg_locks k WHERE k.locktype = 'relation' \
       AND k.mode = 'AccessExclusiveLock'), \
     member AS (SELECT w.s, w.t, l.oid, l.relkind, l.reltuples, l.relname, l.relnamespace, \
         pg_stat_get_mod_since_analyze(l.oid) AS changed, greatest(pg_stat_get_live_tuples(l.oid), l.reltuples::float8) AS live, \
         CASE WHEN l.relkind = 'p' THEN NULL WHEN l.oid IN (SELECT relation FROM locked) THEN l.relpages::bigint * 8192 \
           ELSE pg_relation_size(l.oid) END AS bytes \
       FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
       JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t JOIN pg_class l ON l.relkind IN ('r', 'p') \
         AND l.oid IN (SELECT c.oid UNION ALL SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p')), \
     known AS (SELECT m.*, coalesce(m.bytes > 0 AND (m.live > 50 OR m.reltuples < 0 AND m.live = 0 AND m.bytes > 65536), false) AS has_rows, \
         CASE WHEN has_table_privilege(m.oid, 'SELECT') AND NOT row_security_active(m.oid) \
           THEN NOT EXISTS (SELECT 1 FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname WHERE n.oid = m.relnamespace \
               AND s.tablename = m.relname AND s.inherited = (m.relkind = 'p')) \
             AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped \
               AND a.attgenerated <> 'v' AND coalesce(a.attstattarget, -1) <> 0) \
           ELSE m.reltuples < 0 END AS lacks FROM member m), \
     found AS (SELECT k.s, k.t, bool_or(k.has_rows) AND (bool_or(k.lacks AND k.has_rows) OR bool_or(k.lacks AND k.relkind = 'p')) AS never, \
         coalesce(sum(k.changed) FILTER (WHERE k.relkind = 'r'), 0)::bigint AS changed, \
         coalesce(sum(k.live) FILTER (WHERE k.relkind = 'r'), 0) AS live FROM known k GROUP BY k.s, k.t) \
     SELECT f.s, f.t, f.never, f.changed FROM found f WHERE f.never OR f.changed > greatest(1000, f.live / 2) ORDER BY 1, 2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_analyzes_all_of_them() {
        let tables = ["orders", "\"S\".t"].map(|name| QualifiedName::parse(name).unwrap());
        assert_eq!(analyze(&tables).text(), "ANALYZE \"public\".\"orders\", \"S\".\"t\"");
    }
}
