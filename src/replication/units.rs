// SPDX-License-Identifier: MPL-2.0

//! Numbers in the form that people read.

use std::time::Duration;

/// A count with commas between its thousands: `2,000,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with what is counted, which takes an `s` unless it is one: `1 table`, `2 tables`.
pub fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number as u64))
}

/// A count in short form: `9,999`, `61 k`, `1.2 M`.
pub fn short(number: u64) -> String {
    let of = |unit: u64, name: &str| {
        let tenths = number / (unit / 10);
        match tenths {
            100.. => format!("{} {name}", tenths / 10),
            _ => format!("{}.{} {name}", tenths / 10, tenths % 10),
        }
    };
    match number {
        0..10_000 => count(number),
        10_000..1_000_000 => of(1_000, "k"),
        1_000_000..1_000_000_000 => of(1_000_000, "M"),
        _ => of(1_000_000_000, "G"),
    }
}

/// A size in the largest unit that leaves a number above one, in steps of 1,024: `312 bytes`, `1.5 GiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number == 1 {
        return "1 byte".to_owned();
    }
    let (mut size, mut unit) = (number as f64, None);
    for larger in UNITS {
        // A number that would print as 1024 gets the next unit.
        if size < 1023.95 {
            break;
        }
        (size, unit) = (size / 1024.0, Some(larger));
    }
    match unit {
        None => format!("{number} bytes"),
        Some(unit) if size < 99.95 => format!("{size:.1} {unit}"),
        Some(unit) => format!("{size:.0} {unit}"),
    }
}

/// A time in its two largest units: `850 ms`, `42 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A remaining time: as [`duration`], in whole seconds, rounded up.
pub fn remaining(time: Duration) -> String {
    duration(Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0)))
}

/// A time in seconds, as servers report it. Negative numbers and NaN count as 0.
pub fn seconds(number: f64) -> String {
    match Duration::try_from_secs_f64(number) {
        Ok(time) if !time.is_zero() => duration(time),
        _ => "0 s".to_owned(),
    }
}

/// The part of a whole in whole percent: 100 only once it is complete. If it exceeds the whole, which may be an
/// estimate, it stays at 99.
pub fn percent(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 0,
        _ if part == whole => 100,
        _ => (u128::from(part) * 100 / u128::from(whole)).min(99) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        let shown = [0, 999, 1_000, 12_345, 2_000_000].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "2,000,000"]);
        let shown = [0, 9_999, 61_499, 999_999, 1_250_000, 42_000_000, 3_000_000_000].map(short);
        assert_eq!(shown, ["0", "9,999", "61 k", "999 k", "1.2 M", "42 M", "3.0 G"]);
        assert_eq!([0, 1, 1_000].map(|number| counted(number, "table")), ["0 tables", "1 table", "1,000 tables"]);
    }

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        let shown = [0, 1, 1_023, 1_024, 1_572_864, 104_857_600, 1_073_741_823, 1_099_511_627_776, u64::MAX].map(bytes);
        let expected =
            ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 MiB", "100 MiB", "1.0 GiB", "1.0 TiB", "16.0 EiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn times_have_two_units() {
        let shown = [850, 42_000, 185_000, 7_800_000, 273_600_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["850 ms", "42 s", "3 min 05 s", "2 h 10 min", "3 d 4 h"]);
        assert_eq!([1, 1_000, 1_001].map(|ms| remaining(Duration::from_millis(ms))), ["1 s", "1 s", "2 s"]);
        assert_eq!([-1.0, 0.0, f64::NAN, 0.25, 3.7].map(seconds), ["0 s", "0 s", "0 s", "250 ms", "3 s"]);
    }

    #[test]
    fn only_the_whole_is_a_hundred_percent() {
        let shown = [(0, 0), (0, 9), (1, 3), (999, 1_000), (1_000, 1_000), (1_200, 1_000)].map(|(a, b)| percent(a, b));
        assert_eq!(shown, [0, 0, 33, 99, 100, 99]);
    }
}
