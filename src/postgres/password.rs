// SPDX-License-Identifier: MPL-2.0

//! Passwords that change often.

use futures_util::future::BoxFuture;

use super::conninfo::Secret;

/// Where the password of each new connection comes from, when the configuration of the server does not hold one.
pub trait Passwords: Send + Sync {
    /// The password to connect with now.
    ///
    /// # Errors
    /// When there is none: a sentence for people, which holds no secret.
    fn current(&self) -> BoxFuture<'_, Result<Secret, String>>;
}
