// SPDX-License-Identifier: MPL-2.0

//! The `timeouts` block: how long an operation may take.

use std::time::Duration;

use super::convert::Attr;
use super::schema::{Attribute, Block, NestedBlock, Type};

crate::model! {
    /// The `timeouts` block of a resource.
    pub struct Timeouts {
        /// How long a create may take.
        create: Attr<String>,
        /// How long an update may take.
        update: Attr<String>,
        /// How long a delete may take.
        delete: Attr<String>,
    }
}

/// The block, with the default times.
pub fn timeouts_block(create: &str, update: &str, delete: &str) -> NestedBlock {
    let attribute = |name: &str, what: &str, default: &str| {
        let description = format!("How long {what} may take, such as `30s`, `10m` or `1h30m`. Default: `{default}`.");
        duration_attribute(name, &description)
    };
    NestedBlock::single(
        "timeouts",
        Block::new("How long operations may take before they fail.")
            .attribute(attribute("create", "creating", create))
            .attribute(attribute("update", "updating", update))
            .attribute(attribute("delete", "destroying", delete)),
    )
}

/// An attribute for a duration.
pub fn duration_attribute(name: &str, description: &str) -> Attribute {
    Attribute::optional(name, Type::String, description)
        .text(|text| parse_duration(text).map(|_| ()).ok_or_else(|| not_a_duration(text)))
}

fn not_a_duration(text: &str) -> String {
    format!(
        "{text:?} is not a valid duration. Write whole numbers with their units, such as \"30s\", \"10m\" or \"1h30m\"."
    )
}

/// The configured time, or the default. `operation` selects the attribute.
pub fn timeout(block: &Attr<Timeouts>, operation: impl Fn(&Timeouts) -> &Attr<String>, default: Duration) -> Duration {
    let configured = block.known().and_then(|timeouts| operation(timeouts).known().cloned());
    configured.and_then(|text| parse_duration(&text)).unwrap_or(default)
}

/// Reads a duration as Go writes them: numbers with the units `h`, `m`, `s`, `ms`. `None` if it is not a duration,
/// or zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
        rest = &rest[unit_end..];
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("1h30m", 5400), ("1h0m5s", 3605), (" 2m ", 120)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("1500ms"), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "0s", "10", "m", "5 m", "-5m", "1d", "99999999999h", "é"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_default_holds_where_nothing_is_written() {
        let minute = Duration::from_secs(60);
        assert_eq!(timeout(&Attr::Null, |t| &t.create, minute), minute);
        let block = Attr::Known(Timeouts { create: "5m".into(), ..Timeouts::default() });
        assert_eq!(timeout(&block, |t| &t.create, minute), minute * 5);
        assert_eq!(timeout(&block, |t| &t.delete, minute), minute);
    }
}
