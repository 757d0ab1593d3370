// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_copy_sequences`: raises the subscriber's sequences to the publisher's values.

use std::collections::BTreeSet;
use std::time::Duration;

use super::with_databases;
use crate::config::{Context, are_empty, check_name, check_table, names};
use crate::postgres::sequence::Position;
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::sequences::{Copied, Question, Sides, copy, prepare};
use crate::replication::{Operation, Pair, Place, units};
use crate::tf_provider::action::{Action, Progress};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long it may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The action.
pub(super) struct CopySequences;

crate::model! {
    /// The configuration of a copy.
    pub(super) struct Model {
        /// The publications whose tables' sequences are copied.
        publications: Attr<BTreeSet<String>>,
        /// The tables whose sequences are copied.
        tables: Attr<BTreeSet<String>>,
        /// Further sequences to copy.
        sequences: Attr<BTreeSet<String>>,
        /// How many numbers to skip.
        margin: Attr<i64>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// How long it may take.
        timeout: Attr<String>,
    }
}

impl Action for CopySequences {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_copy_sequences";

    fn schema() -> Schema {
        let names = |name: &str, description: &str| Attribute::optional(name, Type::set(Type::String), description);
        let schema = Schema::new(
            "Raises the subscriber's sequences to the values of the publisher's. Subscriptions do not replicate \
             sequences, so without this the first inserts after a cutover get numbers that are already in use. \
             Sequences are never lowered: run it as often as you like, and once more after the last write to the \
             publisher. If a column uses a sequence of another name on the subscriber, that sequence follows the \
             publisher's. It prints what was raised.\n\nThe publisher's role needs `SELECT` on the sequences, and \
             the subscriber's `SELECT` and `UPDATE`. Rights and bounds are checked before anything is raised.",
        )
        .attribute(
            names(
                "publications",
                "The sequences that tables of these publications take numbers from: those of identity columns, those that a \
                 column owns, as with \
                 `serial`, and those that a default uses.",
            )
            .text(check_name),
        )
        .attribute(
            names("tables", "The same for these tables, as `schema.table`, or `table` in `public`.").text(check_table),
        )
        .attribute(
            names(
                "sequences",
                "Further sequences, as `schema.sequence`, or `sequence` in `public`: those that triggers or \
                 applications use. They have the same name on both sides. At least one of the three is required.",
            )
            .text(check_table),
        )
        .attribute(
            Attribute::optional(
                "margin",
                Type::Number,
                "How many numbers to skip, for numbers that the publisher still hands out in the meantime. A \
                 sequence always keeps one number before its end. Default: `0`.",
            )
            .between(0, i64::from(u32::MAX)),
        )
;
        with_databases(schema).attribute(duration_attribute(
            "timeout",
            "How long it may take, such as `30s`, `10m` or `1h30m`. Default: `5m`.",
        ))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        if are_empty(&[&config.publications, &config.tables, &config.sequences]) {
            diagnostics.error(
                Error::new("nothing is to be copied")
                    .detail("Set publications, tables or sequences, or several of them.")
                    .attribute("publications"),
            );
        }
    }

    async fn invoke(call: &Call<Context>, config: Model, progress: &Progress) -> Result<()> {
        let Pair { publisher, subscriber } = call.context().pair(&config.publisher_database, &config.database)?;
        let sides = Sides { from: publisher, to: subscriber, place: Place::Publisher };
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let operation =
            Operation::new("copying sequences", Limits::within(time).cancelled_by(call.stop().clone()), call);
        let prepared = Box::pin(prepare(&operation, &sides, &question(&config)?)).await?;
        for name in prepared.left_out() {
            let column = "its columns get their values in another way on the subscriber";
            progress.say(format!("{}: left out, as {column}", name.to_text()));
        }
        let copied = Box::pin(copy(&operation, &sides, &prepared)).await?;
        concluded(&copied, progress);
        Ok(())
    }
}

/// Reports the result.
fn concluded(copied: &[Copied], progress: &Progress) {
    for one in copied.iter().filter(|one| one.is_raised) {
        progress.say(raised(one));
    }
    let (all, raised) = (copied.len(), copied.iter().filter(|one| one.is_raised).count());
    let others = if raised == all { "" } else { " The others were already that far." };
    progress.say(format!("{raised} of {} raised.{others}", units::counted(all, "sequence")));
}

/// The text about the next number of a raised sequence.
fn raised(one: &Copied) -> String {
    let names = if one.from == one.to {
        one.to.to_text()
    } else {
        format!("{}, as {} on the publisher", one.to.to_text(), one.from.to_text())
    };
    let short = if one.is_clamped { "; there is no room for the whole margin before its end" } else { "" };
    format!("{names}: raised from {} to {}{short}", position(one.before), position(one.position))
}

fn position(position: Position) -> String {
    if position.is_called { position.last.to_string() } else { format!("{} (not taken yet)", position.last) }
}

fn question(config: &Model) -> Result<Question> {
    let margin = config.margin.known().and_then(|margin| u32::try_from(*margin).ok());
    Ok(Question {
        publications: names("publications", &config.publications, |text| Ident::new(text))?,
        tables: names("tables", &config.tables, QualifiedName::parse)?,
        sequences: names("sequences", &config.sequences, QualifiedName::parse)?,
        margin: margin.unwrap_or_default(),
    })
}
