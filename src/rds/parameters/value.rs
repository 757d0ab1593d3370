// SPDX-License-Identifier: MPL-2.0

//! The meaning of a parameter's value: switches, numbers, units, words, lists, formulas. Pure.
//!
//! RDS stores numbers in the unit that the parameter's description begins with, as in "(ms) Sets …", and accepts
//! them without a unit. People write them as in `postgresql.conf`, so `5min` is understood too.

use crate::rds::api::Parameter;

/// Whether two values mean the same to the server.
#[must_use]
pub fn same_value(parameter: &Parameter, one: Option<&str>, other: Option<&str>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return one == other;
    };
    if one == other {
        return true;
    }
    if is_boolean(parameter) {
        return truth(one).is_some() && truth(one) == truth(other);
    }
    if is_formula(one) || is_formula(other) {
        return without_spaces(one) == without_spaces(other);
    }
    match (number(parameter, one), number(parameter, other)) {
        (Some(one), Some(other)) if is_numeric(parameter) => one == other,
        _ => same_words(parameter, one, other),
    }
}

/// Whether a switch is on, in any spelling; none if the text is not a switch.
#[must_use]
pub fn truth(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" | "t" | "y" => Some(true),
        "0" | "off" | "false" | "no" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// The value in a spelling that the API accepts: switches are only `0` and `1`, or `off` and `on`; numbers have no
/// unit.
pub(super) fn spelled(parameter: &Parameter, value: &str) -> String {
    let value = value.trim();
    if is_numeric(parameter) && !is_formula(value) && value.parse::<f64>().is_err() {
        return number(parameter, value).map_or_else(|| value.to_owned(), |number| number.to_string());
    }
    let listed = parameter.allowed_values.as_deref().unwrap_or_default();
    let mut allowed = listed.split(',').map(str::trim);
    if !is_boolean(parameter) || allowed.clone().any(|one| one == value) {
        return value.to_owned();
    }
    let same = allowed.find(|one| truth(one).is_some() && truth(one) == truth(value));
    same.unwrap_or(value).to_owned()
}

/// Whether `AllowedValues` admits the value. AWS itself checks formulas.
pub(super) fn is_allowed(parameter: &Parameter, value: &str) -> bool {
    let Some(allowed) = parameter.allowed_values.as_deref() else {
        return true;
    };
    if is_formula(value) {
        return true;
    }
    if is_boolean(parameter) {
        return truth(value).is_some();
    }
    let is_one_of = |value: &str| allowed.split(',').any(|one| admits(parameter, one.trim(), value.trim()));
    match parameter.data_type.as_str() {
        "list" => value.split(',').all(is_one_of),
        _ => is_one_of(value),
    }
}

fn is_boolean(parameter: &Parameter) -> bool {
    parameter.data_type == "boolean"
}

fn is_numeric(parameter: &Parameter) -> bool {
    matches!(parameter.data_type.as_str(), "integer" | "float")
}

/// A formula, as in `{DBInstanceClassMemory/12582880}` or `GREATEST(…)`.
fn is_formula(value: &str) -> bool {
    value.contains('{') || value.contains('(')
}

/// RDS itself writes `${DBInstanceVCPU*2}` in some formulas and `{DBInstanceVCPU*2}` in others.
fn without_spaces(formula: &str) -> String {
    let kept = formula.chars().filter(|c| !c.is_whitespace() && *c != '$');
    kept.collect::<String>().to_ascii_lowercase()
}

fn same_words(parameter: &Parameter, one: &str, other: &str) -> bool {
    let is_listed = parameter.allowed_values.is_some();
    let same = |one: &str, other: &str| match is_listed {
        true => one.trim().eq_ignore_ascii_case(other.trim()),
        false => one.trim() == other.trim(),
    };
    match parameter.data_type.as_str() {
        "list" => {
            let (one, other): (Vec<_>, Vec<_>) = (one.split(',').collect(), other.split(',').collect());
            one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| same(one, other))
        }
        _ => same(one, other),
    }
}

/// Whether one item of `AllowedValues`, a range or a word, admits the value.
fn admits(parameter: &Parameter, item: &str, value: &str) -> bool {
    match (range(item), number(parameter, value)) {
        (Some((low, high)), Some(number)) => low <= number && number <= high,
        (Some(_), None) => false,
        (None, number) => item.eq_ignore_ascii_case(value) || number.is_some() && number == item.parse().ok(),
    }
}

/// The number in the parameter's own unit.
fn number(parameter: &Parameter, value: &str) -> Option<f64> {
    let value = value.trim();
    if let Ok(number) = value.parse() {
        return Some(number);
    }
    let digits = value.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (value[..digits].trim().parse::<f64>().ok()?, &value[digits..]);
    let (is, own) = (scale(unit)?, scale(own_unit(parameter)?)?);
    (is.0 == own.0).then(|| number * is.1 / own.1)
}

/// The unit that the description begins with, in brackets.
fn own_unit(parameter: &Parameter) -> Option<&str> {
    parameter.description.strip_prefix('(')?.split(')').next()
}

/// The dimension and the factor of a unit: bytes or microseconds. `8kB` is a block of the server.
///
/// Source: "Parameter Names and Values" in the Postgres documentation; units are case-sensitive there.
fn scale(unit: &str) -> Option<(char, f64)> {
    let kilobytes = |many: u32| Some(('b', f64::from(many) * 1024.0));
    let seconds = |many: u32| Some(('s', f64::from(many) * 1_000_000.0));
    match unit {
        "B" => Some(('b', 1.0)),
        "kB" => kilobytes(1),
        "8kB" => kilobytes(8),
        "MB" => kilobytes(1 << 10),
        "GB" => kilobytes(1 << 20),
        "TB" => kilobytes(1 << 30),
        "us" => Some(('s', 1.0)),
        "ms" => Some(('s', 1000.0)),
        "s" => seconds(1),
        "min" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(24 * 3600),
        _ => None,
    }
}

/// `-1-100` as -1 and 100: the dash that separates is the first one after a digit.
fn range(item: &str) -> Option<(f64, f64)> {
    let digit = item.find(|c: char| c.is_ascii_digit())?;
    let dash = item[digit..]
        .char_indices()
        .map(|(at, _)| digit + at)
        .find(|&at| item[at..].starts_with('-') && item[..at].ends_with(|c: char| c.is_ascii_digit()))?;
    Some((item[..dash].parse().ok()?, item[dash + 1..].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rds::api::{ApplyType, Source};

    fn parameter(data_type: &str, allowed: &str, description: &str) -> Parameter {
        Parameter {
            name: "p".to_owned(),
            value: None,
            source: Source::System,
            apply_type: ApplyType::Dynamic,
            data_type: data_type.to_owned(),
            allowed_values: Some(allowed.to_owned()).filter(|allowed| !allowed.is_empty()),
            is_modifiable: true,
            description: description.to_owned(),
        }
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let timeout = parameter("integer", "0-3600000", "(ms) Sets the maximum time to wait for WAL replication.");
        let memory = parameter("integer", "64-2147483647", "(kB) Sets the maximum memory to be used.");
        let blocks = parameter("integer", "16-1073741823", "(8kB) Sets the number of shared memory buffers.");
        let count = parameter("integer", "5-262143", "Sets the maximum number of slots.");
        let switch = parameter("boolean", "0,1", "Enables logical decoding.");
        let word = parameter("string", "origin,replica,local", "");
        let list = parameter("list", "pg_stat_statements,pg_cron", "");
        let free = parameter("string", "", "");
        for (parameter, one, other, expected) in [
            (&timeout, "300000", "5min", true),
            (&timeout, "300000", "300s", true),
            (&timeout, "300000", "300 s", true),
            (&timeout, "300000", "5MB", false),
            (&timeout, "300000", "5 minutes", false),
            (&memory, "65536", "64MB", true),
            (&memory, "65536", "64mb", false),
            (&blocks, "16384", "128MB", true),
            (&count, "20", "020", true),
            (&count, "20", "20s", false),
            (&count, "GREATEST(${DBInstanceVCPU*2},8)", "greatest({DBInstanceVCPU * 2}, 8)", true),
            (&count, "{DBInstanceVCPU*2}", "{DBInstanceVCPU*3}", false),
            (&switch, "1", "on", true),
            (&switch, "1", "off", false),
            (&switch, "1", "banana", false),
            (&word, "replica", "Replica", true),
            (&list, "pg_cron,pg_stat_statements", "pg_cron, pg_stat_statements", true),
            (&list, "pg_cron,pg_stat_statements", "pg_stat_statements,pg_cron", false),
            (&free, "a", "A", false),
        ] {
            assert_eq!(same_value(parameter, Some(one), Some(other)), expected, "{one} and {other}");
            assert_eq!(same_value(parameter, Some(other), Some(one)), expected, "{other} and {one}");
        }
        assert!(same_value(&count, None, None));
        assert!(!same_value(&count, None, Some("1")));
    }

    #[test]
    fn units_are_sent_as_numbers() {
        let timeout = parameter("integer", "0-3600000", "(ms) Sets the maximum time to wait for WAL replication.");
        assert_eq!(spelled(&timeout, "5min"), "300000");
        assert_eq!(spelled(&timeout, "020"), "020");
        assert_eq!(spelled(&timeout, "{DBInstanceVCPU*2}"), "{DBInstanceVCPU*2}");
        assert!(is_allowed(&timeout, "1h"));
        assert!(!is_allowed(&timeout, "2h"));
        assert!(!is_allowed(&timeout, "2kB"));
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("-1-100"), Some((-1.0, 100.0)));
        assert_eq!(range("0-1.5e3"), Some((0.0, 1500.0)));
        assert_eq!(range("-5--1"), Some((-5.0, -1.0)));
        assert_eq!(range("replica"), None);
        assert_eq!(range("0"), None);
        assert_eq!(range("utf-8"), None);
    }
}
