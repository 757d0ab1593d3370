// SPDX-License-Identifier: MPL-2.0

//! Passwords that change often.

use futures_util::future::BoxFuture;

use super::conninfo::Secret;

/// The source of passwords for new connections, if the server's configuration has none.
pub trait Passwords: Send + Sync {
    /// The password to connect with now.
    ///
    /// # Errors
    /// When there is none: a sentence for people, without secrets.
    fn current(&self) -> BoxFuture<'_, Result<Secret, String>>;
}
