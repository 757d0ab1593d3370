// SPDX-License-Identifier: MPL-2.0

//! Whether a column accepts every value that is sent to it. Pure.
//!
//! Values are sent as text by default, so a column of another type accepts whatever it can read.

use crate::postgres::catalog::Labels;

/// Whether a column of the second type accepts every value of the first, as text. Types are named as `format_type`
/// prints them. An unknown combination does not fit.
pub(in crate::replication) fn takes_all(sent: &str, taken: &str) -> bool {
    if sent == taken {
        return true;
    }
    match (sent.strip_suffix("[]"), taken.strip_suffix("[]")) {
        (Some(sent), Some(taken)) => return takes_all(sent, taken),
        (None, Some(_)) => return false,
        _ => {}
    }
    let ((sent, given), (taken, limit)) = (parts(sent), parts(taken));
    if taken == "text" || taken == "character varying" && limit.is_empty() {
        return true;
    }
    match (sent, taken) {
        _ if sent == taken && is_text(taken) => {
            given.first().zip(limit.first()).is_some_and(|(given, limit)| given <= limit)
        }
        ("character", "character varying") => given.first() <= limit.first(),
        ("numeric", "numeric") => limit.is_empty() || fits(&given, &limit),
        (_, "numeric") if whole(sent).is_some() => limit.is_empty(),
        ("real", "double precision" | "numeric") => limit.is_empty(),
        ("date", _) if taken.starts_with("timestamp") => true,
        ("json", "jsonb") | ("jsonb", "json") => true,
        // A smaller precision rounds.
        _ if sent == taken => !is_text(taken) && taken != "bit" && taken != "bit varying",
        _ => whole(sent).zip(whole(taken)).is_some_and(|(sent, taken)| sent <= taken),
    }
}

/// The labels of the first enum that the second one lacks, if the types are the same enum on both sides.
pub(in crate::replication) fn missing_labels(sent: &str, taken: &str, there: &Labels, here: &Labels) -> Vec<String> {
    let labels = |ty: &str, labels: &Labels| labels.get(ty.trim_end_matches("[]")).cloned();
    let (Some(sent), Some(taken)) = (labels(sent, there), labels(taken, here)) else { return Vec::new() };
    sent.into_iter().filter(|label| !taken.contains(label)).collect()
}

/// A type's name and its modifier: `numeric(10,2)` is `numeric` and 10, 2.
fn parts(ty: &str) -> (&str, Vec<i64>) {
    let Some((name, rest)) = ty.split_once('(') else { return (ty, Vec::new()) };
    let Some((numbers, tail)) = rest.split_once(')') else { return (ty, Vec::new()) };
    // In `timestamp(3) with time zone`, the rest belongs to the type too, so the whole text is compared.
    let name = if tail.is_empty() { name } else { ty };
    (name, numbers.split(',').filter_map(|number| number.trim().parse().ok()).collect())
}

fn is_text(ty: &str) -> bool {
    matches!(ty, "character varying" | "character")
}

/// The size of an integer type.
fn whole(ty: &str) -> Option<u8> {
    match ty {
        "smallint" => Some(2),
        "integer" => Some(4),
        "bigint" => Some(8),
        _ => None,
    }
}

/// Whether the digits before the point fit; digits after it are rounded.
fn fits(given: &[i64], limit: &[i64]) -> bool {
    let before = |digits: &[i64]| Some(digits.first()? - digits.get(1).copied().unwrap_or_default());
    before(given).zip(before(limit)).is_some_and(|(given, limit)| given <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_types_take_all_and_narrower_ones_do_not() {
        for (sent, taken) in [
            ("integer", "integer"),
            ("integer", "bigint"),
            ("smallint", "numeric"),
            ("bigint", "text"),
            ("character varying(20)", "character varying(40)"),
            ("character varying(20)", "text"),
            ("text", "character varying"),
            ("numeric(10,2)", "numeric"),
            ("numeric(10,2)", "numeric(12,2)"),
            ("numeric(10,2)", "numeric(9,0)"),
            ("real", "double precision"),
            ("date", "timestamp with time zone"),
            ("integer[]", "bigint[]"),
            ("public.mood", "public.mood"),
            ("jsonb", "json"),
            ("numeric", "text"),
        ] {
            assert!(takes_all(sent, taken), "{sent} -> {taken}");
        }
        for (sent, taken) in [
            ("bigint", "integer"),
            ("text", "integer"),
            ("text", "character varying(20)"),
            ("character varying", "character varying(20)"),
            ("character varying(40)", "character varying(20)"),
            ("numeric(12,2)", "numeric(9,0)"),
            ("numeric", "numeric(9,2)"),
            ("bigint[]", "integer[]"),
            ("integer", "integer[]"),
            ("public.mood", "public.other"),
            ("double precision", "real"),
        ] {
            assert!(!takes_all(sent, taken), "{sent} -> {taken}");
        }
    }

    #[test]
    fn labels_that_are_missing_are_named() {
        let of = |labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Labels::from([("public.mood".to_owned(), labels)])
        };
        let missing = |sent: &str| missing_labels(sent, sent, &of(&["a", "b", "c"]), &of(&["a", "c"]));
        assert_eq!(missing("public.mood"), ["b"]);
        assert_eq!(missing("public.mood[]"), ["b"]);
        assert_eq!(missing("text"), [""; 0]);
    }
}
