// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_subscription` as a list: the subscriptions of a database of the subscriber.

use super::{Model, database, listed, schema};
use crate::config::Context;
use crate::postgres::subscription;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::list_resource::{ListResource, Listed};
use crate::tf_provider::schema::Schema;

/// The list.
pub(super) struct Subscriptions;

impl ListResource for Subscriptions {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_subscription";

    fn schema() -> Schema {
        schema(
            "The subscriptions of a database of the subscriber, in the order of their names. Their connections are \
             included if the role may read them, but without passwords.",
            "subscriber",
        )
    }

    async fn list(call: &Call<Context>, config: Model) -> Result<Vec<Listed>> {
        let database = database(call.context().subscriber(), &config)?;
        let found = subscription::fetch_all(&database).await?;
        Ok(found.keys().map(|name| listed(&database, name)).collect())
    }
}
