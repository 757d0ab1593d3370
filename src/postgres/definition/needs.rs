// SPDX-License-Identifier: MPL-2.0

//! The objects that must exist before an object, from the catalog's dependencies between oids.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::object::Object;
use crate::postgres::sql::Ident;

/// A dependency: one object of the catalog needs another.
#[derive(Debug, Deserialize)]
pub(super) struct Edge {
    class: String,
    oid: i64,
    of_class: String,
    of_oid: i64,
}

/// A mapping: an oid of the catalog stands for another object, or for a part of it.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    class: String,
    oid: i64,
    of_class: String,
    of_oid: i64,
    column: Option<Ident>,
    is_generated: bool,
}

/// An oid, with its catalog.
type Number = (String, i64);

/// The objects by their oids.
#[derive(Debug, Default)]
pub(super) struct Places {
    objects: BTreeMap<Number, Object>,
    others: BTreeMap<Number, Place>,
}

impl Places {
    pub(super) fn insert(&mut self, class: &str, oid: i64, object: Object) {
        self.objects.insert((class.to_owned(), oid), object);
    }

    pub(super) fn extend(&mut self, places: Vec<Place>) {
        self.others.extend(places.into_iter().map(|place| ((place.class.clone(), place.oid), place)));
    }

    /// The needs of each object.
    pub(super) fn needs(&self, edges: Vec<Edge>) -> BTreeMap<Object, BTreeSet<Object>> {
        let mut needs: BTreeMap<Object, BTreeSet<Object>> = BTreeMap::new();
        for edge in edges {
            let from = self.object(&(edge.class, edge.oid));
            let to = self.object(&(edge.of_class, edge.of_oid));
            if let (Some(from), Some(to)) = (from, to)
                && from != to
            {
                needs.entry(from).or_default().insert(to);
            }
        }
        needs
    }

    fn object(&self, number: &Number) -> Option<Object> {
        if let Some(object) = self.objects.get(number) {
            return Some(object.clone());
        }
        let place = self.others.get(number)?;
        let whole = self.object(&(place.of_class.clone(), place.of_oid))?;
        Some(match (&place.column, whole) {
            // The expression of a generated column is in its declaration.
            (Some(column), Object::Table(table)) if !place.is_generated => Object::Default(table, column.clone()),
            (Some(name), Object::Type(domain)) => Object::DomainConstraint(domain, name.clone()),
            (_, whole) => whole,
        })
    }
}
