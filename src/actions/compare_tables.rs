// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_compare_tables`: compares the rows of tables on both sides, and fails if they differ.

use std::collections::BTreeSet;
use std::time::Duration;

use super::with_databases;
use crate::config::{Context, are_empty, check_name, check_table, names};
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::Operation;
use crate::replication::comparison::{DIFFERENCES, Mode, Outcome, Question, Step, compare};
use crate::report;
use crate::tf_provider::action::{Action, Progress};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long a comparison may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);

/// The action.
pub(super) struct CompareTables;

crate::model! {
    /// The configuration of a comparison.
    pub(super) struct Model {
        /// The publications whose tables are compared.
        publications: Attr<BTreeSet<String>>,
        /// Only these tables.
        tables: Attr<BTreeSet<String>>,
        /// How closely to compare.
        mode: Attr<String>,
        /// How many differing rows are reported.
        max_differences: Attr<i64>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// How long it may take.
        timeout: Attr<String>,
    }
}

impl Action for CompareTables {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_compare_tables";

    fn schema() -> Schema {
        let schema = Schema::new(
            "Compares the rows of tables on both sides, as the data source `neonrepl_table_comparison` does, but on \
             request instead of at every plan. It prints the result of each table, and fails if a table differs or \
             could not be compared.",
        )
        .attribute(
            Attribute::optional(
                "publications",
                Type::set(Type::String),
                "The publications to compare: their columns, of the rows that match their filters.",
            )
            .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "tables",
                Type::set(Type::String),
                "Only these tables of the publications, as `schema.table`, or `table` in `public`. Without \
                 `publications`, these tables as a whole. At least one of the two is required.",
            )
            .text(check_table),
        )
        .attribute(
            Attribute::optional(
                "mode",
                Type::String,
                "How to compare: `counts` counts the rows, `checksums` also adds up hashes of them, and `rows` \
                 names the rows that differ. Default: `rows`.",
            )
            .one_of(&["counts", "checksums", "rows"]),
        )
        .attribute(
            Attribute::optional(
                "max_differences",
                Type::Number,
                "With `rows`: the largest number of differing rows to name for a table. Default: `100`.",
            )
            .between(0, 10_000),
        );
        with_databases(schema).attribute(duration_attribute(
            "timeout",
            "How long it may take, such as `30s`, `10m` or `1h30m`. Both sides keep old row versions for that long. Default: `12h`.",
        ))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        if are_empty(&[&config.publications, &config.tables]) {
            diagnostics.error(
                Error::new("nothing is to be compared")
                    .detail("Set publications, tables or both.")
                    .attribute("publications"),
            );
        }
    }

    async fn invoke(call: &Call<Context>, config: Model, progress: &Progress) -> Result<()> {
        let pair = call.context().pair(&config.publisher_database, &config.database)?;
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let operation =
            Operation::new("comparing tables", Limits::within(time).cancelled_by(call.stop().clone()), call);
        let mut say = |done: crate::replication::comparison::Progress<'_>| {
            if let Step::Ended(table) = done.step {
                progress.say(format!("{} of {}: {}", done.done, done.all, report::compared(table)));
            }
        };
        let outcome = Box::pin(compare(&operation, &pair, &question(&config)?, &mut say)).await?;
        concluded(&outcome, progress)
    }
}

/// Reports the result.
fn concluded(outcome: &Outcome, progress: &Progress) -> Result<()> {
    let verdict = report::comparison_verdict(outcome);
    if outcome.is_equal() {
        progress.say(verdict);
        return Ok(());
    }
    let tables = outcome.tables.iter().filter(|table| !table.equal);
    let error = tables.fold(Error::new("the tables are not equal"), |error, table| {
        let rows = table.differences.iter().map(|row| format!("  {}", report::difference(row)));
        let lines: Vec<_> = std::iter::once(report::compared(table)).chain(rows).collect();
        error.detail(lines.join("\n"))
    });
    Err(error.detail(verdict))
}

fn question(config: &Model) -> Result<Question> {
    let most = config.max_differences.known().and_then(|most| usize::try_from(*most).ok());
    Ok(Question {
        publications: names("publications", &config.publications, |text| Ident::new(text))?,
        tables: names("tables", &config.tables, QualifiedName::parse)?,
        mode: config.mode.known().and_then(|name| Mode::from_name(name)).unwrap_or(Mode::Rows),
        max_differences: most.unwrap_or(DIFFERENCES),
    })
}
