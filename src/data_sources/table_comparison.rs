// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_table_comparison`: whether tables hold the same rows on both sides.

use std::collections::BTreeSet;
use std::time::Duration;

use super::with_databases;
use crate::config::{Context, are_empty, check_name, check_table, names};
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::Operation;
use crate::replication::comparison::{Compared, DIFFERENCES, Difference, Mode, Question, Step, compare};
use crate::report;
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long a comparison may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The data source.
pub(super) struct TableComparison;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The publications whose tables are compared.
        publications: Attr<BTreeSet<String>>,
        /// Only these tables.
        tables_only: Attr<BTreeSet<String>>,
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
        /// Whether nothing differs.
        equal: Attr<bool>,
        /// Whether all were compared in the same state.
        exact: Attr<bool>,
        /// The position that was compared.
        position: Attr<String>,
        /// The tables.
        tables: Attr<Vec<Found>>,
    }
}

crate::model! {
    /// A table.
    pub(super) struct Found {
        /// Its name.
        name: Attr<String>,
        /// How many rows the publisher sends.
        publisher_rows: Attr<i64>,
        /// How many the subscriber has.
        subscriber_rows: Attr<i64>,
        /// Whether both are the same.
        equal: Attr<bool>,
        /// Whether both sides were in the same state.
        exact: Attr<bool>,
        /// Why it could not be compared, or not exactly.
        note: Attr<String>,
        /// The rows that differ.
        differences: Attr<Vec<FoundRow>>,
        /// How many more were seen.
        further_differences: Attr<i64>,
    }
}

crate::model! {
    /// A row that differs.
    pub(super) struct FoundRow {
        /// Its key.
        key: Attr<String>,
        /// How it differs.
        kind: Attr<String>,
        /// The columns that differ.
        columns: Attr<Vec<String>>,
    }
}

/// The descriptions of the nested attributes.
const PARTS: &[(&str, &str)] = &[
    ("name", "The table, as `schema.table`."),
    ("publisher_rows", "How many rows the publisher has. Null if it could not be queried."),
    ("subscriber_rows", "How many rows the subscriber has. Null if it could not be queried."),
    ("equal", "Whether nothing differs."),
    ("exact", "Whether both sides were compared in the same state."),
    ("note", "Why it could not be compared, or not exactly. Empty otherwise."),
    ("differences", "The rows that differ, with `mode = \"rows\"`."),
    ("differences.key", "The key of the row, such as `id=5`, or the whole row if the table has no key."),
    ("differences.kind", "`missing` (on the subscriber), `extra` (only there) or `changed`."),
    ("differences.columns", "The columns that differ, for a row that was changed."),
    ("further_differences", "How many more differing rows were seen. There may be others that were not looked at."),
];

impl DataSource for TableComparison {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_table_comparison";

    fn schema() -> Schema {
        let row = Type::object([("key", Type::String), ("kind", Type::String), ("columns", Type::list(Type::String))]);
        let table = Type::object([
            ("name", Type::String),
            ("publisher_rows", Type::Number),
            ("subscriber_rows", Type::Number),
            ("equal", Type::Bool),
            ("exact", Type::Bool),
            ("note", Type::String),
            ("differences", Type::list(row)),
            ("further_differences", Type::Number),
        ]);
        let asked = Schema::new(
            "Compares the rows of tables on both sides, while applications go on writing. It locks a table against \
             writers for some milliseconds, until the subscriber has applied what was written before. Then both \
             sides read that same state, without a lock, so there are no false differences. The lock needs \
             `UPDATE`, `DELETE` or `TRUNCATE` on the publisher's table (or `MAINTAIN`, Postgres 17); without it, or \
             if no subscription replicates the table, the answer is not `exact`. It runs at every plan; the action \
             `neonrepl_compare_tables` does the same on request.",
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
                "tables_only",
                Type::set(Type::String),
                "Only these tables of the publications, as `schema.table`, or `table` in `public`. Without \
                 `publications`, these tables as a whole. At least one of the two is required.",
            )
            .text(check_table),
        )
        .attribute(
            Attribute::optional_computed(
                "mode",
                Type::String,
                "How to compare: `counts` counts the rows, `checksums` also adds up hashes of them, and `rows` \
                 names the rows that differ. Values are compared as Postgres compares them: `1.0` and `1.00` are \
                 the same number. Default: `counts`.",
            )
            .one_of(&["counts", "checksums", "rows"]),
        )
        .attribute(
            Attribute::optional_computed(
                "max_differences",
                Type::Number,
                "With `rows`: the largest number of differing rows to name for a table. Their keys are in the state \
                 then. Default: `100`.",
            )
            .between(0, 10_000),
        );
        with_databases(asked)
        .attribute(duration_attribute(
            "timeout",
            "How long it may take, such as `30s`, `10m` or `1h30m`. Both sides keep old row versions for that long. Default: `1h`.",
        ))
        .attribute(Attribute::computed(
            "equal",
            Type::Bool,
            "Whether nothing differs. A table that could not be compared is not equal.",
        ))
        .attribute(Attribute::computed(
            "exact",
            Type::Bool,
            "Whether every table was compared in the same state of both sides.",
        ))
        .attribute(Attribute::computed(
            "position",
            Type::String,
            "The position in the publisher's WAL at which the last table was compared. Null if no table was \
             compared exactly.",
        ))
        .attribute(Attribute::computed(
            "tables",
            Type::list(table),
            "The tables in the order of `name`.",
        ).parts(PARTS))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        if are_empty(&[&config.publications, &config.tables_only]) {
            diagnostics.error(
                Error::new("nothing is to be compared")
                    .detail("Set publications, tables_only or both.")
                    .attribute("publications"),
            );
        }
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let pair = call.context().pair(&config.publisher_database, &config.database)?;
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let limits = Limits::within(time).cancelled_by(call.stop().clone());
        let operation = Operation::new("comparing tables", limits, call);
        let question = question(&config)?;
        let outcome = Box::pin(compare(&operation, &pair, &question, &mut |progress| {
            let told = match progress.step {
                Step::Begins(first, tables) => report::comparing(first, tables),
                Step::Ended(table) => report::compared(table),
            };
            tracing::info!(done = progress.done, all = progress.all, "{told}");
        }))
        .await?;
        let tables: Vec<_> = outcome.tables.iter().map(to_found).collect();
        Ok(Model {
            mode: question.mode.as_str().into(),
            max_differences: to_number(question.max_differences as u64),
            publisher_database: pair.publisher.name().into(),
            database: pair.subscriber.name().into(),
            equal: outcome.is_equal().into(),
            exact: outcome.is_exact().into(),
            position: outcome.position.clone().into(),
            tables: tables.into(),
            ..config
        })
    }
}

fn question(config: &Model) -> Result<Question> {
    let mode = config.mode.known().and_then(|name| Mode::from_name(name)).unwrap_or_default();
    let most = config.max_differences.known().and_then(|most| usize::try_from(*most).ok());
    Ok(Question {
        publications: names("publications", &config.publications, |text| Ident::new(text))?,
        tables: names("tables_only", &config.tables_only, QualifiedName::parse)?,
        mode,
        max_differences: most.unwrap_or(DIFFERENCES),
    })
}

fn to_number(number: u64) -> Attr<i64> {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn to_found(table: &Compared) -> Found {
    let rows = |rows: Option<u64>| rows.map_or(Attr::Null, to_number);
    let differences: Vec<_> = table.differences.iter().map(to_row).collect();
    Found {
        name: table.name.to_text().into(),
        publisher_rows: rows(table.publisher_rows),
        subscriber_rows: rows(table.subscriber_rows),
        equal: table.equal.into(),
        exact: table.exact.into(),
        note: table.note.as_str().into(),
        differences: differences.into(),
        further_differences: to_number(table.further_differences),
    }
}

fn to_row(row: &Difference) -> FoundRow {
    let columns: Vec<_> = row.columns.iter().map(|column| column.as_str().to_owned()).collect();
    FoundRow { key: report::key(row).into(), kind: row.kind.as_str().into(), columns: columns.into() }
}
