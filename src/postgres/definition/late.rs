//! What is made once the rows are there, without keeping others from reading and writing: indexes, foreign keys and extended
//! statistics. Pure.
//!
//! An index is built `CONCURRENTLY`. That of a partitioned table cannot be, so each of its partitions gets one first; then
//! the partitioned table gets its own, which is only a name in the catalog, and takes in those of the partitions one by
//! one. A foreign key is added `NOT VALID`, which reads no row, and validated by a statement of its own. That of a partitioned
//! table is made in the same way on each partition, and taken up by the partitioned table at once.
//!
//! The subscriber's own partitions count, whatever partitions the publisher has: an index of a partition that only the
//! subscriber has gets a name that follows from both names, so that another attempt finds it again.

use std::collections::{BTreeMap, BTreeSet};

use super::difference::is_alike;
use super::fingerprint::digest;
use super::model::{Constraint, ConstraintKind, Definition, Index};
use super::object::Object;
use crate::postgres::sql::{Ident, LONGEST_NAME, QualifiedName, Statement};

/// What is made once the rows are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Late {
    /// The indexes of which something is missing, each with those of partitions.
    pub indexes: Vec<LateIndex>,
    /// The foreign keys that are missing, or not validated.
    pub keys: Vec<LateKey>,
    /// The extended statistics that are missing.
    pub statistics: Vec<Turn>,
    /// What is there already and complete.
    pub there: BTreeSet<Object>,
    /// What is there under the same name and is something else, with what to do, a sentence each.
    pub otherwise: Vec<String>,
}

/// A statement that ends at once where it gets its lock, which it should not wait for long: others queue behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What it makes.
    pub object: Object,
    /// The tables that it locks.
    pub tables: Vec<QualifiedName>,
    /// The statements, all in one transaction.
    pub statements: Vec<Statement>,
}

/// An index that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateIndex {
    /// Its name.
    pub name: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// What is built: itself, or one for each partition.
    pub builds: Vec<IndexBuild>,
    /// What is done afterwards, in order.
    pub turns: Vec<Turn>,
}

/// One index that is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexBuild {
    /// Its name.
    pub name: QualifiedName,
    /// Its table, which has rows of its own.
    pub table: QualifiedName,
    /// Whether no two rows may be the same to it.
    pub is_unique: bool,
    /// Whether an attempt has left it, unfinished.
    pub is_left_over: bool,
    /// Whether it is a part of another index by now, so that it can only be built again in its place.
    pub is_attached: bool,
    /// The statement that builds it.
    pub create: Statement,
}

impl IndexBuild {
    /// The statements that build it, each of which stands alone.
    pub fn statements(&self) -> Vec<Statement> {
        if self.is_left_over && self.is_attached {
            return vec![Statement::alone(format!("REINDEX INDEX CONCURRENTLY {}", self.name))];
        }
        let drop = self.is_left_over.then(|| drop_left_over(&self.name));
        drop.into_iter().chain([self.create.clone()]).collect()
    }
}

/// The statement that drops an index which could not be built: it is written to all the same, and a unique one still
/// refuses rows.
pub fn drop_left_over(index: &QualifiedName) -> Statement {
    Statement::alone(format!("DROP INDEX CONCURRENTLY IF EXISTS {index}"))
}

/// A foreign key that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateKey {
    /// Its table.
    pub table: QualifiedName,
    /// Its name.
    pub name: Ident,
    /// The table that it refers to.
    pub references: QualifiedName,
    /// The index that it counts on, where no constraint has made that.
    pub counts_on: Option<QualifiedName>,
    /// What is done, in order.
    pub steps: Vec<KeyStep>,
}

/// A step to a foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// It is added, without a look at the rows.
    Add(Turn),
    /// The rows of a table are compared with it.
    Validate(QualifiedName, Statement),
}

/// What `wanted` has and `there` lacks.
pub fn late(wanted: &Definition, there: &Definition) -> Late {
    let mut plan = Plan { wanted, there, late: Late::default() };
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

/// What is there, and the tables of `wanted` that are not, without what is made once their rows are there.
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
    late: Late,
}

impl<'a> Plan<'a> {
    /// Whether it comes with the index of a partitioned table that is asked for too.
    fn is_part(&self, index: &Index) -> bool {
        let parent = index.parent.as_ref().and_then(|parent| self.wanted.indexes.get(parent));
        parent.is_some_and(|parent| self.there.tables.contains_key(&parent.table))
    }

    fn index(&mut self, name: &QualifiedName, index: &Index) {
        let mut family = Family { plan: self, root: name, index, builds: Vec::new(), turns: Vec::new() };
        let conflict = family.node(name, &index.table, None).err();
        let Family { builds, mut turns, .. } = family;
        if let Some(conflict) = conflict {
            self.late.otherwise.push(conflict);
            return;
        }
        let finishing = self.finishing(name, index, !(builds.is_empty() && turns.is_empty()));
        if !finishing.is_empty() {
            turns.push(turn(Object::Index(name.clone()), [&index.table], finishing));
        }
        if builds.is_empty() && turns.is_empty() {
            self.late.there.insert(Object::Index(name.clone()));
        } else {
            self.late.indexes.push(LateIndex { name: name.clone(), table: index.table.clone(), builds, turns });
        }
    }

    /// What an index has beside what its statement says: all of it where it is made, else what is missing.
    fn finishing(&self, name: &QualifiedName, index: &Index, is_new: bool) -> Vec<String> {
        let has = self.there.indexes.get(name).filter(|_| !is_new);
        let lacks = has.is_none_or(|has| index.statistics.is_some() && has.statistics.is_none());
        let finishing = if lacks { index.finishing(name) } else { Vec::new() };
        let clusters = |definition: &Definition| {
            definition.tables.get(&index.table).and_then(|table| table.clustered_by.as_ref()) == Some(&name.name)
        };
        let cluster = (clusters(self.wanted) && !clusters(self.there))
            .then(|| format!("ALTER TABLE {} CLUSTER ON {}", index.table, name.name));
        finishing.into_iter().chain(cluster).collect()
    }

    fn key(&mut self, table: &QualifiedName, key: &Constraint) {
        let Some(references) = &key.references else { return };
        let object = Object::Constraint(table.clone(), key.name.clone());
        let mut steps = Vec::new();
        match self.key_there(table, &key.name) {
            Some(other) if other.kind != ConstraintKind::ForeignKey => {
                let what = format!("{object} is not a foreign key on the subscriber: rename it there");
                self.late.otherwise.push(what);
                return;
            }
            Some(has) if !is_alike(self.wanted, self.there, bare(&key.definition), bare(&has.definition)) => {
                let what = format!(
                    "{object} is another one on the subscriber. There: ALTER TABLE {table} DROP CONSTRAINT {}; and apply again",
                    key.name
                );
                self.late.otherwise.push(what);
                return;
            }
            Some(has) if has.is_valid || !is_checked(key) => {}
            Some(_) => steps.push(validate(table, &key.name)),
            None => self.add(table, key, references, &mut steps),
        }
        if steps.is_empty() {
            self.late.there.insert(object);
            return;
        }
        let (name, counts_on) = (key.name.clone(), key.counts_on.clone());
        self.late.keys.push(LateKey { table: table.clone(), name, references: references.clone(), counts_on, steps });
    }

    fn key_there(&self, table: &QualifiedName, name: &Ident) -> Option<&'a Constraint> {
        self.there.tables.get(table).and_then(|table| table.constraints.get(name))
    }

    /// Adds a key that is not there: to the partitions first, where there are some. A partitioned table takes up what they
    /// have, and reads no row then; before Postgres 18 it would have no other way.
    fn add(&self, table: &QualifiedName, key: &Constraint, references: &QualifiedName, steps: &mut Vec<KeyStep>) {
        let is_partitioned = self.there.tables.get(table).is_some_and(|table| table.partition_key.is_some());
        for leaf in if is_partitioned { self.leaves(table) } else { vec![table] } {
            match self.key_there(leaf, &key.name) {
                Some(has) if has.is_valid || !is_checked(key) => {}
                Some(_) => steps.push(validate(leaf, &key.name)),
                None => {
                    steps.push(KeyStep::Add(self.added(leaf, key, references, !is_partitioned)));
                    steps.extend(is_checked(key).then(|| validate(leaf, &key.name)));
                }
            }
        }
        if is_partitioned {
            let Turn { object, tables, .. } = self.added(table, key, references, true);
            let statements = key.statements(table).into_iter().map(Statement::new).collect();
            steps.push(KeyStep::Add(Turn { object, tables, statements }));
        }
    }

    fn added(&self, table: &QualifiedName, key: &Constraint, references: &QualifiedName, is_whole: bool) -> Turn {
        let late = if is_checked(key) { " NOT VALID" } else { "" };
        let comment = key.comment.clone().filter(|_| is_whole);
        let key = Constraint { definition: format!("{}{late}", key.definition), comment, ..key.clone() };
        turn(Object::Constraint(table.clone(), key.name.clone()), [table, references], key.statements(table))
    }

    /// The partitions that have rows of their own.
    fn leaves(&self, table: &QualifiedName) -> Vec<&'a QualifiedName> {
        let parts = parts(self.there, table);
        let below = |part: &'a QualifiedName| {
            let is_leaf = self.there.tables.get(part).is_some_and(|table| table.partition_key.is_none());
            if is_leaf { vec![part] } else { self.leaves(part) }
        };
        parts.into_iter().flat_map(below).collect()
    }

    fn statistics(&mut self) {
        for (name, statistics) in &self.wanted.statistics {
            let object = Object::Statistics(name.clone());
            match self.there.statistics.get(name) {
                Some(has) if is_alike(self.wanted, self.there, &statistics.definition, &has.definition) => {
                    self.late.there.insert(object);
                }
                Some(has) => self.late.otherwise.push(format!(
                    "{object} is another one on the subscriber: {}. There: DROP STATISTICS {name}; and apply again",
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

/// An index with those of the partitions below its table.
struct Family<'p, 'a> {
    plan: &'p Plan<'a>,
    root: &'p QualifiedName,
    index: &'p Index,
    builds: Vec<IndexBuild>,
    turns: Vec<Turn>,
}

impl Family<'_, '_> {
    /// What makes the index of that name on that table a part of the other one, where there is one.
    fn node(
        &mut self,
        name: &QualifiedName,
        table: &QualifiedName,
        parent: Option<&QualifiedName>,
    ) -> Result<(), String> {
        let there = self.plan.there;
        let has = there.indexes.get(name);
        self.check(name, table, has)?;
        let is_partitioned = there.tables.get(table).is_some_and(|table| table.partition_key.is_some());
        let is_attached = has.is_some_and(|has| has.parent.is_some());
        if is_partitioned {
            if has.is_none_or(|has| !has.is_valid) {
                self.partitioned(name, table, has.is_some())?;
            }
        } else if has.is_none_or(|has| !has.is_valid) {
            self.builds.push(IndexBuild {
                name: name.clone(),
                table: table.clone(),
                is_unique: self.index.is_unique,
                is_left_over: has.is_some(),
                is_attached,
                create: Statement::alone(self.create("CONCURRENTLY ", name, "", table)),
            });
        }
        if let Some(parent) = parent.filter(|_| !is_attached) {
            let attach = format!("ALTER INDEX {parent} ATTACH PARTITION {name}");
            self.turns.push(turn(Object::Index(name.clone()), [table], vec![attach]));
        }
        Ok(())
    }

    /// Those of the partitions, between the making of the index itself and its becoming valid with the last of them.
    fn partitioned(&mut self, name: &QualifiedName, table: &QualifiedName, is_there: bool) -> Result<(), String> {
        if !is_there {
            let create = self.create("", name, "ONLY ", table);
            self.turns.push(turn(Object::Index(name.clone()), [table], vec![create]));
        }
        for part in parts(self.plan.there, table) {
            let attached = self
                .plan
                .there
                .indexes
                .iter()
                .find(|(_, index)| index.table == *part && index.parent.as_ref() == Some(name));
            let of_part = attached.map_or_else(|| self.name_on(part), |(name, _)| name.clone());
            self.node(&of_part, part, Some(name))?;
        }
        Ok(())
    }

    fn create(&self, how: &str, name: &QualifiedName, only: &str, table: &QualifiedName) -> String {
        let unique = if self.index.is_unique { "UNIQUE " } else { "" };
        format!("CREATE {unique}INDEX {how}{} ON {only}{table} {}", name.name, self.index.tail)
    }

    /// The publisher's name for the index of a partition, or one that follows from both names.
    fn name_on(&self, part: &QualifiedName) -> QualifiedName {
        let same = self
            .plan
            .wanted
            .indexes
            .iter()
            .find(|(name, index)| index.table == *part && index.is_clone && self.plan.root_of(name) == self.root);
        same.map_or_else(|| derived(part, self.root), |(name, _)| name.clone())
    }

    /// A name that something else has cannot be this index's.
    fn check(&self, name: &QualifiedName, table: &QualifiedName, has: Option<&Index>) -> Result<(), String> {
        let Some(has) = has else { return Ok(()) };
        let (wanted, there) = (self.plan.wanted, self.plan.there);
        let is_same = has.table == *table
            && has.is_unique == self.index.is_unique
            && is_alike(wanted, there, &self.index.tail, &has.tail);
        if is_same || has.is_clone {
            return Ok(());
        }
        let (index, there) = (Object::Index(name.clone()), &has.definition);
        Err(format!(
            "{index} is another one on the subscriber: {there}. If nothing needs that, there: DROP INDEX CONCURRENTLY {name}; \
             and apply again"
        ))
    }
}

impl Plan<'_> {
    /// The index of which this is a part, at the top.
    fn root_of<'n>(&'n self, name: &'n QualifiedName) -> &'n QualifiedName {
        let mut root = name;
        while let Some(parent) = self.wanted.indexes.get(root).and_then(|index| index.parent.as_ref()) {
            root = parent;
        }
        root
    }
}

/// The partitions of a table, by name.
fn parts<'a>(definition: &'a Definition, table: &QualifiedName) -> Vec<&'a QualifiedName> {
    let tables = definition.tables.iter();
    tables.filter(|(_, part)| part.is_partition() && part.parents.contains(table)).map(|(name, _)| name).collect()
}

fn turn<'t>(object: Object, tables: impl IntoIterator<Item = &'t QualifiedName>, statements: Vec<String>) -> Turn {
    let tables: BTreeMap<_, ()> = tables.into_iter().map(|table| (table.clone(), ())).collect();
    let statements = statements.into_iter().map(Statement::new).collect();
    Turn { object, tables: tables.into_keys().collect(), statements }
}

fn validate(table: &QualifiedName, name: &Ident) -> KeyStep {
    let validate = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}");
    KeyStep::Validate(table.clone(), Statement::new(validate))
}

/// Whether all rows are to keep a foreign key. One that the publisher has not validated, or does not enforce, stays so.
fn is_checked(key: &Constraint) -> bool {
    key.is_valid && key.is_enforced
}

/// A foreign key without the mark of one that is not validated.
fn bare(definition: &str) -> &str {
    definition.strip_suffix(" NOT VALID").unwrap_or(definition)
}

/// A name for the index of a partition that follows from the partition's and the index's.
fn derived(part: &QualifiedName, index: &QualifiedName) -> QualifiedName {
    let text = format!("{}_{}", part.name.as_str(), index.name.as_str());
    let name = if text.len() > LONGEST_NAME {
        // What both names have in common is at the front, as a rule.
        let tail = format!("_{}", &digest(&text)[..8]);
        let mut end = LONGEST_NAME - tail.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}{tail}", &text[..end])
    } else {
        text
    };
    QualifiedName { schema: part.schema.clone(), name: Ident::from_catalog(&name) }
}
