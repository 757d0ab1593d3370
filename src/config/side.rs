// SPDX-License-Identifier: MPL-2.0

//! The two sides, by their blocks.

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server that is replicated from.
    Publisher,
    /// The server that is replicated to.
    Subscriber,
}

impl Side {
    /// The name of its block.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        }
    }

    /// The variable of the environment that may hold its URL.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Publisher => "NEONREPL_PUBLISHER_URL",
            Self::Subscriber => "NEONREPL_SUBSCRIBER_URL",
        }
    }
}
