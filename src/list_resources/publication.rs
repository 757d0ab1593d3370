// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_publication` as a list: the publications of a database of the publisher.

use super::{Model, database, listed, schema};
use crate::config::Context;
use crate::postgres::publication;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::list_resource::{ListResource, Listed};
use crate::tf_provider::schema::Schema;

/// The list.
pub(super) struct Publications;

impl ListResource for Publications {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_publication";

    fn schema() -> Schema {
        schema("The publications of a database of the publisher, in the order of their names.", "publisher")
    }

    async fn list(call: &Call<Context>, config: Model) -> Result<Vec<Listed>> {
        let database = database(call.context().publisher(), &config)?;
        let found = publication::fetch_all(&database).await?;
        Ok(found.keys().map(|name| listed(&database, name)).collect())
    }
}
