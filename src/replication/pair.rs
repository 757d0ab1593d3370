// SPDX-License-Identifier: MPL-2.0

//! A pair of databases: one is replicated to the other.

use futures_util::future::try_join;

use crate::postgres::{Database, Limits, Result, ServerVersion, settings};

/// The source and the target of a replication.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The database that rows come from.
    pub publisher: Database,
    /// The database that rows go to.
    pub subscriber: Database,
}

impl Pair {
    /// The same pair in the other direction, for changes that flow back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { publisher: self.subscriber.clone(), subscriber: self.publisher.clone() }
    }

    /// The same pair, with these limits.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Self {
        Self { publisher: self.publisher.within(limits), subscriber: self.subscriber.within(limits) }
    }

    /// The older of both servers' versions, which decides what they can do together.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn older_version(&self) -> Result<ServerVersion> {
        Ok(self.publisher.version().await?.min(self.subscriber.version().await?))
    }

    /// Whether both are in the same cluster, where `CREATE SUBSCRIPTION` with a slot would wait for itself for ever.
    ///
    /// Compares the postmasters' start times in microseconds, which every role may read, and which differ for clones
    /// and standbys.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn is_one_cluster(&self) -> Result<bool> {
        let (one, other) =
            try_join(settings::started_at(&self.publisher), settings::started_at(&self.subscriber)).await?;
        Ok(one == other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Server, ServerConfig};

    #[test]
    fn a_pair_turned_round_twice_is_the_same() {
        let database = |name: &str| Server::new(ServerConfig::new("h", name, "u")).database(None);
        let pair = Pair { publisher: database("one"), subscriber: database("other") };
        assert_eq!(pair.reversed().publisher.name(), "other");
        assert_eq!(pair.reversed().reversed().publisher.name(), "one");
    }
}
