//! The one open transaction in which a fence is armed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Asked, Fence, Fenced, Refusal, read_relation, text};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::lost::look_again;
use crate::postgres::session::{Begin, Session, Transaction};
use crate::postgres::sql::{QualifiedName, Statement};
use crate::postgres::wait::{Pauses, Waiter};

const DOING: &str = "closing tables to writers";

/// How long a transaction is waited for that is about to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked for meanwhile.
const POLL: Pauses = Pauses::of(Duration::from_millis(100));

/// Tables that nobody writes to: writers wait for the end of this transaction. Dropped, or cut off in whatever way, it is
/// undone by the server, and they go on.
pub struct Hold<'s> {
    transaction: Transaction<'s>,
    /// The transaction's number, by which it is asked for when the answer to its commit is lost.
    number: String,
    limits: Limits,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was committed.
    Committed,
    /// It was undone.
    Undone,
    /// Nobody knows: the server does not answer, or has forgotten it.
    Unknown,
}

impl<'s> Hold<'s> {
    /// Waits up to `patience` until nobody writes to the relations any more, and arms the fence around the tables. The
    /// relations are locked in the order given: whoever tries again gives another one, as an order that crosses the
    /// application's own never succeeds. A server that hears nothing for the time `silence` undoes all of it.
    ///
    /// # Errors
    /// When others write for longer (see [`Error::is_locked`]), the role lacks rights, or the server cannot be asked. Nothing
    /// has changed then.
    pub async fn take(
        session: &'s mut Session,
        fence: &Fence,
        (tables, relations): (&BTreeSet<QualifiedName>, &[&QualifiedName]),
        refusal: &Refusal,
        (patience, silence): (Duration, Duration),
        limits: &Limits,
    ) -> Result<Self> {
        let begin = Begin { lock_timeout: Some(patience), ..Begin::default() };
        let mut transaction = session.transaction(&begin);
        let silence = format!("SET LOCAL idle_in_transaction_session_timeout = {}", silence.as_millis().max(1));
        let lock = [Statement::new(silence), text::lock(relations.iter().copied())];
        match armed(&mut transaction, (fence, tables, refusal), &lock, limits).await {
            Ok(number) => Ok(Self { transaction, number, limits: limits.clone() }),
            Err(error) => {
                // What it failed with says more than a connection that breaks now.
                let _ = transaction.roll_back(DOING, limits).await;
                Err(error)
            }
        }
    }

    /// The transaction's number.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Lets the server hear that somebody is there.
    ///
    /// # Errors
    /// When the transaction is gone: writers go on.
    pub async fn beat(&mut self) -> Result<()> {
        self.transaction.query(DOING, "SELECT 1", &[], &self.limits).await.map(drop)
    }

    /// Runs statements that take effect with the commit.
    ///
    /// # Errors
    /// When one fails: then nothing of the transaction can be kept.
    pub async fn run(&mut self, doing: &str, statements: &[Statement]) -> Result<()> {
        self.transaction.run(doing, statements, &self.limits).await.map(drop)
    }

    /// Keeps the tables closed. Whoever waited is refused. Whatever is answered, and if nothing is, the server is asked what
    /// became of it: a commit that was given up may have been done all the same.
    ///
    /// # Errors
    /// When it was undone, so that writers go on, or when nobody knows; each says so.
    pub async fn commit(self, db: &Database) -> Result<()> {
        let (number, limits) = (self.number, self.limits);
        let Err(error) = self.transaction.commit(DOING, &limits).await else { return Ok(()) };
        match ending(db, &number, &limits).await {
            Ending::Committed => Ok(()),
            Ending::Undone => Err(error.noting("It was undone: writers go on.".to_owned())),
            Ending::Unknown => Err(error.noting(UNKNOWN.to_owned())),
        }
    }

    /// Lets writers go on.
    ///
    /// # Errors
    /// When the connection breaks; they go on then too.
    pub async fn let_go(self) -> Result<()> {
        self.transaction.roll_back(DOING, &self.limits).await
    }
}

const UNKNOWN: &str =
    "Whether the tables are closed to writers is not known. The next plan looks, and says what is left to do.";

/// Takes the lock, covers what the fence does not cover yet, and arms it. Returns the transaction's number.
async fn armed(
    transaction: &mut Transaction<'_>,
    (fence, tables, refusal): (&Fence, &BTreeSet<QualifiedName>, &Refusal),
    lock: &[Statement],
    limits: &Limits,
) -> Result<String> {
    transaction.run(DOING, lock, limits).await?;
    let late = uncovered(transaction, fence, tables, limits).await?;
    let arm = late.iter().map(|one| text::make_trigger(fence, &one.name)).chain([text::armed(fence, refusal)]);
    transaction.run(DOING, &arm.collect::<Vec<_>>(), limits).await?;
    number(transaction, limits).await
}

/// The relations without the trigger, which came after the fence was made: none can come any more.
async fn uncovered(
    transaction: &mut Transaction<'_>,
    fence: &Fence,
    tables: &BTreeSet<QualifiedName>,
    limits: &Limits,
) -> Result<Vec<Fenced>> {
    let asked = Asked::of(fence, tables);
    let rows = transaction.query(DOING, text::RELATIONS, &asked.params(), limits).await?;
    let found: std::result::Result<Vec<Fenced>, tokio_postgres::Error> = rows.iter().map(read_relation).collect();
    let found = found.map_err(|error| transaction.error(DOING, Cause::Statement(error)))?;
    Ok(found.into_iter().filter(|one| !one.is_covered).collect())
}

async fn number(transaction: &mut Transaction<'_>, limits: &Limits) -> Result<String> {
    let rows = transaction.query(DOING, "SELECT pg_current_xact_id()::text", &[], limits).await?;
    let found = rows.first().map(|row| row.try_get(0)).transpose();
    let found = found.map_err(|error| transaction.error(DOING, Cause::Statement(error)))?;
    found.ok_or_else(|| transaction.error(DOING, Cause::Unexpected("it answered nothing".to_owned())))
}

/// What became of a transaction, by its number. A server that restarts is waited for, and for half a minute one that has
/// not ended it yet.
///
/// Source: `pg_xact_status` in the Postgres documentation.
pub async fn ending(db: &Database, number: &str, limits: &Limits) -> Ending {
    let status = || async {
        let read = |row: &tokio_postgres::Row| row.try_get::<_, Option<String>>(0);
        let sql = "SELECT pg_xact_status($1::text::xid8)";
        let number = (&number as _, tokio_postgres::types::Type::TEXT);
        let found = db.query_all("asking what became of a transaction", sql, &[number], read).await?;
        Ok::<_, Error>(found.into_iter().flatten().next())
    };
    let patience = Limits::within(PATIENCE);
    let mut waiter = Waiter::new(&patience, POLL);
    loop {
        match look_again(limits, status).await.flatten().as_deref() {
            Some("committed") => return Ending::Committed,
            Some("aborted") => return Ending::Undone,
            Some("in progress") if waiter.after(Ok::<Option<()>, Error>(None)).await.is_ok() => {}
            _ => return Ending::Unknown,
        }
    }
}
