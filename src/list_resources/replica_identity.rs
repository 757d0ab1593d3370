// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replica_identity` as a list: the tables of a database of the publisher whose replica identity is
//! not the default.

use super::{Model, database, named, schema};
use crate::config::Context;
use crate::postgres::QualifiedName;
use crate::postgres::catalog::{self, Kind, Relation, ReplicaIdentity};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::list_resource::{ListResource, Listed};
use crate::tf_provider::schema::Schema;

/// The list.
pub(super) struct ReplicaIdentities;

impl ListResource for ReplicaIdentities {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_replica_identity";

    fn schema() -> Schema {
        schema(
            "The tables of a database of the publisher whose replica identity is not the default, in the order of \
             their names. A partition is left out if the table that it belongs to is listed.",
            "publisher",
        )
    }

    async fn list(call: &Call<Context>, config: Model) -> Result<Vec<Listed>> {
        let database = database(call.context().publisher(), &config)?;
        let outline = catalog::outline(&database).await?;
        let is_chosen = |name: &QualifiedName| outline.relations.get(name).is_some_and(has_a_choice);
        let listed = outline
            .relations
            .iter()
            .filter(|(_, relation)| has_a_choice(relation) && !relation.ancestors.iter().any(is_chosen));
        Ok(listed.map(|(name, _)| named(&database, &name.to_text())).collect())
    }
}

fn has_a_choice(relation: &Relation) -> bool {
    matches!(relation.kind, Kind::Table | Kind::Partitioned) && relation.replica_identity != ReplicaIdentity::Default
}
