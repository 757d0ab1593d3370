// SPDX-License-Identifier: MPL-2.0

//! The objects of a definition, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::postgres::sql::{Ident, Literal, QualifiedName, Statement, list};

/// A part of a definition with a statement of its own. Parts that do not need each other are created in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Object {
    /// A schema.
    Schema(Ident),
    /// A collation.
    Collation(QualifiedName),
    /// An enum, a domain, a composite or a range type.
    Type(QualifiedName),
    /// A constraint of a domain.
    DomainConstraint(QualifiedName, Ident),
    /// A function, by its signature as the server prints it.
    Function(String),
    /// A sequence that is not an identity column's.
    Sequence(QualifiedName),
    /// A table with its columns.
    Table(QualifiedName),
    /// The attachment of a table as a partition.
    Attachment(QualifiedName),
    /// The default of a column.
    Default(QualifiedName, Ident),
    /// A constraint of a table.
    Constraint(QualifiedName, Ident),
    /// The ownership of a sequence by a column.
    Owner(QualifiedName),
    /// An index that does not belong to a constraint.
    Index(QualifiedName),
    /// What identifies an old row of a table.
    ReplicaIdentity(QualifiedName),
    /// The index by which a table is clustered.
    Cluster(QualifiedName),
    /// Extended statistics.
    Statistics(QualifiedName),
    /// All tables of one side, for messages: no statement creates it.
    Tables,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(name) => write!(f, "schema {}", name.as_str()),
            Self::Collation(name) => write!(f, "collation {}", name.to_text()),
            Self::Type(name) => write!(f, "type {}", name.to_text()),
            Self::DomainConstraint(domain, name) => {
                write!(f, "constraint {} of domain {}", name.as_str(), domain.to_text())
            }
            Self::Function(signature) => write!(f, "function {signature}"),
            Self::Sequence(name) => write!(f, "sequence {}", name.to_text()),
            Self::Table(name) => write!(f, "table {}", name.to_text()),
            Self::Attachment(name) => write!(f, "partition {}", name.to_text()),
            Self::Default(table, column) => write!(f, "default of {}.{}", table.to_text(), column.as_str()),
            Self::Constraint(table, name) => write!(f, "constraint {} of table {}", name.as_str(), table.to_text()),
            Self::Owner(name) => write!(f, "owner of sequence {}", name.to_text()),
            Self::Index(name) => write!(f, "index {}", name.to_text()),
            Self::ReplicaIdentity(name) => write!(f, "replica identity of table {}", name.to_text()),
            Self::Cluster(name) => write!(f, "clustering of table {}", name.to_text()),
            Self::Statistics(name) => write!(f, "statistics {}", name.to_text()),
            Self::Tables => f.write_str("the tables"),
        }
    }
}

/// The statements that drop objects, the last created first. Parts are dropped with their whole. Nothing is dropped
/// that other objects depend on.
pub fn drops(made: &[Object]) -> Vec<Statement> {
    made.iter().rev().filter_map(Object::drop_statement).map(Statement::new).collect()
}

/// How many tables one statement checks.
const BATCH: usize = 500;

/// The statements that fail with `raise_exception` if one of these tables has a row, and block writes to them until the
/// transaction ends. Rows that a policy hides count too: the server refuses to read such a table.
pub fn only_if_empty(tables: &[&QualifiedName]) -> Vec<Statement> {
    let lock = |tables: &[&QualifiedName]| format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", list(tables));
    let check = |tables: &[&QualifiedName]| {
        let holds: Vec<_> = tables.iter().map(|table| format!("EXISTS (SELECT FROM {table})")).collect();
        let stop = "RAISE EXCEPTION USING ERRCODE = 'raise_exception', MESSAGE = 'a table holds rows'";
        format!("DO {}", Literal(&format!("BEGIN IF {} THEN {stop}; END IF; END", holds.join(" OR "))))
    };
    let batches = || tables.chunks(BATCH);
    let texts = batches().map(lock).chain(["SET LOCAL row_security = off".to_owned()]).chain(batches().map(check));
    if tables.is_empty() { Vec::new() } else { texts.map(Statement::new).collect() }
}

/// The settings of the transaction that creates a definition. The body of a function may name objects that are
/// created later.
pub fn settings() -> Vec<Statement> {
    let set = "SELECT set_config('check_function_bodies', 'off', true), set_config('default_tablespace', '', true), \
        set_config('default_table_access_method', 'heap', true)";
    vec![Statement::new(set)]
}

impl Object {
    /// Whether it is created before tables.
    pub fn comes_before_tables(&self) -> bool {
        let comes_after =
            matches!(self, Self::Table(_) | Self::Attachment(_) | Self::Default(..) | Self::Constraint(..));
        !comes_after
            && !matches!(self, Self::Owner(_) | Self::Index(_) | Self::ReplicaIdentity(_))
            && !matches!(self, Self::Cluster(_) | Self::Statistics(_) | Self::Tables)
    }

    fn drop_statement(&self) -> Option<String> {
        match self {
            Self::Schema(name) => Some(format!("DROP SCHEMA IF EXISTS {name}")),
            Self::Collation(name) => Some(format!("DROP COLLATION IF EXISTS {name}")),
            Self::Type(name) => Some(format!("DROP TYPE IF EXISTS {name}")),
            Self::Function(signature) => Some(format!("DROP FUNCTION IF EXISTS {signature}")),
            Self::Sequence(name) => Some(format!("DROP SEQUENCE IF EXISTS {name}")),
            Self::Table(name) => Some(format!("DROP TABLE IF EXISTS {name}")),
            // Otherwise a default or a constraint would keep the function that it calls, and the function
            // would keep a table.
            Self::Default(table, column) => {
                Some(format!("ALTER TABLE IF EXISTS {table} ALTER COLUMN {column} DROP DEFAULT"))
            }
            Self::Constraint(table, name) => {
                Some(format!("ALTER TABLE IF EXISTS {table} DROP CONSTRAINT IF EXISTS {name}"))
            }
            Self::DomainConstraint(domain, name) => {
                Some(format!("ALTER DOMAIN {domain} DROP CONSTRAINT IF EXISTS {name}"))
            }
            _ => None,
        }
    }

    /// The object of which this is a part, for example the table of a default or a constraint.
    pub fn whole(&self) -> Self {
        match self {
            Self::DomainConstraint(name, _) => Self::Type(name.clone()),
            Self::Attachment(name)
            | Self::Default(name, _)
            | Self::Constraint(name, _)
            | Self::ReplicaIdentity(name)
            | Self::Cluster(name) => Self::Table(name.clone()),
            Self::Owner(name) => Self::Sequence(name.clone()),
            other => other.clone(),
        }
    }
}
