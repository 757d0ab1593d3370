//! `CREATE SUBSCRIPTION` makes the slot as well: where the publisher is out of our reach.

use super::{Creation, Made, NOT_DONE, NotMade, is_open};
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{self, Notice, SqlState, look_again};
use crate::replication::Error;

impl Creation<'_> {
    /// Makes the subscription and lets the subscriber make the slot. Postgres takes back what it has begun where that fails.
    pub(super) async fn make_by_subscriber(&self) -> Result<Made, NotMade> {
        let bare = Subscription { owner: None, ..self.desired.clone() };
        let notices = self.create_with_slot(&bare).await?;
        let limits = self.limits();
        // From here on it is this attempt's.
        let read = || subscription::fetch_now(self.subscriber, self.name());
        let found = look_again(limits, read).await.flatten().unwrap_or(bare);
        if self.desired.owner.is_none() {
            return Ok((notices, found));
        }
        let given = self.give_away(&found).await;
        given
            .map(|found| (notices, found))
            .map_err(|error| NotMade::Failed { error: Box::new(error.into()), left: Some(Box::new(found)) })
    }

    async fn create_with_slot(&self, bare: &Subscription) -> Result<Vec<Notice>, NotMade> {
        let doing = self.operation.doing();
        let version = self.subscriber.version().await?;
        let statements = subscription::diff(None, Some(bare), self.how, version)
            .map_err(|unsupported| self.subscriber.unsupported(doing, unsupported))?;
        let error = match self.subscriber.run_within(doing, &statements, self.limits()).await {
            Ok(notices) => return Ok(notices),
            Err(error) if error.is(&SqlState::DUPLICATE_OBJECT) || error.is(&SqlState::UNIQUE_VIOLATION) => {
                return Err(NotMade::Exists);
            }
            Err(error) => error,
        };
        if !is_open(&error) {
            return Err(error.into());
        }
        let found = look_again(self.limits(), || subscription::fetch_now(self.subscriber, self.name())).await;
        Err(self.not_known(error, matches!(found, Some(None))).into())
    }

    /// Nothing says of a subscription that is there now who has made it, so it is nobody's to drop.
    fn not_known(&self, error: postgres::Error, is_absent: bool) -> Error {
        if is_absent {
            return Error::from(error).detail(NOT_DONE);
        }
        Error::from(error).detail(format!(
            "Whether subscription {} was made, and by whom, is not known. If the next plan wants to create it and that says it \
             exists already, look whether it is this one, and import it then.",
            self.name()
        ))
    }

    async fn give_away(&self, found: &Subscription) -> postgres::Result<Subscription> {
        let doing = self.operation.doing();
        let version = self.subscriber.version().await?;
        let wanted = Subscription { owner: self.desired.owner.clone(), ..found.clone() };
        let statements = subscription::diff(Some(found), Some(&wanted), &How::default(), version)
            .map_err(|unsupported| self.subscriber.unsupported(doing, unsupported))?;
        self.subscriber.run_within(doing, &statements, self.limits()).await?;
        Ok(wanted)
    }
}
