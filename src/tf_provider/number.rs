// SPDX-License-Identifier: MPL-2.0

//! Numbers of any size, without loss.
//!
//! Terraform's numbers are arbitrary-precision decimals. On the wire, a number is an integer, a double
//! or decimal text, whichever is exact. Equality compares numbers, not their spelling.

use std::fmt;

/// How many digits a number may have: far more than Terraform's own 512 bits of mantissa.
const MAX_DIGITS: usize = 4096;

/// An exact decimal number: `digits * 10^exponent`, with no leading or trailing zero among the digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads decimal text such as `12`, `-0.5` or `1e300`. `None` if it is not a finite number.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        let count = whole.len() + fraction.len();
        if !all_digits || count == 0 || count > MAX_DIGITS {
            return None;
        }
        let exponent = i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
        Some(Self::normalised(negative, format!("{whole}{fraction}"), exponent))
    }

    /// The exact value of a double; `None` for NaN and the infinities.
    pub fn from_f64(value: f64) -> Option<Self> {
        // A double's exact decimal expansion ends after at most 1,074 places.
        value.is_finite().then(|| Self::parse(&format!("{value:.1074}"))).flatten()
    }

    /// The number as a signed 64-bit integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        self.integer_text()?.parse().ok()
    }

    /// The number as an unsigned 64-bit integer, if it is one.
    pub fn as_u64(&self) -> Option<u64> {
        self.integer_text()?.parse().ok()
    }

    /// The nearest double.
    pub fn as_f64(&self) -> f64 {
        self.scientific().parse().unwrap_or(f64::NAN)
    }

    fn normalised(negative: bool, digits: String, mut exponent: i64) -> Self {
        let trimmed = digits.trim_start_matches('0');
        let significant = trimmed.trim_end_matches('0');
        if significant.is_empty() {
            return Self { negative: false, digits: "0".to_owned(), exponent: 0 };
        }
        exponent += i64::try_from(trimmed.len() - significant.len()).unwrap_or(0);
        Self { negative, digits: significant.to_owned(), exponent }
    }

    /// The digits of an integer that could fit 64 bits, sign included.
    fn integer_text(&self) -> Option<String> {
        let zeros = usize::try_from(self.exponent).ok().filter(|zeros| *zeros <= 20)?;
        let sign = if self.negative { "-" } else { "" };
        Some(format!("{sign}{}{}", self.digits, "0".repeat(zeros)))
    }

    fn scientific(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}e{}", self.digits, self.exponent)
    }

    /// Plain decimal text if it is short: without an exponent up to forty places in both directions.
    fn plain(&self) -> Option<String> {
        let sign = if self.negative { "-" } else { "" };
        if self.exponent >= 0 {
            let zeros = usize::try_from(self.exponent).ok().filter(|zeros| *zeros <= 40)?;
            return Some(format!("{sign}{}{}", self.digits, "0".repeat(zeros)));
        }
        let places = usize::try_from(-self.exponent).ok()?;
        if places > self.digits.len() + 40 {
            return None;
        }
        let padded = format!("{:0>width$}", self.digits, width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        Some(format!("{sign}{whole}.{fraction}"))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plain().unwrap_or_else(|| self.scientific()))
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::normalised(value < 0, value.unsigned_abs().to_string(), 0)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::normalised(false, value.to_string(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, printed: &str) {
        assert_eq!(Number::parse(text).unwrap().to_string(), printed, "{text}");
    }

    #[test]
    fn spelling_does_not_matter() {
        check("1", "1");
        check("-0", "0");
        check("0.10", "0.1");
        check("1e2", "100");
        check("1.50e1", "15");
        check("-12.5", "-12.5");
        check("1e300", "1e300");
        check("1e-50", "1e-50");
        assert_eq!(Number::parse("1.0"), Some(Number::from(1_i64)));
    }

    #[test]
    fn long_numbers_lose_nothing() {
        check("123456789012345678901234567890.5", "123456789012345678901234567890.5");
        check("18446744073709551615", "18446744073709551615");
        assert_eq!(Number::parse("18446744073709551615").unwrap().as_u64(), Some(u64::MAX));
        assert_eq!(Number::parse("-9223372036854775808").unwrap().as_i64(), Some(i64::MIN));
    }

    #[test]
    fn a_double_is_taken_exactly() {
        assert_eq!(Number::from_f64(1.25), Number::parse("1.25"));
        assert_ne!(Number::from_f64(0.1), Number::parse("0.1"));
        assert_eq!(Number::from_f64(0.1).unwrap().as_f64(), 0.1);
        assert_eq!(Number::from_f64(f64::NAN), None);
        assert_eq!(Number::from_f64(f64::INFINITY), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "0x10", "1e", "e5", "inf", "NaN", "1 ", "1e99999999999"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
        assert_eq!(Number::parse(&"9".repeat(MAX_DIGITS + 1)), None);
    }

    #[test]
    fn only_integers_are_integers() {
        assert_eq!(Number::parse("1.5").unwrap().as_i64(), None);
        assert_eq!(Number::parse("1e19").unwrap().as_i64(), None);
        assert_eq!(Number::parse("-1").unwrap().as_u64(), None);
        assert_eq!(Number::parse("1e3").unwrap().as_i64(), Some(1000));
    }
}
