// SPDX-License-Identifier: MPL-2.0

//! The objects that are created after the copy, without blocking readers and writers: indexes, foreign keys and
//! extended statistics. Pure.
//!
//! An index is built `CONCURRENTLY`. This is impossible for a partitioned table, so each of its partitions gets an index first. Then
//! the partitioned table gets its own, which is only an entry in the catalog, and attaches those of the partitions one by
//! one. A foreign key is added `NOT VALID`, which reads no row, and validated by a separate statement. For a partitioned
//! table this is done on each partition, and the partitioned table then adopts the keys at once.
//!
//! The subscriber's own partitions count, not the publisher's. An index of a partition that only the subscriber has
//! gets a name that follows from the names of both, so that the next attempt finds it.

mod indexes;
mod keys;

use std::collections::{BTreeMap, BTreeSet};

pub use keys::drops_of_keys;

use super::likeness::is_alike;
use super::model::{ConstraintKind, Definition, Table};
use super::object::Object;
use crate::postgres::sql::{Ident, QualifiedName, Statement};

/// The objects that are created after the copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Late {
    /// The missing or incomplete indexes, each with those of partitions.
    pub indexes: Vec<LateIndex>,
    /// The foreign keys that are missing, or not validated.
    pub keys: Vec<LateKey>,
    /// The extended statistics that are missing.
    pub statistics: Vec<Turn>,
    /// The objects that exist and are complete.
    pub there: BTreeSet<Object>,
    /// Different objects with the same name, with what to do, one sentence each.
    pub otherwise: Vec<String>,
}

impl Late {
    /// The new objects whose names no object that was read has, each with its table.
    pub fn new_names(&self) -> BTreeMap<Object, QualifiedName> {
        let indexes = self.indexes.iter().flat_map(|index| &index.names);
        let indexes = indexes.map(|(name, table)| (Object::Index(name.clone()), table.clone()));
        let statistics =
            self.statistics.iter().filter_map(|turn| Some((turn.object.clone(), turn.tables.first()?.clone())));
        indexes.chain(statistics).collect()
    }

    /// Removes objects whose names are taken; `taken` says by what.
    pub fn without(mut self, taken: &BTreeMap<Object, String>) -> Self {
        let mut told = Vec::new();
        let mut keeps = |names: Vec<Object>| {
            let found = names.into_iter().find_map(|object| Some((taken.get(&object)?, object)));
            let found = found.map(|(other, object)| {
                format!(
                    "{object} cannot be created: {other} on the subscriber has that name. Rename the latter \
                     there, and apply again"
                )
            });
            let is_free = found.is_none();
            told.extend(found);
            is_free
        };
        self.indexes.retain(|index| keeps(index.names.keys().cloned().map(Object::Index).collect()));
        self.statistics.retain(|turn| keeps(vec![turn.object.clone()]));
        self.otherwise.extend(told);
        self
    }
}

/// Statements that end at once after they get their locks. They should not wait long for these, because others
/// queue behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The object that they create.
    pub object: Object,
    /// The tables that they lock.
    pub tables: Vec<QualifiedName>,
    /// The statements, all in one transaction.
    pub statements: Vec<Statement>,
}

/// A requested index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateIndex {
    /// Its name.
    pub name: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// The new names of it and of the partitions' indexes that no object that was read has, each with its table.
    pub names: BTreeMap<QualifiedName, QualifiedName>,
    /// The indexes to build: itself, or one for each partition.
    pub builds: Vec<IndexBuild>,
    /// The statements that follow, in order.
    pub turns: Vec<Turn>,
}

/// One index that is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexBuild {
    /// Its name.
    pub name: QualifiedName,
    /// Its table, which is not partitioned.
    pub table: QualifiedName,
    /// Whether it is unique.
    pub is_unique: bool,
    /// Whether an earlier attempt left it unfinished.
    pub is_left_over: bool,
    /// Whether it is already attached to another index, so that it can only be rebuilt in place.
    pub is_attached: bool,
    /// The statement that builds it.
    pub create: Statement,
}

impl IndexBuild {
    /// The statements that build it, each in a transaction of its own.
    pub fn statements(&self) -> Vec<Statement> {
        if self.is_left_over && self.is_attached {
            return vec![Statement::alone(format!("REINDEX INDEX CONCURRENTLY {}", self.name))];
        }
        let drop = self.is_left_over.then(|| drop_left_over(&self.name));
        drop.into_iter().chain([self.create.clone()]).collect()
    }
}

/// The statement that drops an index after a failed build: it would still be updated, and a unique one would still
/// refuse rows.
pub fn drop_left_over(index: &QualifiedName) -> Statement {
    Statement::alone(format!("DROP INDEX CONCURRENTLY IF EXISTS {index}"))
}

/// A requested foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateKey {
    /// Its table.
    pub table: QualifiedName,
    /// Its name.
    pub name: Ident,
    /// The table that it refers to.
    pub references: QualifiedName,
    /// The unique index that it depends on, if that does not belong to a constraint.
    pub counts_on: Option<QualifiedName>,
    /// Its steps, in order.
    pub steps: Vec<KeyStep>,
}

/// A step of a foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// It is added without reading rows.
    Add(Turn),
    /// The rows of a table are checked.
    Validate(QualifiedName, Statement),
}

/// The objects that `wanted` has and `there` lacks.
pub fn late(wanted: &Definition, there: &Definition) -> Late {
    let mut plan = Plan { wanted, there, children: there.children(), late: Late::default() };
    for (name, index) in &wanted.indexes {
        if index.is_valid && there.tables.contains_key(&index.table) && !plan.is_part(index) {
            plan.index(name, index);
        }
    }
    for (name, table) in wanted.tables.iter().filter(|(name, _)| there.tables.contains_key(name)) {
        for constraint in table.constraints.values().filter(|one| one.kind == ConstraintKind::ForeignKey) {
            plan.key(name, constraint);
        }
    }
    plan.statistics();
    plan.late
}

/// The existing objects, and the missing tables of `wanted` without the objects that are created after the copy.
pub fn with_tables_of(there: &Definition, wanted: &Definition) -> Definition {
    let mut planned = there.clone();
    for (name, table) in wanted.tables.iter().filter(|(name, _)| !there.tables.contains_key(name)) {
        let mut table = table.clone();
        table.constraints.retain(|_, constraint| constraint.kind != ConstraintKind::ForeignKey);
        planned.tables.insert(name.clone(), table);
    }
    planned
}

struct Plan<'a> {
    wanted: &'a Definition,
    there: &'a Definition,
    /// The children of existing tables.
    children: BTreeMap<&'a QualifiedName, Vec<&'a QualifiedName>>,
    late: Late,
}

impl<'a> Plan<'a> {
    /// The existing partitions of a table, by name.
    fn parts(&self, table: &QualifiedName) -> Vec<&'a QualifiedName> {
        let is_partition = |name: &&QualifiedName| self.there.tables.get(*name).is_some_and(Table::is_partition);
        self.children.get(table).into_iter().flatten().copied().filter(is_partition).collect()
    }

    fn statistics(&mut self) {
        for (name, statistics) in &self.wanted.statistics {
            let object = Object::Statistics(name.clone());
            match self.there.statistics.get(name) {
                Some(has) if is_alike(&statistics.definition, &has.definition) => {
                    self.late.there.insert(object);
                }
                Some(has) => self.late.otherwise.push(format!(
                    "{object} is defined differently on the subscriber: {}. Run there: DROP STATISTICS {name}; and \
                     apply again",
                    has.definition
                )),
                None if self.there.tables.contains_key(&statistics.table) => {
                    self.late.statistics.push(turn(object, [&statistics.table], statistics.statements()));
                }
                None => {}
            }
        }
    }
}

fn turn<'t>(object: Object, tables: impl IntoIterator<Item = &'t QualifiedName>, statements: Vec<String>) -> Turn {
    let tables: BTreeMap<_, ()> = tables.into_iter().map(|table| (table.clone(), ())).collect();
    let statements = statements.into_iter().map(Statement::new).collect();
    Turn { object, tables: tables.into_keys().collect(), statements }
}

#[cfg(test)]
mod tests {
    use super::super::model::Definition;
    use super::super::samples::{database, name};
    use super::*;

    /// A line for each statement and each message.
    fn told(late: &Late) -> Vec<String> {
        let turns = |turns: &[Turn]| -> Vec<String> {
            turns.iter().flat_map(|turn| &turn.statements).map(ToString::to_string).collect()
        };
        let builds = |index: &LateIndex| -> Vec<String> {
            index.builds.iter().flat_map(IndexBuild::statements).map(|statement| statement.to_string()).collect()
        };
        let indexes = late.indexes.iter().flat_map(|index| [builds(index), turns(&index.turns)].concat());
        let keys = late.keys.iter().flat_map(|key| &key.steps).flat_map(|step| match step {
            KeyStep::Add(turn) => turns(std::slice::from_ref(turn)),
            KeyStep::Validate(_, statement) => vec![statement.to_string()],
        });
        let there = late.there.iter().map(|object| format!("there: {object}"));
        let otherwise = late.otherwise.iter().map(|line| format!("otherwise: {line}"));
        let text = indexes.chain(keys).chain(turns(&late.statistics)).chain(there).chain(otherwise);
        text.map(|line| line.replace("\"public\".", "").replace('"', "")).collect()
    }

    fn planned(wanted: &Definition, there: &Definition) -> Vec<String> {
        told(&late(wanted, there))
    }

    fn users() -> Definition {
        database(18).table("users", "id email").table("orders", "id user_id")
    }

    #[test]
    fn an_index_is_made_built_again_or_left_alone() {
        let wanted = users().index("users", "users_email", "UNIQUE USING btree (email)");
        let create = "CREATE UNIQUE INDEX CONCURRENTLY users_email ON users USING btree (email)";
        assert_eq!(planned(&wanted, &users()), [create]);
        assert_eq!(planned(&wanted, &wanted), ["there: index public.users_email"]);
        let broken = wanted.clone().with_index("users_email", |index| index.is_valid = false);
        assert_eq!(planned(&wanted, &broken), ["DROP INDEX CONCURRENTLY IF EXISTS users_email", create]);
        assert_eq!(planned(&broken, &users()), [""; 0], "what is broken on the publisher is not made");
        assert_eq!(planned(&wanted, &database(18)), [""; 0], "a table that is not there gets nothing");
        let commented = wanted.clone().with_index("users_email", |index| {
            index.comment = Some("theirs".to_owned());
            index.statistics = Some([("1".to_owned(), 500)].into());
        });
        let finishing =
            ["ALTER INDEX users_email ALTER COLUMN 1 SET STATISTICS 500", "COMMENT ON INDEX users_email IS 'theirs'"];
        assert_eq!(planned(&commented, &users()), [create, finishing[0], finishing[1]]);
        assert_eq!(planned(&commented, &wanted), finishing);
    }

    #[test]
    fn a_table_is_clustered_by_an_index_that_is_made_later() {
        let mut wanted = users().index("users", "users_email", "USING btree (email)");
        wanted.tables.get_mut(&name("users")).unwrap().clustered_by = Some(Ident::new("users_email").unwrap());
        let cluster = "ALTER TABLE users CLUSTER ON users_email";
        let create = "CREATE INDEX CONCURRENTLY users_email ON users USING btree (email)";
        assert_eq!(planned(&wanted, &users()), [create, cluster]);
        let there = users().index("users", "users_email", "USING btree (email)");
        assert_eq!(planned(&wanted, &there), [cluster]);
        assert_eq!(planned(&wanted, &wanted), ["there: index public.users_email"]);
    }

    #[test]
    fn what_has_the_name_and_is_another_is_left_alone() {
        let wanted = users().index("users", "users_email", "USING btree (email)");
        for (there, said) in [
            (users().index("users", "users_email", "USING btree (id)"), "is defined differently on the subscriber"),
            (
                users().index("users", "users_email", "UNIQUE USING btree (email)"),
                "is defined differently on the subscriber",
            ),
            (users().index("orders", "users_email", "USING btree (email)"), "is defined differently on the subscriber"),
            (
                users().constraint("users", "users_email", "UNIQUE (email)"),
                "belongs to a constraint on the subscriber, UNIQUE (email), but not on the publisher. If that constraint is not \
                 needed, run there: ALTER TABLE users DROP CONSTRAINT users_email; and apply again",
            ),
        ] {
            let told = planned(&wanted, &there);
            assert!(told.len() == 1 && told[0].starts_with("otherwise: ") && told[0].contains(said), "{told:?}");
        }
        // Checks and indexes do not share a namespace.
        let check = users().constraint("users", "users_email", "CHECK (email > 0)");
        assert_eq!(planned(&wanted, &check).len(), 1);
        assert!(planned(&wanted, &check)[0].starts_with("CREATE INDEX"));
    }

    #[test]
    fn a_name_that_something_else_has_is_said_and_the_rest_is_made() {
        let wanted = users()
            .index("users", "users_email", "USING btree (email)")
            .index("orders", "orders_user", "USING btree (user_id)")
            .statistics("users", "users_stats", "CREATE STATISTICS users_stats ON id, email FROM users");
        let planned = late(&wanted, &users());
        let names: Vec<_> =
            planned.new_names().into_iter().map(|(name, table)| format!("{name} of {}", table.to_text())).collect();
        let expected = [
            "index public.orders_user of public.orders",
            "index public.users_email of public.users",
            "statistics public.users_stats of public.users",
        ];
        assert_eq!(names, expected);
        let taken = [
            (Object::Index(name("users_email")), "view public.users_email".to_owned()),
            (Object::Statistics(name("users_stats")), "statistics object public.users_stats".to_owned()),
        ];
        let told = told(&planned.without(&taken.into()));
        assert_eq!(
            told,
            [
                "CREATE INDEX CONCURRENTLY orders_user ON orders USING btree (user_id)",
                "otherwise: index public.users_email cannot be created: view public.users_email on the subscriber has that name. \
                 Rename the latter there, and apply again",
                "otherwise: statistics public.users_stats cannot be created: statistics object public.users_stats on the subscriber \
                 has that name. Rename the latter there, and apply again",
            ]
        );
    }

    #[test]
    fn partitions_get_theirs_first_and_each_is_taken_in() {
        let tree = || {
            database(18)
                .partitioned("log", "id day")
                .partition("log_1", "log", "id day")
                .partition("log_2", "log", "id day")
        };
        let wanted = tree()
            .index("log", "log_day", "USING btree (day)")
            .index("log_1", "log_1_day_idx", "USING btree (day)")
            .with_index("log_1_day_idx", |index| (index.is_clone, index.parent) = (true, Some(name("log_day"))));
        let create = "CREATE INDEX log_day ON ONLY log USING btree (day)";
        let (first, second) = (
            "CREATE INDEX CONCURRENTLY log_1_day_idx ON log_1 USING btree (day)",
            "CREATE INDEX CONCURRENTLY log_2_log_day ON log_2 USING btree (day)",
        );
        let attach =
            ["log_1_day_idx", "log_2_log_day"].map(|part| format!("ALTER INDEX log_day ATTACH PARTITION {part}"));
        assert_eq!(planned(&wanted, &tree()), [first, second, create, &attach[0], &attach[1]]);
        // An interrupted attempt continues where it stopped.
        let begun = tree()
            .index("log", "log_day", "USING btree (day)")
            .with_index("log_day", |index| index.is_valid = false)
            .index("log_1", "log_1_day_idx", "USING btree (day)")
            .with_index("log_1_day_idx", |index| (index.is_clone, index.parent) = (true, Some(name("log_day"))))
            .index("log_2", "log_2_log_day", "USING btree (day)")
            .with_index("log_2_log_day", |index| index.is_valid = false);
        let dropped = "DROP INDEX CONCURRENTLY IF EXISTS log_2_log_day";
        assert_eq!(planned(&wanted, &begun), [dropped, second, &attach[1]]);
        // An attached part can only be rebuilt in place.
        let broken = begun.with_index("log_1_day_idx", |index| index.is_valid = false);
        assert_eq!(planned(&wanted, &broken)[0], "REINDEX INDEX CONCURRENTLY log_1_day_idx");
    }

    #[test]
    fn a_foreign_key_is_added_and_then_validated() {
        let key = |text| users().constraint("orders", "orders_user", text);
        let wanted = key("FOREIGN KEY (user_id) REFERENCES users(id)");
        let add = "ALTER TABLE orders ADD CONSTRAINT orders_user FOREIGN KEY (user_id) REFERENCES users(id) NOT VALID";
        let validate = "ALTER TABLE orders VALIDATE CONSTRAINT orders_user";
        let there = "there: constraint orders_user of table public.orders";
        let open = key("FOREIGN KEY (user_id) REFERENCES users(id) NOT VALID");
        assert_eq!(planned(&wanted, &users()), [add, validate]);
        assert_eq!(planned(&wanted, &open), [validate]);
        assert_eq!(planned(&wanted, &wanted), [there]);
        assert_eq!(planned(&open, &users()), [add], "one that is not validated stays so");
        assert_eq!(planned(&open, &open), [there]);
        for (other, said) in [
            ("FOREIGN KEY (id) REFERENCES users(id)", "is defined differently on the subscriber"),
            ("CHECK (user_id > 0)", "is not a foreign key on the subscriber"),
        ] {
            let told = planned(&wanted, &key(other));
            assert!(told.len() == 1 && told[0].contains(said), "{told:?}");
        }
    }

    #[test]
    fn a_foreign_key_of_a_partitioned_table_begins_with_its_partitions() {
        let tree = || {
            database(18)
                .table("users", "id")
                .partitioned("log", "id user_id")
                .partition("log_1", "log", "id user_id")
                .partition("log_2", "log", "id user_id")
        };
        let text = "FOREIGN KEY (user_id) REFERENCES users(id)";
        let wanted = tree().constraint("log", "log_user", text);
        let add = |table: &str, late: &str| format!("ALTER TABLE {table} ADD CONSTRAINT log_user {text}{late}");
        let validate = |table: &str| format!("ALTER TABLE {table} VALIDATE CONSTRAINT log_user");
        let (late_1, late_2) = (add("log_1", " NOT VALID"), add("log_2", " NOT VALID"));
        let all = [late_1, validate("log_1"), late_2.clone(), validate("log_2"), add("log", "")];
        assert_eq!(planned(&wanted, &tree()), all);
        let begun = tree().constraint("log_1", "log_user", text);
        assert_eq!(planned(&wanted, &begun), [late_2, validate("log_2"), add("log", "")]);
    }

    #[test]
    fn statistics_are_made_where_their_table_is() {
        let of = |columns: &str| {
            let create = format!("CREATE STATISTICS users_stats ON {columns} FROM users");
            users().statistics("users", "users_stats", &create)
        };
        assert_eq!(planned(&of("id, email"), &users()), ["CREATE STATISTICS users_stats ON id, email FROM users"]);
        assert_eq!(planned(&of("id, email"), &of("id, email")), ["there: statistics public.users_stats"]);
        assert!(planned(&of("id, email"), &of("email, id"))[0].contains("is defined differently on the subscriber"));
        assert_eq!(planned(&of("id, email"), &database(18)), [""; 0]);
    }
}
