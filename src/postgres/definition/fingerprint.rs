// SPDX-License-Identifier: MPL-2.0

//! A hash of a definition.

use std::fmt::Write as _;

use super::facets;
use super::model::Definition;

/// A hash of a definition: equal if a comparison of servers of one version finds no difference. 64 hexadecimal digits.
pub fn fingerprint(definition: &Definition) -> String {
    let mut text = String::new();
    for (object, facets) in facets::all(definition) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{object:?}");
        for ((part, attribute), value) in facets {
            let _ = writeln!(text, " {part:?} {attribute}={value:?}");
        }
    }
    let foreign =
        definition.tables.iter().flat_map(|(name, table)| table.constraints.values().map(move |one| (name, one)));
    for (table, constraint) in foreign.filter(|(_, one)| one.references.is_some() && !one.is_clone) {
        let _ = writeln!(text, "{table} {} {}", constraint.name, constraint.definition);
    }
    digest(&text)
}

/// The SHA-256 of a text, as 64 hexadecimal digits.
pub(super) fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
