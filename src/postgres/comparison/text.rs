// SPDX-License-Identifier: MPL-2.0

//! The texts of the queries that count, hash and fetch. Pure.

use super::comparable::Comparable;
use super::fineness::Fineness;
use crate::postgres::catalog::Equality;
use crate::postgres::sql::{Ident, list};

/// The table itself: with all partitions if it is partitioned, otherwise without tables that inherit from it.
fn itself(table: &Comparable, is_partitioned: bool) -> String {
    let only = if is_partitioned { "" } else { "ONLY " };
    format!("{only}{}", table.name)
}

/// Its rows to compare, on one side.
fn from(table: &Comparable, is_partitioned: bool) -> String {
    let filter = table.filter.as_ref().map_or("true", String::as_str);
    format!("FROM {} WHERE ({filter})", itself(table, is_partitioned))
}

/// Locks tables in a mode, including partitions.
pub(super) fn lock<'a>(tables: impl Iterator<Item = &'a Comparable>, mode: &str) -> String {
    let names = tables.map(|table| itself(table, table.publisher_is_partitioned));
    format!("LOCK TABLE {} IN {mode} MODE", list(names))
}

pub(super) fn count(table: &Comparable, is_partitioned: bool) -> String {
    format!("SELECT count(*) {}", from(table, is_partitioned))
}

/// The number of rows, and a sum of their hashes that does not overflow.
pub(super) fn checksum(table: &Comparable, is_partitioned: bool) -> String {
    let hash = hash(table.columns.iter());
    format!("SELECT count(*), coalesce(sum({hash}::numeric), 0)::text {}", from(table, is_partitioned))
}

/// A row for each table, in order: its position, the number of rows, and the sum if asked for.
pub(super) fn totals(tables: &[(&Comparable, bool)], with_sums: bool) -> String {
    let each = tables.iter().enumerate().map(|(place, (table, is_partitioned))| {
        let (hash, from) = (hash(table.columns.iter()), from(table, *is_partitioned));
        let sum = if with_sums { format!("coalesce(sum({hash}::numeric), 0)::text") } else { "''".to_owned() };
        format!("(SELECT {place}, count(*), {sum} {from})")
    });
    format!("{} ORDER BY 1", each.collect::<Vec<_>>().join(" UNION ALL "))
}

/// The same for each bucket of keys that has rows.
pub(super) fn buckets(table: &Comparable, is_partitioned: bool, fineness: Fineness) -> String {
    let (bucket, hash) = (bucket(table, fineness), hash(table.columns.iter()));
    let from = from(table, is_partitioned);
    format!("SELECT {bucket}, count(*), sum({hash}::numeric)::text {from} GROUP BY 1")
}

/// The same for each of the finer buckets that make up some buckets.
pub(super) fn parts(table: &Comparable, is_partitioned: bool, fineness: Fineness, finer: Fineness) -> String {
    let (part, bucket, hash) = (bucket(table, finer), bucket(table, fineness), hash(table.columns.iter()));
    let from = from(table, is_partitioned);
    format!("SELECT {part}, count(*), sum({hash}::numeric)::text {from} AND {bucket} = ANY ($1) GROUP BY 1")
}

/// The rows of some buckets, sorted by the hash of their key and then by the key: the hash, the key, and a hash of each
/// column.
pub(super) fn rows(table: &Comparable, is_partitioned: bool, fineness: Fineness) -> String {
    let key: Vec<_> = keys(table).map(|(name, _)| format!("{name}::text COLLATE \"C\"")).collect();
    let columns: Vec<_> = table.columns.iter().map(|column| hash(std::iter::once(column))).collect();
    let (hash, from, bucket) = (hash(keys(table)), from(table, is_partitioned), bucket(table, fineness));
    format!(
        "SELECT {hash}, ARRAY[{}]::text[] COLLATE \"C\", ARRAY[{}]::bigint[] {from} AND {bucket} = ANY ($1) ORDER BY 1, 2",
        key.join(", "),
        columns.join(", "),
    )
}

fn keys(table: &Comparable) -> impl Iterator<Item = (&Ident, &Equality)> {
    table.key.iter().filter_map(|name| table.columns.get_key_value(name))
}

fn bucket(table: &Comparable, fineness: Fineness) -> String {
    format!("({} & {})", hash(keys(table)), fineness.mask())
}

/// The hash of a row of these columns, a bigint. A row without columns has one too.
fn hash<'a>(columns: impl Iterator<Item = (&'a Ident, &'a Equality)>) -> String {
    let values = columns.map(|(name, equality)| match equality {
        Equality::Value => name.to_string(),
        Equality::Letters => format!("{name}::text COLLATE \"C\""),
        Equality::Text => format!("{name}::text"),
    });
    let values = list(values);
    if values.is_empty() { "0::bigint".to_owned() } else { format!("hash_record_extended(ROW({values}), 0)") }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::comparable::tests::{primary, table as columns};
    use super::super::{Published, comparable};
    use super::*;
    use crate::postgres::sql::QualifiedName;

    fn table(filter: Option<&str>) -> Comparable {
        let published = Published { columns: None, filter: filter.map(str::to_owned) };
        let both = columns("id:integer# \"mo\"od:mood c:text#~");
        let publisher = (Some(&both), &*primary("id"));
        comparable(&QualifiedName::parse("s.t").unwrap(), Some(&published), publisher, Some(&both)).unwrap()
    }

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(text);
    }

    #[test]
    fn each_side_counts_its_own_rows_of_what_is_published() {
        check(&count(&table(None), false), &expect![[r#"SELECT count(*) FROM ONLY "s"."t" WHERE (true)"#]]);
        let filtered = count(&table(Some("(id > 1)")), true);
        check(&filtered, &expect![[r#"SELECT count(*) FROM "s"."t" WHERE ((id > 1))"#]]);
        let (one, other) = (table(None), table(Some("(id > 1)")));
        check(
            &totals(&[(&one, false), (&other, true)], false),
            &expect![[
                r#"(SELECT 0, count(*), '' FROM ONLY "s"."t" WHERE (true)) UNION ALL (SELECT 1, count(*), '' FROM "s"."t" WHERE ((id > 1))) ORDER BY 1"#
            ]],
        );
    }

    #[test]
    fn each_column_is_hashed_in_its_form() {
        let expected = expect![[
            r#"SELECT count(*), coalesce(sum(hash_record_extended(ROW("""mo""od"::text, "c"::text COLLATE "C", "id"), 0)::numeric), 0)::text FROM ONLY "s"."t" WHERE (true)"#
        ]];
        check(&checksum(&table(None), false), &expected);
    }

    #[test]
    fn rows_come_in_the_same_order_from_both_sides() {
        let expected = expect![[
            r#"SELECT hash_record_extended(ROW("id"), 0), ARRAY["id"::text COLLATE "C"]::text[] COLLATE "C", ARRAY[hash_record_extended(ROW("""mo""od"::text), 0), hash_record_extended(ROW("c"::text COLLATE "C"), 0), hash_record_extended(ROW("id"), 0)]::bigint[] FROM ONLY "s"."t" WHERE (id > 1) AND (hash_record_extended(ROW("id"), 0) & 4095) = ANY ($1) ORDER BY 1, 2"#
        ]];
        check(&rows(&table(Some("id > 1")), false, Fineness::FIRST), &expected);
    }

    #[test]
    fn parts_are_those_of_some_buckets() {
        let expected = expect![[
            r#"SELECT (hash_record_extended(ROW("id"), 0) & 16383), count(*), sum(hash_record_extended(ROW("""mo""od"::text, "c"::text COLLATE "C", "id"), 0)::numeric)::text FROM ONLY "s"."t" WHERE (true) AND (hash_record_extended(ROW("id"), 0) & 4095) = ANY ($1) GROUP BY 1"#
        ]];
        let finer = Fineness::FIRST.finer(4).unwrap();
        check(&parts(&table(None), false, Fineness::FIRST, finer), &expected);
    }

    #[test]
    fn several_tables_are_locked_at_once() {
        let (one, mut other) = (table(None), table(None));
        other.publisher_is_partitioned = true;
        let text = lock([&one, &other].into_iter(), "SHARE");
        check(&text, &expect![[r#"LOCK TABLE ONLY "s"."t", "s"."t" IN SHARE MODE"#]]);
    }
}
