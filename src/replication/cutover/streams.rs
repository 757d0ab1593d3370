// SPDX-License-Identifier: MPL-2.0

//! The subscription that brings changes back. It is created in advance and without a slot, so that the connection is
//! proven before writers wait.

use super::reading::{self, OURS};
use super::run::Run;
use crate::postgres::owned::Owned;
use crate::postgres::publication::{self, Publication, Target};
use crate::postgres::subscription::{self, How, Options, Origin, SlotName, Subscription, turning};
use crate::postgres::{SqlState, Statement, version};
use crate::replication::Place;
use crate::replication::error::{Error, Result};

impl Run<'_> {
    /// The publication of the new side.
    pub(super) fn back_publication(&self) -> Publication {
        let target = Target::tables(self.facts.tables.iter().cloned());
        Publication { via_partition_root: true, ..Publication::new(self.facts.names.back.clone(), target) }
    }

    /// The subscription on the old side.
    pub(super) fn back_subscription(&self) -> Option<Subscription> {
        let connection = self.cutover.way_back.as_ref()?.connection.clone();
        let name = &self.facts.names.back;
        // Without the origin filter it would send received changes back.
        let origin = self.facts.publisher.version.has(version::ORIGIN).then_some(Origin::None);
        Some(Subscription {
            enabled: false,
            slot: Some(SlotName::None),
            options: Options { origin, ..Options::default() },
            ..Subscription::new(name.clone(), connection, [name.clone()])
        })
    }

    /// Makes the publication and the subscription, which connects and looks for its tables.
    pub(super) async fn make_stream(&mut self) -> Result<()> {
        let Some(desired) = self.back_subscription() else {
            return Err(self
                .operation()
                .error("nothing says how the publisher reaches the subscriber")
                .about("reverse"));
        };
        self.make_publication().await?;
        let doing = "creating the subscription that will bring changes back";
        let made = subscription::diff(None, Some(&desired), &quietly(), self.facts.publisher.version)
            .map_err(|error| self.pair().publisher.unsupported(doing, error))?;
        let mark = Owned::Subscription(&desired.name).marking(&self.mark());
        let statements: Vec<_> = made.into_iter().chain([mark]).collect();
        self.pair().publisher.run_within(doing, &statements, self.limits()).await.map_err(|error| {
            Error::from(error).during(self.operation().doing()).about("reverse").detail(
                "The publisher's server connects to the subscriber as the `reverse` block says. It must be able to \
                 reach that address, and its role must be able to log in and to replicate.",
            )
        })?;
        self.facts.backward = reading::backward(self.pair(), &self.facts.names).await?;
        self.facts.publication = Some(true);
        self.prove_way_back().await
    }

    /// Whether the connection led to this subscriber: its new publication exists nowhere else.
    async fn prove_way_back(&mut self) -> Result<()> {
        let found = self.facts.backward.as_ref().map(|back| back.tables.keys().eq(self.facts.tables.iter()));
        if found == Some(true) {
            return Ok(());
        }
        self.drop_subscription().await?;
        self.facts.backward = None;
        let address = self.pair().subscriber.config().address();
        Err(self
            .operation()
            .error("the connection of the way back does not lead to the subscriber, or leads to another database there")
            .detail(format!(
                "The provider has just created publication {} in database {:?} on {address}, and the connection \
                 does not find it. Give `reverse` the host, port and database by which the publisher's server \
                 reaches that database.",
                self.facts.names.back,
                self.pair().subscriber.name(),
            ))
            .about("reverse"))
    }

    async fn make_publication(&self) -> Result<()> {
        let doing = "creating the publication of the way back";
        let desired = self.back_publication();
        let made = publication::diff(None, Some(&desired), self.facts.subscriber.version)
            .map_err(|error| self.pair().subscriber.unsupported(doing, error))?;
        // One that the provider created for other tables, or in an interrupted call.
        let old = (self.facts.publication == Some(true)).then(|| publication::drop_publication(&desired.name));
        let mark = Owned::Publication(&desired.name).marking(&self.mark());
        let statements: Vec<Statement> = old.into_iter().chain(made).chain([mark]).collect();
        self.pair().subscriber.run_within(doing, &statements, self.limits()).await?;
        Ok(())
    }

    /// The comment that marks an object as created by the provider.
    fn mark(&self) -> String {
        let names: Vec<_> = self.cutover.subscriptions.iter().map(ToString::to_string).collect();
        format!("{OURS}brings changes back of subscription {}", names.join(", "))
    }

    /// Drops the subscription with its slot and its publication.
    pub(super) async fn remove_stream(&mut self) -> Result<()> {
        if self.facts.streams_to(Place::Publisher).is_empty() {
            return self.remove_publication().await;
        }
        if self.facts.streams_to(Place::Publisher).iter().any(|stream| stream.subscription.enabled) {
            self.stop(Place::Publisher).await?;
        }
        self.drop_slots(Place::Publisher).await?;
        self.drop_subscription().await?;
        self.facts.backward = None;
        self.remove_publication().await
    }

    async fn drop_subscription(&self) -> Result<()> {
        let name = &self.facts.names.back;
        let drop = [turning::detach(name), turning::drop_detached(name)];
        match self.pair().publisher.run_within("dropping the way back", &drop, self.limits()).await {
            Err(error) if error.is(&SqlState::UNDEFINED_OBJECT) => Ok(()),
            result => result.map(|_| ()).map_err(Error::from),
        }
    }

    async fn remove_publication(&mut self) -> Result<()> {
        if self.facts.publication == Some(true) {
            let name = &self.facts.names.back;
            publication::drop(
                &self.pair().subscriber,
                "dropping the publication of the way back",
                Vec::new(),
                name,
                self.limits(),
            )
            .await?;
            self.facts.publication = None;
        }
        Ok(())
    }

    /// Sets the connection again.
    pub(super) async fn reconnect(&self) -> Result<()> {
        let (Some(back), Some(way)) = (&self.facts.backward, &self.cutover.way_back) else { return Ok(()) };
        let desired = Subscription { connection: Some(way.connection.clone()), ..back.subscription.clone() };
        let how = How { resend_connection: true, ..quietly() };
        let doing = "sending the connection of the way back";
        let statements =
            subscription::diff(Some(&back.subscription), Some(&desired), &how, self.facts.publisher.version)
                .map_err(|error| self.pair().publisher.unsupported(doing, error))?;
        self.pair().publisher.run_within(doing, &statements, self.limits()).await?;
        Ok(())
    }
}

/// Options of a subscription that connects but copies nothing.
pub(super) fn quietly() -> How {
    How { create_slot: false, copy_data: false, ..How::default() }
}
