//! `neonrepl_replication_slot` as a list: the logical slots of a database of the publisher.

use super::{Model, database, listed, schema};
use crate::config::Context;
use crate::postgres::slot;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::list_resource::{ListResource, Listed};
use crate::tf_provider::schema::Schema;

/// The list.
pub(super) struct ReplicationSlots;

impl ListResource for ReplicationSlots {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_replication_slot";

    fn schema() -> Schema {
        schema(
            "The logical slots of a database of the publisher, in the order of their names: those of subscriptions too, but none that goes by itself, as that of a table's first copy does.",
            "publisher",
        )
    }

    async fn list(call: &Call<Context>, config: Model) -> Result<Vec<Listed>> {
        let database = database(call.context().publisher(), &config)?;
        let found = slot::fetch_all(&database).await?;
        Ok(found.values().filter(|slot| !slot.is_of_table_sync()).map(|slot| listed(&database, &slot.name)).collect())
    }
}
