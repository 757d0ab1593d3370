// SPDX-License-Identifier: MPL-2.0

//! Checks whether a slot of a name can be created, and whether an existing one can be used.

use super::{Creation, NewSlot, NotMade};
use crate::postgres::slot::{self, Slot, Standing, Unusable};
use crate::postgres::subscription::{Neighbour, neighbours};
use crate::postgres::{Database, Ident};
use crate::replication::checks::Objection;
use crate::replication::slot_taking::{self, SlotTaking};
use crate::replication::{Error, Result, names};

impl<'a> Creation<'a> {
    /// The slot to create, if the publisher can be queried and has none of that name; `None` if the subscriber must
    /// create it.
    pub(super) async fn find_room(&self, name: &Ident) -> Result<Option<NewSlot<'a>>, NotMade> {
        let Some(publisher) = self.publisher else { return Ok(None) };
        let slot = Slot { failover: self.desired.options.failover == Some(true), ..Slot::new(name.clone()) };
        match self.settled(publisher, name).await? {
            Seen::Nothing => {}
            Seen::Slot(_) => return Err(self.taken(publisher, name).await.into()),
            Seen::NotAsked(cause) => {
                tracing::info!(%cause, "the publisher cannot be asked from here; the subscriber may reach it");
                return Ok(None);
            }
        }
        let version = publisher.version().await?;
        slot.check_supported(version)
            .map_err(|unsupported| publisher.unsupported(self.operation.doing(), unsupported))?;
        Ok(Some((publisher, slot)))
    }

    /// The error about an existing slot of the name, with what is known about its owner.
    pub(super) async fn taken(&self, publisher: &Database, name: &Ident) -> Error {
        let address = publisher.config().address();
        let standing = slot::standing(publisher, name).await.ok().flatten();
        let neighbours = neighbours(self.subscriber, name, self.name()).await.unwrap_or_default();
        let whose =
            standing.as_ref().and_then(|standing| standing.unusable(publisher.name())).map(|why| why.to_string());
        let whose = whose.unwrap_or_else(|| {
            "no reader is connected to it, but a subscription that uses it may be paused".to_owned()
        });
        self.operation
            .error(format!("replication slot {name} already exists on {address}"))
            .detail(format!("A slot is not used only because of its name: {whose}.{}", also_named_by(&neighbours)))
            .detail(
                "If it belongs to something else, set slot_name to another name. To let this subscription go on \
                 from it, set create_slot = false.",
            )
            .detail(format!(
                "If it is no longer needed, run in database {:?} on {address}: {}",
                publisher.name(),
                slot::drop_slot(name)
            ))
            .about("slot_name")
    }

    /// The plan's objection about the slot. Another resource may create it before this is applied (`is_intended`).
    pub(super) async fn foresee_slot(&self, is_intended: bool) -> Result<Option<Objection>> {
        let (Some(name), Some(publisher), true) = (self.desired.slot_name(), self.publisher, self.how.connect) else {
            return Ok(None);
        };
        let neighbours = neighbours(self.subscriber, name, self.name()).await?;
        // Another check reports a publisher that cannot be queried.
        let Ok(seen) = slot::standing(publisher, name).await else { return Ok(None) };
        Ok(match (seen, self.how.create_slot) {
            (Some(_), true) if neighbours.is_empty() => Some(Objection::Refusal(self.taken(publisher, name).await)),
            // The slot of a subscription that is replaced may be gone by then.
            (Some(_), true) => Some(Objection::Warning(self.taken(publisher, name).await)),
            (None, true) => is_intended.then(|| Objection::Refusal(self.made_twice(name))),
            (None, false) if is_intended => None,
            (None, false) => Some(Objection::Warning(self.no_slot(publisher, name))),
            (Some(standing), false) => self.foresee_use(name, publisher, &standing, &neighbours),
        })
    }

    fn foresee_use(
        &self,
        name: &Ident,
        publisher: &Database,
        standing: &Standing,
        neighbours: &[Neighbour],
    ) -> Option<Objection> {
        match (standing.unusable(publisher.name()), neighbours.iter().find(|neighbour| !neighbour.streams)) {
            // Its reader may have released it by then.
            (Some(why @ Unusable::InUse(_)), _) => Some(Objection::Warning(self.unusable(name, &why, neighbours))),
            (Some(why), _) => Some(Objection::Refusal(self.unusable(name, &why, neighbours))),
            (None, Some(neighbour)) => Some(Objection::Warning(self.shared(name, neighbour))),
            (None, None) => None,
        }
    }

    fn made_twice(&self, name: &Ident) -> Error {
        self.operation
            .error(format!("replication slot {name} is created by another resource of this configuration"))
            .detail("To let the subscription use it, set create_slot = false; otherwise set another slot_name.")
            .about("create_slot")
    }

    /// Checks the existing slot that will be used, before anything is created.
    pub(super) async fn check_existing_slot(&self) -> Result<SlotSeen<'a>, NotMade> {
        let Some(name) = self.desired.slot_name().filter(|_| self.how.connect) else {
            return Ok(SlotSeen::Free(Vec::new()));
        };
        // The order matters: a subscription that was just streaming from this slot would still read from it.
        let neighbours = neighbours(self.subscriber, name, self.name()).await?;
        let Some(publisher) = self.publisher else {
            return Ok(SlotSeen::Unchecked(name, "The publisher cannot be reached from here.".to_owned()));
        };
        let standing = match self.settled(publisher, name).await? {
            Seen::Slot(standing) => Some(standing),
            Seen::Nothing => None,
            Seen::NotAsked(cause) => return Ok(SlotSeen::Unchecked(name, cause.to_string())),
        };
        self.check_free(name, publisher, standing, &neighbours).await?;
        Ok(SlotSeen::Free(neighbours))
    }

    /// Checks the existing slot that will be used, and again once nobody else can take it. Returns the subscriptions
    /// that read from slots of that name on other publishers, and the right to the slot if its server can be queried.
    pub(super) async fn take_existing_slot(&self) -> Result<(Vec<Neighbour>, Option<SlotTaking<'a>>), NotMade> {
        let SlotSeen::Free(readers) = self.check_existing_slot().await? else { return Ok((Vec::new(), None)) };
        let (Some(name), Some(publisher), true) = (self.desired.slot_name(), self.publisher, self.how.connect) else {
            return Ok((readers, None));
        };
        let mut taking = slot_taking::take(self.operation, publisher, name).await?;
        let neighbours = neighbours(self.subscriber, name, self.name()).await?;
        self.check_free(name, publisher, taking.standing().await?, &neighbours).await?;
        Ok((neighbours, Some(taking)))
    }

    async fn check_free(
        &self,
        name: &Ident,
        publisher: &Database,
        standing: Option<Standing>,
        seen: &[Neighbour],
    ) -> Result<()> {
        let Some(standing) = standing else {
            return Err(self.no_slot(publisher, name).detail("Nothing was changed."));
        };
        if let Some(why) = standing.unusable(publisher.name()) {
            // A subscription that has just taken it was not visible before.
            let now = neighbours(self.subscriber, name, self.name()).await?;
            return Err(self.unusable(name, &why, &now));
        }
        match seen.iter().find(|neighbour| !neighbour.streams) {
            Some(neighbour) => Err(self.shared(name, neighbour)),
            None => Ok(()),
        }
    }

    /// The slot once it is no longer being created.
    async fn settled(&self, publisher: &Database, name: &Ident) -> Result<Seen> {
        let standing = match slot::standing(publisher, name).await {
            Ok(Some(standing)) if !standing.ready => {
                slot::fetch_settled(publisher, self.operation.doing(), name, self.limits()).await?;
                slot::standing(publisher, name).await
            }
            standing => standing,
        };
        match standing {
            Ok(standing) => Ok(standing.map_or(Seen::Nothing, Seen::Slot)),
            Err(error) if error.is_connect() || error.code().is_some() => Ok(Seen::NotAsked(error.into())),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn unchecked(&self, name: &Ident, cause: &str) {
        let what = format!("it was not checked whether replication slot {name} exists and is free");
        self.operation.warn(self.operation.error(what).detail(cause).detail(
            "Without its slot the subscription replicates nothing, and if two share a slot, each misses the changes \
             that the other receives. Look at pg_replication_slots on the publisher.",
        ));
    }

    fn no_slot(&self, publisher: &Database, name: &Ident) -> Error {
        let mut wanted = Slot::new(name.clone());
        wanted.failover = self.desired.options.failover == Some(true);
        let (address, database) = (publisher.config().address(), publisher.name());
        let make = slot::by_hand(&wanted);
        self.operation
            .error(format!("there is no replication slot {name} on {address}, and create_slot = false"))
            .detail(format!(
                "Set create_slot = true, or create the slot first, in database {database:?} on \
                 {address}: {make}"
            ))
            .detail(
                "If this configuration creates it as a neonrepl_replication_slot, refer to its name, so that it \
                 comes first.",
            )
            .about("slot_name")
    }

    fn unusable(&self, name: &Ident, why: &Unusable, neighbours: &[Neighbour]) -> Error {
        self.operation
            .error(format!("replication slot {name} cannot be used: {why}"))
            .detail(format!("Nothing was changed.{}", also_named_by(neighbours)))
            .detail("Set slot_name to an unused slot, or set create_slot = true with a free name.")
            .about("slot_name")
    }

    pub(super) fn shared(&self, name: &Ident, neighbour: &Neighbour) -> Error {
        self.operation
            .error(format!("replication slot {name} is already taken: {neighbour} uses it"))
            .detail(
                "Nothing was changed. If two subscriptions share a slot, each misses the changes that the other \
                 receives.",
            )
            .detail(
                "Give this one its own slot_name. If the other one reads from another publisher, give one of the \
                 two slots another name.",
            )
            .about("slot_name")
    }
}

/// The result of a check of an existing slot that will be used.
pub(super) enum SlotSeen<'a> {
    /// It exists and nothing uses it; these subscriptions read from slots of that name on other publishers.
    Free(Vec<Neighbour>),
    /// Its server cannot be queried about this slot, for this reason.
    Unchecked(&'a Ident, String),
}

/// The result of reading a slot.
enum Seen {
    Nothing,
    Slot(Standing),
    /// The publisher cannot be queried from here, or refuses.
    NotAsked(Error),
}

/// A sentence about other subscriptions that use the slot; empty if there are none.
fn also_named_by(neighbours: &[Neighbour]) -> String {
    if neighbours.is_empty() {
        return String::new();
    }
    format!(
        " Other subscriptions on the subscriber use it: {}.",
        names::list(neighbours.iter().map(ToString::to_string))
    )
}
