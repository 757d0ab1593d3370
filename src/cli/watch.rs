// SPDX-License-Identifier: MPL-2.0

//! `watch`: how replication progresses, live.

mod view;

use std::collections::BTreeSet;

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::view::View;
use super::arguments::{Until, Watch as Asked};
use super::screen::Screen;
use super::servers::Environment;
use super::status::{names, outcome};
use super::{Failure, Heard, Outcome};
use crate::postgres::{Database, Ident, Limits, Outage as _};
use crate::replication::status::{self, Question, Status, Watcher};
use crate::replication::{Error, Operation};

/// The watched subscriptions.
struct Watched {
    publisher: Option<Database>,
    subscriber: Database,
    names: Option<BTreeSet<Ident>>,
}

/// The end of a watch.
enum Ended {
    /// It has reached its goal.
    Reached(Vec<Status>),
    /// The wait for it has failed.
    Failed(Error),
    /// A person has ended it.
    Interrupted,
}

/// Shows each look until the goal is reached, or a person ends it.
pub(super) async fn run(
    asked: &Asked,
    environment: &Environment<'_>,
    screen: &mut Screen<'_>,
    stop: &CancellationToken,
) -> Result<Outcome, Failure> {
    let watched = Watched {
        publisher: asked.servers.known_publisher(environment)?,
        subscriber: asked.servers.subscriber(environment)?,
        names: names(&asked.subscriptions),
    };
    let heard = Heard::default();
    let deadline = asked.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let limits = Limits { deadline, ..Limits::default() }.cancelled_by(stop.clone());
    let operation = Operation::new("watching", limits, &heard);
    let mut view = View::new(asked.json);
    let mut watcher = Watcher::default();
    // Fails at once if a query fails, or nothing has that name. On a live screen the progress appears at once and the
    // health a moment later; a printed line has both.
    let mut last = match screen.is_live && !asked.json {
        true => Box::pin(watcher.look(&operation, &watched.question())).await?,
        false => Box::pin(watcher.judge(&operation, &watched.question())).await?,
    };
    view.show(&last, screen);
    let looking = Looking { asked, watched: &watched, operation: &operation };
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ended::Interrupted,
        ended = watched.wait(&operation, asked.until) => ended,
        failed = looking.on(&mut watcher, &mut last, &mut view, screen) => Ended::Failed(failed),
    };
    view.tell(&heard, screen);
    end(asked, ended, last, deadline, &mut view, screen)
}

/// A watch in progress.
struct Looking<'a> {
    asked: &'a Asked,
    watched: &'a Watched,
    operation: &'a Operation<'a>,
}

impl Looking<'_> {
    /// Shows a look after each interval. It has no end of its own: the caller ends it. Reports unavailable servers.
    ///
    /// Returns why it cannot continue.
    async fn on(
        &self,
        watcher: &mut Watcher,
        last: &mut Vec<Status>,
        view: &mut View,
        screen: &mut Screen<'_>,
    ) -> Error {
        let mut began = Instant::now();
        loop {
            sleep_until(began + self.asked.interval).await;
            began = Instant::now();
            match Box::pin(watcher.look(self.operation, &self.watched.question())).await {
                Ok(found) => {
                    view.show(&found, screen);
                    *last = found;
                }
                Err(error) if error.is_outage() => view.away(&error, screen),
                Err(error) => return error,
            }
        }
    }
}

fn end(
    asked: &Asked,
    ended: Ended,
    last: Vec<Status>,
    deadline: Option<Instant>,
    view: &mut View,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    match ended {
        Ended::Reached(found) => {
            view.last(&found, screen);
            Ok(Outcome::Well)
        }
        // An error that no server gave is an answer: the time is over, or the goal cannot be reached.
        Ended::Failed(error)
            if error.cause().is_none() || deadline.is_some_and(|deadline| Instant::now() >= deadline) =>
        {
            view.last(&last, screen);
            screen.complain(&error);
            Ok(Outcome::Wrong)
        }
        Ended::Failed(error) => Err(error.into()),
        Ended::Interrupted => {
            view.last(&last, screen);
            Ok(if asked.until.is_some() { Outcome::Interrupted } else { outcome(&last) })
        }
    }
}

impl Watched {
    fn question(&self) -> Question<'_> {
        let (publisher, names) = (self.publisher.as_ref(), self.names.as_ref());
        Question { subscriber: &self.subscriber, publisher, names }
    }

    /// Resolves once the goal is reached; never without a goal.
    fn wait<'a>(&'a self, operation: &'a Operation<'a>, until: Option<Until>) -> BoxFuture<'a, Ended> {
        let until = match until {
            None => return pending().boxed(),
            Some(Until::Ready) => status::Until::Ready,
            Some(Until::CaughtUp) => status::Until::CaughtUp,
        };
        async move {
            let waited = status::wait_until(operation, &self.question(), until, &mut |_: &[Status]| {}).await;
            waited.map_or_else(Ended::Failed, Ended::Reached)
        }
        .boxed()
    }
}
