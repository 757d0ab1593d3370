//! The subscription's `publisher` block as a model: how the subscriber reaches the publisher.

use std::collections::BTreeMap;

use crate::tf_provider::convert::Attr;

crate::model! {
    /// The `publisher` block.
    pub(in crate::resources) struct Connection {
        /// The host.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The database.
        database: Attr<String>,
        /// The role.
        username: Attr<String>,
        /// Its password, in the state.
        password: Attr<String>,
        /// Its password, write-only.
        password_wo: Attr<String>,
        /// Encryption.
        sslmode: Attr<String>,
        /// Further keywords.
        options: Attr<BTreeMap<String, String>>,
    }
}
