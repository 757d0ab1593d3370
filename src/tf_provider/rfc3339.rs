// SPDX-License-Identifier: MPL-2.0

//! Times in the format of Terraform's own functions.

use std::time::SystemTime;

/// RFC 3339 in UTC, with whole seconds: `2026-01-31T12:00:00Z`.
pub fn utc(time: SystemTime) -> String {
    let mut time = prost_types::Timestamp::from(time);
    time.nanos = 0;
    time.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seconds_are_whole() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_860_800_999);
        assert_eq!(utc(time), "2026-01-31T12:00:00Z");
    }
}
