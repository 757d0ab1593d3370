// SPDX-License-Identifier: MPL-2.0

//! Creates what a plan contains, in one transaction, and verifies it.

use super::{Look, Plan, Wish, words};
use crate::postgres::definition::{self, Difference, Object, Step};
use crate::postgres::{Begin, Database, Limits, Statement, Transaction, look_again};
use crate::replication::error::{Error, Result};
use crate::replication::lost::{NOT_DONE, NOT_KNOWN};
use crate::replication::{Operation, Pair};

/// How many statements are sent at once: each takes memory until all are answered.
const BATCH: usize = 10_000;

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The created objects.
    pub made: Vec<Object>,
    /// The state of both sides afterwards.
    pub look: Look,
}

/// Creates what the look has found missing, and makes the allowed changes: everything or nothing, except new labels of
/// enums. These are added before, because no statement may use them in the same transaction.
///
/// # Errors
/// With all obstacles, before anything is changed. Otherwise with the failed statement, or the remaining differences:
/// then everything is rolled back.
pub async fn make(operation: &Operation<'_>, pair: &Pair, look: Look, wish: &Wish) -> Result<Outcome> {
    if let Some(error) = words::refusal(operation, &look.plan) {
        return Err(error);
    }
    if look.plan.is_done() {
        return Ok(Outcome { made: Vec::new(), look });
    }
    let db = &pair.subscriber;
    let labels: Vec<Statement> = mends(look.plan.changed.iter().filter(|one| one.is_mended_first()));
    Box::pin(add_labels(operation, db, &look, wish, &labels)).await?;
    match Box::pin(transact(operation, db, &look, wish)).await {
        Ok(after) => Ok(Outcome { made: made(look.plan), look: after }),
        Err(error) if error.cause().is_some_and(crate::postgres::Error::is_lost) => {
            after_loss(operation, db, look, wish, error).await
        }
        Err(error) => {
            let ran: Vec<_> = labels.iter().map(|statement| format!("{statement};")).collect();
            Err(error.detail(what_stays(&ran)))
        }
    }
}

/// Adds the labels, all or none. If the connection breaks, reads whether it was done.
async fn add_labels(
    operation: &Operation<'_>,
    db: &Database,
    look: &Look,
    wish: &Wish,
    labels: &[Statement],
) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let Err(error) = db.run_within(operation.doing(), labels, operation.limits()).await else { return Ok(()) };
    let is_lost = error.is_lost();
    let error = Error::from(error);
    if !is_lost {
        return Err(error.detail(what_stays(&[])));
    }
    let Some(after) = read_again(operation, db, look, wish).await else {
        return Err(error.detail(NOT_KNOWN));
    };
    if after.plan.changed.iter().any(Difference::is_mended_first) {
        return Err(error.detail(NOT_DONE));
    }
    tracing::info!(cause = %error, "the connection broke, and the labels are there");
    Ok(())
}

/// The state of both sides after a connection broke. None if it cannot be read.
async fn read_again(operation: &Operation<'_>, db: &Database, look: &Look, wish: &Wish) -> Option<Look> {
    let like = look.wanted(wish);
    let subscriber = look_again(operation.limits(), || definition::read(db, &like)).await?;
    Some(look.with_subscriber(subscriber, wish))
}

/// The text about changes that stay after a rollback, because they were committed before.
fn what_stays(labels: &[String]) -> String {
    if labels.is_empty() {
        return "Nothing was changed.".to_owned();
    }
    format!(
        "Everything was undone but what had to be there before, since nothing may use a new label in the transaction that adds \
         it: {} It stays, and the next apply goes on from there.",
        labels.join(" ")
    )
}

/// The objects that a plan creates, in order, without those that are dropped together with others.
fn made(plan: Plan) -> Vec<Object> {
    plan.made.into_iter().filter(|step| step.is_dropped).map(|step| step.object).collect()
}

/// The connection broke, maybe during the COMMIT: reads whether it was done.
async fn after_loss(
    operation: &Operation<'_>,
    db: &Database,
    look: Look,
    wish: &Wish,
    error: Error,
) -> Result<Outcome> {
    let Some(after) = read_again(operation, db, &look, wish).await else {
        return Err(error.detail(NOT_KNOWN));
    };
    if after.plan.is_done() {
        return Ok(Outcome { made: made(look.plan), look: after });
    }
    Err(error.detail(NOT_DONE))
}

async fn transact(operation: &Operation<'_>, db: &Database, look: &Look, wish: &Wish) -> Result<Look> {
    let (doing, limits) = (operation.doing(), operation.limits());
    let mut session = db.session(doing, limits).await?;
    let version = session.version();
    let mut transaction = session.transaction(&Begin::default());
    transaction.run(doing, &definition::settings(), limits).await?;
    for batch in batches(&look.plan) {
        run(&mut transaction, doing, &batch, limits).await?;
    }
    let like = look.wanted(wish);
    let subscriber = definition::read_in(&mut transaction, version, &like, limits).await?;
    let after = look.with_subscriber(subscriber, wish);
    if let Some(error) = words::unproven(operation, &look.plan, &after.plan) {
        transaction.roll_back(doing, limits).await?;
        return Err(error);
    }
    operation.go_on()?;
    transaction.commit(doing, limits).await?;
    Ok(after)
}

/// The statements of one object.
type Piece = (String, Vec<Statement>);

/// All statements, in pieces that are sent together: first what tables need, then changes of existing tables, then new
/// tables, which may be partitions of those.
fn batches(plan: &Plan) -> Vec<Vec<Piece>> {
    let made = |step: &Step| (format!("making {}", step.object), step.statements.clone());
    let changed = |one: &Difference| (format!("changing {}", one.object), one.mend().unwrap_or_default());
    let tables = plan.made.iter().position(|step| !step.object.comes_before_tables()).unwrap_or(plan.made.len());
    let (first, then) = plan.made.split_at(tables);
    let (last, between): (Vec<_>, Vec<_>) =
        plan.changed.iter().filter(|one| !one.is_mended_first()).partition(|one| one.is_mended_last());
    let renamed = plan.renamed.iter().map(|one| {
        let statements = one.statement().into_iter().collect();
        (format!("renaming a column of {}", one.object()), statements)
    });
    let tables = plan.renamed_tables.iter().map(|one| (format!("renaming {}", one.object()), vec![one.statement()]));
    let pieces = tables.chain(renamed).chain(first.iter().map(made)).chain(between.into_iter().map(changed));
    let pieces = pieces.chain(then.iter().map(made)).chain(last.into_iter().map(changed));
    let pieces: Vec<_> = pieces.filter(|(_, statements)| !statements.is_empty()).collect();
    pieces.chunks(BATCH).map(<[Piece]>::to_vec).collect()
}

fn mends<'a>(differences: impl Iterator<Item = &'a Difference>) -> Vec<Statement> {
    differences.flat_map(|one| one.mend().unwrap_or_default()).collect()
}

/// Sends all pieces at once. If one fails, runs them one by one to find out which.
async fn run(transaction: &mut Transaction<'_>, doing: &str, pieces: &[Piece], limits: &Limits) -> Result<()> {
    let savepoint = transaction.savepoint();
    let all: Vec<Statement> = pieces.iter().flat_map(|(_, statements)| statements.clone()).collect();
    let Err(error) = transaction.run_script(doing, &all, limits).await else { return Ok(()) };
    if error.code().is_none() || error.is_lost() || pieces.len() == 1 {
        let named = pieces.first().filter(|_| pieces.len() == 1).map(|(what, _)| what.as_str());
        return Err(named.map_or_else(|| Error::from(error.clone()), |what| said_of(what, &error)));
    }
    transaction.roll_back_to(&savepoint);
    for (what, statements) in pieces {
        if let Err(error) = transaction.run(doing, statements, limits).await {
            return Err(said_of(what, &error));
        }
    }
    Ok(())
}

/// The server's error, with the object that it is about.
fn said_of(what: &str, error: &crate::postgres::Error) -> Error {
    Error::from(error.clone()).detail(format!("It came up while {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_there_before_are_named() {
        assert_eq!(what_stays(&[]), "Nothing was changed.");
        let labels = ["ALTER TYPE m ADD VALUE 'a';", "ALTER TYPE m ADD VALUE 'b';"].map(str::to_owned);
        let said = what_stays(&labels);
        assert!(said.contains("it: ALTER TYPE m ADD VALUE 'a'; ALTER TYPE m ADD VALUE 'b'; It stays"), "{said}");
    }
}
