// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replica_identity`: what identifies the rows of a table when they change.

mod checks;
mod model;
mod returning;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::model::{Model, choice, schema, table, to_model};
use super::object_id::{self, ObjectId};
use crate::config::Context;
use crate::postgres::replica_identity::{self, Choice, Tree};
use crate::postgres::{self, Database, Limits, QualifiedName, look_again};
use crate::replication::lost;
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::timeouts::timeout;
use crate::tf_provider::value::Value;

/// How long operations may take by default.
const TIME: Duration = Duration::from_secs(5 * 60);

/// The resource.
pub(super) struct ReplicaIdentity;

impl Resource for ReplicaIdentity {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_replica_identity";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("The table: `schema.table`."))
    }

    fn identify(context: Option<&Context>, state: &Model, stored: &Value) -> Value {
        let mut identity = object_id::identify(context, state, stored);
        // The spelling of the table in the configuration does not matter: it is the same object.
        if let (Ok(table), false) = (table(state), identity.is_unknown()) {
            identity.set("name", table.to_text().into());
        }
        identity
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        model::validate(config, diagnostics);
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        plan_table(change)?;
        plan_computed(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_none() {
            return Box::pin(returning::preview(call, change)).await;
        }
        if !change.changes() {
            return Ok(());
        }
        object_id::plan_database(call.context(), change)?;
        plan_computed(change)?;
        if call.context().publisher().is_waiting() {
            return Ok(());
        }
        call.unless_stopped(Box::pin(checks::check(call, change))).await
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let database = database(call, &state)?;
        let found = replica_identity::fetch(&database, &table(&state)?).await?;
        Ok(found.map(|found| to_model(database.name(), &found, &state)))
    }

    async fn create(call: &Call<Context>, plan: Model, _saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, TIME);
        choose(call, &plan, time).await
    }

    async fn update(call: &Call<Context>, _prior: Model, plan: Model, _saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, TIME);
        choose(call, &plan, time).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, TIME);
        Box::pin(returning::give_back(call, &prior, time)).await
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        let mut imported: Model = object_id::imported(call.context(), id)?;
        let (name, database) = (table(&imported)?.to_text(), imported.database.known().cloned().unwrap_or_default());
        imported.id = ObjectId::new(&database, &name).to_string().into();
        Ok(imported)
    }
}

/// The table's database: the state's or plan's own, or the configured one.
fn database(call: &Call<Context>, model: &Model) -> Result<Database> {
    object_id::database(call.context(), model)
}

/// Keeps the state's spelling of the same table; another table needs a new object.
fn plan_table(change: &mut PlannedChange<Model>) -> Result<()> {
    let (Some(prior), Some(planned)) = (change.prior(), change.planned()) else { return Ok(()) };
    match (table(prior), table(planned)) {
        (Ok(old), Ok(new)) if old == new => change.keep("table"),
        _ => {
            change.replace("table");
            Ok(())
        }
    }
}

/// Plans the attributes that follow from others once these are known.
fn plan_computed(change: &mut PlannedChange<Model>) -> Result<()> {
    let Some(planned) = change.planned() else { return Ok(()) };
    let id = match (planned.database.known(), table(planned)) {
        (Some(database), Ok(table)) => Attr::Known(ObjectId::new(database, &table.to_text()).to_string()),
        _ => Attr::Unknown,
    };
    change.set("id", id)?;
    change.set("differing_partitions", Attr::Known(BTreeSet::<String>::new()))
}

/// Makes the choice of a plan for the table and its partitions.
async fn choose(call: &Call<Context>, plan: &Model, time: Duration) -> Result<Model> {
    let limits = Limits::within(time).cancelled_by(call.stop().clone());
    let database = database(call, plan)?.within(&limits);
    let (table, choice) = (table(plan)?, choice(plan)?);
    let doing = format!("choosing the replica identity of table {}", table.to_text());
    let tree = found(&database, &doing, &table).await?;
    let parts = checks::parts(&database, &doing, &tree, &choice).await?;
    let wanted = replica_identity::wanted(&tree, &choice, &parts);
    let breaking = Box::pin(checks::broken(call, &database, &tree, &wanted)).await?;
    if !breaking.is_empty() {
        return Err(checks::refusal(&doing, &breaking, Some("identity")));
    }
    make(&database, &doing, &wanted, &limits).await?;
    model::keep(call.private(), &tree);
    let tree = found(&database, &doing, &table).await?;
    Ok(to_model(database.name(), &tree, plan))
}

/// The table, which must exist by now.
async fn found(database: &Database, doing: &str, table: &QualifiedName) -> Result<Tree> {
    let tree = replica_identity::fetch(database, table).await?;
    tree.ok_or_else(|| {
        Error::new(format!("{doing}: there is no table {} in database {:?}", table.to_text(), database.name()))
            .detail(
                "If something else in this configuration creates it, let this resource depend on that. Names \
                 are taken literally: upper case is not folded.",
            )
            .attribute("table")
    })
}

/// Makes the choices, all or none, even if the connection breaks.
async fn make(
    database: &Database,
    doing: &str,
    wanted: &BTreeMap<QualifiedName, Choice>,
    limits: &Limits,
) -> Result<()> {
    match replica_identity::change(database, doing, wanted, limits).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_lost() => {
            let done = look_again(limits, || is_made(database, wanted)).await;
            let undone = done.filter(|done| !done);
            if done == Some(true) { Ok(()) } else { Err(lost::explain(error, undone.as_ref()).into()) }
        }
        Err(error) if error.is_locked() => Err(Error::from(error).detail(
            "Nothing was changed. It was tried for a second at a time until the timeout. End what holds the table, \
             or wait for it, or raise the timeout, and apply again.",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Whether each relation has the wanted choice.
async fn is_made(database: &Database, wanted: &BTreeMap<QualifiedName, Choice>) -> postgres::Result<bool> {
    for (table, choice) in wanted {
        let tree = replica_identity::fetch(database, table).await?;
        if tree.is_none_or(|tree| tree.choice() != *choice) {
            return Ok(false);
        }
    }
    Ok(true)
}
