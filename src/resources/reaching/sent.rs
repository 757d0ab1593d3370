// SPDX-License-Identifier: MPL-2.0

//! The connection that the provider has set, stored in the private state, and the server's.
//!
//! If the role may not read `subconninfo`, only this shows that the configuration has changed. It has no password,
//! and nothing from which one could be guessed: a changed password only shows in a worker that no longer connects.

use serde_json::{Map, Value as Json};

use super::Connection;
use crate::postgres::conninfo_parts::ATTRIBUTES;
use crate::postgres::{Conninfo, keywords};
use crate::tf_provider::call::Private;
use crate::tf_provider::convert::Attr;

/// The key of the connection that was set, without secrets, by keyword.
const SENT: &str = "sent_connection";
/// The key that says: the password was write-only.
const WRITE_ONLY: &str = "write_only_password";

/// The connection of a subscription, as far as known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::resources) enum Connected {
    /// Read from the catalog, with the password.
    Read(Conninfo),
    /// As the provider last set it, without secrets; the role may not read it.
    Sent(Conninfo),
    /// The role may not read it, and the provider never set it.
    Unknown,
}

impl Connected {
    /// From the catalog, otherwise from the private state.
    pub(in crate::resources) fn of(found: Option<&Conninfo>, private: &Private) -> Self {
        match (found, sent(private)) {
            (Some(found), _) => Self::Read(found.clone()),
            (None, Some(sent)) => Self::Sent(sent),
            (None, None) => Self::Unknown,
        }
    }

    /// Its known part.
    pub(in crate::resources) fn conninfo(&self) -> Option<&Conninfo> {
        match self {
            Self::Read(conninfo) | Self::Sent(conninfo) => Some(conninfo),
            Self::Unknown => None,
        }
    }
}

/// The connection that was last set, without secrets; `None` for a subscription that still has the one that it was
/// imported with.
pub(in crate::resources) fn sent(private: &Private) -> Option<Conninfo> {
    let kept = private.get(SENT)?;
    let mut conninfo = Conninfo::new();
    for (keyword, value) in kept.as_object()? {
        conninfo.set(keyword, value.as_str()?);
    }
    Some(conninfo)
}

/// Records the connection that is set now. `wanted` has the configured keywords, without those that
/// only stay as they were.
pub(in crate::resources) fn remember(private: &Private, wanted: &Conninfo, block: &Attr<Connection>) {
    let kept = wanted.iter().filter(|(keyword, _)| is_kept(keyword));
    let kept: Map<_, _> = kept.map(|(keyword, value)| (keyword.to_owned(), Json::from(value))).collect();
    private.set(SENT, Json::Object(kept));
    if block.known().is_some_and(|block| !block.password_wo.is_null()) {
        private.set(WRITE_ONLY, true.into());
    } else {
        private.remove(WRITE_ONLY);
    }
}

/// Whether a keyword is recorded: if it is not secret.
pub(in crate::resources) fn is_kept(keyword: &str) -> bool {
    keyword != "password" && ATTRIBUTES.contains(&keyword) || keywords::may_be_option(keyword)
}

/// Whether the last password was write-only.
pub(in crate::resources) fn was_write_only(private: &Private) -> bool {
    private.get(WRITE_ONLY).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_kept_without_secrets() {
        let private = Private::default();
        assert_eq!(Connected::of(None, &private), Connected::Unknown);
        let text = "host=h port=5433 dbname=d user=u password=pw-secret sslmode=require sslpassword=pw-secret keepalives_idle=60";
        remember(&private, &Conninfo::parse(text).unwrap(), &Attr::Null);
        assert!(!String::from_utf8(private.to_bytes()).unwrap().contains("pw-secret"));
        let kept = Conninfo::parse("host=h port=5433 dbname=d user=u sslmode=require keepalives_idle=60").unwrap();
        let read = Private::from_bytes(&private.to_bytes());
        assert_eq!(Connected::of(None, &read), Connected::Sent(kept));
        let found = Conninfo::parse("host=other").unwrap();
        assert_eq!(Connected::of(Some(&found), &read), Connected::Read(found.clone()));
    }
}
