// SPDX-License-Identifier: MPL-2.0

//! Two databases, one of which is replicated to the other.

use futures_util::future::try_join;

use crate::postgres::{Database, Limits, Result, ServerVersion, settings};

/// The database that is replicated from, and the one that is replicated to.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Where rows come from.
    pub publisher: Database,
    /// Where rows go to.
    pub subscriber: Database,
}

impl Pair {
    /// The same two the other way round: for what flows back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { publisher: self.subscriber.clone(), subscriber: self.publisher.clone() }
    }

    /// The same two, within these limits.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Self {
        Self { publisher: self.publisher.within(limits), subscriber: self.subscriber.within(limits) }
    }

    /// The older of both servers' versions, which decides what they can do together.
    ///
    /// # Errors
    /// When one of them cannot be asked.
    pub async fn older_version(&self) -> Result<ServerVersion> {
        Ok(self.publisher.version().await?.min(self.subscriber.version().await?))
    }

    /// Whether both are in one cluster, where `CREATE SUBSCRIPTION` with a slot would wait for itself for ever.
    ///
    /// Told by the moment at which the postmaster started, to the microsecond, which every role may read, and which a
    /// clone or a standby does not share.
    ///
    /// # Errors
    /// When one of them cannot be asked.
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
