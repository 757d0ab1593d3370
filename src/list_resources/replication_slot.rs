// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replication_slot` as a list: the logical slots of a database of the publisher.

use std::collections::BTreeSet;

use super::listed;
use crate::config::Context;
use crate::postgres::{Database, Ident, slot};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::list_resource::{ListResource, Listed};
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The list.
pub(super) struct ReplicationSlots;

crate::model! {
    /// The `config` block.
    pub(super) struct Model {
        /// The database.
        database: Attr<String>,
        /// Whether to list slots that are in use too.
        include_in_use: Attr<bool>,
    }
}

impl ListResource for ReplicationSlots {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_replication_slot";

    fn schema() -> Schema {
        super::schema(
            "The logical slots of a database of the publisher, in the order of their names. Slots that are in use \
             are left out, because a subscription manages its slot itself. So are slots that Postgres drops by \
             itself, such as those of the initial copy of a table.",
            "publisher",
        )
        .attribute(Attribute::optional(
            "include_in_use",
            Type::Bool,
            "Whether to also list slots that a subscription of the provider's subscriber names, or that a reader is \
             connected to. If `false`, the subscriber must be reachable, if one is configured. Default: `false`.",
        ))
    }

    async fn list(call: &Call<Context>, config: Model) -> Result<Vec<Listed>> {
        let database = call.context().publisher().database(config.database.known().map(String::as_str))?;
        let found = slot::fetch_all(&database).await?;
        let listed_names: BTreeSet<_> =
            found.values().filter(|slot| !slot.is_of_table_sync()).map(|slot| slot.name.clone()).collect();
        let in_use = match config.include_in_use.known() {
            Some(true) => BTreeSet::new(),
            _ => in_use(call, &database, &found, &listed_names).await?,
        };
        Ok(listed_names.difference(&in_use).map(|name| listed(&database, name)).collect())
    }
}

/// The slots with a reader, and those that a subscription of the provider's subscriber may use.
async fn in_use(
    call: &Call<Context>,
    publisher: &Database,
    found: &slot::Slots,
    names: &BTreeSet<Ident>,
) -> Result<BTreeSet<Ident>> {
    let active = found.values().filter(|slot| slot.active).map(|slot| slot.name.clone());
    let Ok(subscriber) = call.context().subscriber().database(None) else { return Ok(active.collect()) };
    let named = slot::named_by(&subscriber, names).await.map_err(|error| {
        Error::from(error).detail(
            "Only the subscriber knows which slots its subscriptions use. With include_in_use = true it is not \
             asked, and slots of subscriptions are listed too.",
        )
    })?;
    let used =
        |slot: &Ident| slot::Usage { active: found.get(slot).is_some_and(|slot| slot.active), ..Default::default() };
    let is_meant = |(slot, namers): &(&Ident, &Vec<slot::Namer>)| {
        namers.iter().any(|namer| namer.reads_from(publisher, &used(slot)) != slot::Reads::Not)
    };
    let named = named.iter().filter(is_meant).map(|(slot, _)| slot.clone());
    Ok(active.chain(named).collect())
}
