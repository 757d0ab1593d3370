// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_reboot_writer`: restarts the instance of an Aurora cluster that takes writes, and waits for it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Context;
use crate::rds::api::{Cluster, RdsApi};
use crate::rds::logical_replication::{Operation, reboot_writer};
use crate::rds::wait::Waiter;
use crate::rds::{self, Kind};
use crate::tf_provider::action::{Action, Progress};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long the reboot may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// An unchanged state is reported again after this long, so that nobody thinks it hangs.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The action.
pub(super) struct RebootWriter;

crate::model! {
    /// The configuration of a reboot.
    pub(super) struct Model {
        /// The cluster.
        cluster_identifier: Attr<String>,
        /// How long it may take.
        timeout: Attr<String>,
    }
}

impl Action for RebootWriter {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_reboot_writer";

    fn schema() -> Schema {
        Schema::new(
            "Reboots the writer of an Aurora cluster, whichever instance that is at the time, and waits until it is \
             back. Its connections are closed, and the cluster takes no writes during the reboot. Use it for \
             changes that wait for a restart, such as a static parameter; `neonrepl_aurora_logical_replication` \
             reboots the writer by itself if needed.",
        )
        .attribute(Attribute::required("cluster_identifier", Type::String, "The cluster's identifier."))
        .attribute(duration_attribute(
            "timeout",
            "How long the reboot may take, including the waits before and after it, such as `30s`, `10m` or \
             `1h30m`. Default: `30m`.",
        ))
    }

    async fn plan(call: &Call<Context>, config: Model) -> Result<()> {
        let Some(cluster) = config.cluster_identifier.known() else { return Ok(()) };
        if call.context().is_aws_waiting() {
            return Ok(());
        }
        match call.context().cluster_api()?.cluster(cluster).await {
            Ok(found) => announce(call, &found),
            Err(error) if error.kind == Kind::NotFound => {
                let missing = Error::new(format!("there is no Aurora cluster {cluster:?} to reboot the writer of yet"));
                call.warn(missing.detail("It must exist by the time of the action.").attribute("cluster_identifier"));
                Ok(())
            }
            Err(error) => Err(shown(error)),
        }
    }

    async fn invoke(call: &Call<Context>, config: Model, progress: &Progress) -> Result<()> {
        let cluster = config.cluster_identifier.required("cluster_identifier")?;
        let time = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(DEFAULT_TIMEOUT);
        let reporter = Reporter::new(progress.clone());
        let api = call.context().cluster_api()?;
        let waiter = Waiter::new(call.context().polling(), time, call.stop().clone());
        let operation = Operation {
            api,
            probe: None,
            waiter: waiter.reporting(move |line| reporter.tell(line)),
            patience: call.context().patience(),
        };
        progress.say(format!("rebooting the writer of DB cluster \"{cluster}\""));
        let rebooted = reboot_writer(&operation, cluster).await.map_err(given_up)?;
        progress.say(outcome(&api.cluster(cluster).await?, &rebooted));
        Ok(())
    }
}

/// Says in the plan what the reboot will affect.
fn announce(call: &Call<Context>, cluster: &Cluster) -> Result<()> {
    let name = &cluster.identifier;
    let Some(writer) = cluster.writer() else {
        return Err(
            Error::new(format!("the Aurora cluster {name:?} has no writer to reboot")).attribute("cluster_identifier")
        );
    };
    call.warn(
        Error::new(format!("the action reboots {}, the writer of the Aurora cluster {name}", writer.instance)).detail(
            "Its connections are closed, and the cluster takes no writes until it is back. If another instance is \
             the writer by then, that one is rebooted instead.",
        ),
    );
    Ok(())
}

/// The error with what a person must know if the wait ended before the reboot.
fn given_up(error: rds::Error) -> Error {
    let remedy = match error.kind {
        Kind::Cancelled => "A reboot that has begun goes on in AWS.",
        Kind::Timeout => "Give a longer timeout. A reboot that has begun goes on in AWS.",
        _ => "",
    };
    shown(error).detail(remedy)
}

/// The error with its attribute.
fn shown(error: rds::Error) -> Error {
    let is_about_it = matches!(error.kind, Kind::NotFound | Kind::Refused);
    let shown = Error::from(error);
    if is_about_it { shown.attribute("cluster_identifier") } else { shown }
}

/// The text about the cluster after the reboot.
fn outcome(cluster: &Cluster, rebooted: &str) -> String {
    let Some(writer) = cluster.writer() else {
        return format!("DB cluster \"{}\" has no writer now", cluster.identifier);
    };
    let state = format!(
        "DB cluster \"{}\" is {}, its parameters {}",
        cluster.identifier, cluster.status, writer.parameter_group_status
    );
    match writer.instance == rebooted {
        true => format!("DB instance \"{rebooted}\" is back and is the writer: {state}"),
        false => format!("DB instance \"{rebooted}\" is back, and \"{}\" is the writer now: {state}", writer.instance),
    }
}

/// Reports the state of the wait at each change, and otherwise from time to time.
struct Reporter {
    progress: Progress,
    began: Instant,
    last: Mutex<(String, Instant)>,
}

impl Reporter {
    fn new(progress: Progress) -> Self {
        let now = Instant::now();
        Self { progress, began: now, last: Mutex::new((String::new(), now)) }
    }

    fn tell(&self, line: &str) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.0 == line && last.1.elapsed() < HEARTBEAT {
            return;
        }
        *last = (line.to_owned(), Instant::now());
        self.progress.say(match self.began.elapsed().as_secs() {
            0 => line.to_owned(),
            seconds => format!("{line} ({seconds} s)"),
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::rds::api::Member;

    fn cluster(writer: &str) -> Cluster {
        let member = |name: &str| Member {
            instance: name.to_owned(),
            is_writer: name == writer,
            parameter_group_status: "in-sync".to_owned(),
        };
        Cluster {
            identifier: "shop".to_owned(),
            status: "available".to_owned(),
            members: vec![member("shop-1"), member("shop-2")],
            ..Cluster::default()
        }
    }

    #[test]
    fn the_end_says_who_is_the_writer() {
        let state = "DB cluster \"shop\" is available, its parameters in-sync";
        assert_eq!(
            outcome(&cluster("shop-1"), "shop-1"),
            format!("DB instance \"shop-1\" is back and is the writer: {state}")
        );
        assert_eq!(
            outcome(&cluster("shop-2"), "shop-1"),
            format!("DB instance \"shop-1\" is back, and \"shop-2\" is the writer now: {state}")
        );
        assert_eq!(outcome(&cluster(""), "shop-1"), "DB cluster \"shop\" has no writer now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_is_said_when_it_changes_and_now_and_then() {
        let (lines, mut said) = mpsc::unbounded_channel();
        let reporter = Reporter::new(Progress::new(lines));
        for (seconds, line) in [(0, "a"), (1, "a"), (1, "b"), (29, "b"), (1, "b")] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            reporter.tell(line);
        }
        drop(reporter);
        let mut all = Vec::new();
        while let Some(line) = said.recv().await {
            all.push(line);
        }
        assert_eq!(all, ["a", "b (2 s)", "b (32 s)"]);
    }
}
