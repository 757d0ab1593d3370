// SPDX-License-Identifier: MPL-2.0

//! One side of a comparison: a transaction that sees one fixed state of its tables.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::comparable::Comparable;
use super::fineness::Fineness;
use super::text;
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::session::{Begin, Isolation, Rows, Savepoint, Session, Transaction};
use crate::postgres::sql::Statement;
use crate::postgres::work::Param;

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// How many tables are counted in one statement.
const TOGETHER: usize = 100;

/// The number of rows, and the sum of their hashes.
pub type Sum = (i64, String);

/// A server's side of a comparison. It only reads. Dropping it releases everything.
pub struct Side<'s> {
    transaction: Transaction<'s>,
    doing: &'static str,
    is_partitioned: fn(&Comparable) -> bool,
    limits: Limits,
}

/// Proof of a lock against writes to tables. [`Side::release`] releases it, long before the transaction ends.
pub struct Held(Savepoint);

/// A row of one side, as [`Side::rows`] sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The hash of its key, by which the rows are sorted.
    pub hash: i64,
    /// The values of its key as texts, which order rows with the same hash.
    pub key: Vec<Option<String>>,
    /// A hash of each compared column, in the order of [`Comparable::columns`].
    pub columns: Vec<i64>,
}

impl<'s> Side<'s> {
    /// The publisher's side. Nothing is sent yet.
    pub fn publisher(session: &'s mut Session, limits: &Limits) -> Self {
        let doing = "comparing tables on the publisher";
        Self::new(session, doing, |table| table.publisher_is_partitioned, limits)
    }

    /// The subscriber's side. Nothing is sent yet.
    pub fn subscriber(session: &'s mut Session, limits: &Limits) -> Self {
        let doing = "comparing tables on the subscriber";
        Self::new(session, doing, |table| table.subscriber_is_partitioned, limits)
    }

    fn new(
        session: &'s mut Session,
        doing: &'static str,
        is_partitioned: fn(&Comparable) -> bool,
        limits: &Limits,
    ) -> Self {
        let begin = Begin { isolation: Isolation::RepeatableRead, read_only: true, lock_timeout: None };
        Self { transaction: session.transaction(&begin), doing, is_partitioned, limits: limits.clone() }
    }

    /// Sets everything that the texts of values depend on. If row-level security hides rows from the role, it gets an
    /// error and not fewer rows. This takes no snapshot.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn begin(&mut self) -> Result<()> {
        let settings =
            ["row_security = off", "IntervalStyle = postgres", "extra_float_digits = 1", "bytea_output = hex"];
        let settings = settings.map(|setting| Statement::new(format!("SET LOCAL {setting}")));
        self.run(&settings).await
    }

    /// Locks the tables against writes, and, until the transaction ends, against changes of their definitions. This
    /// takes no snapshot, so that the next one includes all earlier writes.
    ///
    /// # Errors
    /// When others write for longer than `patience`, or the role may not lock them. The transaction continues.
    pub async fn hold(&mut self, tables: &[&Comparable], patience: Duration) -> Result<Held> {
        let all = || tables.iter().copied();
        let wait = Statement::new(format!("SET LOCAL lock_timeout = {}", patience.as_millis().max(1)));
        let before = self.transaction.savepoint();
        let taken =
            self.lock(&[wait, Statement::new(text::lock(all(), "ACCESS SHARE"))], text::lock(all(), "SHARE")).await;
        taken.inspect_err(|_| self.transaction.roll_back_to(&before))
    }

    /// Takes the lock that stays, and then the one that is released early.
    async fn lock(&mut self, stays: &[Statement], given_back: String) -> Result<Held> {
        self.run(stays).await?;
        let held = self.transaction.savepoint();
        self.run(&[Statement::new(given_back)]).await.map(|()| Held(held))
    }

    /// Lets others write again. The visible state stays.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn release(&mut self, held: &Held) -> Result<()> {
        self.transaction.roll_back_to(&held.0);
        self.run(&[]).await
    }

    /// Fixes the visible state of the tables: later writes are not seen.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn pin(&mut self) -> Result<()> {
        self.query("SELECT 1", &[]).await.map(drop)
    }

    /// Counts the rows of a table.
    ///
    /// # Errors
    /// When the role may not read it, or a query fails. The transaction continues.
    pub async fn count(&mut self, table: &Comparable) -> Result<i64> {
        let rows = self.guarded(&text::count(table, (self.is_partitioned)(table))).await?;
        self.read(&rows, |row| row.try_get(0)).map(|counts| counts.first().copied().unwrap_or_default())
    }

    /// Counts the rows of a table, and sums their hashes.
    ///
    /// # Errors
    /// As [`Side::count`].
    pub async fn checksum(&mut self, table: &Comparable) -> Result<Sum> {
        let rows = self.guarded(&text::checksum(table, (self.is_partitioned)(table))).await?;
        let sums = self.read(&rows, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?;
        Ok(sums.into_iter().next().unwrap_or_default())
    }

    /// Counts the rows of tables, in order, with a sum of the hashes of each table's rows, or an empty text without
    /// `with_sums`. Many tables share a round trip.
    ///
    /// # Errors
    /// As [`Side::count`], of any of the tables.
    pub async fn totals(&mut self, tables: &[&Comparable], with_sums: bool) -> Result<Vec<(i64, String)>> {
        let mut all = Vec::with_capacity(tables.len());
        for tables in tables.chunks(TOGETHER) {
            let with_parts: Vec<_> = tables.iter().map(|table| (*table, (self.is_partitioned)(table))).collect();
            let rows = self.guarded(&text::totals(&with_parts, with_sums)).await?;
            all.extend(self.read(&rows, |row| Ok((row.try_get(1)?, row.try_get(2)?)))?);
        }
        Ok(all)
    }

    /// Counts and sums for each bucket of its keys.
    ///
    /// # Errors
    /// As [`Side::count`].
    pub async fn buckets(&mut self, table: &Comparable) -> Result<BTreeMap<i64, Sum>> {
        let rows = self.guarded(&text::buckets(table, (self.is_partitioned)(table), Fineness::FIRST)).await?;
        self.sums(&rows)
    }

    /// The same for each of the finer buckets that make up these buckets.
    ///
    /// # Errors
    /// As [`Side::count`].
    pub async fn parts(
        &mut self,
        table: &Comparable,
        (buckets, fineness): (&[i64], Fineness),
        finer: Fineness,
    ) -> Result<BTreeMap<i64, Sum>> {
        let sql = text::parts(table, (self.is_partitioned)(table), fineness, finer);
        let rows = self.query(&sql, &[(&buckets, Type::INT8_ARRAY)]).await?;
        self.sums(&rows)
    }

    fn sums(&self, rows: &[Row]) -> Result<BTreeMap<i64, Sum>> {
        let sums = self.read(rows, |row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?))))?;
        Ok(sums.into_iter().collect())
    }

    /// The rows whose keys are in these buckets, one by one, in the order of [`Entry`]: the same on every server.
    ///
    /// # Errors
    /// As [`Side::count`].
    pub async fn rows(&mut self, table: &Comparable, (buckets, fineness): (&[i64], Fineness)) -> Result<Rows<'_>> {
        let sql = text::rows(table, (self.is_partitioned)(table), fineness);
        self.transaction.rows(self.doing, &sql, &[(&buckets, Type::INT8_ARRAY)], &self.limits).await
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn end(self) -> Result<()> {
        self.transaction.roll_back(self.doing, &self.limits).await
    }

    /// A query whose failure does not end the transaction.
    async fn guarded(&mut self, sql: &str) -> Result<Vec<Row>> {
        let before = self.transaction.savepoint();
        match self.query(sql, &[]).await {
            Ok(rows) => {
                self.transaction.release(&before);
                Ok(rows)
            }
            Err(error) => {
                self.transaction.roll_back_to(&before);
                Err(error)
            }
        }
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.transaction.query(self.doing, sql, params, &self.limits).await
    }

    fn read<T>(&self, rows: &[Row], read: impl Fn(&Row) -> RowResult<T>) -> Result<Vec<T>> {
        let read: RowResult<Vec<T>> = rows.iter().map(read).collect();
        read.map_err(|error| self.transaction.error(self.doing, Cause::Statement(error)))
    }

    async fn run(&mut self, statements: &[Statement]) -> Result<()> {
        self.transaction.run(self.doing, statements, &self.limits).await.map(drop)
    }
}

/// Reads a row of [`Side::rows`].
///
/// # Errors
/// When it is not such a row.
pub fn entry(row: &Row) -> RowResult<Entry> {
    Ok(Entry { hash: row.try_get(0)?, key: row.try_get(1)?, columns: row.try_get(2)? })
}
