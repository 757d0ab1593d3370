//! The configuration, plan and state of the resource.

use std::collections::BTreeSet;

use crate::config::{ConfiguredServer, Context, check_name};
use crate::resources::object_id::{InDatabase, ObjectId};
use crate::resources::reaching::{self, Connection, Way, of_block};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, NestedBlock, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, duration_attribute, timeouts_block};
use crate::tf_provider::value::Value;

crate::model! {
    /// Which of two sides takes writes.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// The subscriptions, as one name.
        name: Attr<String>,
        /// The subscriptions that lead from the publisher to the subscriber.
        subscriptions: Attr<BTreeSet<String>>,
        /// The side that takes writes: `publisher` or `subscriber`.
        active: Attr<String>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        subscriber_database: Attr<String>,
        /// How the publisher reaches the subscriber, for the way back.
        reverse: Attr<Connection>,
        /// A change sends that connection again.
        connection_version: Attr<i64>,
        /// Who stops the writes: `fence` or `external`.
        writes: Attr<String>,
        /// Whether the side that is not active turns writers away.
        guard: Attr<bool>,
        /// What becomes of writes to tables that are not published: `block` or `allow`.
        unpublished_writes: Attr<String>,
        /// Above it no switch begins.
        max_lag_bytes: Attr<i64>,
        /// When sessions are ended that hold a table.
        end_blockers_after: Attr<String>,
        /// What is compared before the commit: `counts`, `checksums` or `none`.
        compare: Attr<String>,
        /// Up to how many rows a table is compared.
        compare_max_rows: Attr<i64>,
        /// How many values sequences skip.
        sequence_margin: Attr<i64>,
        /// What becomes of the slot of the subscriptions: `drop` or `disable`.
        forward: Attr<String>,
        /// What an application is told that still writes.
        message: Attr<String>,
        /// Whether destroy opens the side that is not active.
        open_on_destroy: Attr<bool>,
        /// Whether all that a switch needs is there.
        prepared: Attr<bool>,
        /// The tables that are guarded.
        fenced_tables: Attr<BTreeSet<String>>,
        /// The subscription on the publisher that brings changes back.
        reverse_subscription: Attr<String>,
        /// The host of the active side.
        host: Attr<String>,
        /// Its port.
        port: Attr<i64>,
        /// Its database.
        database: Attr<String>,
        /// The position up to which the other side has everything.
        position: Attr<String>,
        /// When the last switch was committed.
        cut_over_at: Attr<String>,
        /// For how long writers waited.
        write_pause_ms: Attr<i64>,
        /// How many waited.
        writers_waited: Attr<i64>,
        /// How many sequences were raised.
        sequences_copied: Attr<i64>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

impl InDatabase for Model {
    fn server(context: &Context) -> &ConfiguredServer {
        context.subscriber()
    }

    fn database(&self) -> &Attr<String> {
        &self.subscriber_database
    }

    fn name(&self) -> &Attr<String> {
        &self.name
    }

    fn called(id: &ObjectId) -> Self {
        let subscriptions = named(&id.name);
        Self {
            id: id.to_string().into(),
            name: id.name.clone().into(),
            subscriptions: subscriptions.into(),
            subscriber_database: id.database.clone().into(),
            ..Self::default()
        }
    }
}

/// The name of a cutover of these subscriptions.
pub(super) fn name(subscriptions: &Attr<BTreeSet<String>>) -> Attr<String> {
    let encode = |name: &String| name.replace('%', "%25").replace(',', "%2C");
    match subscriptions {
        Attr::Known(names) => names.iter().map(encode).collect::<Vec<_>>().join(",").into(),
        Attr::Null => Attr::Null,
        Attr::Unknown => Attr::Unknown,
    }
}

/// The subscriptions of a name.
fn named(name: &str) -> BTreeSet<String> {
    name.split(',').map(|part| part.replace("%2C", ",").replace("%25", "%")).collect()
}

/// What is done to a side of it, in the words of the docs.
const DESCRIPTION: &str = "Which of the two sides takes writes. Created with `active = \"publisher\"`, it prepares the switch and checks \
     that it can be made; the application notices nothing. Changing `active` to `\"subscriber\"` is the cutover, and changing it back is \
     the way back.\n\n\
     ~> **Writes stop for a moment when `active` changes**: while the switch is being made, writers wait, usually for less than a second, \
     and readers go on. After it, who still writes to the old side gets the error 25006 with `message`. Reconnect the application to \
     `host`, `port` and `database`, which are those of the active side, and known in the plan of the switch already.\n\n\
     The switch is one open transaction on the side that is left. It locks the published tables, arms the fence (a statement trigger on \
     each of them, their partitions and parents), waits until the other side has applied and flushed everything, compares both sides, \
     raises the sequences, and starts the way back. Its commit is the cutover. Whatever ends it before that, be it an error, a killed \
     process or a server that restarts, leaves the old side open to writes by itself: there is nothing to undo.\n\n\
     After the commit the subscriptions that led to the new side are disabled and the new side is opened. A process that is killed in \
     between leaves both sides closed to writes until the next apply, which the next plan says and the next apply finishes.";

pub(super) fn schema() -> Schema {
    let text = || Type::String;
    let number = |name: &str, description: &str, default: i64| {
        Attribute::optional(name, Type::Number, description).between(0, i64::MAX).default(default)
    };
    Schema::new(DESCRIPTION)
        .attribute(
            Attribute::required(
                "subscriptions",
                Type::set(text()),
                "The subscriptions on the subscriber that bring it everything. What their publications publish is what moves. A \
                 change makes a new object, and is refused while the subscriber is active: move back first, or destroy this one.",
            )
            .text(check_name)
            .validator(|value| match value {
                Value::Set(items) if items.is_empty() => Err("It is empty. Name a subscription.".to_owned()),
                _ => Ok(()),
            })
            .replaces(),
        )
        .attribute(
            Attribute::required(
                "active",
                text(),
                "The side that takes writes: `publisher` or `subscriber`. A change switches, in place. The way back from \
                 `subscriber` needs `reverse`, as writes to the subscriber would be lost otherwise.",
            )
            .one_of(&["publisher", "subscriber"]),
        )
        .attribute(database("publisher_database", "publisher"))
        .attribute(database("subscriber_database", "subscriber"))
        .attribute(Attribute::optional(
            "connection_version",
            Type::Number,
            "A change sends the connection of `reverse` again, password included: raise it to rotate the password.",
        ))
        .attribute(
            Attribute::optional(
                "writes",
                text(),
                "Who stops the writes: `fence`, or `external` where you have stopped the application yourself. The tables are \
                 locked for the moment of the switch in both cases, so that nothing is lost that was still written, and a warning \
                 says so when somebody had to be waited for.",
            )
            .one_of(&["fence", "external"])
            .default("fence"),
        )
        .attribute(
            Attribute::optional(
                "guard",
                Type::Bool,
                "Whether nobody but the replication writes to the published tables of the side that is not active.",
            )
            .default(true),
        )
        .attribute(
            Attribute::optional(
                "unpublished_writes",
                text(),
                "What becomes of writes to what is not published on the side that was left: `block` sets \
                 `default_transaction_read_only` for its database, which new transactions follow unless they say otherwise; \
                 `allow` leaves that alone.",
            )
            .one_of(&["block", "allow"])
            .default("block"),
        )
        .attribute(number(
            "max_lag_bytes",
            "How much the other side may lag behind at most when a switch begins, in bytes of WAL. With more, the switch waits \
             within its timeout, and is refused then.",
            16 * 1024 * 1024,
        ))
        .attribute(duration_attribute(
            "end_blockers_after",
            "When to end sessions that hold a published table, such as `30s`. They get an error, and nothing that was confirmed to \
             them is lost. Default: never; the switch is tried until its timeout, and names them then.",
        ))
        .attribute(
            Attribute::optional(
                "compare",
                text(),
                "What is compared before the commit: `counts` of rows, `checksums` of all their values, or `none`. A difference \
                 ends the switch, and writers go on.",
            )
            .one_of(&["counts", "checksums", "none"])
            .default("counts"),
        )
        .attribute(number(
            "compare_max_rows",
            "Tables of more rows, as the server estimates them, are not compared while writers wait: compare them beforehand with \
             `neonrepl_table_comparison`.",
            1_000_000,
        ))
        .attribute(number(
            "sequence_margin",
            "How many values the sequences of the new side skip. They go on right where those of the old side stand otherwise, \
             which is exact.",
            0,
        ))
        .attribute(
            Attribute::optional(
                "forward",
                text(),
                "What becomes of the subscriptions that led to the new side, which are disabled: `drop` drops their slots, so that \
                 nothing keeps WAL on the old side; `disable` keeps them. `neonrepl_subscription` knows, and plans no change.",
            )
            .one_of(&["drop", "disable"])
            .default("drop"),
        )
        .attribute(Attribute::optional(
            "message",
            text(),
            "What an application is told that writes to the side that was left. Default: that writes have moved, with the host of \
             the active side.",
        ))
        .attribute(
            Attribute::optional(
                "open_on_destroy",
                Type::Bool,
                "Whether destroying opens the side that is not active to writes too. By default it stays closed, and a warning says \
                 how to open it.",
            )
            .default(false),
        )
        .attribute(Attribute::computed("id", text(), "`subscriber_database/name`, by which it is imported.").stable())
        .attribute(Attribute::computed("name", text(), "The subscriptions, joined by commas.").stable())
        .attribute(
            Attribute::computed(
                "prepared",
                Type::Bool,
                "Whether all that a switch needs is there: the fence, the guard and the way back. What was taken away by hand is \
                 made again by the next apply.",
            )
            .stable(),
        )
        .attribute(
            Attribute::computed(
                "fenced_tables",
                Type::set(text()),
                "The tables that move: all that the publications of the subscriptions publish.",
            )
            .stable(),
        )
        .attribute(
            Attribute::computed(
                "reverse_subscription",
                text(),
                "The subscription on the publisher that brings changes back, which is disabled while the publisher is active.",
            )
            .stable(),
        )
        .attribute(Attribute::computed("host", text(), "The host of the active side, as the provider reaches it.").stable())
        .attribute(Attribute::computed("port", Type::Number, "Its port.").stable())
        .attribute(Attribute::computed("database", text(), "Its database.").stable())
        .attribute(
            Attribute::computed(
                "position",
                text(),
                "The position in the WAL of the side that was left up to which the other one has everything.",
            )
            .stable(),
        )
        .attribute(Attribute::computed("cut_over_at", text(), "When the last switch was committed (RFC 3339).").stable())
        .attribute(
            Attribute::computed(
                "write_pause_ms",
                Type::Number,
                "For how many milliseconds the last switch kept writers waiting.",
            )
            .stable(),
        )
        .attribute(
            Attribute::computed("writers_waited", Type::Number, "How many sessions waited for it at its end.").stable(),
        )
        .attribute(Attribute::computed("sequences_copied", Type::Number, "How many sequences it raised.").stable())
        .block(reverse_block())
        .block(timeouts_block("10m", "5m", "5m"))
}

fn database(name: &str, side: &str) -> Attribute {
    let description = format!("The database of the {side}. Default: the provider's. A change makes a new object.");
    Attribute::optional_computed(name, Type::String, &description).text(check_name).replaces()
}

fn reverse_block() -> NestedBlock {
    of_block(
        Way::BACK,
        "How the publisher reaches the subscriber, so that changes flow back after the cutover and the way back loses nothing. Every \
         part defaults to the provider's `subscriber` block; `reverse {}` is enough where the publisher reaches it in the same way. \
         Without the block nothing flows back, and `active` cannot be changed back to `\"publisher\"` once the subscriber has been \
         opened. It can be added and taken out in place, on whichever side is active; one that is added while the subscriber is \
         active is refused, because what was written there before is missing on the publisher. The certificates of an `sslrootcert` \
         of the provider are not on the publisher, so `verify-ca` and `verify-full` become `require`, which the plan says.",
    )
}

pub(super) fn validate(config: &Model, diagnostics: &mut Diagnostics) {
    reaching::validate(Way::BACK, &config.reverse, diagnostics);
    if config.reverse.is_null() && config.connection_version.known().is_some() {
        let error = Error::new("connection_version needs a reverse block")
            .detail("It sends the connection of that block again. Add the block, or leave connection_version out.");
        diagnostics.error(error.attribute("connection_version"));
    }
    if config.message.known().is_some_and(|message| message.trim().is_empty()) {
        let error = Error::new("message is empty").detail("Write what an application is told, or leave it out.");
        diagnostics.error(error.attribute("message"));
    }
    if config.writes.known().is_some_and(|writes| writes == "external") && config.end_blockers_after.known().is_some() {
        let error = Error::new("end_blockers_after does not go with writes = \"external\"")
            .detail("Where you have stopped the writers yourself, there is no session to end. Leave one of the two out.");
        diagnostics.error(error.attribute("end_blockers_after"));
    }
}

/// The names of the subscriptions.
pub(super) fn subscriptions(model: &Model) -> Result<BTreeSet<crate::postgres::Ident>> {
    crate::config::names("subscriptions", &model.subscriptions, |text| crate::postgres::Ident::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_round_whatever_is_in_it() {
        for names in [vec!["shop"], vec!["a,b", "c%2C", "d"], vec!["ü/x"]] {
            let names: BTreeSet<_> = names.into_iter().map(str::to_owned).collect();
            let name = name(&names.clone().into()).into_known().unwrap();
            assert_eq!(named(&name), names, "{name}");
        }
        assert!(name(&Attr::Unknown).is_unknown());
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_what_is_unknown_is_passed_over() {
        let said = |config: Model| {
            let mut diagnostics = Diagnostics::default();
            validate(&config, &mut diagnostics);
            diagnostics.into_iter().map(|one| one.summary).collect::<Vec<_>>()
        };
        let contradicting = Model {
            connection_version: 1.into(),
            message: " ".into(),
            writes: "external".into(),
            end_blockers_after: "30s".into(),
            ..Model::default()
        };
        assert_eq!(said(contradicting).len(), 3);
        let unknown = Model {
            connection_version: 1.into(),
            reverse: Attr::Unknown,
            message: Attr::Unknown,
            writes: Attr::Unknown,
            end_blockers_after: "30s".into(),
            ..Model::default()
        };
        assert_eq!(said(unknown), Vec::<String>::new());
        let both = Connection { password: "pw-a".into(), password_wo: "pw-b".into(), ..Connection::default() };
        let twice = said(Model { reverse: both.into(), ..Model::default() });
        assert_eq!(twice, ["password and password_wo exclude each other"]);
    }
}
