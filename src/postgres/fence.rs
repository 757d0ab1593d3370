// SPDX-License-Identifier: MPL-2.0

//! A fence refuses writes to tables, with a message.
//!
//! It is a function, and a statement trigger on every relation through which the tables can be written to. While the
//! function is open it does nothing, so it can be created at any time. It is armed in one transaction with a lock on
//! all of the relations ([`Hold`]). Then no write gets through: earlier writers have ended, new writers wait until the
//! commit, and are refused after it. The triggers do not fire for rows that a subscription applies.
//!
//! Source: `CREATE TRIGGER`, "Overview of Trigger Behavior" and `LOCK` in the Postgres documentation.

mod alone;
mod blocking;
mod holding;
mod text;

use std::collections::BTreeSet;

use futures_util::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::Database;
use super::error::{Cause, Result};
use super::sql::{Ident, InvalidName, QualifiedName, Statement};
use super::work::Param;

pub use alone::Alone;
pub use blocking::{Blocker, Holder, Waiting, blockers, deadlock_timeout, end_blockers, holders, process, waiting};
pub use holding::{Around, Closed, Ending, Hold, ending};
pub use text::Refusal;

/// The names of a fence's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Its function, in the provider's own schema.
    pub function: QualifiedName,
    /// Its trigger on each relation.
    pub trigger: Ident,
}

/// What its function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// There is no function.
    Missing,
    /// It does nothing: everybody may write.
    Open,
    /// It refuses writes.
    Armed,
    /// The provider did not create the function of that name.
    Foreign,
}

/// The state of a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What its function does.
    pub gate: Gate,
    /// What the comment of its function says: who made it, and why.
    pub comment: Option<String>,
    /// Whether the schema of its function exists.
    pub has_schema: bool,
    /// Whether the role may create it: in the schema if that exists, otherwise the schema itself.
    pub may_make: bool,
    /// Whether the role may change its function, if that exists.
    pub may_change: bool,
    /// The role of the connection.
    pub role: Ident,
    /// The relations through which the tables can be written to.
    pub relations: Vec<Fenced>,
}

/// A relation through which fenced tables can be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced {
    /// Its name.
    pub name: QualifiedName,
    /// Whether the fence's trigger is on it and fires.
    pub is_covered: bool,
    /// Whether the role has the rights of its owner.
    pub is_owned: bool,
    /// Whether the role may lock it against writes.
    pub may_lock: bool,
    /// Its owner.
    pub owner: Ident,
}

impl Fence {
    /// The fence of that name.
    ///
    /// # Errors
    /// When the name with its prefix is too long for Postgres.
    pub fn new(name: &str) -> std::result::Result<Self, InvalidName> {
        let function = QualifiedName { schema: Ident::new(text::SCHEMA)?, name: Ident::new(format!("fence_{name}"))? };
        Ok(Self { function, trigger: Ident::new(format!("neonrepl_fence_{name}"))? })
    }

    /// The statement that lets everybody write again. It takes effect at once in every session.
    pub fn opening(&self) -> Statement {
        text::open(self)
    }

    /// The statement that arms the function alone. Open transactions can still write until they end, so use this only
    /// for tables that nobody writes to yet. Otherwise use [`Hold`].
    pub fn arming(&self, refusal: &Refusal) -> Statement {
        text::armed(self, refusal)
    }

    /// The statement that sets the function's comment: who created it, and why.
    pub fn describing(&self, comment: &str) -> Statement {
        text::comment(self, comment)
    }

    /// The statements that drop the function, which no trigger may use any more, and with the last one the schema, where it was
    /// made here. They belong into one transaction.
    pub fn dropping(&self) -> [Statement; 2] {
        [text::drop_function(self), text::drop_schema()]
    }

    /// The statement that drops the function with all of its triggers, shown to people. It waits for all users of the
    /// tables.
    pub fn dropping_with_triggers(&self) -> Statement {
        text::drop_with_triggers(self)
    }

    /// The statement that takes the fence off a relation. It waits for all users of the table, including readers.
    pub fn uncovering(&self, relation: &QualifiedName) -> Statement {
        text::drop_trigger(self, relation)
    }

    /// The statement that puts the fence on a relation. It waits for writers.
    pub fn covering(&self, relation: &QualifiedName) -> Statement {
        text::make_trigger(self, relation)
    }
}

impl Standing {
    /// Whether it refuses writes to any of the tables.
    pub fn is_shut(&self) -> bool {
        self.gate == Gate::Armed && self.relations.iter().all(|relation| relation.is_covered)
    }

    /// The relations that the fence does not cover.
    pub fn uncovered(&self) -> impl Iterator<Item = &Fenced> {
        self.relations.iter().filter(|relation| !relation.is_covered)
    }

    /// The statements that make its function, open, and the schema for it where that is missing when they run. They belong into
    /// one transaction. Nothing of what is there is changed.
    pub fn making(&self, fence: &Fence, comment: &str) -> Vec<Statement> {
        match self.gate {
            Gate::Missing => vec![text::make_schema(), text::open(fence), text::comment(fence, comment)],
            Gate::Open | Gate::Armed | Gate::Foreign => Vec::new(),
        }
    }
}

/// The first statement of a transaction that changes tables: it gives up soon if another session uses one of them.
pub fn trying_briefly() -> Statement {
    Statement::new("SET LOCAL lock_timeout = '300ms'")
}

/// The state of a fence around tables: on them, on their ancestors, and on all partitions and children. A trigger fires
/// only for the relation that a statement names.
///
/// # Errors
/// When a query fails.
pub async fn standing(db: &Database, fence: &Fence, tables: &BTreeSet<QualifiedName>) -> Result<Standing> {
    let doing = "looking for the fence around tables";
    let asked = Asked::of(fence, tables);
    let params = asked.function_params();
    let function = db.query_all(doing, text::FUNCTION, &params, read_function);
    let all = asked.params();
    let (function, relations) = try_join(function, db.query_all(doing, text::RELATIONS, &all, read_relation)).await?;
    let standing = function.into_iter().next();
    let standing = standing.ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))?;
    Ok(Standing { relations, ..standing })
}

/// The schema of the objects that the provider creates for itself.
pub fn schema() -> Ident {
    Ident::from_catalog(text::SCHEMA)
}

/// The state that a new fence around tables would have: whether the role may create it, and on which relations.
///
/// # Errors
/// When a query fails.
pub async fn prospect(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<Standing> {
    // No fence has this name: their names begin with another prefix.
    let name = Ident::from_catalog("planned");
    let function = QualifiedName { schema: schema(), name: name.clone() };
    standing(db, &Fence { function, trigger: name }, tables).await
}

/// The relations that a fence is on, even those of tables that it should no longer cover.
///
/// # Errors
/// When a query fails.
pub async fn covered(db: &Database, fence: &Fence) -> Result<BTreeSet<QualifiedName>> {
    let params = [(&fence.function.schema.as_str() as _, Type::TEXT), (&fence.function.name.as_str() as _, Type::TEXT)];
    let read = |row: &Row| Ok(QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?));
    let found = db.query_all("looking for the tables that a fence is on", text::COVERED, &params, read).await?;
    Ok(found.into_iter().collect())
}

/// A function of the provider, with its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub function: Ident,
    /// Its comment.
    pub comment: String,
}

/// The functions of all fences in a database that have a comment.
///
/// # Errors
/// When a query fails.
pub async fn described(db: &Database) -> Result<Vec<Described>> {
    let params = [(&text::SCHEMA as _, Type::TEXT), (&text::MARK as _, Type::TEXT)];
    let read = |row: &Row| Ok(Described { function: Ident::from_catalog(row.try_get(0)?), comment: row.try_get(1)? });
    db.query_all("looking for fences", text::DESCRIBED, &params, read).await
}

/// The parameters of the queries.
struct Asked<'a> {
    schemas: Vec<&'a str>,
    names: Vec<&'a str>,
    trigger: &'a str,
    schema: &'a str,
    function: &'a str,
}

impl<'a> Asked<'a> {
    fn of(fence: &'a Fence, tables: &'a BTreeSet<QualifiedName>) -> Self {
        Self {
            schemas: tables.iter().map(|table| table.schema.as_str()).collect(),
            names: tables.iter().map(|table| table.name.as_str()).collect(),
            trigger: fence.trigger.as_str(),
            schema: fence.function.schema.as_str(),
            function: fence.function.name.as_str(),
        }
    }

    fn function_params(&self) -> [Param<'_>; 2] {
        [(&self.schema, Type::TEXT), (&self.function, Type::TEXT)]
    }

    fn params(&self) -> [Param<'_>; 5] {
        let [schema, function] = self.function_params();
        [
            (&self.schemas, Type::TEXT_ARRAY),
            (&self.names, Type::TEXT_ARRAY),
            (&self.trigger, Type::TEXT),
            schema,
            function,
        ]
    }
}

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

fn read_function(row: &Row) -> RowResult<Standing> {
    let gate = row.try_get::<_, Option<&str>>(3)?.map_or(Gate::Missing, text::gate);
    Ok(Standing {
        gate,
        comment: row.try_get(4)?,
        has_schema: row.try_get(0)?,
        may_make: row.try_get(1)?,
        may_change: row.try_get::<_, Option<bool>>(5)?.unwrap_or(true),
        role: Ident::from_catalog(row.try_get(2)?),
        relations: Vec::new(),
    })
}

fn read_relation(row: &Row) -> RowResult<Fenced> {
    let name = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
    Ok(Fenced {
        name,
        is_covered: row.try_get(2)?,
        is_owned: row.try_get(3)?,
        may_lock: row.try_get(4)?,
        owner: Ident::from_catalog(row.try_get(5)?),
    })
}
