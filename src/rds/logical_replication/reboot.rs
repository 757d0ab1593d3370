// SPDX-License-Identifier: MPL-2.0

//! Reboots instances, and makes sure that they are back with their new settings.

use std::fmt::Write as _;

use tokio::time::Instant;

use super::apply::{objecting, patiently, stranger, unreachable};
use super::checks::is_fatal;
use super::current::found;
use super::{Answerer, Operation, PARAMETER, Record, ServerSettings, remedy};
use crate::rds::api::{Cluster, Instance, Member, RdsApi};
use crate::rds::wait::Seen;
use crate::rds::{Error, Kind, Result};

/// Reboots the instance that is now the cluster's writer, waits until it is back and the cluster is available, and
/// returns which instance it was. If a reboot is already in progress, waits for that one instead.
///
/// It does not use the record, the parameter group or the probe. The waiter of `operation` reports the progress, see
/// [`Waiter::reporting`](crate::rds::wait::Waiter::reporting).
///
/// # Errors
/// When there is no such cluster, it has no writer or is not available, AWS refuses the call permanently, the instance
/// does not come back, the timeout passes or the operation is cancelled.
pub async fn reboot_writer<A: RdsApi>(operation: &Operation<'_, A>, cluster: &str) -> Result<String> {
    Box::pin(operation.reboot_writer(cluster, None)).await
}

impl<A: RdsApi> Operation<'_, A> {
    /// Waits until the cluster is stable: it is available without pending modifications, or it will not become
    /// available without help.
    pub(super) async fn at_rest(&self, cluster: &str) -> Result<Cluster> {
        let doing = format!("waiting for {} \"{cluster}\"", self.api.deployment());
        let look = || async { self.api.cluster(cluster).await };
        self.waiter
            .until(&doing, look, |cluster| match cluster.status.as_str() {
                "available" if !cluster.has_pending_modifications => Ok(Seen::Done(cluster)),
                "available" => Ok(Seen::NotYet("it has pending modifications".to_owned())),
                status if is_fatal(status) => Ok(Seen::Done(cluster)),
                status => Ok(Seen::NotYet(format!("it is {status}"))),
            })
            .await
    }

    /// Waits until the cluster is available without pending modifications.
    pub(super) async fn available(&self, cluster: &str) -> Result<Cluster> {
        let cluster = self.at_rest(cluster).await?;
        if !is_fatal(&cluster.status) {
            return Ok(cluster);
        }
        let doing = format!("waiting for {} \"{}\"", self.api.deployment(), cluster.identifier);
        Err(Error::new(Kind::Refused, doing, format!("it is {}", cluster.status))
            .hint("Start or repair it, then apply again: it goes on from here"))
    }

    /// The same, and until RDS shows the change: a reboot before that would restore the old values.
    pub(super) async fn settled(&self, cluster: &str, until_reboot_is_pending: bool) -> Result<()> {
        self.available(cluster).await?;
        if !until_reboot_is_pending {
            return Ok(());
        }
        let doing = format!("waiting for the parameters of {} \"{cluster}\"", self.api.deployment());
        let look = || async { self.api.cluster(cluster).await };
        let briefly = self.waiter.at_most(self.patience.settle);
        let waited = briefly.until(&doing, look, |cluster| {
            match cluster.members.iter().find(|member| member.is_in_sync() || member.is_applying()) {
                Some(member) => {
                    Ok(Seen::NotYet(format!("{} is still {}", member.instance, member.parameter_group_status)))
                }
                None => Ok(Seen::Done(())),
            }
        });
        patiently(waited.await)?;
        self.available(cluster).await.map(drop)
    }

    /// Reboots the instance that is now the writer, and returns it. If its server has already been restarted after
    /// `since`, only waits for it.
    pub(super) async fn reboot_writer(&self, cluster: &str, since: Option<(&str, i64)>) -> Result<String> {
        let now = self.available(cluster).await?;
        let missing = || {
            Error::new(Kind::Refused, format!("rebooting the writer of \"{cluster}\""), "there is no writer")
                .hint("Wait for a failover to end, then apply again")
        };
        let writer = now.writer().ok_or_else(missing)?.instance.clone();
        let since = since.filter(|(instance, _)| *instance == writer).map(|(_, since)| since);
        self.reboot(&now, &writer, since).await?;
        Ok(writer)
    }

    /// Reboots the reader, unless it already runs with its group's values, or has become the writer, whose turn comes
    /// later.
    pub(super) async fn reboot_reader(&self, cluster: &str, reader: &str) -> Result<()> {
        let now = self.available(cluster).await?;
        match now.member(reader) {
            Some(member) if !member.is_in_sync() && !member.is_writer => self.reboot(&now, reader, None).await,
            _ => Ok(()),
        }
    }

    async fn reboot(&self, cluster: &Cluster, instance: &str, since: Option<i64>) -> Result<()> {
        let (id, doing) = (&cluster.identifier, format!("rebooting DB instance \"{instance}\""));
        tracing::info!(instance, "rebooting");
        let was_pending = cluster.member(instance).is_some_and(|member| !member.is_in_sync());
        let call = || async {
            match self.was_restarted(id, instance).await? || self.was_started_since(since).await {
                true => Ok(()),
                false => self.api.reboot_instance(instance).await,
            }
        };
        self.waiter.retry(&doing, call).await?;
        self.back(id, instance, was_pending).await?;
        self.available(id).await.map(drop)
    }

    /// Whether the server was restarted after that.
    async fn was_started_since(&self, since: Option<i64>) -> bool {
        let (Some(probe), Some(since)) = (self.probe, since) else {
            return false;
        };
        let now = probe.settings().await.ok().and_then(|settings| settings.started_at);
        now.is_some_and(|now| now > since)
    }

    /// If a reboot is already in progress, perhaps from an interrupted apply, waits for it and returns whether it
    /// applied the group's values: a second one would stop the server twice.
    pub(super) async fn was_restarted(&self, cluster: &str, instance: &str) -> Result<bool> {
        if self.api.instance(instance).await?.status != "rebooting" {
            return Ok(false);
        }
        self.back(cluster, instance, true).await?;
        let now = self.available(cluster).await?;
        Ok(now.member(instance).is_some_and(Member::is_in_sync))
    }

    /// Waits for a reboot that an interrupted apply has requested. RDS may not show it yet, or it may have ended before
    /// the instance shows its new settings. If the request never reached RDS, the wait ends after a while.
    pub(super) async fn reboot_ended(&self, cluster: &str, instance: &str) -> Result<()> {
        let doing = format!("waiting for the reboot of DB instance \"{instance}\" that was asked for before");
        let look = || async {
            let now = self.api.cluster(cluster).await?;
            let is_waiting = now.member(instance).is_some_and(|member| !member.is_in_sync());
            Ok(is_waiting && self.api.instance(instance).await?.status == "available")
        };
        let briefly = self.waiter.at_most(self.patience.settle);
        let waited = briefly.until(&doing, look, |is_waiting| {
            Ok(if is_waiting { Seen::NotYet("it does not show".to_owned()) } else { Seen::Done(()) })
        });
        patiently(waited.await)?;
        // An instance that is gone needs no reboot.
        found(self.was_restarted(cluster, instance).await).map(drop)
    }

    /// Waits until the instance has stopped and come back. "Available" alone proves nothing, because RDS shows it for a
    /// while before "rebooting". The proof is that another status was seen, or that its pending values are in effect.
    /// If the instance stays available without proof, the wait ends after a while, and SQL decides.
    async fn back(&self, cluster: &str, instance: &str, was_pending: bool) -> Result<()> {
        let doing = format!("waiting for DB instance \"{instance}\" to come back");
        let mut was_away = false;
        let mut available_since = None;
        let look = || async {
            let seen = self.api.instance(instance).await?;
            let in_sync = self.api.cluster(cluster).await?.member(instance).is_some_and(Member::is_in_sync);
            Ok((seen, in_sync))
        };
        self.waiter
            .until(&doing, look, |(seen, in_sync): (Instance, bool)| {
                if seen.status != "available" {
                    was_away = true;
                    available_since = None;
                    return away(&doing, &seen);
                }
                let since = *available_since.get_or_insert_with(Instant::now);
                let is_proven = in_sync && (was_away || was_pending);
                Ok(match is_proven || since.elapsed() >= self.patience.settle {
                    true => Seen::Done(()),
                    false => Seen::NotYet("it is available, but does not have its new settings yet".to_owned()),
                })
            })
            .await
    }

    /// Asks the writer whether it is logical, and reboots it once more if it is not: RDS may have started it before the
    /// group's new values had reached it.
    ///
    /// If only its restart can identify the server, it must have been started after `start_before_reboot`.
    pub(super) async fn verify(&self, cluster: &str, may_reboot: bool, start_before_reboot: Option<i64>) -> Result<()> {
        let doing = format!("verifying logical replication on {} \"{cluster}\"", self.api.deployment());
        let record = Record { start_before_reboot, ..Record::default() };
        let mut settings = self.logical_settings(&doing, cluster, &record).await?;
        if settings.is_logical() || !may_reboot {
            return Ok(());
        }
        tracing::warn!(cluster, %settings, "wal_level is not logical yet: rebooting once more");
        let writer = self.reboot_writer(cluster, None).await?;
        settings = self.logical_settings(&doing, cluster, &record).await?;
        if settings.is_logical() {
            return Ok(());
        }
        let what = format!("after a further reboot of \"{writer}\", {settings}");
        let server = self.api.deployment().server();
        Err(Error::new(Kind::Unverified, doing, what).hint(format!(
            "Check that the provider's publisher is this {server}'s endpoint, and {PARAMETER} in its parameter group"
        )))
    }

    /// The writer's settings, once it is logical, or has not been for a while.
    async fn logical_settings(&self, doing: &str, cluster: &str, record: &Record) -> Result<ServerSettings> {
        let missing = || Error::new(Kind::Refused, doing, "there is no connection to verify it over");
        let probe = self.probe.ok_or_else(missing)?;
        let instances = self.waiter.retry(doing, || self.api.cluster_instances(cluster)).await?;
        let (instances, mut answered_since) = (instances.as_slice(), None);
        let look = || self.look(probe, cluster, instances, record);
        self.waiter
            .at_most(self.patience.connect)
            .until(doing, look, |answer| match answer {
                Ok((_, who @ Answerer::Stranger(_), cluster)) => Err(stranger(&who, &cluster, doing)),
                Ok((settings, who, cluster)) => {
                    let since = *answered_since.get_or_insert_with(Instant::now);
                    let is_late = since.elapsed() >= self.patience.settle;
                    match who {
                        Answerer::Writer if settings.is_logical() || is_late => Ok(Seen::Done(settings)),
                        Answerer::Writer => Ok(Seen::NotYet(settings.to_string())),
                        who if is_late => Err(unproven(&who, &cluster, doing)),
                        who => Ok(Seen::NotYet(objecting(&who, &cluster))),
                    }
                }
                Err(error) if error.is_transient => Ok(Seen::NotYet(error.message)),
                Err(error) => Err(unreachable(error, doing, self.api.deployment())),
            })
            .await
    }
}

/// The error if the server that answers after the reboot is not the one that was rebooted.
fn unproven(who: &Answerer, cluster: &Cluster, doing: &str) -> Error {
    let mut what = objecting(who, cluster);
    if *who == Answerer::Unknown {
        let server = cluster.deployment.server();
        write!(what, ": the server there did not restart when the {server} did").unwrap_or_default();
    }
    Error::new(Kind::Unverified, doing, what).hint(format!("{}, or set verify = false", remedy(cluster)))
}

fn away<T>(doing: &str, instance: &Instance) -> Result<Seen<T>> {
    let status = &instance.status;
    let is_over = status.ends_with("failed") || status.starts_with("incompatible-");
    match is_over || matches!(status.as_str(), "deleting" | "deleted" | "stopped" | "stopping") {
        true => Err(Error::new(Kind::Unverified, doing, format!("it is {status}"))
            .hint("Look at its events and its log in RDS. Once it is available, apply again: it goes on from here")),
        false => Ok(Seen::NotYet(format!("it is {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rds::logical_replication::fake::{Fake, Lags};

    #[tokio::test(start_paused = true)]
    async fn an_instance_in_sync_is_not_back_before_it_was_away() {
        let fake = Fake::new(0).lags(Lags { away: 20, back: 50, ..Lags::default() });
        let start = Instant::now();
        fake.reboot_instance("shop-1").await.unwrap();
        let operation = fake.operation(None, 60);
        operation.back("shop", "shop-1", false).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_with_pending_modifications_is_not_at_rest() {
        let fake = Fake::new(0);
        fake.world().cluster.has_pending_modifications = true;
        let error = fake.operation(None, 1).available("shop").await.unwrap_err();
        assert!(error.to_string().ends_with("it has pending modifications"));
    }
}
