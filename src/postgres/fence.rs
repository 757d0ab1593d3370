//! A fence: what turns writers away from tables, on purpose, with a message.
//!
//! It is a function, and a statement trigger on every relation through which the tables can be written to. While the function
//! is open it does nothing, so that it can be made at leisure. Armed in one transaction with a lock on all of the relations
//! ([`Hold`]), it lets nothing through: writers that came before have ended, those that come meanwhile wait, and all who come
//! after the commit are refused. The triggers do not fire for rows that a subscription applies.
//!
//! Source: `CREATE TRIGGER`, "Overview of Trigger Behavior" and `LOCK` in the Postgres documentation.

mod holding;
mod text;

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::Database;
use super::error::Result;
use super::limits::Limits;
use super::sql::{Ident, InvalidName, QualifiedName, Statement};
use super::work::Param;

pub use holding::{Ending, Hold, ending};
pub use text::Refusal;

/// The fence of one purpose, by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Its function, in the schema that is ours.
    pub function: QualifiedName,
    /// Its trigger on each relation.
    pub trigger: Ident,
}

/// What its function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// There is none.
    Missing,
    /// Nothing: everybody may write.
    Open,
    /// It refuses.
    Armed,
    /// There is a function of that name that was not made here.
    Foreign,
}

/// How a fence stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What its function does.
    pub gate: Gate,
    /// What the comment of its function says: who made it, and why.
    pub comment: Option<String>,
    /// Whether the schema of its function is there.
    pub has_schema: bool,
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
}

impl Fence {
    /// The fence of that name.
    ///
    /// # Errors
    /// When the name is too long for Postgres together with what goes in front of it.
    pub fn new(name: &str) -> std::result::Result<Self, InvalidName> {
        let function = QualifiedName { schema: Ident::new(text::SCHEMA)?, name: Ident::new(format!("fence_{name}"))? };
        Ok(Self { function, trigger: Ident::new(format!("neonrepl_fence_{name}"))? })
    }
}

impl Standing {
    /// Whether it turns away whoever writes to one of the tables.
    pub fn is_shut(&self) -> bool {
        self.gate == Gate::Armed && self.relations.iter().all(|relation| relation.is_covered)
    }

    /// The relations that the fence does not cover.
    pub fn uncovered(&self) -> impl Iterator<Item = &Fenced> {
        self.relations.iter().filter(|relation| !relation.is_covered)
    }

    /// The statements that make what is missing of it, open: the schema and the function first, then each trigger, which waits
    /// for who writes to its table, so that each is better run by itself. Nothing of what is there is changed.
    pub fn making(&self, fence: &Fence, comment: &str) -> Vec<Statement> {
        let schema = (!self.has_schema).then(text::make_schema);
        let function = (self.gate == Gate::Missing).then(|| [text::open(fence), text::comment(fence, comment)]);
        let triggers = self.uncovered().map(|relation| text::make_trigger(fence, &relation.name));
        schema.into_iter().chain(function.into_iter().flatten()).chain(triggers).collect()
    }

    /// The statements that take it away. Each trigger waits for everybody who uses its table, readers as well.
    pub fn unmaking(&self, fence: &Fence) -> Vec<Statement> {
        let covered = self.relations.iter().filter(|relation| relation.is_covered);
        let triggers = covered.map(|relation| text::drop_trigger(fence, &relation.name));
        let function = matches!(self.gate, Gate::Open | Gate::Armed).then(|| text::drop_function(fence));
        triggers.chain(function).collect()
    }
}

/// How a fence stands around tables: on them, on all that they are partitions or children of, and on all partitions and
/// children of theirs. A trigger fires only for the relation that a statement names.
///
/// # Errors
/// When the server cannot be asked.
pub async fn standing(db: &Database, fence: &Fence, tables: &BTreeSet<QualifiedName>) -> Result<Standing> {
    let doing = "looking for the fence around tables";
    let asked = Asked::of(fence, tables);
    let function = db.query_all(doing, text::FUNCTION, &asked.function_params(), read_function).await?;
    let relations = db.query_all(doing, text::RELATIONS, &asked.params(), read_relation).await?;
    let (has_schema, source, comment) = function.into_iter().next().unwrap_or((false, None, None));
    let gate = source.map_or(Gate::Missing, |source| text::gate(&source));
    Ok(Standing { gate, comment, has_schema, relations })
}

/// Lets everybody write again: one statement, which waits for nobody and takes effect in every session.
///
/// # Errors
/// When the role does not own the function, or the server cannot be asked.
pub async fn open(db: &Database, fence: &Fence, limits: &Limits) -> Result<()> {
    db.run_within("opening the fence around tables", &[text::open(fence)], limits).await.map(drop)
}

/// Arms the function alone. Whoever is writing goes on until the end of the transaction: this is for tables that nobody
/// writes to yet, and never in the place of [`Hold`].
///
/// # Errors
/// As [`open`].
pub async fn arm(db: &Database, fence: &Fence, refusal: &Refusal, limits: &Limits) -> Result<()> {
    db.run_within("arming the fence around tables", &[text::armed(fence, refusal)], limits).await.map(drop)
}

/// What the queries are asked with.
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

fn read_function(row: &Row) -> RowResult<(bool, Option<String>, Option<String>)> {
    Ok((true, row.try_get(0)?, row.try_get(1)?))
}

fn read_relation(row: &Row) -> RowResult<Fenced> {
    let name = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
    Ok(Fenced { name, is_covered: row.try_get(2)?, is_owned: row.try_get(3)? })
}
