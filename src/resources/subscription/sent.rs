// SPDX-License-Identifier: MPL-2.0

//! Further private state of a subscription: whether it was taken over, and the proof of where its publisher is.

use serde_json::Value as Json;

use crate::replication::whereabouts::Proof;
use crate::resources::reaching;
use crate::tf_provider::call::Private;

/// The key that says: the subscription was taken over, and its connection was read.
const TAKEN_OVER: &str = "taken_over";
/// The key of the proof of where the publisher is.
const PROOF: &str = "publisher_proof";

/// Whether the connection was neither set by the provider nor read yet: the subscription was imported or moved.
pub(super) fn is_to_be_taken_over(private: &Private) -> bool {
    reaching::sent(private).is_none() && private.get(TAKEN_OVER).is_none()
}

/// Records that the connection was read.
pub(super) fn take_over(private: &Private) {
    private.set(TAKEN_OVER, true.into());
}

/// The proof of where the publisher is.
pub(super) fn proof(private: &Private) -> Option<Proof> {
    let kept = private.get(PROOF)?;
    let text = |key: &str| kept.get(key)?.as_str().map(str::to_owned);
    Some(Proof { named: text("named")?, configured: text("configured")?, system: text("system")? })
}

/// Records the proof.
pub(super) fn remember_proof(private: &Private, proof: &Proof) {
    let kept = [("named", &proof.named), ("configured", &proof.configured), ("system", &proof.system)];
    private.set(
        PROOF,
        Json::Object(kept.map(|(key, text)| (key.to_owned(), Json::from(text.as_str()))).into_iter().collect()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_kept() {
        let private = Private::default();
        let kept = Proof { named: "a  5432".to_owned(), configured: "b:5432".to_owned(), system: "7".to_owned() };
        remember_proof(&private, &kept);
        assert_eq!(proof(&Private::from_bytes(&private.to_bytes())), Some(kept));
    }
}
