// SPDX-License-Identifier: MPL-2.0

//! The statements between two publications.

use std::fmt::Write as _;

use super::{Publication, TableSpec, Target};
use crate::postgres::sql::{Ident, Literal, QualifiedName, Statement, list};
use crate::postgres::version::{ServerVersion, Unsupported};

/// The statements that turn `current` into `desired`; none if they are equal. `None` means that it does not exist.
///
/// Everything runs in one transaction. Fails if the server's version lacks a feature of `desired`.
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
            let owner = desired.owner.as_ref().map(|owner| change_owner(&desired.name, owner));
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
        statements.push(Statement::new(format!("ALTER PUBLICATION {} RENAME TO {name}", current.name)));
    }
    let options = changed_options(current, desired);
    let set_options =
        (!options.is_empty()).then(|| Statement::new(format!("ALTER PUBLICATION {name} SET ({})", list(options))));
    let set_members = change_members(current, desired);
    // Filters and column lists of partitioned tables need publish_via_partition_root as long as they exist.
    if desired.via_partition_root {
        statements.extend(set_options.into_iter().chain(set_members));
    } else {
        statements.extend(set_members.into_iter().chain(set_options));
    }
    if let Some(owner) = desired.owner.as_ref().filter(|owner| current.owner.as_ref() != Some(owner)) {
        statements.push(change_owner(name, owner));
    }
    statements
}

/// Postgres cannot turn a list into all tables, or back. In one transaction, no subscription sees the gap.
fn replace(current: &Publication, desired: &Publication) -> Vec<Statement> {
    let owner = desired.owner.as_ref().or(current.owner.as_ref());
    let owner = owner.map(|owner| change_owner(&desired.name, owner));
    [drop_publication(&current.name), create(desired)].into_iter().chain(owner).collect()
}

/// The options whose values differ, for `SET (…)` and `WITH (…)`.
fn changed_options(current: &Publication, desired: &Publication) -> Vec<String> {
    let mut options = Vec::new();
    if current.publish != desired.publish {
        let operations = list(desired.publish.iter().map(|operation| operation.as_str()));
        options.push(format!("publish = {}", Literal(&operations)));
    }
    if current.via_partition_root != desired.via_partition_root {
        options.push(format!("publish_via_partition_root = {}", desired.via_partition_root));
    }
    if current.generated_columns != desired.generated_columns {
        options.push(format!("publish_generated_columns = {}", desired.generated_columns.as_str()));
    }
    options
}

/// `ADD`, `DROP` or `SET` of tables and schemas: as few statements, and as few members in them, as possible.
fn change_members(current: &Publication, desired: &Publication) -> Vec<Statement> {
    let (Target::Lists { tables: old, schemas: old_schemas }, Target::Lists { tables: new, schemas: new_schemas }) =
        (&current.target, &desired.target)
    else {
        return Vec::new();
    };
    let name = &desired.name;
    let statement = |verb: &str, members: String| Statement::new(format!("ALTER PUBLICATION {name} {verb} {members}"));
    let gone = |table: &QualifiedName, spec: &TableSpec| new.get(table) != Some(spec);
    let dropped: Vec<_> = old.iter().filter(|(table, spec)| gone(table, spec)).map(|(table, _)| table).collect();
    let added: Vec<_> = new.iter().filter(|(table, spec)| old.get(table) != Some(spec)).collect();
    let dropped_schemas: Vec<_> = old_schemas.difference(new_schemas).collect();
    let added_schemas: Vec<_> = new_schemas.difference(old_schemas).collect();
    let drops = !(dropped.is_empty() && dropped_schemas.is_empty());
    let adds = !(added.is_empty() && added_schemas.is_empty());
    // SET with a schema needs a superuser, even if the schema stays: do not use it then.
    let only_tables = dropped_schemas.is_empty() && added_schemas.is_empty() && !new_schemas.is_empty();
    if drops && adds && !only_tables {
        return vec![statement("SET", members(new.iter(), new_schemas.iter()))];
    }
    let whole = TableSpec::default();
    let drop = drops.then(|| {
        statement("DROP", members(dropped.into_iter().map(|table| (table, &whole)), dropped_schemas.into_iter()))
    });
    let add = adds.then(|| statement("ADD", members(added.into_iter(), added_schemas.into_iter())));
    drop.into_iter().chain(add).collect()
}

/// `TABLE ONLY a, ONLY b, TABLES IN SCHEMA c, d`.
fn members<'a>(
    tables: impl Iterator<Item = (&'a QualifiedName, &'a TableSpec)>,
    schemas: impl Iterator<Item = &'a Ident>,
) -> String {
    let (tables, schemas) = (list(tables.map(|(table, spec)| member(table, spec))), list(schemas));
    let tables = (!tables.is_empty()).then(|| format!("TABLE {tables}"));
    let schemas = (!schemas.is_empty()).then(|| format!("TABLES IN SCHEMA {schemas}"));
    list(tables.into_iter().chain(schemas))
}

/// One table. `ONLY`, because Postgres would add the children of an inheritance parent as members of their own;
/// the partitions of a partitioned table are published with or without it.
pub(super) fn member(table: &QualifiedName, spec: &TableSpec) -> String {
    let mut text = format!("ONLY {table}");
    if let Some(columns) = &spec.columns {
        let _ = write!(text, " ({})", list(columns));
    }
    if let Some(filter) = &spec.filter {
        let _ = write!(text, " WHERE {}", filter.enclosed());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::publication::{GeneratedColumns, Operation, RowFilter};
    use expect_test::{Expect, expect};
    use std::collections::{BTreeMap, BTreeSet};

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
            let (item, filter) = item.split_once('?').map_or((item, None), |(item, filter)| (item, Some(filter)));
            let (name, columns) = item.split_once('(').map_or((item, None), |(name, columns)| (name, Some(columns)));
            let spec = TableSpec {
                columns: columns.map(|columns| columns.trim_end_matches(')').split(',').map(ident).collect()),
                filter: filter.map(|filter| RowFilter::new(filter).unwrap()),
            };
            tables.insert(QualifiedName::parse(name).unwrap(), spec);
        }
        Target::Lists { tables, schemas }
    }

    fn publication(text: &str) -> Publication {
        let target = if text == "ALL" { Target::AllTables } else { lists(text) };
        Publication { owner: Some(ident("me")), ..Publication::new(ident("p"), target) }
    }

    fn text(current: Option<&Publication>, desired: Option<&Publication>, major: u32) -> String {
        match diff(current, desired, ServerVersion::major_only(major)) {
            Ok(statements) => statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Err(error) => error.to_string(),
        }
    }

    fn check_create(desired: &Publication, expected: Expect) {
        let desired = Publication { owner: None, ..desired.clone() };
        expected.assert_eq(&text(None, Some(&desired), 18));
    }

    fn check_alter(current: &str, desired: &str, expected: Expect) {
        expected.assert_eq(&text(Some(&publication(current)), Some(&publication(desired)), 18));
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
            assert_eq!(text(Some(&publication(target)), Some(&publication(target)), 18), "");
        }
        assert_eq!(text(None, None, 14), "");
    }

    #[test]
    fn creating() {
        check_create(&publication(""), expect![[r#"CREATE PUBLICATION "p""#]]);
        check_create(&publication("ALL"), expect![[r#"CREATE PUBLICATION "p" FOR ALL TABLES"#]]);
        check_create(
            &publication("a s.b"),
            expect![[r#"CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a", ONLY "s"."b""#]],
        );
        check_create(&publication("x.* y.*"), expect![[r#"CREATE PUBLICATION "p" FOR TABLES IN SCHEMA "x", "y""#]]);
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
        let nothing = Publication { publish: BTreeSet::new(), ..publication("") };
        check_create(&nothing, expect![[r#"CREATE PUBLICATION "p" WITH (publish = '')"#]]);
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
        let table = QualifiedName { schema: ident("a.b"), name: ident(hostile) };
        let publication = Publication { name: ident(hostile), ..Publication::new(ident("p"), Target::tables([table])) };
        check_create(
            &publication,
            expect![[r#"CREATE PUBLICATION "x""; DROP TABLE t; --" FOR TABLE ONLY "a.b"."x""; DROP TABLE t; --""#]],
        );
        expect![[r#"DROP PUBLICATION "x""; DROP TABLE t; --""#]].assert_eq(&text(Some(&publication), None, 14));
    }

    #[test]
    fn changing_tables() {
        check_alter("a", "a b", expect![[r#"ALTER PUBLICATION "p" ADD TABLE ONLY "public"."b""#]]);
        check_alter("a b", "b", expect![[r#"ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a""#]]);
        check_alter("a b", "", expect![[r#"ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a", ONLY "public"."b""#]]);
        check_alter("", "a", expect![[r#"ALTER PUBLICATION "p" ADD TABLE ONLY "public"."a""#]]);
        check_alter("a", "b", expect![[r#"ALTER PUBLICATION "p" SET TABLE ONLY "public"."b""#]]);
        check_alter(
            "a b",
            "a(x) b",
            expect![[r#"ALTER PUBLICATION "p" SET TABLE ONLY "public"."a" ("x"), ONLY "public"."b""#]],
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
        check_alter("a", "a s.*", expect![[r#"ALTER PUBLICATION "p" ADD TABLES IN SCHEMA "s""#]]);
        check_alter("a s.*", "a", expect![[r#"ALTER PUBLICATION "p" DROP TABLES IN SCHEMA "s""#]]);
        check_alter(
            "a s.*",
            "",
            expect![[r#"ALTER PUBLICATION "p" DROP TABLE ONLY "public"."a", TABLES IN SCHEMA "s""#]],
        );
        check_alter("s.*", "a", expect![[r#"ALTER PUBLICATION "p" SET TABLE ONLY "public"."a""#]]);
        check_alter("a(x)", "s.*", expect![[r#"ALTER PUBLICATION "p" SET TABLES IN SCHEMA "s""#]]);
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
        let statements =
            diff(Some(&publication("ALL")), Some(&publication("a")), ServerVersion::major_only(14)).unwrap();
        assert!(statements.iter().all(|statement| statement.scope() == crate::postgres::Scope::Transaction));
    }

    #[test]
    fn changing_options_name_and_owner() {
        check_change(
            |p| {
                p.publish.retain(|operation| *operation != Operation::Delete);
            },
            expect![[r#"ALTER PUBLICATION "p" SET (publish = 'insert, update, truncate')"#]],
        );
        check_change(
            |p| p.generated_columns = GeneratedColumns::Stored,
            expect![[r#"ALTER PUBLICATION "p" SET (publish_generated_columns = stored)"#]],
        );
        check_change(|p| p.owner = Some(ident("you")), expect![[r#"ALTER PUBLICATION "p" OWNER TO "you""#]]);
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
        let rooted = Publication { via_partition_root: true, ..publication("a?x>1") };
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
        assert_eq!(create("a(x)", 14), "columns needs Postgres 15 or newer; the server runs 14.0");
        assert_eq!(create("a?x>1", 14), "where needs Postgres 15 or newer; the server runs 14.0");
        assert_eq!(create("s.*", 14), "schemas needs Postgres 15 or newer; the server runs 14.0");
        let stored = Publication { generated_columns: GeneratedColumns::Stored, ..publication("a") };
        assert_eq!(
            text(None, Some(&stored), 17),
            "publish_generated_columns needs Postgres 18 or newer; the server runs 17.0"
        );
    }
}
