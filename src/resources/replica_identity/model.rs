// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::config::{ConfiguredServer, Context};
use crate::postgres::catalog::is_system_schema;
use crate::postgres::replica_identity::{Choice, Tree};
use crate::postgres::{Ident, QualifiedName};
use crate::resources::object_id::{InDatabase, ObjectId, check_name};
use crate::tf_provider::call::Private;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, timeouts_block};

crate::model! {
    /// The replica identity of a table.
    pub(in crate::resources) struct Model {
        /// `database/schema.table`.
        id: Attr<String>,
        /// The table.
        table: Attr<String>,
        /// The choice.
        identity: Attr<String>,
        /// The chosen index.
        index: Attr<String>,
        /// The table's database.
        database: Attr<String>,
        /// Whether destroying leaves the table as it is.
        skip_destroy: Attr<bool>,
        /// Partitions with another choice.
        differing_partitions: Attr<BTreeSet<String>>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

impl InDatabase for Model {
    fn server(context: &Context) -> &ConfiguredServer {
        context.publisher()
    }

    fn database(&self) -> &Attr<String> {
        &self.database
    }

    fn name(&self) -> &Attr<String> {
        &self.table
    }

    fn called(id: &ObjectId) -> Self {
        let (database, table) = (id.database.clone().into(), id.name.clone().into());
        Self { id: id.to_string().into(), database, table, ..Self::default() }
    }
}

pub(super) fn schema() -> Schema {
    Schema::new(
        "The replica identity of a table on the publisher: the columns by which a changed row is found again. \
         Postgres refuses each UPDATE and DELETE of a published table that has neither a primary key nor another \
         identity. All partitions of a partitioned table get the same identity, because the publisher uses that of \
         the partition, and subscribers that of the table under whose name the rows are sent. A partition that is \
         added later shows as drift, and the next apply sets its identity. Refer to `table` in the publication, so \
         that the identity is set first. A change needs the rights of the table's owner, and locks the table \
         against reads and writes for a moment: it is tried for a second at a time, letting other sessions go first \
         in between, until the timeout. A change or a destroy is refused if a publication of the database would \
         make UPDATE or DELETE fail afterwards. A destroy restores the identity that the table had before; after an \
         import that is not known, and the table stays as it is. For a table of the other server, as for the way \
         back, use a provider configuration whose `publisher` is that server.",
    )
    .attribute(
        Attribute::required(
            "table",
            Type::String,
            "The table: `schema.table`, or `table` for one of schema `public`. A part that holds a dot or a double \
             quote is written in double quotes, as in SQL; names are literal. If it names another table, the resource is \
             replaced, and the old one is destroyed first.",
        )
        .text(check_table),
    )
    .attribute(
        Attribute::required(
            "identity",
            Type::String,
            "`default`: the primary key. `index`: the unique index that `index` names. `full`: every column, for a \
             table that has neither; each UPDATE and DELETE then writes the whole old row to the WAL, and the \
             subscriber looks for a row by all of its columns, which is slow in a large table without a usable \
             index. `nothing`: none, for tables of which only inserts are published.",
        )
        .one_of(&["default", "full", "nothing", "index"]),
    )
    .attribute(
        Attribute::optional(
            "index",
            Type::String,
            "The name of the index with `identity = \"index\"`, without a schema. The index must be unique, valid, \
             not partial, not deferrable, and on plain columns that are all NOT NULL. For a partitioned table it is \
             the partitioned index, and each partition uses its own part of it.",
        )
        .text(check_name),
    )
    .attribute(
        Attribute::optional_computed(
            "database",
            Type::String,
            "The table's database. Default: the provider's publisher database. A change makes a new resource.",
        )
        .text(check_name)
        .replaces(),
    )
    .attribute(
        Attribute::optional(
            "skip_destroy",
            Type::Bool,
            "Whether a destroy only removes the resource from the state, and leaves the table as it is. Default: \
             `false`.",
        )
        .default(false),
    )
    .attribute(Attribute::computed("id", Type::String, "`database/schema.table`, by which it is imported.").stable())
    .attribute(Attribute::computed(
        "differing_partitions",
        Type::set(Type::String),
        "Partitions whose identity differs from the table's. If there are any, the next plan corrects them.",
    ))
    .block(timeouts_block("5m", "5m", "5m"))
}

fn check_table(text: &str) -> std::result::Result<(), String> {
    let remedy = "Write \"schema.table\", or \"table\" for one of schema public.";
    QualifiedName::parse(text).map(|_| ()).map_err(|error| format!("{error}. {remedy}"))
}

/// Checks rules across attributes, as far as values are known.
pub(super) fn validate(config: &Model, diagnostics: &mut Diagnostics) {
    if table(config).is_ok_and(|table| is_system_schema(&table.schema)) {
        let error = Error::new("a system table has no replica identity of its own");
        diagnostics.error(error.detail("Name a table of yours.").attribute("table"));
    }
    check_index(config, diagnostics);
}

fn check_index(config: &Model, diagnostics: &mut Diagnostics) {
    let Some(identity) = config.identity.known() else { return };
    let is_index = identity == "index";
    let error = match &config.index {
        Attr::Null if is_index => Error::new("identity = \"index\" needs index")
            .detail("Name the unique index whose columns are to identify a row.")
            .attribute("index"),
        Attr::Known(_) | Attr::Unknown if !is_index => {
            Error::new(format!("index has no meaning with identity = {identity:?}"))
                .detail("Leave index out, or write identity = \"index\".")
                .attribute("index")
        }
        _ => return,
    };
    diagnostics.error(error);
}

/// The table of a model.
pub(super) fn table(model: &Model) -> Result<QualifiedName> {
    let text = model.table.required("table")?;
    QualifiedName::parse(text).map_err(|error| Error::new(error.to_string()).attribute("table"))
}

/// The choice of a model.
pub(super) fn choice(model: &Model) -> Result<Choice> {
    let index = model.index.optional("index")?.map(|name| Ident::new(name.as_str())).transpose();
    let index = index.map_err(|error| Error::new(error.to_string()).attribute("index"))?;
    let identity = model.identity.required("identity")?;
    Choice::from_parts(identity, index)
        .ok_or_else(|| Error::new(format!("index has no meaning with identity = {identity:?}")).attribute("index"))
}

/// The state of a table that was found.
pub(super) fn to_model(database: &str, found: &Tree, before: &Model) -> Model {
    let choice = found.choice();
    let differing: BTreeSet<_> = found.differing().into_iter().map(QualifiedName::to_text).collect();
    // The configuration's spelling stays as long as it means this table.
    let is_it = |text: &&String| QualifiedName::parse(text).as_ref() == Ok(&found.table);
    let written = before.table.known().filter(is_it).cloned();
    Model {
        id: ObjectId::new(database, &found.table.to_text()).to_string().into(),
        table: written.unwrap_or_else(|| found.table.to_text()).into(),
        identity: choice.kind().as_str().into(),
        index: choice.index().map(|index| index.as_str().to_owned()).into(),
        database: database.into(),
        skip_destroy: before.skip_destroy.known().copied().unwrap_or(false).into(),
        differing_partitions: differing.into(),
        timeouts: before.timeouts.clone(),
    }
}

/// The key in the private state for the choices of the table and its partitions before this resource was created.
const BEFORE: &str = "before";

/// The recorded previous choices; none after an import.
pub(super) fn kept(private: &Private) -> Option<BTreeMap<QualifiedName, Choice>> {
    let Some(Json::Object(kept)) = private.get(BEFORE) else { return None };
    let entry = |(table, choice): (&String, &Json)| {
        let index = choice["index"].as_str().map(Ident::new).transpose().ok()?;
        Some((QualifiedName::parse(table).ok()?, Choice::from_parts(choice["identity"].as_str()?, index)?))
    };
    Some(kept.iter().filter_map(entry).collect())
}

/// Records the current choices of members that have no record yet.
pub(super) fn keep(private: &Private, tree: &Tree) {
    let mut all: BTreeMap<_, _> =
        tree.members.iter().map(|(name, member)| (name.clone(), member.choice.clone())).collect();
    all.extend(kept(private).unwrap_or_default());
    let entry = |(table, choice): (&QualifiedName, &Choice)| {
        let index = choice.index().map(Ident::as_str);
        (table.to_text(), json!({ "identity": choice.kind().as_str(), "index": index }))
    };
    private.set(BEFORE, Json::Object(all.iter().map(entry).collect()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::replica_identity::Member;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn name(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn tree(members: &[(&str, Choice, Option<&str>)]) -> Tree {
        let members = members.iter().map(|(table, choice, part_of)| {
            let part_of = part_of.map(ident);
            (name(table), Member { choice: choice.clone(), part_of, owner: ident("o"), is_owned: true })
        });
        Tree { table: name("orders"), members: members.collect() }
    }

    #[test]
    fn an_index_and_an_identity_go_together() {
        let said = |identity: &str, index: Attr<String>| {
            let mut diagnostics = Diagnostics::default();
            validate(&Model { identity: identity.into(), index, ..Model::default() }, &mut diagnostics);
            diagnostics.into_iter().map(|diagnostic| diagnostic.summary).collect::<Vec<_>>()
        };
        assert_eq!(said("index", Attr::Null), ["identity = \"index\" needs index"]);
        assert_eq!(said("full", "i".into()), ["index has no meaning with identity = \"full\""]);
        for (identity, index) in [("index", "i".into()), ("index", Attr::Unknown), ("full", Attr::Null)] {
            assert_eq!(said(identity, index), [""; 0]);
        }
    }

    #[test]
    fn a_state_is_what_was_found_in_the_words_of_the_configuration() {
        let found = tree(&[("orders", Choice::Full, None), ("part", Choice::Default, None)]);
        let before = Model { table: "orders".into(), ..Model::default() };
        let state = to_model("shop", &found, &before);
        assert_eq!(state.id, "shop/public.orders".into());
        assert_eq!((state.table, state.identity, state.index), ("orders".into(), "full".into(), Attr::Null));
        assert_eq!(state.differing_partitions, BTreeSet::from(["public.part".to_owned()]).into());
        let elsewhere = to_model("shop", &found, &Model { table: "sales.orders".into(), ..Model::default() });
        assert_eq!(elsewhere.table, "public.orders".into());
    }

    #[test]
    fn what_was_before_is_kept_once() {
        let private = Private::default();
        assert_eq!(kept(&private), None);
        keep(&private, &tree(&[("orders", Choice::Index(ident("k")), Some("k"))]));
        let later = [("orders", Choice::Full, None), ("new", Choice::Default, None)];
        keep(&private, &tree(&later));
        let kept = kept(&Private::from_bytes(&private.to_bytes())).unwrap();
        let expected = [(name("orders"), Choice::Index(ident("k"))), (name("new"), Choice::Default)];
        assert_eq!(kept, expected.into());
    }
}
