// SPDX-License-Identifier: MPL-2.0

//! Shared by resources for tables of both sides: the tables and the databases.

use std::collections::BTreeSet;

use super::object_id::{self, InDatabase};
use crate::config::{Context, are_empty, check_name, check_table, names};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::{self, Pair};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::PlannedChange;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// A model of such a resource: it has `publications`, `tables` and `publisher_database`. Written by [`of_tables!`].
pub(super) trait OfTables: InDatabase {
    /// The publications whose tables it is for.
    fn publications(&self) -> &Attr<BTreeSet<String>>;

    /// Further tables.
    fn tables(&self) -> &Attr<BTreeSet<String>>;

    /// The database of the publisher.
    fn publisher_database(&self) -> &Attr<String>;

    /// The same model for other tables.
    fn of(self, publications: Attr<BTreeSet<String>>, tables: Attr<BTreeSet<String>>, database: Attr<String>) -> Self;

    /// The same model with this `id`.
    fn identified(self, id: String) -> Self;
}

/// Implements [`OfTables`] for a model with `publications`, `tables` and `publisher_database`.
macro_rules! of_tables {
    ($model:ty) => {
        impl $crate::resources::destination_tables::OfTables for $model {
            fn publications(&self) -> &$crate::tf_provider::convert::Attr<std::collections::BTreeSet<String>> {
                &self.publications
            }

            fn tables(&self) -> &$crate::tf_provider::convert::Attr<std::collections::BTreeSet<String>> {
                &self.tables
            }

            fn publisher_database(&self) -> &$crate::tf_provider::convert::Attr<String> {
                &self.publisher_database
            }

            fn of(
                self,
                publications: $crate::tf_provider::convert::Attr<std::collections::BTreeSet<String>>,
                tables: $crate::tf_provider::convert::Attr<std::collections::BTreeSet<String>>,
                publisher_database: $crate::tf_provider::convert::Attr<String>,
            ) -> Self {
                Self { publications, tables, publisher_database, ..self }
            }

            fn identified(self, id: String) -> Self {
                Self { id: id.into(), ..self }
            }
        }
    };
}
pub(super) use of_tables;

/// The attributes that select tables. `what` says what happens to them, such as `whose tables are created`, and `stays`
/// says what stays behind when the database changes.
pub(super) fn with_places(schema: Schema, what: &str, stays: &str) -> Schema {
    let names = Type::set(Type::String);
    schema
        .attribute(
            Attribute::optional(
                "publications",
                names.clone(),
                &format!(
                    "The publications {what}, with partitions. At least one of `publications` and `tables` is needed."
                ),
            )
            .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "tables",
                names,
                "Further tables, as the `tables` of a publication name them: `schema.table`, or `table` in `public`.",
            )
            .text(check_table),
        )
        .attribute(
            Attribute::optional_computed(
                "publisher_database",
                Type::String,
                &format!(
                    "The database of the publisher. Default: the provider's. A change makes a new resource: {stays}."
                ),
            )
            .text(check_name)
            .replaces(),
        )
        .attribute(
            Attribute::optional_computed(
                "database",
                Type::String,
                &format!(
                    "The database of the subscriber. Default: the provider's. A change makes a new resource: {stays}."
                ),
            )
            .text(check_name)
            .replaces(),
        )
}

/// Checks that at least one publication or table is given.
pub(super) fn validate<M: OfTables>(config: &M, diagnostics: &mut Diagnostics) {
    if are_empty(&[config.publications(), config.tables()]) {
        let error = Error::new("neither publications nor tables are given");
        diagnostics.error(error.detail("Name at least one publication, or one table.").attribute("publications"));
    }
}

/// The name that stands for these publications and tables.
pub(super) fn name(publications: &Attr<BTreeSet<String>>, tables: &Attr<BTreeSet<String>>) -> Attr<String> {
    if publications.is_unknown() || tables.is_unknown() {
        return Attr::Unknown;
    }
    let publications = names("publications", publications, |text| Ident::new(text));
    let tables = names("tables", tables, QualifiedName::parse);
    let (Ok(publications), Ok(tables)) = (publications, tables) else { return Attr::Unknown };
    let encode = |text: &str| text.replace('%', "%25").replace(',', "%2C");
    let publications = publications.iter().map(|name| encode(name.as_str()).replace(':', "%3A"));
    let tables = tables.iter().map(|table| format!("table:{}", encode(&table.to_text())));
    publications.chain(tables).collect::<Vec<_>>().join(",").into()
}

/// The publications and tables that a name stands for.
fn named(name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let decode = |text: &str| text.replace("%3A", ":").replace("%2C", ",").replace("%25", "%");
    let (tables, publications): (Vec<_>, Vec<_>) = name.split(',').partition(|part| part.starts_with("table:"));
    let tables = tables.into_iter().map(|part| decode(part.trim_start_matches("table:")));
    (publications.into_iter().map(decode).collect(), tables.collect())
}

/// Plans the name, which follows from the publications and tables, and the `id`.
pub(super) fn plan_name<M: OfTables>(change: &mut PlannedChange<M>) -> Result<()> {
    let Some(planned) = change.planned() else { return Ok(()) };
    let name = name(planned.publications(), planned.tables());
    change.set("name", name)?;
    object_id::plan_id(change)
}

/// Continues the plan of a new resource whose servers cannot be reached yet.
pub(super) fn go_on_without<M: OfTables>(
    change: &mut PlannedChange<M>,
    error: replication::Error,
    doing: &str,
) -> Result<()> {
    let is_new = change.prior().is_none() || change.replaces();
    match error.cause() {
        Some(cause) if is_new && !cause.is_answer() => {
            let warning = Error::new(format!("{doing}: the server could not be asked"));
            let warning = warning.detail("What is created, and whether it can be, is only known when this is applied.");
            change.warn(warning.detail(cause.to_string()).detail(cause.hint().unwrap_or_default()));
            Ok(())
        }
        _ => Err(error.during(doing).into()),
    }
}

/// The model with its `id`, if that was not known in the plan.
pub(super) fn with_id<M: OfTables>(model: M) -> M {
    match (model.database().known(), model.name().known()) {
        (Some(database), Some(name)) => {
            let id = object_id::ObjectId::new(database, name).to_string();
            model.identified(id)
        }
        _ => model,
    }
}

/// Whether a value in a server's configuration is not known yet.
pub(super) fn is_waiting(call: &Call<Context>) -> bool {
    call.context().publisher().is_waiting() || call.context().subscriber().is_waiting()
}

/// Both databases. Does not connect.
pub(super) fn pair<M: OfTables>(call: &Call<Context>, model: &M) -> Result<Pair> {
    call.context().pair(model.publisher_database(), model.database())
}

/// Plans the configured database of the publisher where none is given.
pub(super) fn plan_publisher_database<M: OfTables>(call: &Call<Context>, change: &mut PlannedChange<M>) -> Result<()> {
    let is_open = change.planned().is_some_and(|planned| planned.publisher_database().is_unknown());
    match call.context().publisher().database_name().filter(|_| is_open) {
        Some(database) => change.set("publisher_database", database),
        None => Ok(()),
    }
}

/// The state with the values from its name, after an import.
pub(super) fn with_names<M: OfTables>(call: &Call<Context>, state: M) -> Result<M> {
    if !(state.publications().is_null() && state.tables().is_null()) {
        return Ok(state);
    }
    let (publications, tables) = named(state.name().required("name")?);
    let set = |names: BTreeSet<String>| {
        let names: BTreeSet<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        if names.is_empty() { Attr::Null } else { Attr::Known(names) }
    };
    Ok(state.of(set(publications), set(tables), call.context().publisher().database_name().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_round_whatever_is_in_it() {
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        for (publications, tables) in [
            (set(&["shop"]), set(&[])),
            (set(&["a,b", "c%2C", "table:x"]), set(&["public.t", "s.\"a,b.c\""])),
            (set(&[]), set(&["public.a:b"])),
        ] {
            let name = name(&publications.clone().into(), &tables.clone().into()).into_known().unwrap();
            let (found, of) = named(&name);
            let found: BTreeSet<_> = found.into_iter().filter(|name| !name.is_empty()).collect();
            assert_eq!((found, of), (publications, tables), "{name}");
        }
        assert!(name(&Attr::Unknown, &Attr::Null).is_unknown());
    }
}
