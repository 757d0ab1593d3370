// SPDX-License-Identifier: MPL-2.0

//! What a database contains that logical replication does not copy, counted by kind.
//!
//! Objects of an extension come with it, and are not counted separately.
//!
//! Source: the system catalogs, "Restrictions" of the chapter on logical replication in the Postgres documentation, and the
//! documentation of `pg_cron`.

use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::Result;

/// Objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Their kind.
    pub kind: LeftKind,
    /// How many there are.
    pub count: u64,
    /// The names of the first few.
    pub examples: Vec<String>,
}

/// A kind of objects that replication does not copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each has the name of what it is")]
pub enum LeftKind {
    LargeObjects,
    UnloggedTables,
    ForeignTables,
    Views,
    MaterializedViews,
    Functions,
    Types,
    Triggers,
    EventTriggers,
    Policies,
    Rules,
    Sequences,
    Roles,
    Extensions,
    ForeignServers,
    DatabaseSettings,
    DefaultPrivileges,
    CronJobs,
}

/// How many names are shown of each kind.
const EXAMPLES: i32 = 5;

impl LeftKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 18] = [
        Self::LargeObjects,
        Self::UnloggedTables,
        Self::ForeignTables,
        Self::Views,
        Self::MaterializedViews,
        Self::Functions,
        Self::Types,
        Self::Triggers,
        Self::EventTriggers,
        Self::Policies,
        Self::Rules,
        Self::Sequences,
        Self::Roles,
        Self::Extensions,
        Self::ForeignServers,
        Self::DatabaseSettings,
        Self::DefaultPrivileges,
        Self::CronJobs,
    ];

    /// Their name in a sentence, in the plural.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LargeObjects => "large objects",
            Self::UnloggedTables => "unlogged tables",
            Self::ForeignTables => "foreign tables",
            Self::Views => "views",
            Self::MaterializedViews => "materialized views",
            Self::Functions => "functions and procedures",
            Self::Types => "types and domains",
            Self::Triggers => "triggers",
            Self::EventTriggers => "event triggers",
            Self::Policies => "row security policies",
            Self::Rules => "rules",
            Self::Sequences => "sequences",
            Self::Roles => "roles",
            Self::Extensions => "extensions",
            Self::ForeignServers => "foreign servers",
            Self::DatabaseSettings => "settings of the database",
            Self::DefaultPrivileges => "default privileges",
            Self::CronJobs => "jobs of pg_cron",
        }
    }

    /// A query for the names of all objects of the kind.
    fn names(self) -> String {
        match self {
            Self::LargeObjects => "SELECT oid::text FROM pg_largeobject_metadata".to_owned(),
            Self::UnloggedTables => relations("c.relkind IN ('r', 'p') AND c.relpersistence = 'u'"),
            Self::ForeignTables => relations("c.relkind = 'f'"),
            Self::Views => relations("c.relkind = 'v'"),
            Self::MaterializedViews => relations("c.relkind = 'm'"),
            Self::Sequences => relations("c.relkind = 'S' AND c.relpersistence <> 't'"),
            Self::Functions => of_schema("pg_proc", "proname", "pronamespace", "true"),
            Self::Types => of_schema("pg_type", "typname", "typnamespace", "o.typtype IN ('e', 'd', 'r') OR o.typtype = 'c' AND \
                EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c')"),
            Self::Triggers => format!(
                "SELECT concat(g.tgname, ' on ', n.nspname, '.', c.relname) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND {USER_SCHEMA}"
            ),
            Self::EventTriggers => format!("SELECT o.evtname::text FROM pg_event_trigger o WHERE {}", own("pg_event_trigger")),
            Self::Policies => format!(
                "SELECT concat(p.polname, ' on ', n.nspname, '.', c.relname) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_SCHEMA}"
            ),
            Self::Rules => format!(
                "SELECT concat(r.rulename, ' on ', n.nspname, '.', c.relname) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.rulename <> '_RETURN' AND {USER_SCHEMA}"
            ),
            Self::Roles => "SELECT rolname::text FROM pg_roles WHERE oid >= 16384 AND rolname !~ '^(pg_|rds|neon_|cloud_admin)'".to_owned(),
            Self::Extensions => "SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql'".to_owned(),
            Self::ForeignServers => format!("SELECT o.srvname::text FROM pg_foreign_server o WHERE {}", own("pg_foreign_server")),
            Self::DatabaseSettings => "SELECT c.text FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c (text) \
                WHERE s.setrole = 0 AND s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())".to_owned(),
            Self::DefaultPrivileges => "SELECT concat_ws(' in ', pg_get_userbyid(d.defaclrole), n.nspname) FROM pg_default_acl d \
                LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace WHERE d.oid >= 16384".to_owned(),
            Self::CronJobs => "SELECT jobname::text FROM cron.job WHERE database = current_database()".to_owned(),
        }
    }
}

/// Whether schema `n` is a user's own.
const USER_SCHEMA: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// A condition: object `o` of this catalog belongs to no extension.
fn own(catalog: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = '{catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e')"
    )
}

fn relations(which: &str) -> String {
    format!(
        "SELECT concat(n.nspname, '.', c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ({which}) \
         AND {USER_SCHEMA} AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
         AND d.deptype = 'e')"
    )
}

fn of_schema(catalog: &str, name: &str, schema: &str, which: &str) -> String {
    format!(
        "SELECT concat(n.nspname, '.', o.{name}) FROM {catalog} o JOIN pg_namespace n ON n.oid = o.{schema} WHERE ({which}) \
         AND {USER_SCHEMA} AND {}",
        own(catalog)
    )
}

/// The objects of each kind in the database; empty kinds are omitted.
///
/// # Errors
/// When a query fails.
pub async fn left_behind(db: &Database) -> Result<Vec<LeftBehind>> {
    let doing = "counting what replication does not bring";
    let kinds = LeftKind::ALL.iter().filter(|kind| **kind != LeftKind::CronJobs);
    count_kinds(db, doing, kinds.copied()).await
}

/// The jobs of `pg_cron` for the database; none if the extension is not in the database, or the role may not see
/// its jobs.
///
/// # Errors
/// When a query fails.
pub async fn cron_jobs(db: &Database) -> Result<Vec<LeftBehind>> {
    let doing = "counting the jobs of pg_cron";
    let sql = "SELECT coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'cron' AND c.relname = 'job'";
    let readable = db.query_all(doing, sql, &[], |row| row.try_get::<_, bool>(0)).await?;
    if readable.first() != Some(&true) {
        return Ok(Vec::new());
    }
    count_kinds(db, doing, [LeftKind::CronJobs]).await
}

/// Counts these kinds in one query.
async fn count_kinds(db: &Database, doing: &str, kinds: impl IntoIterator<Item = LeftKind>) -> Result<Vec<LeftBehind>> {
    let kinds: Vec<_> = kinds.into_iter().collect();
    let parts = kinds.iter().enumerate().map(|(at, kind)| {
        format!(
            "SELECT {at} AS kind, count(*) AS count, (array_agg(w.name ORDER BY w.name))[1:$1] AS examples FROM ({}) AS w (name)",
            kind.names()
        )
    });
    let sql = format!("{} ORDER BY 1", parts.collect::<Vec<_>>().join(" UNION ALL "));
    let counted = db
        .query_all(doing, &sql, &[(&EXAMPLES, Type::INT4)], |row| {
            let (at, count): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((at, count, row.try_get::<_, Option<Vec<String>>>(2)?.unwrap_or_default()))
        })
        .await?;
    let found = counted.into_iter().filter_map(|(at, count, examples)| {
        let kind = *kinds.get(usize::try_from(at).ok()?)?;
        let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
        Some(LeftBehind { kind, count, examples })
    });
    Ok(found.collect())
}
