// SPDX-License-Identifier: MPL-2.0

//! The statements that create a definition, in an order in which each has what it needs.
//!
//! Tables with their columns come first, then whatever refers to other objects, such as a default that calls a
//! function. So there is no circle if the function takes a row of the table. A partition is created as a table of its
//! own, with the order of its own columns, and then attached. Parts that partitions and children share with a parent
//! are created on them first, so that the parent adopts them under their names instead of creating them again.

mod joining;
mod twins;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::making::comment;
use super::model::{Constraint, ConstraintKind, Definition, Index, Table, TypeKind};
use super::object::Object;
use super::ordering::ordered;
use super::table;
use crate::postgres::sql::{Ident, QualifiedName, Statement};

/// The part of a definition that a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Everything that rows need to arrive.
    Tables,
    /// An index that rows do not need.
    Index,
    /// A foreign key.
    ForeignKey,
    /// Extended statistics.
    Statistics,
}

/// The statements for one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The object.
    pub object: Object,
    /// The part of the definition that it belongs to.
    pub group: Group,
    /// The statements, in order.
    pub statements: Vec<Statement>,
    /// The objects that must exist before.
    pub needs: BTreeSet<Object>,
    /// Whether it is dropped by a statement of its own: not if it is dropped with its table, unless another object
    /// needs it gone first.
    pub is_dropped: bool,
}

/// Objects that need each other, so that none can be created first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(pub Vec<Object>);

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(Object::to_string).collect();
        write!(f, "these need each other: {}", names.join(", "))
    }
}

/// The steps that create the wanted objects, in order, with the schemas that they need.
///
/// # Errors
/// When they need each other in a circle.
pub fn steps(definition: &Definition, is_wanted: impl Fn(&Step) -> bool) -> Result<Vec<Step>, Circle> {
    let mut plan = Plan { definition, children: definition.children(), steps: BTreeMap::new() };
    plan.schemas_and_types();
    plan.functions_and_sequences();
    for (name, table) in &definition.tables {
        plan.table(name, table);
    }
    plan.indexes_and_statistics();
    let mut steps = plan.steps;
    steps.retain(|_, step| is_wanted(step));
    joining::arranged(definition, &mut steps);
    let is_schema = |object: &Object| matches!(object, Object::Schema(_));
    let needs = steps.values().flat_map(|step| &step.needs);
    let needed: BTreeSet<Object> = needs.filter(|need| is_schema(need)).cloned().collect();
    steps.retain(|object, _| !is_schema(object) || needed.contains(object));
    let order = order(definition, &steps).map_err(Circle)?;
    Ok(order.into_iter().filter_map(|object| steps.remove(&object)).collect())
}

/// The order of the steps.
///
/// # Errors
/// Those that need each other in a circle.
fn order(definition: &Definition, steps: &BTreeMap<Object, Step>) -> Result<Vec<Object>, Vec<Object>> {
    let keys: BTreeMap<&Object, Key<'_>> = steps.keys().map(|object| (object, key(definition, object))).collect();
    let needs = keys.iter().map(|(object, key)| {
        let needs = steps.get(*object).into_iter().flat_map(|step| &step.needs);
        (*key, needs.filter_map(|need| keys.get(need).copied()).collect())
    });
    let objects = |keys: Vec<Key<'_>>| keys.into_iter().map(|key| key.object.clone()).collect();
    ordered(&needs.collect()).map(objects).map_err(objects)
}

/// The priority of a step among those that could be next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    rank: usize,
    /// For shared parts, children come before their parents.
    depth: Reverse<usize>,
    is_default_partition: bool,
    object: &'a Object,
}

fn key<'a>(definition: &Definition, object: &'a Object) -> Key<'a> {
    let table = |name: &QualifiedName| definition.tables.get(name);
    let (rank, of) = match object {
        Object::Schema(_) => (0, None),
        Object::Collation(_) => (1, None),
        Object::Type(_) => (2, None),
        Object::DomainConstraint(..) => (3, None),
        Object::Function(_) => (4, None),
        Object::Sequence(_) => (5, None),
        Object::Table(_) => (6, None),
        Object::Attachment(_) => (7, None),
        Object::Default(..) => (8, None),
        Object::Constraint(name, constraint) => {
            let kind = table(name).and_then(|table| table.constraints.get(constraint)).map(|of| of.kind);
            let rank = match kind {
                Some(ConstraintKind::Check | ConstraintKind::NotNull) => 9,
                Some(ConstraintKind::ForeignKey) => 15,
                _ => 10,
            };
            (rank, Some(name))
        }
        Object::Index(name) => match definition.indexes.get(name) {
            Some(index) => (if index.is_replica_identity { 11 } else { 14 }, Some(&index.table)),
            None => (14, None),
        },
        Object::ReplicaIdentity(_) => (12, None),
        Object::Owner(_) => (13, None),
        Object::Cluster(_) => (16, None),
        Object::Statistics(_) | Object::Tables => (17, None),
    };
    let is_default_partition = matches!(object, Object::Attachment(name)
        if table(name).is_some_and(|table| table.bound.as_deref() == Some("DEFAULT")));
    let depth = Reverse(of.map(|table| definition.depth(table)).unwrap_or_default());
    Key { rank, depth, is_default_partition, object }
}

/// The steps while they are collected.
struct Plan<'a> {
    definition: &'a Definition,
    children: BTreeMap<&'a QualifiedName, Vec<&'a QualifiedName>>,
    steps: BTreeMap<Object, Step>,
}

impl Plan<'_> {
    fn add(&mut self, object: Object, group: Group, statements: Vec<String>, needs: Vec<Object>) {
        let known = self.definition.needs.get(&object).into_iter().flatten().cloned();
        let schema = object.schema().map(Object::Schema);
        let needs = needs.into_iter().chain(known).chain(schema).collect();
        let statements = statements.into_iter().map(Statement::new).collect();
        let is_dropped = self.is_dropped(&object);
        self.steps.insert(object.clone(), Step { object, group, statements, needs, is_dropped });
    }

    /// Checks and defaults keep functions from being dropped, and foreign keys keep other tables.
    fn is_dropped(&self, object: &Object) -> bool {
        match object {
            Object::Constraint(table, name) => {
                let constraint = self.definition.tables.get(table).and_then(|table| table.constraints.get(name));
                constraint.is_some_and(|of| matches!(of.kind, ConstraintKind::Check | ConstraintKind::ForeignKey))
            }
            Object::Attachment(_) | Object::Owner(_) | Object::ReplicaIdentity(_) | Object::Cluster(_) => false,
            Object::Index(_) | Object::Statistics(_) => false,
            _ => true,
        }
    }

    fn schemas_and_types(&mut self) {
        let definition = self.definition;
        for (schema, text) in &definition.schemas {
            let create = format!("CREATE SCHEMA {schema}");
            let comment = comment(&format!("SCHEMA {schema}"), text.as_ref());
            let statements = [create].into_iter().chain(comment).collect();
            self.add(Object::Schema(schema.clone()), Group::Tables, statements, Vec::new());
        }
        for (name, collation) in &definition.collations {
            self.add(Object::Collation(name.clone()), Group::Tables, collation.statements(), Vec::new());
        }
        for (name, ty) in &definition.types {
            self.add(Object::Type(name.clone()), Group::Tables, ty.statements(name), Vec::new());
            let TypeKind::Domain(domain) = &ty.kind else { continue };
            for (constraint, declared) in &domain.constraints {
                let add = format!("ALTER DOMAIN {name} ADD CONSTRAINT {constraint} {}", declared.definition);
                let comment = comment(&format!("CONSTRAINT {constraint} ON DOMAIN {name}"), declared.comment.as_ref());
                let object = Object::DomainConstraint(name.clone(), constraint.clone());
                let statements = [add].into_iter().chain(comment).collect();
                self.add(object, Group::Tables, statements, vec![Object::Type(name.clone())]);
            }
        }
    }

    fn functions_and_sequences(&mut self) {
        let definition = self.definition;
        for (signature, function) in &definition.functions {
            let needs = vec![Object::Schema(function.schema.clone())];
            self.add(Object::Function(signature.clone()), Group::Tables, function.statements(), needs);
        }
        for (name, sequence) in &definition.sequences {
            self.add(Object::Sequence(name.clone()), Group::Tables, sequence.statements(), Vec::new());
            let owner = sequence.owner.as_ref().filter(|(table, _)| definition.tables.contains_key(table));
            if let Some((table, column)) = owner {
                let own = format!("ALTER SEQUENCE {name} OWNED BY {table}.{column}");
                let needs = vec![Object::Sequence(name.clone()), Object::Table(table.clone())];
                self.add(Object::Owner(name.clone()), Group::Tables, vec![own], needs);
            }
        }
    }

    fn table(&mut self, name: &QualifiedName, table: &Table) {
        let definition = self.definition;
        let parents: Vec<_> = table.parents.iter().cloned().map(Object::Table).collect();
        let is_heir = table::inherits_in_order(definition, table);
        let mut needs = table::sequences(definition, name, table);
        needs.extend(parents.iter().filter(|_| is_heir).cloned());
        self.add(Object::Table(name.clone()), Group::Tables, table::statements(definition, name, table), needs);
        if !is_heir && !table.parents.is_empty() {
            // A partition inherits an identity from its parent when it is attached, but does not pass it on to its
            // existing partitions.
            let above = table.parents.iter().cloned().map(Object::Attachment);
            let needs = parents.into_iter().chain(above).chain([Object::Table(name.clone())]).collect();
            self.add(Object::Attachment(name.clone()), Group::Tables, attachment(name, table), needs);
        }
        for column in &table.columns {
            let Some(default) = column.default() else { continue };
            if table::declares_default(definition, name, table, column) {
                continue;
            }
            let set = format!("ALTER TABLE ONLY {name} ALTER COLUMN {} SET DEFAULT {default}", column.name);
            let object = Object::Default(name.clone(), column.name.clone());
            self.add(object, Group::Tables, vec![set], vec![Object::Table(name.clone())]);
        }
        // A parent's default is not this table's own.
        let bare = table.columns.iter().filter(|column| column.expression.is_none() && column.generation().is_none());
        for column in bare.filter(|column| is_heir && !column.is_local) {
            let drop = format!("ALTER TABLE ONLY {name} ALTER COLUMN {} DROP DEFAULT", column.name);
            let object = Object::Default(name.clone(), column.name.clone());
            self.add(object, Group::Tables, vec![drop], vec![Object::Table(name.clone())]);
        }
        for constraint in table.constraints.values().filter(|constraint| constraint.is_declared()) {
            self.constraint(name, constraint);
        }
        self.identity(name, table);
    }

    fn constraint(&mut self, table: &QualifiedName, constraint: &Constraint) {
        let is_key = constraint.kind == ConstraintKind::ForeignKey;
        let group = if is_key { Group::ForeignKey } else { Group::Tables };
        let mut needs = self.within(table);
        if let Some(references) = &constraint.references {
            let keys = self.definition.tables.get(references).into_iter().flat_map(|table| table.constraints.values());
            let keys = keys.filter(|of| matches!(of.kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique));
            needs.extend(keys.map(|of| Object::Constraint(references.clone(), of.name.clone())));
            needs.extend(self.within(references));
        }
        needs.extend(constraint.counts_on.iter().cloned().map(Object::Index));
        let object = Object::Constraint(table.clone(), constraint.name.clone());
        self.add(object, group, constraint.statements(table), needs);
    }

    /// The partitions and children that are attached to the table by statements of their own.
    fn within(&self, table: &QualifiedName) -> Vec<Object> {
        let below = self.children.get(table).into_iter().flatten().flat_map(|child| self.within(child));
        [Object::Table(table.clone()), Object::Attachment(table.clone())].into_iter().chain(below).collect()
    }

    fn identity(&mut self, name: &QualifiedName, table: &Table) {
        let choice = match (table.replica_identity.as_str(), &table.identity_index) {
            ("f", _) => Some(("FULL".to_owned(), None)),
            ("n", _) => Some(("NOTHING".to_owned(), None)),
            ("i", Some(index)) => Some((format!("USING INDEX {index}"), Some(index))),
            _ => None,
        };
        if let Some((choice, index)) = choice {
            let needs = self.index_of(name, table, index).into_iter().chain([Object::Table(name.clone())]).collect();
            let set = format!("ALTER TABLE ONLY {name} REPLICA IDENTITY {choice}");
            self.add(Object::ReplicaIdentity(name.clone()), Group::Tables, vec![set], needs);
        }
        if let Some(index) = &table.clustered_by {
            let needs = self.index_of(name, table, Some(index));
            let is_late = needs.iter().any(|need| self.definition.is_late(need));
            let cluster = format!("ALTER TABLE {name} CLUSTER ON {index}");
            let group = if is_late { Group::Index } else { Group::Tables };
            self.add(Object::Cluster(name.clone()), group, vec![cluster], needs);
        }
    }

    /// The object that an index of a table belongs to.
    fn index_of(&self, name: &QualifiedName, table: &Table, index: Option<&Ident>) -> Vec<Object> {
        let made = index.map(|index| match table.constraints.get(index) {
            Some(_) => Object::Constraint(name.clone(), index.clone()),
            None => Object::Index(QualifiedName { schema: name.schema.clone(), name: index.clone() }),
        });
        made.into_iter().collect()
    }

    fn indexes_and_statistics(&mut self) {
        let definition = self.definition;
        let parts = twins::parts(definition);
        for (name, index) in definition.indexes.iter().filter(|(_, index)| index.is_valid) {
            let mut needs = self.within(&index.table);
            let parts = twins::attached(definition, &parts, index);
            let statements = if parts.is_empty() { index.statements() } else { twins::statements(index, &parts) };
            needs.extend(parts.into_iter().cloned().map(Object::Index));
            self.add(Object::Index(name.clone()), index.group(), statements, needs);
        }
        for (name, statistics) in &definition.statistics {
            let needs = vec![Object::Table(statistics.table.clone())];
            self.add(Object::Statistics(name.clone()), Group::Statistics, statistics.statements(), needs);
        }
    }
}

/// The statements by which a table becomes a partition, or a child.
fn attachment(name: &QualifiedName, table: &Table) -> Vec<String> {
    let attach = |parent| match &table.bound {
        Some(bound) => format!("ALTER TABLE {parent} ATTACH PARTITION {name} {bound}"),
        None => format!("ALTER TABLE {name} INHERIT {parent}"),
    };
    table.parents.iter().map(attach).collect()
}

impl Constraint {
    /// Whether it has a statement of its own. A check that only a parent declares comes with the parent's; a
    /// partition's key is created first, to keep its name.
    pub(super) fn is_declared(&self) -> bool {
        match self.kind {
            ConstraintKind::Check => self.is_local,
            ConstraintKind::ForeignKey => !self.is_clone,
            _ => true,
        }
    }
}

impl Index {
    /// The part of the definition that it belongs to.
    pub fn group(&self) -> Group {
        if self.is_replica_identity { Group::Tables } else { Group::Index }
    }
}

impl Definition {
    /// Whether it is an index that rows do not need.
    fn is_late(&self, object: &Object) -> bool {
        matches!(object, Object::Index(name) if self.indexes.get(name).is_some_and(|index| index.group() == Group::Index))
    }
}

impl Object {
    /// The schema that it is in.
    pub(super) fn schema(&self) -> Option<Ident> {
        match self {
            Self::Schema(_) | Self::Function(_) | Self::Tables => None,
            Self::Collation(name)
            | Self::Type(name)
            | Self::DomainConstraint(name, _)
            | Self::Sequence(name)
            | Self::Table(name)
            | Self::Attachment(name)
            | Self::Default(name, _)
            | Self::Constraint(name, _)
            | Self::Owner(name)
            | Self::Index(name)
            | Self::ReplicaIdentity(name)
            | Self::Cluster(name)
            | Self::Statistics(name) => Some(name.schema.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{database, ident, name};
    use super::*;

    /// A table whose column has a default that needs this.
    fn counted(needs: Object) -> Definition {
        let mut definition = database(18).table("users", "id");
        definition.tables.get_mut(&name("users")).unwrap().columns[0].expression = Some("7".to_owned());
        let default = Object::Default(name("users"), ident("id"));
        definition.needs.insert(default, BTreeSet::from([needs]));
        definition
    }

    fn statements(definition: &Definition) -> Vec<String> {
        let steps = steps(definition, |_| true).unwrap();
        steps.iter().flat_map(|step| &step.statements).map(|one| one.to_string().replace('"', "")).collect()
    }

    #[test]
    fn a_default_is_declared_with_its_column_unless_it_needs_more() {
        let declared = ["CREATE TABLE public.users (id integer NOT NULL DEFAULT 7)"];
        let function = Object::Function("public.seven()".to_owned());
        let (numbers, mood) = (Object::Sequence(name("numbers")), Object::Type(name("mood")));
        assert_eq!(statements(&counted(numbers.clone())), declared);
        let set = "ALTER TABLE ONLY public.users ALTER COLUMN id SET DEFAULT 7";
        let later = ["CREATE TABLE public.users (id integer NOT NULL)", set];
        assert_eq!(statements(&counted(function)), later);
        assert_eq!(statements(&counted(mood.clone())), later, "nothing else needs the type");
        let mut with_type = counted(mood.clone());
        with_type.needs.insert(Object::Table(name("users")), BTreeSet::from([mood]));
        assert_eq!(statements(&with_type), declared, "the table needs it anyway");
        let made = steps(&counted(numbers.clone()), |_| true).unwrap();
        assert!(made[0].needs.contains(&numbers), "the sequence comes first");
    }
}
