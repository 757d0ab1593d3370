// SPDX-License-Identifier: MPL-2.0

//! The contents of a database as lines of text, from `information_schema` and the functions that print definitions. It
//! uses none of the provider's code, so that neither can hide a mistake of the other.

use std::collections::BTreeSet;

use crate::common::postgres::{Database, Major};

/// The objects that are left for later, and therefore not compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Later {
    /// Indexes that no constraint and no replica identity needs.
    pub(crate) indexes: bool,
    /// Foreign keys.
    pub(crate) foreign_keys: bool,
}

/// The schemas of people.
const OURS: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// The condition that an object belongs to no extension.
fn alone(catalog: &str, oid: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid} AND e.deptype = 'e')"
    )
}

/// The queries, each with the prefix of its lines. Each returns lines of a key and its facts.
fn queries(both: (Major, Major), own: Major, later: Later) -> Vec<(&'static str, String)> {
    let oldest = both.0.min(both.1);
    let mut all = vec![
        ("schema", schemas()),
        ("column", columns()),
        ("attribute", attributes()),
        ("relation", relations()),
        ("parents", parents()),
        ("constraint", constraints(oldest, own, later)),
        ("index", indexes(own, later)),
        ("type", types()),
        ("label", labels()),
        ("field", fields()),
        ("domain", domains()),
        ("range", ranges()),
        ("function", functions()),
        ("sequence", sequences()),
        ("collation", collations(own, oldest)),
    ];
    all.push(("extension", "SELECT extname FROM pg_extension".to_owned()));
    all
}

fn schemas() -> String {
    format!("SELECT n.nspname, obj_description(n.oid, 'pg_namespace') FROM pg_namespace n WHERE {OURS}")
}

fn columns() -> String {
    format!(
        "SELECT c.table_schema, c.table_name, \
           row_number() OVER (PARTITION BY c.table_schema, c.table_name ORDER BY c.ordinal_position) AS place, c.column_name, \
           c.column_default, c.is_nullable, c.data_type, c.character_maximum_length, c.numeric_precision, c.numeric_scale, \
           c.datetime_precision, c.interval_type, c.collation_schema, c.collation_name, c.domain_schema, c.domain_name, c.udt_schema, \
           c.udt_name, c.is_identity, c.identity_generation, c.identity_start, c.identity_increment, c.identity_maximum, \
           c.identity_minimum, c.identity_cycle, c.is_generated, c.generation_expression \
         FROM information_schema.columns c JOIN pg_namespace n ON n.nspname = c.table_schema JOIN information_schema.tables t \
           ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE' WHERE {OURS}"
    )
}

/// Until 16, a column without its own statistics target had -1, and since then null.
fn attributes() -> String {
    format!(
        "SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attstorage, a.attcompression, \
           nullif(a.attstattarget, -1), a.attislocal, a.attinhcount, a.attgenerated, a.attidentity, a.attoptions, a.attnotnull, \
           col_description(c.oid, a.attnum), pg_get_serial_sequence(quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname) \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {OURS} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped"
    )
}

fn relations() -> String {
    format!(
        "SELECT n.nspname, c.relname, c.relkind, c.relpersistence, (SELECT array_agg(o ORDER BY o) FROM unnest(c.reloptions) o), \
           (SELECT array_agg(o ORDER BY o) FROM unnest(t.reloptions) o), c.relreplident, pg_get_partkeydef(c.oid), \
           pg_get_expr(c.relpartbound, c.oid), nullif(c.reloftype, 0)::regtype, obj_description(c.oid, 'pg_class'), m.amname \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
         LEFT JOIN pg_am m ON m.oid = c.relam WHERE {OURS} AND c.relkind IN ('r', 'p')"
    )
}

fn parents() -> String {
    format!(
        "SELECT n.nspname, c.relname, (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) \
           FROM pg_inherits i WHERE i.inhrelid = c.oid) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind IN ('r', 'p')"
    )
}

/// A NOT NULL constraint is an object of its own since 18. Whether other constraints are inherited does not matter. The
/// server's own copies of foreign keys for single partitions follow from the originals.
fn constraints(oldest: Major, own: Major, later: Later) -> String {
    let enforced = if own >= Major::V18 { "o.conenforced AS enforced" } else { "true AS enforced" };
    let nulls = if oldest >= Major::V18 { "true" } else { "o.contype <> 'n'" };
    let keys = if later.foreign_keys { "o.contype <> 'f'" } else { "(o.contype <> 'f' OR o.conparentid = 0)" };
    format!(
        "SELECT n.nspname, coalesce(c.relname, y.typname), o.conname, o.contype, pg_get_constraintdef(o.oid), o.conislocal, \
           o.coninhcount, o.convalidated, CASE WHEN o.contype IN ('c', 'n') THEN o.connoinherit END, {enforced}, o.condeferrable, o.condeferred, obj_description(o.oid, 'pg_constraint') \
         FROM pg_constraint o LEFT JOIN pg_class c ON c.oid = o.conrelid LEFT JOIN pg_type y ON y.oid = o.contypid \
         JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, y.typnamespace) \
         WHERE {OURS} AND {nulls} AND {keys} AND coalesce(c.relkind IN ('r', 'p'), {}) AND o.contype <> 't'",
        alone("pg_type", "y.oid")
    )
}

fn indexes(own: Major, later: Later) -> String {
    let kept = if later.indexes {
        "(x.indisreplident OR EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = x.indexrelid AND o.contype IN ('p', 'u', 'x')))"
    } else {
        "true"
    };
    let nulls = if own >= Major::V15 { "x.indnullsnotdistinct AS nulls" } else { "false AS nulls" };
    format!(
        "SELECT n.nspname, i.relname, pg_get_indexdef(i.oid), x.indisreplident, x.indisclustered, x.indisvalid, x.indisunique, {nulls}, \
           (SELECT array_agg(nullif(a.attstattarget, -1) ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.oid), \
           obj_description(i.oid, 'pg_class'), (SELECT h.inhparent::regclass FROM pg_inherits h WHERE h.inhrelid = i.oid) \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace WHERE {OURS} AND {kept}"
    )
}

/// Row types of tables, array types and multiranges come with their base.
fn types() -> String {
    format!(
        "SELECT n.nspname, y.typname, y.typtype, obj_description(y.oid, 'pg_type') FROM pg_type y JOIN pg_namespace n \
         ON n.oid = y.typnamespace WHERE {OURS} AND y.typtype IN ('e', 'd', 'r', 'm', 'c', 'b') AND y.typcategory <> 'A' \
         AND (y.typrelid = 0 OR EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = y.typrelid AND c.relkind = 'c')) AND {}",
        alone("pg_type", "y.oid")
    )
}

fn labels() -> String {
    format!(
        "SELECT n.nspname, y.typname, row_number() OVER (PARTITION BY y.oid ORDER BY e.enumsortorder), e.enumlabel FROM pg_enum e \
         JOIN pg_type y ON y.oid = e.enumtypid JOIN pg_namespace n ON n.oid = y.typnamespace WHERE {OURS}"
    )
}

fn fields() -> String {
    format!(
        "SELECT n.nspname, c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname, \
           format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, col_description(c.oid, a.attnum) \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'c' JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped"
    )
}

fn domains() -> String {
    format!(
        "SELECT n.nspname, y.typname, format_type(y.typbasetype, y.typtypmod), y.typnotnull, pg_get_expr(y.typdefaultbin, 0), \
           y.typcollation::regcollation, d.data_type \
         FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace LEFT JOIN information_schema.domains d \
         ON d.domain_schema = n.nspname AND d.domain_name = y.typname WHERE {OURS} AND y.typtype = 'd' AND {}",
        alone("pg_type", "y.oid")
    )
}

fn ranges() -> String {
    format!(
        "SELECT n.nspname, y.typname, format_type(r.rngsubtype, NULL), o.opcname, r.rngcollation::regcollation, r.rngcanonical::regproc, \
           r.rngsubdiff::regproc, format_type(r.rngmultitypid, NULL) FROM pg_range r JOIN pg_type y ON y.oid = r.rngtypid \
         JOIN pg_namespace n ON n.oid = y.typnamespace JOIN pg_opclass o ON o.oid = r.rngsubopc WHERE {OURS}"
    )
}

/// The functions that the server creates for a range come with it.
fn functions() -> String {
    format!(
        "SELECT n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), pg_get_functiondef(p.oid), \
           obj_description(p.oid, 'pg_proc') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE {OURS} AND p.prokind IN ('f', 'p') AND {} AND NOT EXISTS (SELECT 1 FROM pg_depend e \
         WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'i')",
        alone("pg_proc", "p.oid")
    )
}

fn sequences() -> String {
    format!(
        "SELECT n.nspname, c.relname, s.data_type, s.start_value, s.min_value, s.max_value, s.increment_by, s.cycle, s.cache_size, \
           c.relpersistence, obj_description(c.oid, 'pg_class'), (SELECT d.refobjid::regclass || '.' || quote_ident(a.attname) || ' ' || d.deptype::text \
             FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE d.objid = c.oid \
             AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')) \
         FROM pg_sequences s JOIN pg_namespace n ON n.nspname = s.schemaname JOIN pg_class c ON c.relnamespace = n.oid \
         AND c.relname = s.sequencename WHERE {OURS}"
    )
}

/// The column for the locale of an ICU collation has changed twice, and there are rules since 16.
fn collations(own: Major, oldest: Major) -> String {
    let locale = match own {
        Major::V14 => "CASE WHEN l.collprovider = 'i' THEN l.collcollate END AS locale",
        Major::V15 | Major::V16 => "l.colliculocale AS locale",
        Major::V17 | Major::V18 => "l.colllocale AS locale",
    };
    let rules = if oldest >= Major::V16 { "l.collicurules AS rules" } else { "NULL AS rules" };
    format!(
        "SELECT n.nspname, l.collname, l.collprovider, l.collisdeterministic, {locale}, {rules}, \
           CASE WHEN l.collprovider = 'c' THEN l.collcollate END, CASE WHEN l.collprovider = 'c' THEN l.collctype END, \
           obj_description(l.oid, 'pg_collation') FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace WHERE {OURS}"
    )
}

/// All lines of a database, sorted. Omits unneeded objects if the other side was created from this one.
pub(crate) async fn lines(database: &Database, both: (Major, Major), own: Major, later: Later) -> BTreeSet<String> {
    let queries = queries(both, own, later);
    // Then nothing is printed without its schema, and each query is one statement of one round trip.
    database.sql("SET search_path = ''; SET extra_float_digits = 1").await;
    let mut found = BTreeSet::new();
    for (what, query) in queries {
        let query = format!("SELECT row_to_json(q)::text FROM ({query}) q");
        found.extend(database.rows(&query).await.into_iter().map(|line| format!("{what} {line}")));
    }
    database.sql("RESET search_path").await;
    found
}

/// The differences between two databases: the lines that only one of them has. Unneeded objects must not be on the
/// other side.
pub(crate) async fn differences(
    publisher: (&Database, Major),
    subscriber: (&Database, Major),
    later: Later,
) -> Vec<String> {
    let both = (publisher.1, subscriber.1);
    let first = lines(publisher.0, both, publisher.1, later).await;
    let second = lines(subscriber.0, both, subscriber.1, later).await;
    // A schema without published objects is not needed.
    let empty = empty_schemas(publisher.0).await;
    let is_needed = |line: &&String| !line.contains("unneeded") && !empty.contains(*line);
    let missing = first.iter().filter(is_needed).filter(|line| !second.contains(*line)).map(|line| format!("- {line}"));
    let more = second
        .iter()
        .filter(|line| !first.contains(*line) || line.contains("unneeded"))
        .map(|line| format!("+ {line}"));
    let mut all: Vec<_> = missing.chain(more).collect();
    all.sort_by(|one, other| one[2..].cmp(&other[2..]));
    all
}

/// The lines of schemas that only have unneeded objects.
async fn empty_schemas(database: &Database) -> BTreeSet<String> {
    let query = format!(
        "SELECT concat('schema ', row_to_json(q)) FROM ({}) q WHERE q.nspname <> 'public' AND NOT EXISTS (SELECT 1 FROM ( \
           SELECT relnamespace, relname FROM pg_class UNION ALL SELECT pronamespace, proname FROM pg_proc \
           UNION ALL SELECT typnamespace, typname FROM pg_type WHERE typcategory <> 'A' AND typrelid = 0 \
           UNION ALL SELECT collnamespace, collname FROM pg_collation) o (schema, name) \
           WHERE o.schema = quote_ident(q.nspname)::regnamespace AND o.name !~ '^unneeded')",
        schemas()
    );
    database.rows(&query).await.into_iter().collect()
}

/// The differences between the rows of all tables, by table.
pub(crate) async fn row_differences(publisher: &Database, subscriber: &Database) -> Vec<String> {
    let (first, second) = (rows(publisher).await, rows(subscriber).await);
    let missing = first.difference(&second).map(|line| format!("- {line}"));
    missing.chain(second.difference(&first).map(|line| format!("+ {line}"))).collect()
}

/// Each table with its number of rows and a hash of them; a partitioned table's rows are in its partitions.
async fn rows(database: &Database) -> BTreeSet<String> {
    let tables = format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) \
           FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND c.relkind = 'r' AND c.relname !~ '^unneeded'"
    );
    let tables = database.rows(&tables).await;
    let pairs = tables.iter().filter_map(|line| line.split_once('|'));
    let asked = pairs.map(|(table, columns)| {
        let name = table.replace('\'', "''");
        format!("SELECT E'{}', count(*), md5(coalesce(string_agg(r::text, '\n' ORDER BY r::text), '')) FROM (SELECT {} FROM ONLY {table}) r", name.replace('\\', "\\\\"), if columns.is_empty() { "1" } else { columns })
    });
    let asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        return BTreeSet::new();
    }
    let mut found = BTreeSet::new();
    for some in asked.chunks(100) {
        found.extend(database.rows(&some.join(" UNION ALL ")).await);
    }
    found
}
