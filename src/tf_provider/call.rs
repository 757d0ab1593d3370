// SPDX-License-Identifier: MPL-2.0

//! The environment of an operation: the provider's context, cancellation, private state, warnings.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::convert::Model;
use super::diagnostics::{Diagnostics, Error, Result};
use super::value::Value;

/// Passed to every verb of a resource or data source.
pub struct Call<C> {
    context: Arc<C>,
    stop: CancellationToken,
    private: Private,
    diagnostics: Arc<Mutex<Diagnostics>>,
}

impl<C> Clone for Call<C> {
    fn clone(&self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            stop: self.stop.clone(),
            private: self.private.clone(),
            diagnostics: Arc::clone(&self.diagnostics),
        }
    }
}

impl<C> Call<C> {
    /// A call with the object's private state.
    pub fn new(context: Arc<C>, stop: CancellationToken, private: Private) -> Self {
        Self { context, stop, private, diagnostics: Arc::default() }
    }

    /// The result of the provider's configuration.
    pub fn context(&self) -> &C {
        &self.context
    }

    /// Cancelled once a person has asked to stop, and stays so. Waits should watch it.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Fails once a person has asked to stop; called before a step that should not begin then.
    ///
    /// # Errors
    /// When the operation was cancelled.
    pub fn go_on(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }

    /// Does work that may be abandoned at any moment, such as connecting and reading, and abandons it once a
    /// person has asked to stop.
    ///
    /// # Errors
    /// The error of the work, or that the operation was cancelled.
    pub async fn unless_stopped<T, E: Into<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T> {
        tokio::select! {
            biased;
            result = work => result.map_err(Into::into),
            () = self.stop.cancelled() => Err(cancelled()),
        }
    }

    /// The object's private state.
    pub fn private(&self) -> &Private {
        &self.private
    }

    /// Warns of something that a person can act on; the operation continues.
    pub fn warn(&self, warning: Error) {
        lock(&self.diagnostics).warning(warning);
    }

    /// Takes all diagnostics so far, followed by the error that ended the call.
    pub fn failed(&self, error: Error) -> Diagnostics {
        let mut diagnostics = self.take_diagnostics();
        diagnostics.error(error);
        diagnostics
    }

    /// Takes all diagnostics so far.
    pub fn take_diagnostics(&self) -> Diagnostics {
        std::mem::take(&mut lock(&self.diagnostics))
    }
}

fn cancelled() -> Error {
    Error::new("the operation was cancelled")
}

/// Private data that a provider stores with an object's state, hidden from configurations: JSON by key.
#[derive(Clone, Default)]
pub struct Private(Arc<Mutex<BTreeMap<String, Json>>>);

impl Private {
    /// Reads stored bytes. Anything that [`Private::to_bytes`] did not write counts as empty.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let entries = serde_json::from_slice::<serde_json::Map<String, Json>>(bytes).unwrap_or_default();
        Self(Arc::new(Mutex::new(entries.into_iter().collect())))
    }

    /// The bytes to store; empty without entries.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = lock(&self.0);
        if entries.is_empty() {
            return Vec::new();
        }
        Json::Object(entries.clone().into_iter().collect()).to_string().into_bytes()
    }

    /// The entry of that key.
    pub fn get(&self, key: &str) -> Option<Json> {
        lock(&self.0).get(key).cloned()
    }

    /// Sets an entry.
    pub fn set(&self, key: &str, value: Json) {
        lock(&self.0).insert(key.to_owned(), value);
    }

    /// Removes an entry.
    pub fn remove(&self, key: &str) {
        lock(&self.0).remove(key);
    }
}

/// The object so far, while the verb still runs: recorded after each step that cannot be undone, so that the
/// state is true even if the rest fails, is cancelled or panics.
pub struct Saved<M> {
    value: SavedValue,
    model: PhantomData<fn(M)>,
}

/// The type-erased form of [`Saved`], which the server reads when the verb has ended.
pub type SavedValue = Arc<Mutex<Option<Value>>>;

impl<M: Model> Saved<M> {
    /// Writes to this place.
    pub fn new(value: SavedValue) -> Self {
        Self { value, model: PhantomData }
    }

    /// Records the object as it is now.
    pub fn record(&self, model: &M) {
        *lock(&self.value) = Some(model.clone().to_value());
    }

    /// Records that the object is gone.
    pub fn record_gone(&self) {
        *lock(&self.value) = Some(Value::Null);
    }
}

/// A poisoned lock means that its holder panicked; its value is still complete, because holders only
/// replace values.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_state_goes_round() {
        let private = Private::default();
        assert!(private.to_bytes().is_empty());
        private.set("previous", Json::from("default.aurora-postgresql16"));
        let read = Private::from_bytes(&private.to_bytes());
        assert_eq!(read.get("previous"), Some(Json::from("default.aurora-postgresql16")));
        assert_eq!(Private::from_bytes(b"\xff not json").get("previous"), None);
    }

    #[test]
    fn a_cancelled_call_does_not_go_on() {
        let call = Call::new(Arc::new(()), CancellationToken::new(), Private::default());
        assert!(call.go_on().is_ok());
        call.stop().cancel();
        assert!(call.go_on().is_err());
    }

    #[tokio::test]
    async fn waiting_ends_when_a_person_asks_to_stop() {
        let call = Call::new(Arc::new(()), CancellationToken::new(), Private::default());
        call.stop().cancel();
        let waits = call.unless_stopped(std::future::pending::<Result<()>>());
        assert_eq!(waits.await.unwrap_err().to_string(), "the operation was cancelled");
        // A result that is already there is not thrown away.
        assert_eq!(call.unless_stopped(std::future::ready(Ok::<_, Error>(7))).await, Ok(7));
    }

    #[test]
    fn a_failure_keeps_the_warnings_before_it() {
        let call = Call::new(Arc::new(()), CancellationToken::new(), Private::default());
        call.warn(Error::new("mind this"));
        let said: Vec<_> = call.failed(Error::new("no")).into_iter().map(|diagnostic| diagnostic.summary).collect();
        assert_eq!(said, ["mind this", "no"]);
    }
}
