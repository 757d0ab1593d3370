//! Tables as a comparison needs them: which columns both sides have, and in which form they can be compared.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Published;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// A table of one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    columns: BTreeMap<Ident, Column>,
    is_partitioned: bool,
    /// The columns of its replica identity or its primary key, in their order; empty where it has neither.
    key: Vec<Ident>,
    /// What its rows take on disk, partitions included.
    bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    /// Its type without a modifier; of a domain, the type below it.
    ty: String,
    /// Whether the server hashes its values as every other server does.
    is_hashed_alike: bool,
    /// Whether texts that differ may be equal under its collation.
    is_lax: bool,
    is_generated: bool,
}

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// By its value.
    Value,
    /// By its text, letter by letter.
    Exact,
    /// By its text.
    Text,
}

/// A table that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparable {
    /// Its name on both sides.
    pub name: QualifiedName,
    /// What tells its rows apart: the columns of its key, or all of them where it has none.
    pub key: Vec<Ident>,
    /// What its rows take on the publisher's disk, in bytes.
    pub bytes: u64,
    pub(super) columns: Vec<(Ident, Form)>,
    pub(super) filter: Option<String>,
    pub(super) publisher_is_partitioned: bool,
    pub(super) subscriber_is_partitioned: bool,
}

/// Why a table cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incomparable {
    /// It is not there on the publisher, or holds no rows of its own.
    NotOnPublisher,
    /// The same on the subscriber.
    NotOnSubscriber,
    /// The subscriber lacks these of its columns.
    NoColumns(BTreeSet<Ident>),
}

impl Comparable {
    /// The columns that are compared, in the order of their names.
    pub fn columns(&self) -> impl Iterator<Item = &Ident> {
        self.columns.iter().map(|(name, _)| name)
    }
}

/// What can be compared of a table that is published like this, or as a whole.
///
/// # Errors
/// When one side lacks it or a part of it.
pub fn comparable(
    name: &QualifiedName,
    published: Option<&Published>,
    publisher: Option<&Shape>,
    subscriber: Option<&Shape>,
) -> std::result::Result<Comparable, Incomparable> {
    let publisher = publisher.ok_or(Incomparable::NotOnPublisher)?;
    let subscriber = subscriber.ok_or(Incomparable::NotOnSubscriber)?;
    let listed = published.and_then(|published| published.columns.as_ref());
    let is_sent = |name: &Ident, column: &Column| match listed {
        Some(listed) => listed.contains(name),
        None => !column.is_generated,
    };
    let sent: Vec<_> = publisher.columns.iter().filter(|(name, column)| is_sent(name, column)).collect();
    let missing = sent.iter().filter(|(name, _)| !subscriber.columns.contains_key(*name));
    let missing: BTreeSet<_> = missing.map(|(name, _)| Ident::clone(name)).collect();
    if !missing.is_empty() {
        return Err(Incomparable::NoColumns(missing));
    }
    let both = sent.into_iter().filter_map(|(name, column)| Some((name, column, subscriber.columns.get(name)?)));
    let columns: Vec<_> = both.map(|(name, one, other)| (name.clone(), form(one, other))).collect();
    let has = |name: &Ident| columns.iter().any(|(column, _)| column == name);
    let key = match publisher.key.is_empty() || !publisher.key.iter().all(has) {
        false => publisher.key.clone(),
        true => columns.iter().map(|(name, _)| name.clone()).collect(),
    };
    Ok(Comparable {
        name: name.clone(),
        key,
        bytes: publisher.bytes,
        columns,
        filter: published.and_then(|published| published.filter.clone()),
        publisher_is_partitioned: publisher.is_partitioned,
        subscriber_is_partitioned: subscriber.is_partitioned,
    })
}

fn form(one: &Column, other: &Column) -> Form {
    if one.ty != other.ty {
        return Form::Text;
    }
    match (one.is_lax || other.is_lax, one.is_hashed_alike && other.is_hashed_alike) {
        (true, _) => Form::Exact,
        (false, true) => Form::Value,
        (false, false) => Form::Text,
    }
}

/// Types that every server of every version hashes to the same number. Not among them are those without a hash function,
/// such as json, and enums, which are hashed by an oid.
const HASHED_ALIKE: &str = "'bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'text', 'varchar', 'bpchar', 'name', \
    'char', 'bytea', 'uuid', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'inet', 'cidr', 'macaddr', \
    'macaddr8', 'jsonb'";

/// Those of the tables that exist and can hold rows.
///
/// # Errors
/// When the server cannot be asked.
pub async fn shapes(db: &Database, names: &BTreeSet<QualifiedName>) -> Result<BTreeMap<QualifiedName, Shape>> {
    let doing = "reading the columns of tables";
    let schemas: Vec<&str> = names.iter().map(|table| table.schema.as_str()).collect();
    let tables: Vec<&str> = names.iter().map(|table| table.name.as_str()).collect();
    let rows = db.query(doing, &query(), &[(&schemas, Type::TEXT_ARRAY), (&tables, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(read).collect::<RowResult<_>>().map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// One row for each table, its columns side by side, with marks: `h` is hashed alike, `l` is lax, `g` is generated.
fn query() -> String {
    format!(
        "SELECT w.s, w.t, c.relkind = 'p', k.names, k.types, k.marks, i.names, \
         (SELECT coalesce(sum(pg_relation_size(l.oid)), 0)::bigint FROM pg_class l WHERE l.relkind = 'r' AND l.oid IN \
           (SELECT c.oid UNION ALL SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p')) \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p') \
         CROSS JOIN LATERAL (SELECT coalesce(array_agg(a.attname::text), '{{}}') AS names, \
           coalesce(array_agg(format_type(b.oid, NULL)), '{{}}') AS types, \
           coalesce(array_agg(concat(CASE WHEN v.typnamespace = 'pg_catalog'::regnamespace AND v.typname IN ({HASHED_ALIKE}) \
             AND b.oid IN (v.oid, v.typarray) THEN 'h' END, CASE WHEN NOT coalesce(l.collisdeterministic, true) THEN 'l' END, \
             CASE WHEN a.attgenerated <> '' THEN 'g' END)), '{{}}') AS marks \
           FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid \
           JOIN pg_type b ON b.oid = CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE y.oid END \
           JOIN pg_type v ON v.oid = CASE WHEN b.typcategory = 'A' AND b.typelem <> 0 THEN b.typelem ELSE b.oid END \
           LEFT JOIN pg_collation l ON l.oid = a.attcollation \
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) k \
         LEFT JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY o.place) AS names FROM pg_index x \
           CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS o (attnum, place) \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = o.attnum \
           WHERE x.indrelid = c.oid AND o.place <= x.indnkeyatts \
           AND CASE c.relreplident WHEN 'i' THEN x.indisreplident ELSE x.indisprimary END) i ON true"
    )
}

fn read(row: &Row) -> RowResult<(QualifiedName, Shape)> {
    let (names, types, marks): (Vec<&str>, Vec<&str>, Vec<&str>) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let column = |((name, ty), marks): ((&str, &str), &str)| {
        let [is_hashed_alike, is_lax, is_generated] = ['h', 'l', 'g'].map(|mark| marks.contains(mark));
        (Ident::from_catalog(name), Column { ty: ty.to_owned(), is_hashed_alike, is_lax, is_generated })
    };
    let key: Option<Vec<&str>> = row.try_get(6)?;
    let shape = Shape {
        columns: names.into_iter().zip(types).zip(marks).map(column).collect(),
        is_partitioned: row.try_get(2)?,
        key: key.into_iter().flatten().map(Ident::from_catalog).collect(),
        bytes: u64::try_from(row.try_get::<_, i64>(7)?).unwrap_or_default(),
    };
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), shape))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::postgres::comparison) fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    /// A table from `name:type` with `#` for one that is hashed alike, `~` for one with a lax collation and `=` for a
    /// generated one; the key comes after a bar.
    pub(in crate::postgres::comparison) fn shape(text: &str) -> Shape {
        let (columns, key) = text.split_once('|').unwrap_or((text, ""));
        let column = |text: &str| {
            let (name, ty) = text.split_once(':').unwrap();
            let has = |mark: char| ty.contains(mark);
            let column = Column {
                ty: ty.trim_end_matches(['#', '~', '=']).to_owned(),
                is_hashed_alike: has('#'),
                is_lax: has('~'),
                is_generated: has('='),
            };
            (ident(name), column)
        };
        let key = key.split_whitespace().map(ident).collect();
        Shape { columns: columns.split_whitespace().map(column).collect(), key, ..Shape::default() }
    }

    fn compared(publisher: &str, subscriber: &str, listed: Option<&str>) -> std::result::Result<String, Incomparable> {
        let columns = listed.map(|listed| listed.split_whitespace().map(ident).collect());
        let published = Published { columns, filter: None };
        let name = QualifiedName::parse("t").unwrap();
        let table = comparable(&name, Some(&published), Some(&shape(publisher)), Some(&shape(subscriber)))?;
        let columns: Vec<_> = table.columns.iter().map(|(name, form)| format!("{} {form:?}", name.as_str())).collect();
        let key: Vec<_> = table.key.iter().map(Ident::as_str).collect();
        Ok(format!("{} by {}", columns.join(", "), key.join(" ")))
    }

    #[test]
    fn columns_are_compared_by_value_where_both_servers_hash_them_alike() {
        let publisher = "a:int4# b:mood c:text#~ d:int4# |a";
        let subscriber = "a:int4# b:mood c:text# d:int8# e:text#";
        let expected = "\"a\" Value, \"b\" Text, \"c\" Exact, \"d\" Text by \"a\"".replace('"', "");
        assert_eq!(compared(publisher, subscriber, None), Ok(expected));
    }

    #[test]
    fn what_is_not_sent_is_not_compared() {
        assert_eq!(compared("a:int4# b:int4#= c:int4# |a", "a:int4# c:int4#", None).unwrap(), "a Value, c Value by a");
        assert_eq!(
            compared("a:int4# b:int4#= c:int4# |a", "a:int4# b:int4#", Some("a b")).unwrap(),
            "a Value, b Value by a"
        );
        let lacking = compared("a:int4# c:int4#", "a:int4#", None);
        assert_eq!(lacking, Err(Incomparable::NoColumns([ident("c")].into())));
    }

    #[test]
    fn rows_without_a_key_that_is_sent_are_told_apart_by_all_of_them() {
        assert_eq!(compared("a:int4# b:int4#", "a:int4# b:int4#", None).unwrap(), "a Value, b Value by a b");
        assert_eq!(compared("a:int4# b:int4# |a", "b:int4#", Some("b")).unwrap(), "b Value by b");
    }

    #[test]
    fn a_table_that_one_side_lacks_cannot_be_compared() {
        let name = QualifiedName::parse("t").unwrap();
        let there = shape("a:int4#");
        assert_eq!(comparable(&name, None, None, Some(&there)), Err(Incomparable::NotOnPublisher));
        assert_eq!(comparable(&name, None, Some(&there), None), Err(Incomparable::NotOnSubscriber));
    }
}
