// SPDX-License-Identifier: MPL-2.0

//! The one query that reads a definition: the objects that the tables need, by the catalog's own dependencies, and
//! their definitions. Each row is a kind and a JSON object.
//!
//! Columns of the catalog that only some versions have are read from the JSON form of a row, in which they are absent otherwise. For
//! constraints and indexes the query depends on the version instead, because there are many of them, and their JSON form has the whole
//! expression tree.

use crate::postgres::version::ServerVersion;

/// `$1` and `$2` name relations, `$3` and `$4` types, `$5` and `$6` collations, `$7` functions by their signature, and
/// `$8` says whether to include the partitions of the relations.
pub(super) fn definition(version: ServerVersion) -> String {
    let (constraints, indexes) = (constraints(version), indexes(version));
    let parts = [
        ("schema", SCHEMAS),
        ("extension", EXTENSIONS),
        ("collation", COLLATIONS),
        ("type", TYPES),
        ("function", FUNCTIONS),
        ("sequence", SEQUENCES),
        ("table", TABLES),
        ("column", COLUMNS),
        ("constraint", constraints.as_str()),
        ("index", indexes.as_str()),
        ("statistics", STATISTICS),
        ("other", OTHERS),
        ("place", PLACES),
        ("edge", EDGES),
        ("digest", DIGEST),
    ];
    let parts = parts.map(|(kind, sql)| format!("SELECT '{kind}', row_to_json(q)::text FROM ({sql}) q"));
    format!("{CLOSURE} {}", parts.join(" UNION ALL "))
}

/// The query for the digest alone, which shows whether something was changed meanwhile. Postgres's printing functions
/// use the newest catalog, not the query's snapshot.
pub(super) fn digest() -> String {
    format!("{CLOSURE} SELECT 'digest', row_to_json(q)::text FROM ({DIGEST}) q")
}

/// Objects with an oid below 16384 came with the server. The cast keeps this condition away from the index: without it,
/// a server whose catalogs were not analyzed after many tables were created would read all of them for each object.
const CLOSURE: &str = "WITH RECURSIVE seed (classid, objid) AS ( \
  SELECT 'pg_class'::regclass::oid, c.oid FROM unnest($1::text[], $2::text[]) AS w (s, t) \
    JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
  UNION SELECT 'pg_class'::regclass::oid, p.relid::oid FROM unnest($1::text[], $2::text[]) AS w (s, t) \
    JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
    CROSS JOIN LATERAL pg_partition_tree(c.oid) p WHERE c.relkind = 'p' AND $8 \
  UNION SELECT 'pg_type'::regclass::oid, t.oid FROM unnest($3::text[], $4::text[]) AS w (s, t) \
    JOIN pg_namespace n ON n.nspname = w.s JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = w.t \
  UNION SELECT 'pg_collation'::regclass::oid, c.oid FROM unnest($5::text[], $6::text[]) AS w (s, t) \
    JOIN pg_namespace n ON n.nspname = w.s JOIN pg_collation c ON c.collnamespace = n.oid AND c.collname = w.t \
    AND c.collencoding IN (-1, (SELECT d.encoding FROM pg_database d WHERE d.datname = current_database())) \
  UNION SELECT 'pg_proc'::regclass::oid, p.oid FROM pg_proc p WHERE p.oid >= 16384 AND p.oid::regprocedure::text = ANY ($7)), \
closure (classid, objid) AS (SELECT classid, objid FROM seed UNION SELECT e.classid, e.objid FROM closure x CROSS JOIN LATERAL ( \
  SELECT d.refclassid, d.refobjid FROM pg_depend d WHERE d.classid = x.classid AND d.objid = x.objid AND d.deptype <> 'e' \
    AND d.refclassid <> 'pg_namespace'::regclass \
    AND NOT (d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0) \
    AND NOT EXISTS (SELECT 1 FROM pg_depend m WHERE m.classid = x.classid AND m.objid = x.objid AND m.deptype = 'e') \
  UNION ALL SELECT 'pg_attrdef'::regclass::oid, f.oid FROM pg_attrdef f WHERE x.classid = 'pg_class'::regclass AND f.adrelid = x.objid \
  UNION ALL SELECT 'pg_constraint'::regclass::oid, o.oid FROM pg_constraint o \
    WHERE x.classid = 'pg_class'::regclass AND o.conrelid = x.objid AND o.contype <> 'f' \
  UNION ALL SELECT 'pg_constraint'::regclass::oid, o.oid FROM pg_constraint o WHERE x.classid = 'pg_type'::regclass AND o.contypid = x.objid \
  UNION ALL SELECT 'pg_class'::regclass::oid, i.indexrelid FROM pg_index i WHERE x.classid = 'pg_class'::regclass AND i.indrelid = x.objid \
  UNION ALL SELECT 'pg_class'::regclass::oid, d.objid FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid \
    WHERE x.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.objid \
    AND d.refobjsubid > 0 AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
  UNION ALL SELECT 'pg_class'::regclass::oid, t.typrelid FROM pg_type t \
    WHERE x.classid = 'pg_type'::regclass AND t.oid = x.objid AND t.typtype = 'c' \
  UNION ALL SELECT 'pg_statistic_ext'::regclass::oid, s.oid FROM pg_statistic_ext s \
    WHERE x.classid = 'pg_class'::regclass AND s.stxrelid = x.objid) e (classid, objid) WHERE e.objid::int8 >= 16384), \
member (classid, objid, extension) AS (SELECT c.classid, c.objid, d.refobjid FROM closure c \
  JOIN pg_depend d ON d.classid = c.classid AND d.objid = c.objid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass), \
own (classid, objid) AS MATERIALIZED (SELECT c.classid, c.objid FROM closure c \
  WHERE NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = c.classid AND m.objid = c.objid)), \
relation AS MATERIALIZED (SELECT c.oid, c.relname, c.relkind, n.nspname, json_build_array(n.nspname, c.relname) AS name \
  FROM own o JOIN pg_class c ON c.oid = o.objid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE o.classid = 'pg_class'::regclass)";

const SCHEMAS: &str = "SELECT n.nspname AS name, obj_description(n.oid, 'pg_namespace') AS comment FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const EXTENSIONS: &str = "SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema, \
  EXISTS (SELECT 1 FROM member m WHERE m.extension = e.oid) AS is_needed \
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace";

const COLLATIONS: &str = "SELECT json_build_array(n.nspname, c.collname) AS name, c.collprovider AS provider, \
  CASE WHEN c.collprovider = 'c' THEN c.collcollate END AS collate, CASE WHEN c.collprovider = 'c' THEN c.collctype END AS ctype, \
  CASE WHEN c.collprovider <> 'c' THEN coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', c.collcollate) END AS locale, \
  to_jsonb(c) ->> 'collicurules' AS rules, c.collisdeterministic AS is_deterministic, obj_description(c.oid, 'pg_collation') AS comment, \
  c.oid::int8 AS oid FROM own o JOIN pg_collation c ON c.oid = o.objid JOIN pg_namespace n ON n.oid = c.collnamespace \
  WHERE o.classid = 'pg_collation'::regclass";

const TYPES: &str = "SELECT json_build_array(n.nspname, t.typname) AS name, t.typtype AS kind, t.oid::int8 AS oid, \
  CASE WHEN t.typtype = 'e' THEN ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) END AS labels, \
  CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END AS base, \
  (SELECT json_build_array(cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace \
    WHERE c.oid = CASE t.typtype WHEN 'd' THEN t.typcollation WHEN 'r' THEN r.rngcollation END \
    AND c.oid <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = coalesce(r.rngsubtype, t.typbasetype))) AS collation, \
  t.typnotnull AS is_not_null, \
  (SELECT k.conname FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'n') AS name_of_not_null, CASE WHEN t.typtype = 'd' THEN pg_get_expr(t.typdefaultbin, 0) END AS default, \
  (SELECT jsonb_agg(jsonb_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid), \
    'comment', obj_description(k.oid, 'pg_constraint'))) FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c') AS constraints, \
  (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'ty', format_type(a.atttypid, a.atttypmod), \
    'comment', col_description(a.attrelid, a.attnum), 'collation', \
    (SELECT json_build_array(cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace \
      WHERE c.oid = a.attcollation AND c.oid <> at.typcollation)) ORDER BY a.attnum) \
    FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid \
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS fields, \
  format_type(r.rngsubtype, NULL) AS subtype, \
  (SELECT json_build_array(on_.nspname, oc.opcname) FROM pg_opclass oc JOIN pg_namespace on_ ON on_.oid = oc.opcnamespace \
    WHERE oc.oid = r.rngsubopc AND NOT oc.opcdefault) AS opclass, \
  (SELECT json_build_array(pn.nspname, p.proname) FROM pg_proc p JOIN pg_namespace pn ON pn.oid = p.pronamespace \
    WHERE p.oid = r.rngcanonical::oid) AS canonical, \
  (SELECT json_build_array(pn.nspname, p.proname) FROM pg_proc p JOIN pg_namespace pn ON pn.oid = p.pronamespace \
    WHERE p.oid = r.rngsubdiff::oid) AS difference, \
  (SELECT json_build_array(mn.nspname, m.typname) FROM pg_type m JOIN pg_namespace mn ON mn.oid = m.typnamespace \
    WHERE m.oid = r.rngmultitypid) AS multirange, obj_description(t.oid, 'pg_type') AS comment \
  FROM own o JOIN pg_type t ON t.oid = o.objid JOIN pg_namespace n ON n.oid = t.typnamespace \
  LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_class tc ON tc.oid = t.typrelid \
  WHERE o.classid = 'pg_type'::regclass AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND tc.relkind = 'c')";

const FUNCTIONS: &str = "SELECT p.oid::regprocedure::text AS signature, n.nspname AS schema, pg_get_functiondef(p.oid) AS definition, \
  obj_description(p.oid, 'pg_proc') AS comment, p.oid::int8 AS oid FROM own o JOIN pg_proc p ON p.oid = o.objid \
  JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
  WHERE o.classid = 'pg_proc'::regclass AND p.prokind IN ('f', 'w') AND l.lanname NOT IN ('c', 'internal')";

const SEQUENCES: &str = "SELECT r.name, r.oid::int8 AS oid, format_type(q.seqtypid, NULL) AS ty, q.seqstart AS start, \
  q.seqincrement AS increment, q.seqmin AS min, q.seqmax AS max, q.seqcache AS cache, q.seqcycle AS cycles, \
  c.relpersistence = 'u' AS is_unlogged, obj_description(r.oid, 'pg_class') AS comment, \
  d.deptype = 'i' AS is_identity, d.refobjid::int8 AS relation, CASE WHEN d.refobjid IS NOT NULL THEN \
    json_build_array(json_build_array(tn.nspname, t.relname), a.attname) END AS owner \
  FROM relation r JOIN pg_sequence q ON q.seqrelid = r.oid JOIN pg_class c ON c.oid = r.oid \
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass \
    AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') \
  LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace \
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE r.relkind = 'S'";

const TABLES: &str = "SELECT r.name, r.oid::int8 AS oid, c.relpersistence = 'u' AS is_unlogged, \
  CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key, \
  CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS bound, \
  (SELECT jsonb_agg(json_build_array(pn.nspname, p.relname) ORDER BY h.inhseqno) FROM pg_inherits h \
    JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE h.inhrelid = c.oid) AS parents, \
  CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS of_type, c.reloptions AS options, \
  t.reloptions AS toast_options, CASE WHEN am.amname <> 'heap' THEN am.amname END AS access_method, c.relreplident AS replica_identity, \
  (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) AS identity_index, \
  (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisclustered) AS clustered_by, \
  obj_description(c.oid, 'pg_class') AS comment, ARRAY( \
    SELECT concat('trigger ', g.tgname) FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgparentid = 0 \
    UNION ALL SELECT concat('rule ', w.rulename) FROM pg_rewrite w WHERE w.ev_class = c.oid \
    UNION ALL SELECT concat('policy ', p.polname) FROM pg_policy p WHERE p.polrelid = c.oid \
    UNION ALL SELECT 'row-level security' WHERE c.relrowsecurity ORDER BY 1) AS attached \
  FROM relation r JOIN pg_class c ON c.oid = r.oid LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
  LEFT JOIN pg_am am ON am.oid = c.relam WHERE r.relkind IN ('r', 'p')";

const COLUMNS: &str = "SELECT r.oid::int8 AS relation, a.attnum AS number, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS ty, \
  CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN (SELECT json_build_array(cn.nspname, c.collname) FROM pg_collation c \
    JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = a.attcollation) END AS collation, \
  a.attnotnull AS is_not_null, pg_get_expr(f.adbin, f.adrelid) AS expression, nullif(a.attgenerated::text, '') AS generated, \
  nullif(a.attidentity::text, '') AS identity, CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END AS storage, \
  nullif(a.attcompression::text, '') AS compression, nullif(a.attstattarget::int, -1) AS statistics, a.attoptions AS options, \
  a.attislocal AS is_local, a.attinhcount > 0 AS is_inherited, d.description AS comment \
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid \
  LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum \
  LEFT JOIN pg_description d ON d.objoid = a.attrelid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum \
  WHERE r.relkind IN ('r', 'p') ORDER BY r.oid, a.attnum";

/// A column of the catalog since a major version, or its value before.
fn since(version: ServerVersion, major: u32, column: &'static str, before: &'static str) -> &'static str {
    if version.major() < major { before } else { column }
}

fn constraints(version: ServerVersion) -> String {
    let is_enforced = since(version, 18, "o.conenforced", "true");
    let is_temporal = since(version, 18, "o.conperiod", "false");
    let set_columns = since(version, 15, "o.confdelsetcols", "NULL");
    let nulls_are_equal = nulls_are_equal(version);
    format!(
        "SELECT r.oid::int8 AS relation, o.oid::int8 AS oid, o.conname AS name, o.contype AS kind, \
      pg_get_constraintdef(o.oid) AS definition, o.conislocal AS is_local, o.connoinherit AS is_not_inherited, o.convalidated AS is_valid, \
      {is_enforced} AS is_enforced, {is_temporal} AS is_temporal, \
      o.conparentid <> 0 AS is_clone, coalesce({nulls_are_equal}, false) AS nulls_are_equal, \
      {set_columns} IS NOT NULL AS sets_some, CASE WHEN o.contype <> 'f' THEN xc.reloptions END AS index_options, \
      CASE WHEN o.confrelid <> 0 THEN json_build_array(fn.nspname, f.relname) END AS references, \
      CASE WHEN o.contype = 'f' AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = o.conindid AND k.contype IN ('p', 'u', 'x')) \
        THEN json_build_array(xn.nspname, xc.relname) END AS counts_on, \
      ARRAY(SELECT a.attname FROM unnest(o.conkey) WITH ORDINALITY AS k (number, place) \
        JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.number ORDER BY k.place) AS columns, \
      obj_description(o.oid, 'pg_constraint') AS comment FROM relation r JOIN pg_constraint o ON o.conrelid = r.oid \
      LEFT JOIN pg_index x ON x.indexrelid = o.conindid LEFT JOIN pg_class xc ON xc.oid = o.conindid \
      LEFT JOIN pg_namespace xn ON xn.oid = xc.relnamespace LEFT JOIN pg_class f ON f.oid = o.confrelid \
      LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE r.relkind IN ('r', 'p') AND o.contype IN ('c', 'n', 'p', 'u', 'x', 'f') \
      AND NOT (o.contype = 'f' AND o.conparentid <> 0)"
    )
}

/// `OFFSET 0` makes the server print an index only once, and not again for each use of the text.
fn indexes(version: ServerVersion) -> String {
    let nulls_are_equal = nulls_are_equal(version);
    format!(
        "SELECT json_build_array(tn.nspname, i.relname) AS name, r.name AS table, i.oid::int8 AS oid, \
      CASE WHEN i.relkind = 'I' THEN concat(h.head, substr(d.text, length(h.head) + length('ONLY ') + 1)) ELSE d.text END AS definition, \
      substr(d.text, length(h.head) + CASE WHEN i.relkind = 'I' THEN length('ONLY ') ELSE 0 END \
        + length(concat(quote_ident(r.nspname), '.', quote_ident(r.relname), ' ')) + 1) AS tail, \
      x.indisunique AS is_unique, {nulls_are_equal} AS nulls_are_equal, x.indisvalid AS is_valid, \
      x.indisreplident AS is_replica_identity, i.relispartition AS is_clone, \
      (SELECT json_build_array(bn.nspname, b.relname) FROM pg_inherits h JOIN pg_class b ON b.oid = h.inhparent \
        JOIN pg_namespace bn ON bn.oid = b.relnamespace WHERE h.inhrelid = i.oid) AS parent, \
      (SELECT jsonb_object_agg(a.attnum, a.attstattarget) FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0) AS statistics, \
      obj_description(i.oid, 'pg_class') AS comment FROM relation r JOIN pg_index x ON x.indrelid = r.oid JOIN pg_class i ON i.oid = x.indexrelid \
      JOIN pg_namespace tn ON tn.oid = i.relnamespace CROSS JOIN LATERAL (SELECT concat('CREATE ', CASE WHEN x.indisunique THEN 'UNIQUE ' END, \
        'INDEX ', quote_ident(i.relname), ' ON ')) h (head) CROSS JOIN LATERAL (SELECT pg_get_indexdef(i.oid) OFFSET 0) d (text) \
      WHERE r.relkind IN ('r', 'p') AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))"
    )
}

fn nulls_are_equal(version: ServerVersion) -> &'static str {
    since(version, 15, "x.indnullsnotdistinct", "false")
}

const STATISTICS: &str = "SELECT json_build_array(n.nspname, s.stxname) AS name, r.name AS table, s.oid::int8 AS oid, \
  pg_get_statisticsobjdef(s.oid) AS definition, nullif((to_jsonb(s) ->> 'stxstattarget')::int, -1) AS target, \
  obj_description(s.oid, 'pg_statistic_ext') AS comment FROM relation r JOIN pg_statistic_ext s ON s.stxrelid = r.oid \
  JOIN pg_namespace n ON n.oid = s.stxnamespace";

const OTHERS: &str = "SELECT pg_describe_object(o.classid, o.objid, 0) AS description, i.type AS kind, i.identity \
  FROM own o CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i \
  LEFT JOIN pg_class c ON o.classid = 'pg_class'::regclass AND c.oid = o.objid \
  LEFT JOIN pg_type t ON o.classid = 'pg_type'::regclass AND t.oid = o.objid \
  LEFT JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid LEFT JOIN pg_language l ON l.oid = p.prolang \
  WHERE o.classid NOT IN ('pg_collation'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_statistic_ext'::regclass, \
    'pg_extension'::regclass) \
  AND coalesce(c.relkind NOT IN ('r', 'p', 'c', 'S', 'i', 'I', 't'), true) \
  AND coalesce(t.typtype NOT IN ('e', 'd', 'r', 'm', 'c') AND NOT (t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A'), true) \
  AND coalesce(p.prokind NOT IN ('f', 'w') OR l.lanname IN ('c', 'internal'), true)";

/// The objects that oids stand for, if their own rows do not say so.
const PLACES: &str = "SELECT 'pg_type' AS class, t.oid::int8 AS oid, CASE WHEN t.typtype = 'c' THEN 'pg_class' ELSE 'pg_type' END AS of_class, \
    CASE WHEN t.typtype = 'c' THEN t.typrelid WHEN t.typtype = 'm' THEN m.rngtypid ELSE t.typelem END::int8 AS of_oid, \
    NULL AS column, false AS is_generated FROM own o JOIN pg_type t ON t.oid = o.objid LEFT JOIN pg_range m ON m.rngmultitypid = t.oid \
    LEFT JOIN pg_class tc ON tc.oid = t.typrelid WHERE o.classid = 'pg_type'::regclass \
    AND (t.typtype = 'c' AND tc.relkind IN ('r', 'p') OR t.typtype = 'm' OR t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A') \
  UNION ALL SELECT 'pg_class', t.typrelid::int8, 'pg_type', t.oid::int8, NULL, false FROM relation r \
    JOIN pg_type t ON t.typrelid = r.oid WHERE r.relkind = 'c' \
  UNION ALL SELECT 'pg_attrdef', f.oid::int8, 'pg_class', f.adrelid::int8, a.attname::text, a.attgenerated <> '' FROM relation r \
    JOIN pg_attrdef f ON f.adrelid = r.oid JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum \
  UNION ALL SELECT 'pg_constraint', k.oid::int8, 'pg_type', k.contypid::int8, k.conname::text, false FROM own o \
    JOIN pg_constraint k ON k.contypid = o.objid WHERE o.classid = 'pg_type'::regclass";

const EDGES: &str = "SELECT DISTINCT o.classid::regclass::text AS class, o.objid::int8 AS oid, d.refclassid::regclass::text AS of_class, \
  d.refobjid::int8 AS of_oid FROM own o JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid \
  WHERE d.deptype IN ('n', 'i') AND d.refobjid >= 16384 \
  AND d.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_collation'::regclass) \
  AND NOT (d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)";

const DIGEST: &str = "SELECT sum(hashtextextended(x.line, 0)) AS value FROM ( \
  SELECT concat('c', c.oid, ' ', c.xmin) FROM own o JOIN pg_class c ON c.oid = o.objid WHERE o.classid = 'pg_class'::regclass \
  UNION ALL SELECT concat('a', a.attrelid, ' ', a.attnum, ' ', a.xmin) FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid \
  UNION ALL SELECT concat('k', k.oid, ' ', k.xmin) FROM own o JOIN pg_constraint k ON k.oid = o.objid WHERE o.classid = 'pg_constraint'::regclass \
  UNION ALL SELECT concat('t', t.oid, ' ', t.xmin) FROM own o JOIN pg_type t ON t.oid = o.objid WHERE o.classid = 'pg_type'::regclass \
  UNION ALL SELECT concat('p', p.oid, ' ', p.xmin) FROM own o JOIN pg_proc p ON p.oid = o.objid WHERE o.classid = 'pg_proc'::regclass \
  UNION ALL SELECT concat('d', f.oid, ' ', f.xmin) FROM own o JOIN pg_attrdef f ON f.oid = o.objid WHERE o.classid = 'pg_attrdef'::regclass) x (line)";

/// Which of these objects, by name, the database has.
pub(super) const PRESENT: &str = "SELECT i.type, i.identity FROM ( \
  SELECT 'pg_operator'::regclass::oid, oid FROM pg_operator UNION ALL SELECT 'pg_opclass'::regclass::oid, oid FROM pg_opclass \
  UNION ALL SELECT 'pg_opfamily'::regclass::oid, oid FROM pg_opfamily UNION ALL SELECT 'pg_am'::regclass::oid, oid FROM pg_am \
  UNION ALL SELECT 'pg_ts_config'::regclass::oid, oid FROM pg_ts_config UNION ALL SELECT 'pg_ts_dict'::regclass::oid, oid FROM pg_ts_dict \
  UNION ALL SELECT 'pg_ts_parser'::regclass::oid, oid FROM pg_ts_parser \
  UNION ALL SELECT 'pg_ts_template'::regclass::oid, oid FROM pg_ts_template \
  UNION ALL SELECT 'pg_language'::regclass::oid, oid FROM pg_language UNION ALL SELECT 'pg_cast'::regclass::oid, oid FROM pg_cast \
  UNION ALL SELECT 'pg_class'::regclass::oid, oid FROM pg_class WHERE relkind IN ('v', 'm', 'f') \
  UNION ALL SELECT 'pg_type'::regclass::oid, oid FROM pg_type WHERE typtype IN ('b', 'p') OR typrelid <> 0 \
  UNION ALL SELECT 'pg_proc'::regclass::oid, oid FROM pg_proc) o (classid, objid) \
  CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i WHERE o.objid >= 16384 AND i.identity = ANY ($1)";
