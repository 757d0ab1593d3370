// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_build_indexes`: creates indexes, foreign keys and extended statistics of the subscriber's tables, and shows the
//! progress.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use super::wait_for_sync::Reporter;
use super::with_databases;
use crate::config::building;
use crate::config::{Context, are_empty, check_name, check_table, names};
use crate::postgres::definition::Freshness;
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::destination::building::{Analyze, Event, Seen, build, look, wait_for_copies};
use crate::replication::destination::published;
use crate::replication::{Operation, units};
use crate::tf_provider::action::{Action, Progress};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long it may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);

/// The action.
pub(super) struct BuildIndexes;

crate::model! {
    /// The configuration of a build.
    pub(super) struct Model {
        /// The publications whose tables get their indexes.
        publications: Attr<BTreeSet<String>>,
        /// Further tables.
        tables: Attr<BTreeSet<String>>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// The subscriptions whose copy must end first.
        subscriptions: Attr<BTreeSet<String>>,
        /// How many indexes are built at a time.
        parallel: Attr<i64>,
        /// The `maintenance_work_mem` of the sessions that build.
        maintenance_work_mem: Attr<String>,
        /// Whether the tables are analyzed.
        analyze: Attr<bool>,
        /// How long it may take.
        timeout: Attr<String>,
    }
}

impl Action for BuildIndexes {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_build_indexes";

    fn schema() -> Schema {
        let schema = Schema::new(
            "Creates the indexes, foreign keys and extended statistics that the subscriber lacks, as the resource \
             `neonrepl_destination_indexes` does, but on request and without a state. It prints the progress of \
             each index. If something cannot be created, it creates everything else and then fails.",
        )
        .attribute(
            Attribute::optional(
                "publications",
                Type::set(Type::String),
                "The publications whose tables, with their partitions, get their indexes. At least one of \
                 `publications` and `tables` is required.",
            )
            .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "tables",
                Type::set(Type::String),
                "Further tables, as `schema.table`, or `table` in `public`.",
            )
            .text(check_table),
        );
        building::with_choices(with_databases(schema)).attribute(duration_attribute(
            "timeout",
            "How long it may take, such as `30m`, `2h` or `1h30m`. Default: `12h`.",
        ))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        if are_empty(&[&config.publications, &config.tables]) {
            diagnostics.error(
                Error::new("neither publications nor tables are given")
                    .detail("Name at least one publication, or one table.")
                    .attribute("publications"),
            );
        }
    }

    async fn invoke(call: &Call<Context>, config: Model, progress: &Progress) -> Result<()> {
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let limits = Limits::within(time).cancelled_by(call.stop().clone());
        let pair = call.context().pair(&config.publisher_database, &config.database)?.within(&limits);
        let doing = format!("building the indexes of database {:?}", pair.subscriber.name());
        let operation = Operation::new(doing.as_str(), limits, call);
        let reporter = Mutex::new(Reporter::new(progress.clone()));
        let tell = |event: &Event<'_>| tell(progress, &reporter, event);
        let subscriptions = names("subscriptions", &config.subscriptions, |text| Ident::new(text))?;
        let copied = wait_for_copies(&operation, &pair, &subscriptions, &tell);
        Box::pin(copied).await.map_err(|error| error.during(&doing))?;
        let publications = names("publications", &config.publications, |text| Ident::new(text))?;
        let tables = names("tables", &config.tables, QualifiedName::parse)?;
        let looked = Box::pin(async {
            // Without pending plans, the published tables are always known.
            let published = published(&pair, (&publications, &tables), None).await?.unwrap_or_default();
            look(&pair, &published, Seen::Now, Freshness::Now).await
        });
        let found = operation.unless_stopped(looked).await.map_err(|error| error.during(&doing))?;
        if let Some(warning) = found.objection(&doing) {
            call.warn(warning.into());
        }
        let analyzes = if config.analyze.known() == Some(&false) { Analyze::None } else { Analyze::All };
        let most = pair.subscriber.config().max_connections;
        let how = building::how(&config.parallel, &config.maintenance_work_mem, most, analyzes);
        let is_done = found.is_done();
        let built = Box::pin(build(&operation, &pair, &found, &how, &tell)).await?;
        progress.say(if is_done {
            "Nothing was missing.".to_owned()
        } else {
            format!("All is built, in {}.", units::duration(built.took))
        });
        Ok(())
    }
}

/// Reports the progress.
fn tell(progress: &Progress, reporter: &Mutex<Reporter>, event: &Event<'_>) {
    match event {
        // A poisoned lock means that its holder panicked: then nobody listens any more.
        Event::Copying(statuses) => {
            if let Ok(mut reporter) = reporter.lock() {
                reporter.tell(statuses);
            }
        }
        event => {
            if let Some(line) = event.line() {
                progress.say(line);
            }
        }
    }
}
