// SPDX-License-Identifier: MPL-2.0

//! The schema, which is the page of the docs.

use crate::config::{check_name, check_table};
use crate::resources::reaching::{Way, of_block};
use crate::tf_provider::schema::{Attribute, NestedBlock, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, timeouts_block};
use crate::tf_provider::value::Value;

/// What stands in front of the attributes.
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
        .attribute(choice(
            "writes",
            &["fence", "external"],
            "Who stops the writes: `fence`, or `external` where you have stopped the application yourself. The tables are \
                 locked for the moment of the switch in both cases, so that nothing is lost that was still written, and a warning \
                 says so when somebody had to be waited for.",
        ))
        .attribute(flag(
            "guard",
            "Whether only the replication may write to the published tables of the side that is not active.",
            true,
        ))
        .attribute(choice(
            "unpublished_writes",
            &["block", "allow"],
            "What becomes of writes to what is not published on the side that was left: `block` sets \
                 `default_transaction_read_only` for its database, which new transactions follow unless they say otherwise; \
                 `allow` leaves that alone.",
        ))
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
        .attribute(choice(
            "compare",
            &["counts", "checksums", "none"],
            "What is compared before the commit: `counts` of rows, `checksums` of all their values, or `none`. A difference \
                 ends the switch, and writers go on.",
        ))
        .attribute(number(
            "compare_max_rows",
            "Tables of more rows, as the server estimates them, are not compared while writers wait: compare them beforehand with \
             `neonrepl_table_comparison`.",
            1_000_000,
        ))
        .attribute(
            Attribute::optional(
                "sequence_margin",
                Type::Number,
                "How many values the sequences of the new side skip. With 0 they go on right where those of the old side stand. Default: `0`.",
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
            "What becomes of the subscriptions that led to the new side, which are disabled: `drop` drops their slots, so that \
                 nothing keeps WAL on the old side; `disable` keeps them. `neonrepl_subscription` knows, and plans no change.",
        ))
        .attribute(Attribute::optional(
            "message",
            text(),
            "The message for an application that still writes to the side that was left. Default: that writes have moved, with the host of \
             the active side.",
        ))
        .attribute(flag(
            "open_on_destroy",
            "Whether destroying opens the side that is not active to writes too. By default it stays closed, and a warning says \
                 how to open it.",
            false,
        ))
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
