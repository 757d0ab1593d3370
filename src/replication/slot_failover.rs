// SPDX-License-Identifier: MPL-2.0

//! Changes `failover` of an existing slot, which keeps its position.
//!
//! A subscription has the option too and passes it on to its slot. If the slot belongs to a subscription of the subscriber, the
//! subscription is altered, so that both stay the same. Any other slot is altered over a connection in replication mode, while nothing
//! reads from it.

use super::checks::Objection;
use super::error::{Error, Result};
use super::operation::Operation;
use super::slot_use::{self, Subscriber, Users};
use crate::postgres::slot::{self, Namer, Reads};
use crate::postgres::subscription::{self, How, Options, Subscription};
use crate::postgres::{Database, Ident, version};

/// How to change the option of a slot.
#[derive(Debug, PartialEq, Eq)]
enum Way<'a> {
    /// By this subscription, which is disabled for a moment.
    Subscription(&'a Namer),
    /// By itself.
    Slot,
    /// Not while this one reads from it: a subscription of the provider's subscriber, or an unknown reader.
    Busy(Option<&'a Namer>),
}

fn way(users: &Users) -> Way<'_> {
    let active = users.usage.as_ref().is_some_and(|usage| usage.active);
    let own = users.namers.iter().find(|(_, reads)| *reads == Reads::Surely).map(|(namer, _)| namer);
    let passes_on = users.subscriber.is_some_and(|version| version.has(version::FAILOVER));
    match own {
        Some(namer) if passes_on => Way::Subscription(namer),
        own if active => Way::Busy(own),
        _ => Way::Slot,
    }
}

/// The error about a slot with a reader.
fn busy(doing: &str, users: &Users, own: Option<&Namer>) -> Error {
    let reader = users.usage.as_ref().and_then(|usage| usage.reader.as_deref());
    let reader = reader.map(|reader| format!(" by a reader that calls itself {reader:?}"));
    let error = Error::new(format!(
        "{doing}: it is read from{}, and only an idle slot can be changed",
        reader.unwrap_or_default()
    ));
    let remedy = match own {
        Some(Namer { database, name, .. }) => format!(
            "Its subscriber is older than Postgres 17 and cannot pass the option on. In database {database:?} there, run ALTER \
             SUBSCRIPTION {name} DISABLE; apply again; then run ALTER SUBSCRIPTION {name} ENABLE."
        ),
        None => "If it is a subscription on Postgres 17 or newer, run on its server ALTER SUBSCRIPTION … DISABLE; \
                 ALTER SUBSCRIPTION … SET (failover = true or false, as wanted here); ALTER SUBSCRIPTION … ENABLE. \
                 Otherwise stop the reader while this is applied."
            .to_owned(),
    };
    error.detail(remedy).about("failover")
}

/// The objection to changing the option, if any.
///
/// # Errors
/// When a query fails.
pub async fn outlook(publisher: &Database, subscriber: Subscriber<'_>, name: &Ident) -> Result<Option<Objection>> {
    let users = slot_use::users(publisher, subscriber, name).await?;
    Ok(match way(&users) {
        Way::Slot => None,
        Way::Busy(own) => {
            Some(Objection::Refusal(busy(&format!("changing failover of replication slot {name}"), &users, own)))
        }
        Way::Subscription(Namer { database, name: own, .. }) => Some(Objection::Warning(
            Error::new(format!("subscription {own} of database {database:?} is disabled for a moment"))
                .detail("Its failover is set to that of its slot, and it goes on where it stopped.")
                .about("failover"),
        )),
    })
}

/// Changes the option.
///
/// # Errors
/// When something reads from the slot, or a server refuses it.
pub async fn change(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Subscriber<'_>,
    name: &Ident,
    failover: bool,
) -> Result<()> {
    let users = operation.unless_stopped(slot_use::users(publisher, subscriber, name)).await?;
    let (doing, limits) = (operation.doing(), operation.limits());
    match (way(&users), subscriber) {
        (Way::Busy(own), _) => Err(busy(doing, &users, own)),
        (Way::Subscription(namer), Subscriber::At(server)) => {
            by_subscription(operation, &server.database(Some(&namer.database)), &namer.name, failover).await
        }
        _ => slot::set_failover(publisher, doing, name, failover, limits).await.map_err(|error| {
            let role = &publisher.config().username;
            let remedy = format!(
                "This needs a replication connection: role {role} must have REPLICATION (on RDS and Aurora, GRANT \
                 rds_replication), and nothing may read from the slot in the meantime."
            );
            Error::from(error).detail(remedy)
        }),
    }
}

/// Changes it by the subscription, even if the subscription's own option does not differ.
async fn by_subscription(operation: &Operation<'_>, subscriber: &Database, name: &Ident, failover: bool) -> Result<()> {
    let Some(found) = operation.unless_stopped(subscription::fetch_now(subscriber, name)).await? else {
        return Ok(());
    };
    let with = |failover: bool| Subscription {
        connection: None,
        options: Options { failover: Some(failover), ..found.options.clone() },
        ..found.clone()
    };
    let (doing, version) = (operation.doing(), subscriber.version().await?);
    let statements = subscription::diff(Some(&with(!failover)), Some(&with(failover)), &How::default(), version)
        .map_err(|unsupported| subscriber.unsupported(doing, unsupported))?;
    subscription::apply(subscriber, doing, &statements, name, operation.limits()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::ServerVersion;
    use crate::postgres::slot::Usage;

    fn check(active: bool, reads: &[Reads], subscriber: u32, expected: fn(&Way<'_>) -> bool) {
        let name = Ident::new("reader").unwrap();
        let namer = Namer { database: "d".to_owned(), name, enabled: true, connection: None, receives: false };
        let namers = reads.iter().map(|reads| (namer.clone(), *reads)).collect();
        let users = Users::of(Usage { active, ..Usage::default() }, namers, ServerVersion::major_only(subscriber));
        assert!(expected(&way(&users)), "{:?}", way(&users));
    }

    #[test]
    fn who_reads_from_a_slot_says_how_it_is_changed() {
        check(false, &[], 17, |way| *way == Way::Slot);
        check(true, &[], 17, |way| *way == Way::Busy(None));
        check(true, &[Reads::Surely], 17, |way| matches!(way, Way::Subscription(_)));
        check(false, &[Reads::Perhaps, Reads::Surely], 18, |way| matches!(way, Way::Subscription(_)));
        check(true, &[Reads::Surely], 16, |way| matches!(way, Way::Busy(Some(_))));
        check(false, &[Reads::Surely], 16, |way| *way == Way::Slot);
        check(true, &[Reads::Perhaps], 17, |way| *way == Way::Busy(None));
        check(false, &[Reads::Perhaps], 17, |way| *way == Way::Slot);
    }
}
