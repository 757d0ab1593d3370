// SPDX-License-Identifier: MPL-2.0

//! Reads the state of a cutover on both servers.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{join_all, try_join, try_join3};

use super::current::{Current, Flow, SideNow, StreamNow};
use super::memory::Memory;
use super::names::Names;
use super::{Cutover, Forward, Writes};
use crate::postgres::fence::{self, Fence, Gate, Standing};
use crate::postgres::owned::Owned;
use crate::postgres::read_only::{self, ReadOnly};
use crate::postgres::slot::{self, Home, Position};
use crate::postgres::subscription::{self, Subscription, SyncState};
use crate::postgres::{Database, Ident, QualifiedName, ServerVersion, publication};
use crate::replication::error::Result;
use crate::replication::{Pair, Place};

/// The beginning of the comment of each object that the provider created.
pub(super) const OURS: &str = "terraform-provider-neonrepl: ";

/// The state of both servers.
pub(super) struct Facts {
    pub(super) names: Names,
    pub(super) publisher: Side,
    pub(super) subscriber: Side,
    /// The subscriptions that exist.
    pub(super) forward: BTreeMap<Ident, Stream>,
    /// The subscriptions that do not exist.
    pub(super) missing: BTreeSet<Ident>,
    /// The subscription with the name of the one that brings changes back.
    pub(super) backward: Option<Stream>,
    /// Whether the provider created the publication of that name; none if there is no such publication.
    pub(super) publication: Option<bool>,
    /// The tables, by their names on the subscriber.
    pub(super) tables: BTreeSet<QualifiedName>,
}

/// One side.
pub(super) struct Side {
    pub(super) place: Place,
    pub(super) database: Database,
    pub(super) version: ServerVersion,
    pub(super) standing: Standing,
    pub(super) memory: Memory,
    pub(super) read_only: ReadOnly,
    /// Its server and database, as recorded on the other side.
    pub(super) identity: Option<String>,
}

/// A subscription.
pub(super) struct Stream {
    pub(super) subscription: Subscription,
    pub(super) tables: BTreeMap<QualifiedName, SyncState>,
    /// Whether the provider created it; used only for the way back.
    pub(super) is_ours: bool,
    /// The slot that it has, or had before it was stopped.
    pub(super) slot: Ident,
    /// The slot's position at the other end; none if it does not exist.
    pub(super) position: Option<Position>,
}

impl Facts {
    pub(super) async fn read(pair: &Pair, cutover: &Cutover) -> Result<Self> {
        let names = names(pair, cutover)?;
        let forward = Box::pin(forward(pair, &cutover.subscriptions));
        let (mut forward, backward, ours) =
            try_join3(forward, Box::pin(backward(pair, &names)), is_our_publication(pair, &names)).await?;
        let tables = match (forward.is_empty(), &backward) {
            (true, Some(back)) => back.tables.keys().cloned().collect(),
            _ => forward.values().flat_map(|stream| stream.tables.keys().cloned()).collect(),
        };
        let sides = try_join(
            Box::pin(Side::read(&pair.publisher, Place::Publisher, &names.fence, &tables)),
            Box::pin(Side::read(&pair.subscriber, Place::Subscriber, &names.fence, &tables)),
        );
        let (publisher, subscriber) = sides.await?;
        for (name, stream) in &mut forward {
            stream.remember(subscriber.memory.stopped.get(name));
        }
        place_slots(pair, forward.values_mut()).await?;
        let missing = cutover.subscriptions.iter().filter(|name| !forward.contains_key(*name)).cloned().collect();
        Ok(Self { names, publisher, subscriber, forward, missing, backward, publication: ours, tables })
    }

    pub(super) fn side(&self, place: Place) -> &Side {
        if place == Place::Subscriber { &self.subscriber } else { &self.publisher }
    }

    /// The subscriptions that bring changes to a side.
    pub(super) fn streams_to(&self, place: Place) -> Vec<&Stream> {
        match place {
            Place::Subscriber => self.forward.values().collect(),
            _ => self.backward.iter().filter(|back| back.is_ours).collect(),
        }
    }

    /// The facts that decisions follow from.
    pub(super) fn current(&self, cutover: &Cutover) -> Current {
        let forward = StreamNow {
            has_slot: cutover.terms.forward == Forward::Drop && self.forward.values().any(|one| self.is_left_over(one)),
            ..self.stream_now(Place::Subscriber, !self.missing.is_empty())
        };
        let backward = self.stream_now(Place::Publisher, self.streams_to(Place::Publisher).is_empty());
        let now = Current { publisher: self.publisher.now(), subscriber: self.subscriber.now(), forward, backward };
        let active = now.active();
        let mut now = Current {
            backward: StreamNow {
                has_slot: self.backward.as_ref().is_some_and(|back| !back.subscription.enabled && back.has_slot()),
                fits: self.backward_fits(),
                reconnects: cutover.way_back.as_ref().is_some_and(|way| way.resend),
                ..now.backward
            },
            ..now
        };
        let is_active = |place| active == super::Active::Side(place);
        let needs = |place| match is_active(place) {
            true => cutover.terms.writes == Writes::Fence,
            false => cutover.desired.guard,
        };
        let message = &cutover.terms.message;
        let says_other = |side: &Side| side.memory.left.as_ref().is_some_and(|left| left.message != *message);
        now.publisher.says_other = says_other(&self.publisher) && now.is_left_last(Place::Publisher);
        now.subscriber.says_other = says_other(&self.subscriber) && now.is_left_last(Place::Subscriber);
        now.publisher.uncovered *= usize::from(needs(Place::Publisher));
        now.subscriber.uncovered *= usize::from(needs(Place::Subscriber));
        now
    }

    fn stream_now(&self, to: Place, is_missing: bool) -> StreamNow {
        let streams = self.streams_to(to);
        let running = streams.iter().filter(|stream| stream.subscription.enabled).count();
        let flow = match (is_missing, running) {
            (true, 0) => Flow::Missing,
            (true, _) => Flow::Partly,
            (false, 0) => Flow::Disabled,
            (false, some) if some == streams.len() => Flow::Enabled,
            (false, _) => Flow::Partly,
        };
        let is_hastened = !self.side(to).memory.hastened.is_empty();
        StreamNow { flow, has_slot: false, is_hastened, fits: true, reconnects: false }
    }

    /// Whether the slot of a subscription that the cutover stopped still exists.
    fn is_left_over(&self, stream: &Stream) -> bool {
        let was_stopped = self.subscriber.memory.stopped.contains_key(&stream.subscription.name);
        was_stopped && !stream.subscription.enabled && stream.has_slot()
    }

    /// Whether the way back has the same tables.
    fn backward_fits(&self) -> bool {
        let brought = |back: &Stream| back.tables.keys().eq(self.tables.iter());
        self.backward.as_ref().is_some_and(|back| back.is_ours && brought(back) && self.publication == Some(true))
    }
}

impl Side {
    async fn read(db: &Database, place: Place, fence: &Fence, tables: &BTreeSet<QualifiedName>) -> Result<Self> {
        let (standing, read_only, version) =
            try_join3(fence::standing(db, fence, tables), read_only::read_only(db), db.version()).await?;
        // Some services do not let users read it.
        let system = subscription::system_identifier(db).await.ok();
        let identity = system.map(|system| format!("{system}/{}", db.name()));
        let memory = Memory::read(standing.comment.as_deref());
        Ok(Self { place, database: db.clone(), version, standing, memory, read_only, identity })
    }

    fn now(&self) -> SideNow {
        SideNow {
            gate: self.standing.gate,
            uncovered: self.standing.uncovered().count(),
            left_by: self.memory.left_by(),
            says_other: false,
        }
    }

    /// Whether its fence was created for another pair of databases.
    pub(super) fn is_of_others(&self, neighbour: &Self) -> bool {
        let known = self.memory.other.as_ref().zip(neighbour.identity.as_ref());
        self.standing.gate != Gate::Missing && known.is_some_and(|(remembered, now)| remembered != now)
    }
}

impl Stream {
    async fn read(db: &Database, subscription: Subscription) -> Result<Self> {
        let tables = subscription::tables(db, &subscription.name).await?.into_iter().collect();
        let slot = subscription.slot_name().unwrap_or(&subscription.name).clone();
        Ok(Self { subscription, tables, is_ours: true, slot, position: None })
    }

    /// Uses the slot that it had before it was stopped, if it has none.
    fn remember(&mut self, stopped: Option<&Ident>) {
        if let (None, Some(slot)) = (self.subscription.slot_name(), stopped) {
            self.slot = slot.clone();
        }
    }

    /// Whether its slot exists, with no reader.
    fn has_slot(&self) -> bool {
        self.position.as_ref().is_some_and(|position| !position.active)
    }
}

pub(super) fn names(pair: &Pair, cutover: &Cutover) -> Result<Names> {
    Names::of(&cutover.subscriptions, pair.subscriber.name())
}

async fn forward(pair: &Pair, names: &BTreeSet<Ident>) -> Result<BTreeMap<Ident, Stream>> {
    let all = subscription::fetch_all_now(&pair.subscriber).await?;
    let meant = all.into_iter().filter(|(name, _)| names.contains(name));
    let read =
        join_all(meant.map(|(name, found)| async move {
            Stream::read(&pair.subscriber, found).await.map(|stream| (name, stream))
        }));
    read.await.into_iter().collect()
}

pub(super) async fn backward(pair: &Pair, names: &Names) -> Result<Option<Stream>> {
    let Some(found) = subscription::fetch_now(&pair.publisher, &names.back).await? else { return Ok(None) };
    let comment = Owned::Subscription(&names.back).comment(&pair.publisher).await?;
    let stream = Stream::read(&pair.publisher, found).await?;
    let is_ours = comment.is_some_and(|comment| comment.starts_with(OURS));
    let mut stream = Stream { is_ours, slot: names.slot.clone(), ..stream };
    stream.position = slot_at(&pair.subscriber, &names.slot).await?;
    Ok(Some(stream))
}

async fn is_our_publication(pair: &Pair, names: &Names) -> Result<Option<bool>> {
    if publication::fetch_now(&pair.subscriber, &names.back).await?.is_none() {
        return Ok(None);
    }
    let comment = Owned::Publication(&names.back).comment(&pair.subscriber).await?;
    Ok(Some(comment.is_some_and(|comment| comment.starts_with(OURS))))
}

/// A slot of this database.
async fn slot_at(db: &Database, name: &Ident) -> Result<Option<Position>> {
    let found = slot::positions(db, &[name.clone()].into()).await?.remove(name);
    Ok(found.filter(|position| is_of(position, db)))
}

fn is_of(position: &Position, db: &Database) -> bool {
    position.home == Home::Database(db.name().to_owned())
}

async fn place_slots(pair: &Pair, streams: impl Iterator<Item = &mut Stream>) -> Result<()> {
    let streams: Vec<_> = streams.collect();
    let names = streams.iter().map(|stream| stream.slot.clone()).collect();
    let mut positions = slot::positions(&pair.publisher, &names).await?;
    for stream in streams {
        stream.position = positions.remove(&stream.slot).filter(|position| is_of(position, &pair.publisher));
    }
    Ok(())
}
