// SPDX-License-Identifier: MPL-2.0

//! How indexes are built, as configured in the resource and the action that build them.

use super::check_name;
use crate::replication::destination::building::{Analyze, How};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// How many indexes are built at a time by default.
const PARALLEL: i64 = 2;

/// The attributes for when and how to build.
pub(crate) fn with_choices(schema: Schema) -> Schema {
    schema
        .attribute(
            Attribute::optional(
                "subscriptions",
                Type::set(Type::String),
                "The subscriptions that copy the rows: the apply waits until their tables are copied. An index that \
                 is built during the copy slows it down, and waits for it.",
            )
            .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "parallel",
                Type::Number,
                "How many indexes are built at a time, each on a different table. At most half of the \
                 `max_connections` of the provider's `subscriber` block. Default: `2`.",
            )
            .between(1, 64),
        )
        .attribute(
            Attribute::optional(
                "maintenance_work_mem",
                Type::String,
                "How much memory each session that builds an index may use, such as `1GB`. Default: the server's \
                 setting.",
            )
            .text(check_memory),
        )
        .attribute(Attribute::optional(
            "analyze",
            Type::Bool,
            "Whether to analyze the tables afterwards. Without that, the first queries of an application get poor \
             plans. Default: `true`.",
        ))
}

/// Checks an amount of memory in the form that Postgres reads.
fn check_memory(text: &str) -> std::result::Result<(), String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_number = !text.starts_with('0') && unit.len() < text.len();
    if is_number && ["kB", "MB", "GB", "TB"].contains(&unit) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is not an amount of memory. Write a whole number with its unit (kB, MB, GB or TB), such as \"1GB\"."
    ))
}

/// How many may be built at a time with this many connections.
pub(crate) fn at_a_time(max_connections: usize) -> usize {
    (max_connections / 2).max(1)
}

/// How to build, with this many connections.
pub(crate) fn how(parallel: &Attr<i64>, memory: &Attr<String>, max_connections: usize, analyzes: Analyze) -> How {
    let wanted = usize::try_from(parallel.known().copied().unwrap_or(PARALLEL)).unwrap_or(1);
    How { parallel: wanted.clamp(1, at_a_time(max_connections)), memory: memory.known().cloned(), analyzes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit() {
        for text in ["1GB", "64MB", "1048576kB", "2TB"] {
            assert_eq!(check_memory(text), Ok(()), "{text}");
        }
        for text in ["", "1", "GB", "0GB", "1.5GB", "1gb", "1 GB", "-1GB", "64MB; DROP"] {
            assert!(check_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn half_of_the_connections_build() {
        let at_a_time = |parallel: Attr<i64>, most| how(&parallel, &Attr::Null, most, Analyze::None).parallel;
        assert_eq!([at_a_time(Attr::Null, 10), at_a_time(8.into(), 10), at_a_time(8.into(), 1)], [2, 5, 1]);
    }
}
