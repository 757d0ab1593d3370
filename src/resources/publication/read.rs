// SPDX-License-Identifier: MPL-2.0

//! Turns the server's publication into a state, which keeps the user's spelling as long as it means the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::model::{Model, Table, desired};
use crate::postgres::QualifiedName;
use crate::postgres::publication::{Operation, Publication, TableSpec, Target};
use crate::resources::object_id::ObjectId;
use crate::tf_provider::call::Private;
use crate::tf_provider::convert::Attr;

/// The key in the private state.
const KEY: &str = "row_filters";

/// The server's printed form of each filter that the user wrote, by table; stored in the private state.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filters(BTreeMap<QualifiedName, Filter>);

#[derive(Debug, PartialEq)]
struct Filter {
    text: String,
    canonical: String,
}

impl Filters {
    /// Reads them from the private state.
    pub(super) fn of(private: &Private) -> Self {
        let stored = private.get(KEY);
        let entries = stored.as_ref().and_then(Json::as_object).into_iter().flatten();
        let filters = entries.filter_map(|(table, filter)| {
            let text = |key| filter.get(key)?.as_str().map(str::to_owned);
            Some((QualifiedName::parse(table).ok()?, Filter { text: text("text")?, canonical: text("canonical")? }))
        });
        Self(filters.collect())
    }

    /// The written filters with their printed forms on the server.
    pub(super) fn between(written: &Publication, found: &Publication) -> Self {
        let (Target::Lists { tables: written, .. }, Target::Lists { tables: found, .. }) =
            (&written.target, &found.target)
        else {
            return Self::default();
        };
        let filters = written.iter().filter_map(|(table, spec)| {
            let text = spec.filter.as_ref()?.text().to_owned();
            let canonical = found.get(table)?.filter.as_ref()?.text().to_owned();
            Some((table.clone(), Filter { text, canonical }))
        });
        Self(filters.collect())
    }

    /// Stores them in the private state.
    pub(super) fn store(&self, private: &Private) {
        if self.0.is_empty() {
            return private.remove(KEY);
        }
        let entries = self
            .0
            .iter()
            .map(|(table, filter)| (table.to_text(), json!({ "text": filter.text, "canonical": filter.canonical })));
        private.set(KEY, Json::Object(entries.collect()));
    }

    /// The server's printed form of this text, if known.
    pub(super) fn canonical(&self, table: &QualifiedName, text: &str) -> Option<&str> {
        self.0.get(table).filter(|filter| filter.text == text).map(|filter| filter.canonical.as_str())
    }

    /// The text for the server's filter.
    fn shown(&self, table: &QualifiedName, written: Option<&str>, found: &str) -> String {
        match written {
            Some(text) if self.canonical(table, text) == Some(found) => text.to_owned(),
            _ => found.to_owned(),
        }
    }
}

/// The state of a publication, in the spelling of the previous state or plan.
pub(super) fn to_model(database: &str, found: &Publication, before: &Model, filters: &Filters) -> Model {
    let name = found.name.as_str();
    let mut model = Model {
        id: ObjectId::new(database, name).to_string().into(),
        name: name.into(),
        database: database.into(),
        all_tables: (found.target == Target::AllTables).into(),
        publish: found
            .publish
            .iter()
            .map(|operation| Operation::as_str(*operation).to_owned())
            .collect::<BTreeSet<_>>()
            .into(),
        publish_via_partition_root: found.via_partition_root.into(),
        publish_generated_columns: found.generated_columns.as_str().into(),
        strict: before.strict.known().copied().unwrap_or(false).into(),
        force_destroy: before.force_destroy.known().copied().unwrap_or(false).into(),
        owner: found.owner.as_ref().map(|owner| owner.as_str().to_owned()).into(),
        ..Model::default()
    };
    let none = (BTreeMap::new(), BTreeSet::new());
    let (tables, schemas) = match &found.target {
        Target::AllTables => (&none.0, &none.1),
        Target::Lists { tables, schemas } => (tables, schemas),
    };
    let blocks = blocks(tables, before, filters);
    let in_blocks: BTreeSet<_> = blocks.iter().filter_map(parsed).collect();
    let listed = tables.keys().filter(|table| !in_blocks.contains(*table));
    model.tables = set(spelled(listed, before), before.tables.is_null());
    model.schemas = set(schemas.iter().map(|schema| schema.as_str().to_owned()).collect(), before.schemas.is_null());
    model.table = Attr::Known(blocks);
    model.fingerprint = desired(&model).ok().map(|desired| desired.fingerprint()).into();
    model
}

/// An empty set if the user wrote one, otherwise null.
fn set(items: BTreeSet<String>, was_null: bool) -> Attr<BTreeSet<String>> {
    if items.is_empty() && was_null { Attr::Null } else { Attr::Known(items) }
}

fn parsed(table: &Table) -> Option<QualifiedName> {
    QualifiedName::parse(table.name.known()?).ok()
}

/// Names as the user spelled them, or in full.
fn spelled<'a>(tables: impl Iterator<Item = &'a QualifiedName>, before: &Model) -> BTreeSet<String> {
    let spellings: BTreeMap<_, _> = before
        .tables
        .known()
        .into_iter()
        .flatten()
        .filter_map(|text| Some((QualifiedName::parse(text).ok()?, text)))
        .collect();
    tables.map(|table| spellings.get(table).map_or_else(|| table.to_text(), |text| (*text).clone())).collect()
}

/// The `table` blocks: first the previous ones, in their order, then those of tables that are only partly published.
fn blocks(found: &BTreeMap<QualifiedName, TableSpec>, before: &Model, filters: &Filters) -> Vec<Table> {
    let before = before.table.known().map(Vec::as_slice).unwrap_or_default();
    let kept: Vec<_> = before.iter().filter_map(|block| Some((parsed(block)?, block))).collect();
    let kept_names: BTreeSet<_> = kept.iter().map(|(name, _)| name.clone()).collect();
    let old =
        kept.into_iter().filter_map(|(name, block)| Some(block_of(&name, found.get(&name)?, Some(block), filters)));
    let new = found.iter().filter(|(name, spec)| {
        let whole = **spec == TableSpec::default();
        !kept_names.contains(*name) && !whole
    });
    old.chain(new.map(|(name, spec)| block_of(name, spec, None, filters))).collect()
}

fn block_of(name: &QualifiedName, spec: &TableSpec, before: Option<&Table>, filters: &Filters) -> Table {
    let columns = spec.columns.as_ref();
    let written = before.and_then(|block| block.r#where.known()).map(String::as_str);
    let filter = spec.filter.as_ref().map(|filter| filters.shown(name, written, filter.text()));
    Table {
        name: before.and_then(|block| block.name.known().cloned()).unwrap_or_else(|| name.to_text()).into(),
        columns: columns.map(|columns| columns.iter().map(|column| column.as_str().to_owned()).collect()).into(),
        r#where: filter.into(),
    }
}
