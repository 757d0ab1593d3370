// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_wait_for_sync`: waits until subscriptions are ready or have caught up, and shows their progress.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Context, check_name};
use crate::postgres::{Ident, Limits};
use crate::replication::Operation;
use crate::replication::status::{Question, Status, Until, wait_until};
use crate::report::{self, Lines, Pace};
use crate::tf_provider::action::{Action, Progress};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long the wait may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The values of `until`.
const UNTIL: &[&str] = &["ready", "caught_up"];

/// The action.
pub(super) struct WaitForSync;

crate::model! {
    /// The configuration of a wait.
    pub(super) struct Model {
        /// The subscription; by default all of the database.
        subscription: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// `ready` or `caught_up`.
        until: Attr<String>,
        /// How long it may take.
        timeout: Attr<String>,
    }
}

impl Action for WaitForSync {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_wait_for_sync";

    fn schema() -> Schema {
        Schema::new(
            "Waits until subscriptions are ready, or have applied everything that the publisher had written when \
             the wait began. It prints a line at each change, and otherwise every ten seconds: which tables are \
             being copied, with rows, rate and time left, and how far the subscriber is behind. It changes nothing.",
        )
        .attribute(
            Attribute::optional("subscription", Type::String, "The subscription. Default: all of the database.")
                .text(check_name),
        )
        .attribute(
            Attribute::optional("database", Type::String, "The database of the subscriber. Default: the provider's.")
                .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "until",
                Type::String,
                "What to wait for. `ready`: every published table is replicated, and a worker runs. `caught_up`: in \
                 addition, everything that the publisher had written when the wait began is applied and flushed. \
                 Default: `caught_up`.",
            )
            .one_of(UNTIL),
        )
        .attribute(duration_attribute(
            "timeout",
            "How long the wait may take, such as `30s`, `10m` or `1h30m`. Default: `30m`.",
        ))
    }

    async fn invoke(call: &Call<Context>, config: Model, progress: &Progress) -> Result<()> {
        let context = call.context();
        let subscriber = context.subscriber().database(config.database.known().map(String::as_str))?;
        // If the provider has no publisher, the subscription's own connection leads to it.
        let publisher = context.publisher().database(None).ok();
        let names = names(&config)?;
        let until = config.until.known().and_then(|name| Until::from_name(name)).unwrap_or(Until::CaughtUp);
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let limits = Limits::within(time).cancelled_by(call.stop().clone());
        let operation = Operation::new("waiting for subscriptions", limits, call);
        let mut reporter = Reporter::new(progress.clone());
        let mut tell = |statuses: &[Status]| reporter.tell(statuses);
        let (publisher, names) = (publisher.as_ref(), names.as_ref());
        let question = Question { subscriber: &subscriber, publisher, names };
        let waited = wait_until(&operation, &question, until, &mut tell);
        let there = Box::pin(waited).await.map_err(Error::from)?;
        progress.say(report::status_verdict(&there));
        Ok(())
    }
}

fn names(config: &Model) -> Result<Option<BTreeSet<Ident>>> {
    let Some(name) = config.subscription.known() else { return Ok(None) };
    let name = Ident::new(name.as_str()).map_err(|error| Error::new(error.to_string()).attribute("subscription"))?;
    Ok(Some([name].into()))
}

/// Reports the progress of subscriptions at each change, and otherwise from time to time.
pub(super) struct Reporter {
    progress: Progress,
    began: Instant,
    pace: Pace,
    lines: BTreeMap<Ident, Lines>,
}

impl Reporter {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, began: Instant::now(), pace: Pace::default(), lines: BTreeMap::new() }
    }

    pub(super) fn tell(&mut self, statuses: &[Status]) {
        let at = self.began.elapsed();
        self.pace.note(at, statuses);
        for status in statuses {
            if self.lines.entry(status.name.clone()).or_default().is_due(at, status) {
                self.progress.say(report::line(status, &self.pace));
            }
        }
    }
}
