// SPDX-License-Identifier: MPL-2.0

//! The schema, from which the page of the docs is generated.

use crate::config::{check_name, check_table};
use crate::resources::reaching::{Way, of_block};
use crate::tf_provider::schema::{Attribute, NestedBlock, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, timeouts_block};
use crate::tf_provider::value::Value;

/// The text before the attributes.
const DESCRIPTION: &str = include_str!("page.md");

pub(super) fn schema() -> Schema {
    let text = || Type::String;
    let number = |name: &str, description: &str, default: i64| {
        let description = format!("{description} Default: `{default}`.");
        Attribute::optional(name, Type::Number, &description).between(0, i64::MAX).default(default)
    };
    let flag = |name: &str, description: &str, default: bool| {
        let description = format!("{description} Default: `{default}`.");
        Attribute::optional(name, Type::Bool, &description).default(default)
    };
    let choice = |name: &str, choices: &[&'static str], description: &str| {
        let default = choices[0];
        let description = format!("{description} Default: `{default}`.");
        Attribute::optional(name, Type::String, &description).one_of(choices).default(default)
    };
    Schema::new(DESCRIPTION.trim_end())
        .attribute(
            Attribute::required(
                "subscriptions",
                Type::set(text()),
                "The subscriptions that replicate to the subscriber. Everything that their publications publish is \
                 moved. A change makes a new resource, and is refused while the subscriber is active: move back \
                 first, or destroy this one.",
            )
            .text(check_name)
            .validator(|value| match value {
                Value::Set(items) if items.is_empty() => Err("It must not be empty. Name at least one subscription.".to_owned()),
                _ => Ok(()),
            })
            .replaces(),
        )
        .attribute(
            Attribute::required(
                "active",
                text(),
                "The side that takes writes: `publisher` or `subscriber`. A change moves the writes, in place. \
                 Moving back from `subscriber` needs `reverse`, because writes to the subscriber would be lost \
                 otherwise.",
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
        .attribute(choice(
            "writes",
            &["fence", "external"],
            "Who stops the writes: `fence`, or `external` if you stop the application yourself. In both cases the \
                 tables are locked during the switch, so that a late write is not lost, and a warning says if the \
                 switch had to wait for a session.",
        ))
        .attribute(flag(
            "guard",
            "Whether only the replication may write to the published tables of the side that is not active.",
            true,
        ))
        .attribute(choice(
            "unpublished_writes",
            &["block", "allow"],
            "What happens to writes to unpublished tables on the side that was left: `block` sets \
                 `default_transaction_read_only` for its database, so that new transactions are read-only unless \
                 they say otherwise; `allow` leaves the setting alone.",
        ))
        .attribute(number(
            "max_lag_bytes",
            "How far the other side may lag behind when a switch begins, in bytes of WAL. If it lags further, the \
             switch waits, and fails at its timeout.",
            16 * 1024 * 1024,
        ))
        .attribute(duration_attribute(
            "end_blockers_after",
            "How long to wait for sessions that hold a published table before they are ended, such as `30s`. They \
             get an error, and nothing that was confirmed to them is lost. Default: they are never ended; the \
             switch is tried until its timeout, and then names them.",
        ))
        .attribute(choice(
            "compare",
            &["counts", "checksums", "none"],
            "What is compared before the commit: `counts` of rows, `checksums` of all their values, or `none`. A difference \
                 ends the switch, and writers go on.",
        ))
        .attribute(number(
            "compare_max_rows",
            "Tables with more rows than this, by the server's estimate, are not compared while writers wait. \
             Compare them beforehand with `neonrepl_table_comparison`.",
            1_000_000,
        ))
        .attribute(
            Attribute::optional(
                "sequence_margin",
                Type::Number,
                "How many values the sequences of the new side skip. With 0 they continue exactly where those of \
                 the old side stand. Default: `0`.",
            )
            .between(0, i64::from(u32::MAX))
            .default(0),
        )
        .attribute(
            Attribute::optional(
                "sequences",
                Type::set(text()),
                "Further sequences to copy, in addition to those that columns of the tables own or use in their defaults: \
                 `schema.sequence`, or `sequence` in `public`.",
            )
            .text(check_table),
        )
        .attribute(choice(
            "forward",
            &["drop", "disable"],
            "What happens to the slots of the subscriptions to the new side, which the switch disables: `drop` \
                 drops the slots, so that they keep no WAL on the old side; `disable` keeps them. \
                 `neonrepl_subscription` plans no change because of it.",
        ))
        .attribute(Attribute::optional(
            "message",
            text(),
            "The error message for an application that still writes to the side that was left. Default: a message \
             that writes have moved, with the host of the active side.",
        ))
        .attribute(flag(
            "open_on_destroy",
            "Whether destroying also opens the inactive side to writes. By default it stays closed, and a warning \
                 says how to open it.",
            false,
        ))
        .attribute(Attribute::computed("id", text(), "`subscriber_database/name`, by which it is imported.").stable())
        .attribute(Attribute::computed("name", text(), "The subscriptions, joined by commas.").stable())
        .attribute(
            Attribute::computed(
                "prepared",
                Type::Bool,
                "Whether everything that a switch needs exists: the fence, the guard and the way back. The next \
                 apply recreates what was removed by hand.",
            )
            .stable(),
        )
        .attribute(
            Attribute::computed(
                "fenced_tables",
                Type::set(text()),
                "The tables that move: all tables that the subscriptions' publications publish.",
            )
            .stable(),
        )
        .attribute(
            Attribute::computed(
                "reverse_subscription",
                text(),
                "The subscription on the publisher that brings changes back. It is disabled while the publisher is \
                 active.",
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
                "The WAL position of the side that was left up to which the other side has everything.",
            )
            .stable(),
        )
        .attribute(Attribute::computed("cut_over_at", text(), "When the last switch was committed (RFC 3339).").stable())
        .attribute(
            Attribute::computed(
                "write_pause_ms",
                Type::Number,
                "How long the last switch kept writers waiting, in milliseconds.",
            )
            .stable(),
        )
        .attribute(
            Attribute::computed("writers_waited", Type::Number, "How many sessions were waiting when the last \
                 switch ended.").stable(),
        )
        .attribute(Attribute::computed("sequences_copied", Type::Number, "How many sequences the last switch raised.").stable())
        .block(reverse_block())
        .block(timeouts_block("10m", "5m", "5m"))
}

fn database(name: &str, side: &str) -> Attribute {
    let description = format!("The database of the {side}. Default: the provider's. A change makes a new resource.");
    Attribute::optional_computed(name, Type::String, &description).text(check_name).replaces()
}

fn reverse_block() -> NestedBlock {
    of_block(
        Way::BACK,
        "How the publisher reaches the subscriber, so that changes flow back after the cutover and the way back \
         loses nothing. Every part defaults to the provider's `subscriber` block; `reverse {}` is enough if the \
         publisher reaches it in the same way. Without the block nothing flows back, and `active` cannot be changed \
         back to `\"publisher\"` once the subscriber has been opened. The block can be added while the publisher is \
         active, and removed at any time, both in place. Adding it while the subscriber is active is refused, \
         because rows that were written there before are missing on the publisher. The certificates of an \
         `sslrootcert` of the provider are not on the publisher, so `verify-ca` and `verify-full` become `require`, \
         which the plan says.",
    )
}
