// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_refresh_publication`: lets a subscription subscribe to the tables that its publications have added since.

use std::time::Duration;

use crate::config::{Context, check_name};
use crate::postgres::{Database, Ident, Limits};
use crate::replication::Operation;
use crate::replication::names;
use crate::replication::refreshing::{Refreshed, refresh};
use crate::replication::status::{Question, Until, wait_until};
use crate::report;
use crate::tf_provider::action::{Action, Progress};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

use super::wait_for_sync::Reporter;

/// How long it may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The action.
pub(super) struct RefreshPublication;

crate::model! {
    /// The configuration of a refresh.
    pub(super) struct Model {
        /// The subscription.
        subscription: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// Whether the rows of new tables are copied.
        copy_data: Attr<bool>,
        /// Whether to wait for the copy.
        wait: Attr<bool>,
        /// How long it may take.
        timeout: Attr<String>,
    }
}

impl Action for RefreshPublication {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_refresh_publication";

    fn schema() -> Schema {
        Schema::new(
            "Refreshes the list of tables of a subscription from its publications (`ALTER SUBSCRIPTION … REFRESH \
             PUBLICATION`), copies the rows of new tables, and shows the progress. New tables are checked first, as \
             in an apply: if the subscriber lacks one, the action fails and nothing is changed. For a subscription \
             in a configuration, `refresh_triggers` of `neonrepl_subscription` does this by itself.",
        )
        .attribute(
            Attribute::required("subscription", Type::String, "The subscription. It must be enabled.").text(check_name),
        )
        .attribute(
            Attribute::optional("database", Type::String, "The database of the subscriber. Default: the provider's.")
                .text(check_name),
        )
        .attribute(Attribute::optional(
            "copy_data",
            Type::Bool,
            "Whether the existing rows of new tables are copied. Default: `true`.",
        ))
        .attribute(Attribute::optional(
            "wait",
            Type::Bool,
            "Whether to wait until every table is replicated, and to show the progress of the copy. Default: `true`.",
        ))
        .attribute(duration_attribute(
            "timeout",
            "How long it may take, including the wait, such as `30s`, `10m` or `1h30m`. A copy that has begun goes \
             on after that. Default: `30m`.",
        ))
    }

    async fn invoke(call: &Call<Context>, config: Model, progress: &Progress) -> Result<()> {
        let context = call.context();
        let subscriber = context.subscriber().database(config.database.known().map(String::as_str))?;
        let publisher = context.publisher().database(None).ok();
        let name = Ident::new(config.subscription.required("subscription")?)
            .map_err(|error| Error::new(error.to_string()).attribute("subscription"))?;
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let limits = Limits::within(time).cancelled_by(call.stop().clone());
        let operation = Operation::new(format!("refreshing subscription {name}"), limits, call);
        let copy_data = config.copy_data.known() != Some(&false);
        let refreshed = Box::pin(refresh(&operation, &subscriber, publisher.as_ref(), &name, copy_data)).await?;
        progress.say(said(&name, &refreshed));
        if config.wait.known() == Some(&false) || refreshed.added.is_empty() {
            return Ok(());
        }
        wait(&operation, &subscriber, publisher.as_ref(), &name, progress).await
    }
}

/// The changes in one line.
fn said(name: &Ident, refreshed: &Refreshed) -> String {
    let list = |tables: &std::collections::BTreeSet<_>| {
        names::list(tables.iter().map(crate::postgres::QualifiedName::to_text))
    };
    match (refreshed.added.is_empty(), refreshed.forgotten.is_empty()) {
        (true, true) => format!("subscription {name} has all tables that are published"),
        (false, true) => format!("subscription {name} adds {}", list(&refreshed.added)),
        (true, false) => format!("subscription {name} removes {}", list(&refreshed.forgotten)),
        (false, false) => {
            format!("subscription {name} adds {}, and removes {}", list(&refreshed.added), list(&refreshed.forgotten))
        }
    }
}

async fn wait(
    operation: &Operation<'_>,
    subscriber: &Database,
    publisher: Option<&Database>,
    name: &Ident,
    progress: &Progress,
) -> Result<()> {
    let mut reporter = Reporter::new(progress.clone());
    let names = [name.clone()].into();
    let mut tell = |statuses: &[_]| reporter.tell(statuses);
    let question = Question { subscriber, publisher, names: Some(&names) };
    let waited = wait_until(operation, &question, Until::Ready, &mut tell);
    progress.say(report::status_verdict(&Box::pin(waited).await?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::QualifiedName;

    #[test]
    fn what_has_changed_is_said() {
        let name = Ident::new("shop").unwrap();
        let tables = |names: &[&str]| names.iter().map(|name| QualifiedName::parse(name).unwrap()).collect();
        let refreshed =
            |added: &[&str], forgotten: &[&str]| Refreshed { added: tables(added), forgotten: tables(forgotten) };
        let said = |added: &[&str], forgotten: &[&str]| said(&name, &refreshed(added, forgotten));
        assert_eq!(said(&[], &[]), "subscription \"shop\" has all tables that are published");
        assert_eq!(said(&["a", "b"], &[]), "subscription \"shop\" adds public.a, public.b");
        assert_eq!(said(&[], &["c"]), "subscription \"shop\" removes public.c");
        assert_eq!(said(&["a"], &["c"]), "subscription \"shop\" adds public.a, and removes public.c");
    }
}
