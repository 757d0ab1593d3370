//! How much there is to copy.

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

/// A number of bytes as people read it: `1.5 GiB`.
pub(super) fn shown_bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(unit) = (0..units.len()).rev().find(|unit| bytes >> (10 * (unit + 1)) > 0) else {
        return format!("{bytes} bytes");
    };
    let tenths = (u128::from(bytes) * 10) >> (10 * (unit + 1));
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let name = units.get(unit).copied().unwrap_or_default();
    if tenth == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_they_fill() {
        let shown = [0, 1023, 1024, 1536, 100 << 30, u64::MAX].map(shown_bytes);
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "100 GiB", "16383.9 PiB"]);
    }
}
