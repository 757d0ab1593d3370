// SPDX-License-Identifier: MPL-2.0

//! `moved` from the provider cyrilgdn/postgresql: its states identify an object by database and name, as ours do.
//!
//! Their other values are not used: the move ends with a refresh, which reads the object itself.

use super::object_id::{InDatabase, ObjectId};
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::MoveSource;
use crate::tf_provider::value::Value;

/// The initial state for an object from that provider's resource type; `None` for any other source.
pub(super) fn moved<M: InDatabase>(source: &MoveSource, type_name: &str) -> Option<Result<M>> {
    object_id(source, type_name).map(|id| id.map(|id| M::called(&id)))
}

fn object_id(source: &MoveSource, type_name: &str) -> Option<Result<ObjectId>> {
    // Forks have other namespaces, and mirrors other hosts.
    let is_postgresql = source.provider_address.rsplit('/').next() == Some("postgresql");
    (is_postgresql && source.type_name == type_name).then(|| named(source))
}

fn named(source: &MoveSource) -> Result<ObjectId> {
    let part = |attribute: &str| {
        let text = source.state.get(attribute).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| {
            Error::new(format!("the state of the {} has no {attribute}", source.type_name)).detail(
                "Refresh it with its own provider (apply -refresh-only) before you move it, or import the \
                     object.",
            )
        })
    };
    Ok(ObjectId::new(part("database")?, part("name")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(provider: &str, type_name: &str, state: &[(&str, Value)]) -> Option<Result<ObjectId>> {
        let state = state.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let source = MoveSource {
            provider_address: provider.to_owned(),
            type_name: type_name.to_owned(),
            schema_version: 0,
            state: Value::Map(state),
        };
        object_id(&source, "postgresql_publication")
    }

    #[test]
    fn an_object_is_named_by_its_state() {
        let state = [("id", "a.b.c".into()), ("database", "a.b".into()), ("name", "c".into()), ("tables", Value::Null)];
        for provider in ["registry.terraform.io/cyrilgdn/postgresql", "mirror.example/someone/postgresql"] {
            let id = moved(provider, "postgresql_publication", &state);
            assert_eq!(id, Some(Ok(ObjectId::new("a.b", "c"))), "{provider}");
        }
        assert_eq!(moved("registry.terraform.io/cyrilgdn/postgresql", "postgresql_subscription", &state), None);
        assert_eq!(moved("registry.terraform.io/cyrilgdn/postgres", "postgresql_publication", &state), None);
    }

    #[test]
    fn a_state_without_a_name_is_refused() {
        for (state, lacks) in
            [(vec![("name", "c".into())], "database"), (vec![("database", "d".into()), ("name", "".into())], "name")]
        {
            let error = moved("h/n/postgresql", "postgresql_publication", &state).unwrap().unwrap_err();
            assert_eq!(error.summary(), format!("the state of the postgresql_publication has no {lacks}"));
        }
    }
}
