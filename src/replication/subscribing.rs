//! Creating a subscription with its slot.

use super::Pair;
use crate::postgres::slot::{self, Slot};
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{Cause, Conninfo, Database, Error, Ident, Limits, Notice, Result, SqlState, look_again};

/// Creates a subscription, as [`subscription::apply`] runs the statements of [`subscription::diff`], and leaves no slot
/// behind where that fails.
///
/// The slot is made first, over a connection to the publisher, and adopted. `CREATE SUBSCRIPTION` makes it within its own
/// transaction, which would wait for itself for ever where publisher and subscriber are one server, and for another one
/// that is made in the opposite direction. A publisher that cannot be reached from here, or does not let us, is left to
/// the subscriber.
pub async fn create(
    subscriber: &Database,
    publisher: Option<&Database>,
    doing: &str,
    desired: &Subscription,
    how: &How,
    limits: &Limits,
) -> Result<(Vec<Notice>, Option<Subscription>)> {
    let version = subscriber.version().await?;
    let unsupported = |error| subscriber.unsupported(doing, error);
    desired.options.check_supported(version).map_err(unsupported)?;
    let slot = prepare_slot(subscriber, publisher, doing, desired, how, limits).await?;
    let create_slot = how.create_slot && !slot.is_adopted;
    let statements =
        subscription::diff(None, Some(desired), &How { create_slot, ..how.clone() }, version).map_err(unsupported)?;
    let error = match subscription::apply(subscriber, doing, &statements, &desired.name, limits).await {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    match look_again(limits, || subscription::fetch_now(subscriber, &desired.name)).await {
        Some(None) => Err(slot.undo(doing, error, limits).await),
        Some(Some(found)) if error.is_lost() => {
            // It was made; what else there is to do is done now.
            let left =
                subscription::diff(Some(&found), Some(desired), &How::default(), version).map_err(unsupported)?;
            subscription::apply(subscriber, doing, &left, &desired.name, limits).await
        }
        Some(Some(_)) => Err(error),
        None => Err(slot.note(error)),
    }
}

/// The slot on the publisher, as far as creating a subscription has to care for it.
#[derive(Default)]
struct PreparedSlot<'a> {
    /// Whether it was made already, for `CREATE SUBSCRIPTION` to adopt.
    is_adopted: bool,
    /// The slot to remove, and where, should the subscription not come to be.
    ours: Option<(&'a Database, &'a Ident)>,
}

async fn prepare_slot<'a>(
    subscriber: &Database,
    publisher: Option<&'a Database>,
    doing: &str,
    desired: &'a Subscription,
    how: &How,
    limits: &Limits,
) -> Result<PreparedSlot<'a>> {
    let makes_slot = how.connect && how.create_slot;
    let (Some(publisher), Some(slot), true) = (publisher, desired.slot_name(), makes_slot) else {
        return Ok(PreparedSlot::default());
    };
    let existing = match slot::fetch_settled(publisher, doing, slot, limits).await {
        Ok(existing) => existing,
        Err(error) if error.is_connect() || error.code().is_some() => {
            tracing::info!(cause = %error, "the publisher cannot be asked from here; the subscriber may reach it");
            return Ok(PreparedSlot::default());
        }
        Err(error) => return Err(error),
    };
    let pair = Pair { publisher: publisher.clone(), subscriber: subscriber.clone() };
    let is_one_cluster = pair.is_one_cluster().await?;
    let taken = || {
        let taken = format!("replication slot {slot} is another subscription's; give this one a slot_name of its own");
        subscriber.error(doing, Cause::Unexpected(taken))
    };
    match existing {
        Some(existing) if is_one_cluster => {
            let is_taken = existing.active || subscription::is_slot_taken(subscriber, slot).await?;
            return if is_taken { Err(taken()) } else { Ok(PreparedSlot { is_adopted: true, ours: None }) };
        }
        // Whose it is cannot be known from here.
        Some(_) => return Ok(PreparedSlot::default()),
        None if is_one_cluster || leads_to(desired.connection.as_ref(), publisher) => {}
        None => return Ok(PreparedSlot { is_adopted: false, ours: Some((publisher, slot)) }),
    }
    let wanted = Slot { failover: desired.options.failover == Some(true), ..Slot::new(slot.clone()) };
    match slot::ensure(publisher, doing, &wanted, limits).await {
        Ok(true) => Ok(PreparedSlot { is_adopted: true, ours: Some((publisher, slot)) }),
        // Somebody else has just made it, for a subscription of their own.
        Ok(false) => Err(taken()),
        // The subscriber connects as another role, which may be allowed to.
        Err(error) if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) && !is_one_cluster => {
            tracing::info!(cause = %error, "the slot is left to the subscriber to make");
            Ok(PreparedSlot { is_adopted: false, ours: Some((publisher, slot)) })
        }
        Err(error) => Err(error),
    }
}

/// Whether the subscriber is told to go where our own connection goes. Elsewhere there may be another server.
fn leads_to(connection: Option<&Conninfo>, publisher: &Database) -> bool {
    let address = connection.and_then(|connection| connection.tcp_address().ok());
    address == Some((publisher.config().host.as_str(), publisher.config().port))
}

impl PreparedSlot<'_> {
    /// Removes a slot that nobody will read from: it would keep the publisher's WAL for ever.
    async fn undo(&self, doing: &str, error: Error, limits: &Limits) -> Error {
        let Some((publisher, slot)) = self.ours else { return error };
        let removed = match look_again(limits, || slot::fetch_now(publisher, slot)).await {
            Some(Some(found)) if !found.active => publisher.run(doing, &[slot::drop_slot(slot)]).await.is_ok(),
            found => found.is_some(),
        };
        if removed { error } else { self.note(error) }
    }

    /// Says that the slot may be there.
    fn note(&self, error: Error) -> Error {
        match self.ours {
            Some((_, slot)) => error.noting(format!(
                "Replication slot {slot} may be left on the publisher and keeps its WAL there; {} removes it.",
                slot::drop_slot(slot)
            )),
            None => error,
        }
    }
}
