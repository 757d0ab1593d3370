//! Publications: the value, how it is read, and the statements between two of them.
//!
//! Source: `CREATE PUBLICATION`, `ALTER PUBLICATION` and the catalogs `pg_publication*` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::connection::{Database, Limits};
use super::error::{Cause, Result};
pub use super::filter::{InvalidFilter, RowFilter};
use super::session::Notice;
use super::sql::{Ident, Literal, QualifiedName, Statement, list};
use super::version::{self, ServerVersion, Unsupported};

/// All publications of one database, by name.
pub type Publications = BTreeMap<Ident, Publication>;

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: Ident,
    /// Its owner. Always known when read; absent in a desired value means: whoever it is.
    pub owner: Option<Ident>,
    /// What it publishes.
    pub target: Target,
    /// Which operations it publishes; none is possible.
    pub publish: BTreeSet<Operation>,
    /// Whether changes of partitions are published as those of the partitioned table.
    pub via_partition_root: bool,
    /// Whether stored generated columns are published (Postgres 18; before, they never are).
    pub generated_columns: GeneratedColumns,
}

/// What a publication publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every table of the database, future ones included.
    AllTables,
    /// These tables and the tables of these schemas; both may be empty.
    Lists {
        /// Tables, each with what is published of it.
        tables: BTreeMap<QualifiedName, TableSpec>,
        /// Schemas (Postgres 15).
        schemas: BTreeSet<Ident>,
    },
}

impl Target {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::Lists {
            tables: BTreeMap::new(),
            schemas: BTreeSet::new(),
        }
    }

    /// Whole tables.
    pub fn tables(tables: impl IntoIterator<Item = QualifiedName>) -> Self {
        Self::Lists {
            tables: tables
                .into_iter()
                .map(|table| (table, TableSpec::default()))
                .collect(),
            schemas: BTreeSet::new(),
        }
    }
}

/// What is published of one table; everything by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSpec {
    /// Only these columns (Postgres 15). Postgres does not keep their order.
    pub columns: Option<BTreeSet<Ident>>,
    /// Only the rows for which this is true (Postgres 15).
    pub filter: Option<RowFilter>,
}

/// An operation that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl Operation {
    /// Every operation, which is also the server's default.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// Its name in `publish`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// The operation of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == name)
    }
}

/// Whether generated columns are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GeneratedColumns {
    /// They are not.
    #[default]
    None,
    /// Stored ones are.
    Stored,
}

impl GeneratedColumns {
    /// Its name in `publish_generated_columns`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stored => "stored",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Stored]
            .into_iter()
            .find(|choice| choice.as_str() == name)
    }
}

impl Publication {
    /// A publication of `target` with the server's defaults for everything else.
    pub fn new(name: Ident, target: Target) -> Self {
        Self {
            name,
            owner: None,
            target,
            publish: BTreeSet::from(Operation::ALL),
            via_partition_root: false,
            generated_columns: GeneratedColumns::None,
        }
    }

    /// A hash of what is published: equal for equal content, whatever the name and the owner. 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut text = format!(
            "publish={:?}\nroot={}\ngenerated={:?}\n",
            self.publish, self.via_partition_root, self.generated_columns
        );
        match &self.target {
            Target::AllTables => text.push_str("all tables\n"),
            Target::Lists { tables, schemas } => {
                tables
                    .iter()
                    .for_each(|(table, spec)| push_line(&mut text, &member(table, spec)));
                schemas
                    .iter()
                    .for_each(|schema| push_line(&mut text, &format!("schema {schema}")));
            }
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        digest
            .as_ref()
            .iter()
            .fold(String::with_capacity(64), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }

    /// Fails, naming the attribute, where the server's version lacks something that this asks for.
    pub fn check_supported(&self, version: ServerVersion) -> std::result::Result<(), Unsupported> {
        if let Target::Lists { tables, schemas } = &self.target {
            if tables.values().any(|spec| spec.columns.is_some()) {
                version.require(version::COLUMN_LISTS)?;
            }
            if tables.values().any(|spec| spec.filter.is_some()) {
                version.require(version::ROW_FILTERS)?;
            }
            if !schemas.is_empty() {
                version.require(version::SCHEMAS)?;
            }
        }
        match self.generated_columns {
            GeneratedColumns::None => Ok(()),
            GeneratedColumns::Stored => version.require(version::PUBLISH_GENERATED_COLUMNS),
        }
    }
}

fn push_line(text: &mut String, line: &str) {
    // The length makes the text unambiguous, whatever a name holds.
    let _ = writeln!(text, "{} {line}", line.len());
}

/// The statements that turn `current` into `desired`; none when they are equal. Absent is: does not exist.
///
/// Everything runs in one transaction. Fails where the server's version lacks something that `desired` asks for.
pub fn diff(
    current: Option<&Publication>,
    desired: Option<&Publication>,
    version: ServerVersion,
) -> std::result::Result<Vec<Statement>, Unsupported> {
    match (current, desired) {
        (None, None) => Ok(Vec::new()),
        (Some(current), None) => Ok(vec![drop_publication(&current.name)]),
        (None, Some(desired)) => {
            desired.check_supported(version)?;
            let owner = desired
                .owner
                .as_ref()
                .map(|owner| change_owner(&desired.name, owner));
            Ok([create(desired)].into_iter().chain(owner).collect())
        }
        (Some(current), Some(desired)) => {
            desired.check_supported(version)?;
            Ok(alter(current, desired))
        }
    }
}

/// The statement that drops a publication.
pub fn drop_publication(name: &Ident) -> Statement {
    Statement::new(format!("DROP PUBLICATION {name}"))
}

fn change_owner(name: &Ident, owner: &Ident) -> Statement {
    Statement::new(format!("ALTER PUBLICATION {name} OWNER TO {owner}"))
}

fn create(desired: &Publication) -> Statement {
    let mut text = format!("CREATE PUBLICATION {}", desired.name);
    match &desired.target {
        Target::AllTables => text.push_str(" FOR ALL TABLES"),
        Target::Lists { tables, schemas } => {
            let members = members(tables.iter(), schemas.iter());
            if !members.is_empty() {
                text.push_str(" FOR ");
                text.push_str(&members);
            }
        }
    }
    let defaults = Publication::new(desired.name.clone(), Target::none());
    let options = changed_options(&defaults, desired);
    if !options.is_empty() {
        let _ = write!(text, " WITH ({})", list(options));
    }
    Statement::new(text)
}

fn alter(current: &Publication, desired: &Publication) -> Vec<Statement> {
    if (current.target == Target::AllTables) != (desired.target == Target::AllTables) {
        return replace(current, desired);
    }
    let name = &desired.name;
    let mut statements = Vec::new();
    if current.name != *name {
        statements.push(Statement::new(format!(
            "ALTER PUBLICATION {} RENAME TO {name}",
            current.name
        )));
    }
    let options = changed_options(current, desired);
    let set_options = (!options.is_empty())
        .then(|| Statement::new(format!("ALTER PUBLICATION {name} SET ({})", list(options))));
    let set_members = change_members(current, desired);
    // Filters and column lists of partitioned tables need publish_via_partition_root while they are there.
    if desired.via_partition_root {
        statements.extend(set_options.into_iter().chain(set_members));
    } else {
        statements.extend(set_members.into_iter().chain(set_options));
    }
    if let Some(owner) = desired
        .owner
        .as_ref()
        .filter(|owner| current.owner.as_ref() != Some(owner))
    {
        statements.push(change_owner(name, owner));
    }
    statements
}

/// Postgres cannot turn a list into all tables, or back. In one transaction, no subscription sees the gap.
fn replace(current: &Publication, desired: &Publication) -> Vec<Statement> {
    let owner = desired.owner.as_ref().or(current.owner.as_ref());
    let owner = owner.map(|owner| change_owner(&desired.name, owner));
    [drop_publication(&current.name), create(desired)]
        .into_iter()
        .chain(owner)
        .collect()
}

/// The options whose values differ, as `SET (…)` and `WITH (…)` take them.
fn changed_options(current: &Publication, desired: &Publication) -> Vec<String> {
    let mut options = Vec::new();
    if current.publish != desired.publish {
        let operations = list(desired.publish.iter().map(|operation| operation.as_str()));
        options.push(format!("publish = {}", Literal(&operations)));
    }
    if current.via_partition_root != desired.via_partition_root {
        options.push(format!(
            "publish_via_partition_root = {}",
            desired.via_partition_root
        ));
    }
    if current.generated_columns != desired.generated_columns {
        options.push(format!(
            "publish_generated_columns = {}",
            desired.generated_columns.as_str()
        ));
    }
    options
}

/// `ADD`, `DROP` or `SET` of tables and schemas: as few statements, and as few members in them, as possible.
fn change_members(current: &Publication, desired: &Publication) -> Vec<Statement> {
    let (
        Target::Lists {
            tables: old,
            schemas: old_schemas,
        },
        Target::Lists {
            tables: new,
            schemas: new_schemas,
        },
    ) = (&current.target, &desired.target)
    else {
        return Vec::new();
    };
    let name = &desired.name;
    let statement = |verb: &str, members: String| {
        Statement::new(format!("ALTER PUBLICATION {name} {verb} {members}"))
    };
    let gone = |table: &QualifiedName, spec: &TableSpec| new.get(table) != Some(spec);
    let dropped: Vec<_> = old
        .iter()
        .filter(|(table, spec)| gone(table, spec))
        .map(|(table, _)| table)
        .collect();
    let added: Vec<_> = new
        .iter()
        .filter(|(table, spec)| old.get(table) != Some(spec))
        .collect();
    let dropped_schemas: Vec<_> = old_schemas.difference(new_schemas).collect();
    let added_schemas: Vec<_> = new_schemas.difference(old_schemas).collect();
    let drops = !(dropped.is_empty() && dropped_schemas.is_empty());
    let adds = !(added.is_empty() && added_schemas.is_empty());
    // SET with a schema needs a superuser, even if the schema stays: leave it out of it.
    let only_tables =
        dropped_schemas.is_empty() && added_schemas.is_empty() && !new_schemas.is_empty();
    if drops && adds && !only_tables {
        return vec![statement("SET", members(new.iter(), new_schemas.iter()))];
    }
    let whole = TableSpec::default();
    let drop = drops.then(|| {
        statement(
            "DROP",
            members(
                dropped.into_iter().map(|table| (table, &whole)),
                dropped_schemas.into_iter(),
            ),
        )
    });
    let add = adds.then(|| statement("ADD", members(added.into_iter(), added_schemas.into_iter())));
    drop.into_iter().chain(add).collect()
}

/// `TABLE ONLY a, ONLY b, TABLES IN SCHEMA c, d`.
fn members<'a>(
    tables: impl Iterator<Item = (&'a QualifiedName, &'a TableSpec)>,
    schemas: impl Iterator<Item = &'a Ident>,
) -> String {
    let (tables, schemas) = (
        list(tables.map(|(table, spec)| member(table, spec))),
        list(schemas),
    );
    let tables = (!tables.is_empty()).then(|| format!("TABLE {tables}"));
    let schemas = (!schemas.is_empty()).then(|| format!("TABLES IN SCHEMA {schemas}"));
    list(tables.into_iter().chain(schemas))
}

/// One table. `ONLY`, because Postgres would add the children of an inheritance parent as members of their own;
/// the partitions of a partitioned table are published with or without it.
fn member(table: &QualifiedName, spec: &TableSpec) -> String {
    let mut text = format!("ONLY {table}");
    if let Some(columns) = &spec.columns {
        let _ = write!(text, " ({})", list(columns));
    }
    if let Some(filter) = &spec.filter {
        let _ = write!(text, " WHERE {}", filter.enclosed());
    }
    text
}

/// Every publication of the database, from a snapshot that is at most two seconds old.
pub async fn fetch_all(db: &Database) -> Result<Arc<Publications>> {
    db.publications()
        .get(|| db.changes(), load(db, "reading the publications", None))
        .await
}

/// One publication, from the same snapshot.
pub async fn fetch(db: &Database, name: &Ident) -> Result<Option<Publication>> {
    Ok(fetch_all(db).await?.get(name).cloned())
}

/// One publication as it is now, by a query of its own: for the moments before and after a change.
pub async fn fetch_now(db: &Database, name: &Ident) -> Result<Option<Publication>> {
    let doing = format!("reading publication {name}");
    Ok(load(db, &doing, Some(name)).await?.remove(name))
}

async fn load(db: &Database, doing: &str, name: Option<&Ident>) -> Result<Publications> {
    let name = name.map(Ident::as_str);
    let rows = db
        .query(doing, &query(db.version().await?), &[(&name, Type::TEXT)])
        .await?;
    read_rows(&rows).map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// Runs statements that make or alter a publication, and reads it back in the same round trip.
///
/// `name` is the one that it has afterwards. Statements as of [`diff`].
pub async fn apply(
    db: &Database,
    doing: &str,
    statements: &[Statement],
    name: &Ident,
    limits: &Limits,
) -> Result<(Vec<Notice>, Option<Publication>)> {
    let sql = query(db.version().await?);
    let bound = Some(name.as_str());
    let (notices, rows) = db
        .run_reading(
            doing,
            statements,
            Some((&sql, &[(&bound, Type::TEXT)])),
            limits,
        )
        .await?;
    let mut found = read_rows(&rows).map_err(|error| db.error(doing, Cause::Statement(error)))?;
    Ok((notices, found.remove(name)))
}

/// One row for each member, or one for a publication without any.
fn query(version: ServerVersion) -> String {
    let (columns, filter, schemas) = if version.has(version::COLUMN_LISTS) {
        (
            "CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(SELECT a.attname::text FROM pg_attribute a \
             WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) END",
            "pg_get_expr(r.prqual, r.prrelid)",
            " UNION ALL SELECT x.pnpubid, n.nspname, NULL, NULL, NULL \
             FROM pg_publication_namespace x JOIN pg_namespace n ON n.oid = x.pnnspid",
        )
    } else {
        ("NULL::text[]", "NULL::text", "")
    };
    let generated = if version.has(version::PUBLISH_GENERATED_COLUMNS) {
        "p.pubgencols = 's'"
    } else {
        "false"
    };
    format!(
        "SELECT p.pubname, pg_get_userbyid(p.pubowner), p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, \
         p.pubviaroot, {generated}, m.nspname, m.relname, m.columns, m.filter \
         FROM pg_publication p LEFT JOIN (SELECT r.prpubid, n.nspname, c.relname, {columns} AS columns, {filter} AS filter \
         FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace{schemas}) m \
         ON m.prpubid = p.oid WHERE $1 IS NULL OR p.pubname = $1"
    )
}

fn read_rows(rows: &[Row]) -> std::result::Result<Publications, tokio_postgres::Error> {
    let mut publications = Publications::new();
    for row in rows {
        let name = Ident::from_catalog(row.try_get(0)?);
        let publication = match publications.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let publication = read_publication(entry.key().clone(), row)?;
                entry.insert(publication)
            }
        };
        if let Target::Lists { tables, schemas } = &mut publication.target {
            read_member(row, tables, schemas)?;
        }
    }
    Ok(publications)
}

fn read_publication(
    name: Ident,
    row: &Row,
) -> std::result::Result<Publication, tokio_postgres::Error> {
    let mut publish = BTreeSet::new();
    for (column, operation) in (3..).zip(Operation::ALL) {
        if row.try_get(column)? {
            publish.insert(operation);
        }
    }
    Ok(Publication {
        name,
        owner: Some(Ident::from_catalog(row.try_get(1)?)),
        target: if row.try_get(2)? {
            Target::AllTables
        } else {
            Target::none()
        },
        publish,
        via_partition_root: row.try_get(7)?,
        generated_columns: if row.try_get(8)? {
            GeneratedColumns::Stored
        } else {
            GeneratedColumns::None
        },
    })
}

fn read_member(
    row: &Row,
    tables: &mut BTreeMap<QualifiedName, TableSpec>,
    schemas: &mut BTreeSet<Ident>,
) -> std::result::Result<(), tokio_postgres::Error> {
    match (
        row.try_get::<_, Option<&str>>(9)?,
        row.try_get::<_, Option<&str>>(10)?,
    ) {
        (Some(schema), Some(name)) => {
            let columns: Option<Vec<&str>> = row.try_get(11)?;
            let filter: Option<String> = row.try_get(12)?;
            let spec = TableSpec {
                columns: columns
                    .map(|columns| columns.into_iter().map(Ident::from_catalog).collect()),
                filter: filter.map(RowFilter::from_catalog),
            };
            tables.insert(QualifiedName::from_catalog(schema, name), spec);
        }
        (Some(schema), None) => drop(schemas.insert(Ident::from_catalog(schema))),
        _ => {}
    }
    Ok(())
}

/// The server's printing of a row filter on a table, by which spellings are compared. Leaves nothing behind.
///
/// Needs SELECT on the table and TEMP on the database, or else ownership of the table and CREATE on the database.
pub async fn canonical_filter(
    db: &Database,
    table: &QualifiedName,
    filter: &RowFilter,
) -> Result<String> {
    let doing = format!("reading the row filter of table {table}");
    let scratch = "pg_temp.neonrepl_row_filter";
    let changes = [
        format!("CREATE TEMPORARY TABLE {scratch} (LIKE {table}) ON COMMIT DROP"),
        format!("ALTER TABLE {scratch} ADD CHECK {}", filter.enclosed()),
    ];
    let read = "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE contype = 'c' AND conrelid = 'pg_temp.neonrepl_row_filter'::regclass";
    let rows = match db.query_undone(&doing, &changes, read, &[]).await {
        Err(error) if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let (changes, read) = scratch_publication(table, filter);
            db.query_undone(&doing, &changes, read, &[]).await?
        }
        result => result?,
    };
    let text = rows
        .first()
        .map(|row| row.try_get::<_, Option<String>>(0))
        .transpose();
    let text = text.map_err(|error| db.error(&doing, Cause::Statement(error)))?;
    text.flatten().ok_or_else(|| {
        db.error(
            &doing,
            Cause::Unexpected("the server did not print it".to_owned()),
        )
    })
}

/// A publication with the filter, to be undone, and the query of what the server made of it.
fn scratch_publication(table: &QualifiedName, filter: &RowFilter) -> ([String; 1], &'static str) {
    let spec = TableSpec {
        columns: None,
        filter: Some(filter.clone()),
    };
    let create = format!(
        "CREATE PUBLICATION neonrepl_row_filter FOR TABLE {} WITH (publish_via_partition_root = true)",
        member(table, &spec)
    );
    let read = "SELECT pg_get_expr(r.prqual, r.prrelid) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = 'neonrepl_row_filter'";
    ([create], read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    /// Tables as `name`, `name(column,…)`, `name?filter` or `name(column,…)?filter`; schemas as `schema.*`.
    fn lists(text: &str) -> Target {
        let (mut tables, mut schemas) = (BTreeMap::new(), BTreeSet::new());
        for item in text.split_whitespace() {
            if let Some(schema) = item.strip_suffix(".*") {
                schemas.insert(ident(schema));
                continue;
            }
            let (item, filter) = item
                .split_once('?')
                .map_or((item, None), |(item, filter)| (item, Some(filter)));
            let (name, columns) = item
                .split_once('(')
                .map_or((item, None), |(name, columns)| (name, Some(columns)));
            let spec = TableSpec {
                columns: columns.map(|columns| {
                    columns
                        .trim_end_matches(')')
                        .split(',')
                        .map(ident)
                        .collect()
                }),
                filter: filter.map(|filter| RowFilter::new(filter).unwrap()),
            };
            tables.insert(QualifiedName::parse(name).unwrap(), spec);
        }
        Target::Lists { tables, schemas }
    }

    fn publication(text: &str) -> Publication {
        let target = if text == "ALL" {
            Target::AllTables
        } else {
            lists(text)
        };
        Publication {
            owner: Some(ident("me")),
            ..Publication::new(ident("p"), target)
        }
    }

    fn text(current: Option<&Publication>, desired: Option<&Publication>, major: u32) -> String {
        match diff(current, desired, ServerVersion::major_only(major)) {
            Ok(statements) => statements
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
            Err(error) => error.to_string(),
        }
    }

    fn check_create(desired: &Publication, expected: Expect) {
        let desired = Publication {
            owner: None,
            ..desired.clone()
        };
        expected.assert_eq(&text(None, Some(&desired), 18));
    }

    fn check_alter(current: &str, desired: &str, expected: Expect) {
        expected.assert_eq(&text(
            Some(&publication(current)),
            Some(&publication(desired)),
            18,
        ));
    }

    fn check_change(change: impl FnOnce(&mut Publication), expected: Expect) {
        let current = publication("a");
        let mut desired = current.clone();
        change(&mut desired);
        expected.assert_eq(&text(Some(&current), Some(&desired), 18));
    }

    #[test]
    fn equal_in_empty_out() {
        for target in ["", "ALL", "a", "a(x,y)?z>1 s.*"] {
            assert_eq!(
                text(Some(&publication(target)), Some(&publication(target)), 18),
                ""
            );
        }
        assert_eq!(text(None, None, 14), "");
    }

    #[test]
    fn creating() {
        check_create(&publication(""), expect![[r#"CREATE PUBLICATION "p""#]]);
        check_create(
            &publication("ALL"),
            expect![[r#"CREATE PUBLICATION "p" FOR ALL TABLES"#]],
        );
        check_create(
            &publication("a s.b"),
            expect![[r#"CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a", ONLY "s"."b""#]],
        );
        check_create(
            &publication("x.* y.*"),
            expect![[r#"CREATE PUBLICATION "p" FOR TABLES IN SCHEMA "x", "y""#]],
        );
        check_create(
            &publication("a(x,y)?z>1 s.*"),
            expect![[r#"
                CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a" ("x", "y") WHERE (z>1
                ), TABLES IN SCHEMA "s""#]],
        );
        let options = Publication {
            publish: BTreeSet::from([Operation::Truncate, Operation::Insert]),
            via_partition_root: true,
            generated_columns: GeneratedColumns::Stored,
            ..publication("a")
        };
        check_create(
            &options,
            expect![[
                r#"CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a" WITH (publish = 'insert, truncate', publish_via_partition_root = true, publish_generated_columns = stored)"#
            ]],
        );
        let nothing = Publication {
            publish: BTreeSet::new(),
            ..publication("")
        };
        check_create(
            &nothing,
            expect![[r#"CREATE PUBLICATION "p" WITH (publish = '')"#]],
        );
    }

    #[test]
    fn creating_for_another_owner() {
        expect![[r#"
            CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a"
            ALTER PUBLICATION "p" OWNER TO "me""#]]
        .assert_eq(&text(None, Some(&publication("a")), 14));
    }

    #[test]
    fn hostile_names_stay_names() {
        let hostile = "x\"; DROP TABLE t; --";
        let table = QualifiedName {
            schema: ident("a.b"),
            name: ident(hostile),
        };
        let publication = Publication {
            name: ident(hostile),
            ..Publication::new(ident("p"), Target::tables([table]))
        };
        check_create(
            &publication,
            expect![[
                r#"CREATE PUBLICATION "x""; DROP TABLE t; --" FOR TABLE ONLY "a.b"."x""; DROP TABLE t; --""#
            ]],
        );
        expect![[r#"DROP PUBLICATION "x""; DROP TABLE t; --""#]].assert_eq(&text(
            Some(&publication),
            None,
            14,
        ));
    }

    #[test]
    fn changing_tables() {
        check_alter(
            "a",
            "a b",
            expect![[r#"ALTER PUBLICATION "p" ADD TABLE ONLY "public"."b""#]],
        );
        check_alter(
            "a b",
            "b",
            expect![[r#"ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a""#]],
        );
        check_alter(
            "a b",
            "",
            expect![[r#"ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a", ONLY "public"."b""#]],
        );
        check_alter(
            "",
            "a",
            expect![[r#"ALTER PUBLICATION "p" ADD TABLE ONLY "public"."a""#]],
        );
        check_alter(
            "a",
            "b",
            expect![[r#"ALTER PUBLICATION "p" SET TABLE ONLY "public"."b""#]],
        );
        check_alter(
            "a b",
            "a(x) b",
            expect![[
                r#"ALTER PUBLICATION "p" SET TABLE ONLY "public"."a" ("x"), ONLY "public"."b""#
            ]],
        );
        check_alter(
            "a?x>1",
            "a?x>2",
            expect![[r#"
                ALTER PUBLICATION "p" SET TABLE ONLY "public"."a" WHERE (x>2
                )"#]],
        );
    }

    #[test]
    fn changing_schemas() {
        check_alter(
            "a",
            "a s.*",
            expect![[r#"ALTER PUBLICATION "p" ADD TABLES IN SCHEMA "s""#]],
        );
        check_alter(
            "a s.*",
            "a",
            expect![[r#"ALTER PUBLICATION "p" DROP TABLES IN SCHEMA "s""#]],
        );
        check_alter(
            "a s.*",
            "",
            expect![[
                r#"ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a", TABLES IN SCHEMA "s""#
            ]],
        );
        check_alter(
            "s.*",
            "a",
            expect![[r#"ALTER PUBLICATION "p" SET TABLE ONLY "public"."a""#]],
        );
        check_alter(
            "a(x)",
            "s.*",
            expect![[r#"ALTER PUBLICATION "p" SET TABLES IN SCHEMA "s""#]],
        );
        check_alter(
            "a s.*",
            "b s.*",
            expect![[r#"
                ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a"
                ALTER PUBLICATION "p" ADD TABLE ONLY "public"."b""#]],
        );
    }

    #[test]
    fn all_tables_and_lists_are_swapped_in_one_transaction() {
        check_alter(
            "ALL",
            "a",
            expect![[r#"
                DROP PUBLICATION "p"
                CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a"
                ALTER PUBLICATION "p" OWNER TO "me""#]],
        );
        check_alter(
            "",
            "ALL",
            expect![[r#"
                DROP PUBLICATION "p"
                CREATE PUBLICATION "p" FOR ALL TABLES
                ALTER PUBLICATION "p" OWNER TO "me""#]],
        );
        let statements = diff(
            Some(&publication("ALL")),
            Some(&publication("a")),
            ServerVersion::major_only(14),
        )
        .unwrap();
        assert!(
            statements
                .iter()
                .all(|statement| statement.scope() == crate::postgres::Scope::Transaction)
        );
    }

    #[test]
    fn changing_options_name_and_owner() {
        check_change(
            |p| drop(p.publish.remove(&Operation::Delete)),
            expect![[r#"ALTER PUBLICATION "p" SET (publish = 'insert, update, truncate')"#]],
        );
        check_change(
            |p| p.generated_columns = GeneratedColumns::Stored,
            expect![[r#"ALTER PUBLICATION "p" SET (publish_generated_columns = stored)"#]],
        );
        check_change(
            |p| p.owner = Some(ident("you")),
            expect![[r#"ALTER PUBLICATION "p" OWNER TO "you""#]],
        );
        check_change(|p| p.owner = None, expect![""]);
        check_change(
            |p| (p.name, p.target) = (ident("q"), lists("a b")),
            expect![[r#"
                ALTER PUBLICATION "p" RENAME TO "q"
                ALTER PUBLICATION "q" ADD TABLE ONLY "public"."b""#]],
        );
    }

    #[test]
    fn the_partition_root_is_set_before_filters_come_and_after_they_go() {
        let plain = publication("a");
        let rooted = Publication {
            via_partition_root: true,
            ..publication("a?x>1")
        };
        expect![[r#"
            ALTER PUBLICATION "p" SET (publish_via_partition_root = true)
            ALTER PUBLICATION "p" SET TABLE ONLY "public"."a" WHERE (x>1
            )"#]]
        .assert_eq(&text(Some(&plain), Some(&rooted), 18));
        expect![[r#"
            ALTER PUBLICATION "p" SET TABLE ONLY "public"."a"
            ALTER PUBLICATION "p" SET (publish_via_partition_root = false)"#]]
        .assert_eq(&text(Some(&rooted), Some(&plain), 18));
    }

    #[test]
    fn older_servers_refuse_by_name() {
        let create = |target: &str, major| text(None, Some(&publication(target)), major);
        assert_eq!(
            create("a(x)", 14),
            "columns needs Postgres 15 or newer; the server runs 14.0"
        );
        assert_eq!(
            create("a?x>1", 14),
            "where needs Postgres 15 or newer; the server runs 14.0"
        );
        assert_eq!(
            create("s.*", 14),
            "schemas needs Postgres 15 or newer; the server runs 14.0"
        );
        let stored = Publication {
            generated_columns: GeneratedColumns::Stored,
            ..publication("a")
        };
        assert_eq!(
            text(None, Some(&stored), 17),
            "publish_generated_columns needs Postgres 18 or newer; the server runs 17.0"
        );
    }

    #[test]
    fn a_fingerprint_is_of_the_content_alone() {
        let fingerprint = |target| publication(target).fingerprint();
        assert_eq!(fingerprint("a b").len(), 64);
        assert_eq!(fingerprint("a b"), fingerprint("b a"));
        let renamed = Publication {
            name: ident("q"),
            owner: None,
            ..publication("a b")
        };
        assert_eq!(renamed.fingerprint(), fingerprint("a b"));
        let different = [
            "", "ALL", "a", "a b", "a(x)", "a(x,y)", "a?x>1", "s.*", "a s.*",
        ]
        .map(fingerprint);
        assert_eq!(BTreeSet::from(different.clone()).len(), different.len());
        // A change of it would refresh every subscription once.
        expect!["d559e8cb9d445d1d86cdf01e0c08fdbf9dd8bbf077d1f6ddffba6d92b4b87692"]
            .assert_eq(&fingerprint("a(x)?y>1 s.*"));
    }
}
