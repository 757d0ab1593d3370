// SPDX-License-Identifier: MPL-2.0

//! The names of everything that belongs to a cutover. They follow from the names of its subscriptions, so no state is needed. Pure.

use std::collections::BTreeSet;

use aws_lc_rs::digest;

use crate::postgres::Ident;
use crate::postgres::fence::Fence;
use crate::replication::error::{Error, Result};

/// How much of a subscription's name is used: with prefix and suffix, it still fits into a Postgres name.
const LONGEST: usize = 40;

/// The prefix of the way back's names.
const BACK: &str = "neonrepl_back_";

/// Whether a subscription on the publisher has the name of one that brings changes back.
pub fn is_way_back(subscription: &Ident) -> bool {
    subscription.as_str().starts_with(BACK)
}

/// The names of a cutover's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The fence of each side.
    pub fence: Fence,
    /// The subscription on the publisher that brings changes back, and its publication on the subscriber.
    pub back: Ident,
    /// The slot of that subscription. It must be unique on the subscriber's server, so it also contains a hash of the
    /// database.
    pub slot: Ident,
}

impl Names {
    /// The names for these subscriptions of a database.
    ///
    /// # Errors
    /// When there is no subscription.
    pub(super) fn of(subscriptions: &BTreeSet<Ident>, database: &str) -> Result<Self> {
        let Some(first) = subscriptions.first() else {
            return Err(Error::new("a cutover needs at least one subscription").about("subscriptions"));
        };
        let all: Vec<&str> = subscriptions.iter().map(Ident::as_str).collect();
        let key = match all.as_slice() {
            [only] if is_plain(only) && only.len() <= LONGEST => (*only).to_owned(),
            all => format!("{}_{}", readable(first.as_str()), hash(all)),
        };
        let place = hash(&[&[database], all.as_slice()].concat());
        let named = |text: String| Ident::new(text).map_err(|error| Error::new(error.to_string()));
        Ok(Self {
            fence: Fence::new(&key).map_err(|error| Error::new(error.to_string()))?,
            back: named(format!("{BACK}{key}"))?,
            slot: named(format!("{BACK}{key}_{place}"))?,
        })
    }
}

/// Whether a text has only characters that a slot's name may have.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The readable part of a name within another one, with room for a hash.
fn readable(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(plain).take(LONGEST - 9).collect()
}

/// Eight digits that make a name unique.
fn hash(parts: &[&str]) -> String {
    let digest = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(subscriptions: &[&str], database: &str) -> Names {
        Names::of(&subscriptions.iter().map(|name| Ident::new(*name).unwrap()).collect(), database).unwrap()
    }

    #[test]
    fn names_can_be_read_and_fit() {
        let shop = names(&["shop"], "shop");
        assert_eq!(shop.fence.function.to_text(), "neonrepl.fence_shop");
        assert_eq!(shop.back.as_str(), "neonrepl_back_shop");
        assert!(is_way_back(&shop.back) && !is_way_back(&Ident::new("shop").unwrap()));
        assert!(shop.slot.as_str().starts_with("neonrepl_back_shop_"), "{}", shop.slot.as_str());
        let long = "ÄÖ'\"; ".repeat(7);
        for odd in [&["Shop"][..], &["a", "b"], &["a_b"], &[&long], &[&"x".repeat(63)]] {
            let odd = names(odd, "shop");
            crate::postgres::slot::check_name(odd.slot.as_str()).unwrap();
            assert!(odd.back.as_str().len() <= 63 && odd.fence.trigger.as_str().len() <= 63);
        }
        assert!(Names::of(&BTreeSet::new(), "shop").is_err());
    }

    #[test]
    fn others_have_other_names() {
        let all = [names(&["a_b"], "x"), names(&["a", "b"], "x"), names(&["A_b"], "x"), names(&["a_b", "c"], "x")];
        let backs: BTreeSet<_> = all.iter().map(|names| names.back.clone()).collect();
        assert_eq!(backs.len(), all.len());
        assert_ne!(names(&["shop"], "one").slot, names(&["shop"], "two").slot);
        assert_eq!(names(&["b", "a"], "x"), names(&["a", "b"], "x"));
    }
}
