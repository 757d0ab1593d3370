// SPDX-License-Identifier: MPL-2.0

//! The amount of data to copy.

use super::facts::Facts;
use super::{Size, SizedTable};

/// How many of the largest tables are named.
const LARGEST: usize = 10;

pub(super) fn size(facts: &Facts) -> Size {
    let mut tables: Vec<_> = facts
        .totals
        .iter()
        .map(|(name, extent)| SizedTable { name: name.clone(), rows: extent.rows, bytes: extent.bytes })
        .collect();
    tables.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
    let sum = |of: fn(&SizedTable) -> u64| tables.iter().map(of).sum();
    Size {
        tables: u64::try_from(facts.extents.len()).unwrap_or(u64::MAX),
        rows: sum(|table| table.rows.unwrap_or_default()),
        bytes: sum(|table| table.bytes),
        largest: tables.iter().take(LARGEST).cloned().collect(),
    }
}
