// SPDX-License-Identifier: MPL-2.0

//! The facts about both servers for a preflight: each side is read through one connection, one query after the other,
//! with the same number of queries for any number of tables.
//!
//! If a role may not read something, the preflight does not fail: it skips that and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;

use super::Question;
use super::meant::{owned, planned, to_be_made, totals, unpublished};
use super::planned_switch::{self, PlannedSwitch};
use crate::postgres::catalog::{
    self, CalledFunction, Constraint, Guards, Index, Labels, LeftBehind, Outline, Sequence, TableSize,
};
use crate::postgres::publication::{self, FilterColumns, Lack, Publication, Sent};
use crate::postgres::server_facts::{self, RoleSetting, Roles, ServerFacts, SlotInUse, Transactions};
use crate::postgres::settings::{self, Room};
use crate::postgres::subscription::{self, Subscriptions};
use crate::postgres::{self, Database, Ident, QualifiedName, ServerVersion};
use crate::replication::checks::BothSides;
use crate::replication::error::{Error, Result};
use crate::replication::{Operation, Pair, Place};

/// A transaction that is open for longer than this blocks others.
pub(super) const OLD_TRANSACTION: Duration = Duration::from_secs(300);

/// The settings of a role that matter to replication, or to closing a database to writes.
const ROLE_SETTINGS: [&str; 5] = [
    "default_transaction_read_only",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "row_security",
    "session_replication_role",
];

/// The question, and the answers of both servers.
pub(super) struct Facts {
    pub question: Question,
    pub publisher: Side,
    pub subscriber: Side,
    /// Whether both are databases of the same cluster.
    pub is_one_cluster: bool,
    /// The requested publications that exist, and, if there are tables to publish, one for these.
    pub publications: Vec<Publication>,
    /// The requested publications that do not exist.
    pub missing: Vec<Ident>,
    /// The tables that are not published yet.
    pub unpublished: BTreeSet<QualifiedName>,
    /// The rights that the role of the connection lacks to publish those.
    pub lacks: Vec<Lack>,
    pub filters: BTreeMap<Ident, FilterColumns>,
    pub sent: Sent,
    pub tables: BothSides,
    /// The tables in the other direction, if changes will flow back.
    pub tables_back: Option<BothSides>,
    /// Subscriptions that already read from the publications, and their tables.
    pub own: BTreeMap<Ident, BTreeSet<QualifiedName>>,
    /// The tables of all other subscriptions, with the subscription.
    pub others: BTreeMap<QualifiedName, Ident>,
    /// The tables of the subscriber that have rows.
    pub with_rows: BTreeSet<QualifiedName>,
    /// The size of each table that is not partitioned.
    pub extents: BTreeMap<QualifiedName, TableSize>,
    /// The sizes by the name under which the rows are sent.
    pub totals: BTreeMap<QualifiedName, TableSize>,
    /// The highest number in columns of the publisher that take numbers from a sequence.
    pub highest: BTreeMap<(QualifiedName, Ident), i64>,
    pub left_behind: Vec<LeftBehind>,
    /// The missing extensions that the subscriber could install.
    pub available: BTreeMap<String, String>,
    pub unchecked: Vec<Unchecked>,
}

/// The answers of one server.
pub(super) struct Side {
    pub place: Place,
    /// The database.
    pub database: String,
    pub version: ServerVersion,
    pub server: ServerFacts,
    pub roles: Roles,
    pub room: Option<Room>,
    pub outline: Arc<Outline>,
    pub transactions: Transactions,
    pub role_settings: Vec<RoleSetting>,
    pub slots: Vec<SlotInUse>,
    pub subscriptions: Arc<Subscriptions>,
    pub extensions: BTreeMap<String, String>,
    pub indexes: BTreeMap<QualifiedName, Vec<Index>>,
    pub constraints: BTreeMap<QualifiedName, Vec<Constraint>>,
    pub sequences: BTreeMap<QualifiedName, Vec<Sequence>>,
    pub guards: BTreeMap<QualifiedName, Guards>,
    pub functions: BTreeMap<QualifiedName, Vec<CalledFunction>>,
    /// The labels of the enums that columns of the tables have.
    pub labels: Labels,
    /// What a cutover will require of it, if one is planned.
    pub switch: Option<PlannedSwitch>,
}

/// A fact that a server refused to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unchecked {
    pub place: Place,
    /// What was being read.
    pub what: String,
    pub why: String,
}

impl Facts {
    /// The tables that are not replicated yet.
    pub(super) fn new_tables(&self) -> impl Iterator<Item = &QualifiedName> {
        let is_joined = |table: &QualifiedName| self.own.values().any(|tables| tables.contains(table));
        self.sent.tables.keys().filter(move |table| !is_joined(table))
    }

    /// The role that the subscription logs in as on the publisher.
    pub(super) fn login(&self) -> &Ident {
        self.login_on(Place::Publisher)
    }

    /// The role that a subscription of the other side logs in as on a side.
    pub(super) fn login_on(&self, place: Place) -> &Ident {
        let (given, side) = match place {
            Place::Subscriber => (&self.question.reverse_role, &self.subscriber),
            _ => (&self.question.subscription_role, &self.publisher),
        };
        given.as_ref().unwrap_or(&side.roles.own)
    }
}

/// Reads both servers.
///
/// # Errors
/// When a query fails at all, or the operation is cancelled.
pub(super) async fn read(operation: &Operation<'_>, pair: &Pair, question: &Question) -> Result<Facts> {
    let mut publisher = Reader::new(operation, &pair.publisher, Place::Publisher);
    let mut subscriber = Reader::new(operation, &pair.subscriber, Place::Subscriber);
    let (asked, (other, there)) = Box::pin(try_join(
        Box::pin(publisher.first_look(question)),
        Box::pin(async {
            Ok((subscriber.server(question.reverse_role.as_ref()).await?, subscriber.subscribed_tables().await?))
        }),
    ))
    .await?;
    let Asked { side, publications, missing, unpublished, lacks, filters } = asked;
    let sent = publication::sent(&publications, &side.outline, side.version.min(other.version));
    let (own, others) = owned(&other.subscriptions, &there, question);
    let mut facts = Facts {
        question: question.clone(),
        publisher: side,
        subscriber: other,
        is_one_cluster: false,
        publications,
        missing,
        unpublished,
        lacks,
        filters,
        sent,
        tables: BothSides::default(),
        tables_back: None,
        own,
        others,
        with_rows: BTreeSet::new(),
        extents: BTreeMap::new(),
        totals: BTreeMap::new(),
        highest: BTreeMap::new(),
        left_behind: Vec::new(),
        available: BTreeMap::new(),
        unchecked: Vec::new(),
    };
    Box::pin(facts.read_pair(operation, pair)).await?;
    facts.read_tables(&mut publisher, &mut subscriber).await?;
    facts.unchecked.extend(publisher.unchecked.into_iter().chain(subscriber.unchecked));
    Ok(facts)
}

impl Facts {
    /// Reads facts from both at the same time.
    async fn read_pair(&mut self, operation: &Operation<'_>, pair: &Pair) -> Result<()> {
        let mut both = Reader::new(operation, &pair.publisher, Place::Both);
        self.is_one_cluster = both.may("whether both are in one cluster", pair.is_one_cluster()).await?;
        let names: BTreeSet<_> = self.sent.tables.keys().chain(self.sent.routes.keys()).cloned().collect();
        let planned = planned(&self.publications, &self.publisher.roles.own);
        let login = self.login().clone();
        let tables = Box::pin(BothSides::read(pair, &planned, Some(&login), &names));
        self.tables = both.may("the columns of the tables", tables).await?;
        if self.question.reverse {
            let (back, login) = (pair.reversed(), self.login_on(Place::Subscriber).clone());
            let tables = Box::pin(BothSides::read(&back, &planned, Some(&login), &names));
            self.tables_back = Some(both.may("the columns of the tables for the way back", tables).await?);
        }
        self.unchecked.append(&mut both.unchecked);
        Ok(())
    }

    /// Reads facts about the tables of each.
    async fn read_tables(&mut self, publisher: &mut Reader<'_>, subscriber: &mut Reader<'_>) -> Result<()> {
        let names: BTreeSet<_> = self.sent.tables.keys().chain(self.sent.routes.keys()).cloned().collect();
        let partitions = self.sent.tables.keys().filter_map(|table| self.subscriber.outline.partitions.get(table));
        let there: BTreeSet<_> = self.sent.tables.keys().chain(partitions.flatten()).cloned().collect();
        let leaves: BTreeSet<_> = self.sent.routes.keys().cloned().collect();
        let new: BTreeSet<_> = self.new_tables().cloned().collect();
        let login = self.login().clone();
        let extensions: Vec<_> = self.publisher.extensions.keys().cloned().collect();
        let (side, other) = (&mut self.publisher, &mut self.subscriber);
        let (tables, is_planned) = (&self.tables, self.question.plans_cutover());
        let ((extents, highest, left), (rows, available)) = Box::pin(try_join(
            Box::pin(async {
                publisher.tables(side, &names, Some(&login)).await?;
                publisher.switch(side, &names, is_planned).await?;
                let numbered = numbered(side, tables);
                let highest = catalog::highest(publisher.db, &numbered);
                let highest = publisher.may("how far sequences are", highest).await?;
                let highest = numbered.into_iter().zip(highest).filter_map(|(column, most)| Some((column, most?)));
                let extents = publisher.may("the size of the tables", catalog::sizes(publisher.db, &leaves)).await?;
                let mut left =
                    publisher.may("what replication does not bring", catalog::left_behind(publisher.db)).await?;
                left.extend(publisher.may("the jobs of pg_cron", catalog::cron_jobs(publisher.db)).await?);
                Ok::<_, Error>((extents, highest.collect(), left))
            }),
            Box::pin(async {
                subscriber.tables(other, &there, None).await?;
                subscriber.switch(other, &there, is_planned).await?;
                let lacking: Vec<_> = extensions.iter().map(String::as_str).collect();
                let available = catalog::available_extensions(subscriber.db, &lacking);
                let available = subscriber.may("which extensions there are to install", available).await?;
                let rows = catalog::with_rows(subscriber.db, &new);
                Ok((subscriber.may("which tables hold rows", rows).await?, available))
            }),
        ))
        .await?;
        self.totals = totals(&extents, &self.sent);
        (self.extents, self.highest, self.left_behind) = (extents, highest, left);
        (self.with_rows, self.available) = (rows, available);
        Ok(())
    }
}

/// The columns that take numbers from a sequence and whose highest number is cheap to read: of an integer type, the
/// first column of an index, in a table that the role owns.
fn numbered(side: &Side, tables: &BothSides) -> Vec<(QualifiedName, Ident)> {
    let is_integer = |table: &QualifiedName, column: &Ident| {
        let found = tables.sources().get(table).and_then(|table| table.column(column));
        found.is_some_and(|column| ["smallint", "integer", "bigint"].contains(&column.ty.as_str()))
    };
    let is_first = |table: &QualifiedName, column: &Ident| {
        let indexes = side.indexes.get(table).map(Vec::as_slice).unwrap_or_default();
        let is_it = |index: &Index| {
            index.is_valid
                && !index.is_partial
                && index.method == "btree"
                && index.keys.first() == Some(&Some(column.clone()))
        };
        indexes.iter().any(is_it)
    };
    let is_owned = |table: &QualifiedName| side.guards.get(table).is_some_and(|guards| guards.is_owned);
    let columns =
        side.sequences.iter().filter(|(table, _)| is_owned(table)).flat_map(|(table, sequences)| {
            sequences.iter().map(move |sequence| (table.clone(), sequence.column.clone()))
        });
    columns.filter(|(table, column)| is_integer(table, column) && is_first(table, column)).collect()
}

/// The result of the first read of the publisher.
struct Asked {
    side: Side,
    publications: Vec<Publication>,
    missing: Vec<Ident>,
    unpublished: BTreeSet<QualifiedName>,
    lacks: Vec<Lack>,
    filters: BTreeMap<Ident, FilterColumns>,
}

/// Reads from one server.
struct Reader<'a> {
    operation: &'a Operation<'a>,
    db: &'a Database,
    place: Place,
    unchecked: Vec<Unchecked>,
}

impl<'a> Reader<'a> {
    fn new(operation: &'a Operation<'a>, db: &'a Database, place: Place) -> Self {
        Self { operation, db, place, unchecked: Vec::new() }
    }

    /// The result of a read, or the default if the server refuses it.
    ///
    /// # Errors
    /// When the server cannot be queried any more.
    async fn may<T: Default>(&mut self, what: &str, read: impl Future<Output = postgres::Result<T>>) -> Result<T> {
        match self.operation.unless_stopped(read).await {
            Err(error) if is_refusal(&error) => {
                let why = error.cause().map_or_else(|| error.to_string(), ToString::to_string);
                self.unchecked.push(Unchecked { place: self.place, what: what.to_owned(), why });
                Ok(T::default())
            }
            result => result,
        }
    }

    /// Facts about the server and its activity. `login` is a role to read in addition to that of the connection.
    async fn server(&mut self, login: Option<&Ident>) -> Result<Side> {
        let (operation, db) = (self.operation, self.db);
        let version = operation.unless_stopped(db.version()).await?;
        let outline = operation.unless_stopped(Box::pin(catalog::outline(db))).await?;
        let logins: Vec<_> = login.into_iter().collect();
        let own = || Ident::new(db.config().username.clone());
        let roles = self.may("what roles may do", async { Ok(Some(server_facts::roles(db, &logins).await?)) }).await?;
        let roles = match roles {
            Some(roles) => roles,
            None => Roles { own: own().map_err(|error| operation.error(error))?, known: BTreeMap::new() },
        };
        Ok(Side {
            place: self.place,
            database: db.name().to_owned(),
            version,
            server: self.may("what the server is", server_facts::server_facts(db)).await?,
            roles,
            room: self
                .may("how many replication slots are left", async { Ok(Some(settings::room(db).await?)) })
                .await?,
            outline,
            transactions: self.may("old transactions", server_facts::transactions(db, OLD_TRANSACTION)).await?,
            role_settings: self.may("the settings of roles", server_facts::role_settings(db, &ROLE_SETTINGS)).await?,
            slots: self.may("the replication slots", server_facts::logical_slots(db)).await?,
            subscriptions: self.may("the subscriptions", Box::pin(subscription::fetch_all(db))).await?,
            extensions: self.may("the extensions", catalog::extensions(db)).await?,
            indexes: BTreeMap::new(),
            constraints: BTreeMap::new(),
            sequences: BTreeMap::new(),
            guards: BTreeMap::new(),
            functions: BTreeMap::new(),
            labels: Labels::new(),
            switch: None,
        })
    }

    /// Reads the publisher, and what will be published there.
    async fn first_look(&mut self, question: &Question) -> Result<Asked> {
        let side = self.server(question.subscription_role.as_ref()).await?;
        let (mut publications, mut missing) = (Vec::new(), Vec::new());
        for name in &question.publications {
            let found = Box::pin(async { Ok(Some(publication::fetch(self.db, name).await?)) });
            match self.may(&format!("publication {name}"), found).await? {
                Some(Some(publication)) => publications.push(publication),
                Some(None) => missing.push(name.clone()),
                None => {}
            }
        }
        let filters = publication::filter_columns(self.db, &question.publications);
        let filters = self.may("the columns of row filters", filters).await?;
        let unpublished = unpublished(question, &publications, &side.outline, side.version);
        let planned = to_be_made(question, &unpublished);
        let lacks = match &planned {
            Some(planned) => {
                let old = publications.iter().find(|old| old.name == planned.name);
                let lacks = Box::pin(publication::lacks(self.db, old, planned));
                self.may("the rights to publish tables", lacks).await?
            }
            None => Vec::new(),
        };
        publications.extend(planned);
        Ok(Asked { side, publications, missing, unpublished, lacks, filters })
    }

    /// The tables of every subscription.
    async fn subscribed_tables(&mut self) -> Result<BTreeMap<Ident, BTreeSet<QualifiedName>>> {
        let db = self.db;
        let subscriptions = self.may("the subscriptions", Box::pin(subscription::fetch_all(db))).await?;
        let mut found = BTreeMap::new();
        for name in subscriptions.keys() {
            let tables =
                self.may(&format!("the tables of subscription {name}"), subscription::tables(db, name)).await?;
            found.insert(name.clone(), tables.into_iter().map(|(table, _)| table).collect());
        }
        Ok(found)
    }

    /// Reads the facts about these tables, for `role`, by default that of the connection.
    async fn tables(&mut self, side: &mut Side, names: &BTreeSet<QualifiedName>, role: Option<&Ident>) -> Result<()> {
        let db = self.db;
        side.indexes = self.may("the indexes of the tables", catalog::indexes(db, names)).await?;
        side.constraints = self.may("the constraints of the tables", catalog::constraints(db, names)).await?;
        side.sequences = self.may("the sequences of the tables", catalog::sequences(db, names)).await?;
        side.guards = self.may("the row security of the tables", catalog::guards(db, names, role)).await?;
        side.functions = self.may("the functions of the tables", catalog::called_functions(db, names)).await?;
        side.labels = self.may("the labels of enums", catalog::labels(db, names)).await?;
        Ok(())
    }

    /// Reads what a cutover will require.
    async fn switch(&mut self, side: &mut Side, names: &BTreeSet<QualifiedName>, is_planned: bool) -> Result<()> {
        if is_planned {
            let (db, sequences) = (self.db, &side.sequences);
            let read = Box::pin(async { Ok(Some(planned_switch::read(db, names, sequences).await?)) });
            side.switch = self.may("what a cutover needs", read).await?;
        }
        Ok(())
    }
}

/// Whether the server answers, but refuses to show this.
fn is_refusal(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.code().is_some() && !cause.is_connect() && !cause.is_transient())
}
