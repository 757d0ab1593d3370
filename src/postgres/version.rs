// SPDX-License-Identifier: MPL-2.0

//! Server versions, and the features that each version introduced, as data.

use std::fmt;

/// A server's version, in the form of `server_version_num`: 150018 is 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion(u32);

impl ServerVersion {
    /// The oldest supported version.
    pub const OLDEST: Self = Self(140_000);

    /// Takes the number of `server_version_num`.
    pub fn from_num(num: u32) -> Self {
        Self(num)
    }

    /// The first release of a major version.
    pub fn major_only(major: u32) -> Self {
        Self(major * 10_000)
    }

    /// The major version: 15 of 15.18.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// Whether this version has the feature.
    pub fn has(self, feature: Feature) -> bool {
        self.major() >= feature.since
    }

    /// Fails if this version lacks the feature, and names the option and both versions.
    pub fn require(self, feature: Feature) -> Result<(), Unsupported> {
        if self.has(feature) {
            Ok(())
        } else {
            Err(Unsupported { what: feature.what, option: feature.option, since: feature.since, server: self })
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 10_000)
    }
}

/// A feature that not every supported version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The feature in words.
    pub what: &'static str,
    /// The option for it, as Postgres and the resources name it.
    pub option: &'static str,
    /// The first major version that has it.
    pub since: u32,
}

const fn feature(option: &'static str, since: u32) -> Feature {
    Feature { what: option, option, since }
}

/// `CREATE PUBLICATION … t (a, b)`.
pub const COLUMN_LISTS: Feature = feature("columns", 15);
/// `CREATE PUBLICATION … t WHERE (…)`.
pub const ROW_FILTERS: Feature = feature("where", 15);
/// `CREATE PUBLICATION … FOR TABLES IN SCHEMA`.
pub const SCHEMAS: Feature = feature("schemas", 15);
/// `CREATE PUBLICATION … WITH (publish_generated_columns)`.
pub const PUBLISH_GENERATED_COLUMNS: Feature = feature("publish_generated_columns", 18);
/// `CREATE SUBSCRIPTION … WITH (two_phase)`.
pub const TWO_PHASE: Feature = feature("two_phase", 15);
/// `ALTER SUBSCRIPTION … SET (two_phase)`.
pub const ALTER_TWO_PHASE: Feature = Feature { what: "a change of two_phase", ..feature("two_phase", 18) };
/// `CREATE SUBSCRIPTION … WITH (disable_on_error)`.
pub const DISABLE_ON_ERROR: Feature = feature("disable_on_error", 15);
/// The view `pg_stat_subscription_stats`, which counts errors.
pub const SUBSCRIPTION_STATS: Feature = feature("the count of errors", 15);
/// The view `pg_stat_subscription_stats` counts conflicts too.
pub const CONFLICTS: Feature = feature("the count of conflicts", 18);
/// `CREATE SUBSCRIPTION … WITH (streaming = parallel)`.
pub const PARALLEL_STREAMING: Feature = Feature { what: "streaming = \"parallel\"", ..feature("streaming", 16) };
/// `binary = true` applies to the initial copy too.
pub const BINARY_COPY: Feature = feature("binary", 16);
/// A subscription has a partitioned table instead of its partitions if one of its publications sends it so.
pub const ROOTS_ALONE: Feature = feature("publish_via_partition_root", 16);
/// `CREATE SUBSCRIPTION … WITH (password_required)`.
pub const PASSWORD_REQUIRED: Feature = feature("password_required", 16);
/// `CREATE SUBSCRIPTION … WITH (run_as_owner)`.
pub const RUN_AS_OWNER: Feature = feature("run_as_owner", 16);
/// `CREATE SUBSCRIPTION … WITH (origin)`.
pub const ORIGIN: Feature = feature("origin", 16);
/// `CREATE SUBSCRIPTION … WITH (failover)`, and slots with the flag.
pub const FAILOVER: Feature = feature("failover", 17);

/// A standby can decode, and has logical slots of its own.
pub const STANDBY_SLOTS: Feature = Feature { what: "a logical slot on a standby", ..feature("name", 16) };
/// A publisher continues without a missing publication. Before, it ended the reader.
pub const MISSING_PUBLICATIONS: Feature = feature("publications", 18);

/// An option that the server's version is too old for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported {
    /// The missing feature in words.
    pub what: &'static str,
    /// The option for it, as Postgres and the resources name it.
    pub option: &'static str,
    /// The first major version that has it.
    pub since: u32,
    /// The server's version.
    pub server: ServerVersion,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs Postgres {} or newer; the server runs {}", self.what, self.since, self.server)
    }
}

impl std::error::Error for Unsupported {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shown_as_people_write_it() {
        assert_eq!(ServerVersion::from_num(150_018).to_string(), "15.18");
        assert_eq!(ServerVersion::from_num(180_004).major(), 18);
    }

    #[test]
    fn a_missing_feature_names_attribute_and_versions() {
        let error = ServerVersion::from_num(150_018).require(PUBLISH_GENERATED_COLUMNS).unwrap_err();
        assert_eq!(error.to_string(), "publish_generated_columns needs Postgres 18 or newer; the server runs 15.18");
        assert_eq!(ServerVersion::from_num(180_004).require(PUBLISH_GENERATED_COLUMNS), Ok(()));
        assert_eq!(ServerVersion::major_only(15).require(COLUMN_LISTS), Ok(()));
    }
}
