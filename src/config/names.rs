// SPDX-License-Identifier: MPL-2.0

//! Names of databases, publications and tables in a configuration.

use std::collections::BTreeSet;

use crate::postgres::{Ident, InvalidName, QualifiedName};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};

/// Checks that a text is a valid name in Postgres; the message says what is wrong.
///
/// # Errors
/// When it is empty, too long or has a NUL character.
pub(crate) fn check_name(text: &str) -> std::result::Result<(), String> {
    Ident::new(text).map(|_| ()).map_err(|error| format!("{error}."))
}

/// Checks a table's name: `schema.table`, or `table` in `public`.
///
/// # Errors
/// When it is not a valid table name.
pub(crate) fn check_table(text: &str) -> std::result::Result<(), String> {
    QualifiedName::parse(text).map(|_| ()).map_err(|error| format!("{error}."))
}

/// Whether all of these attributes are empty. An unknown value does not count as empty.
pub(crate) fn are_empty(attributes: &[&Attr<BTreeSet<String>>]) -> bool {
    attributes.iter().all(|names| match names {
        Attr::Null => true,
        Attr::Unknown => false,
        Attr::Known(names) => names.is_empty(),
    })
}

/// The names of an attribute; empty if it has no value.
///
/// # Errors
/// When one of them is not a valid name, at the attribute.
pub(crate) fn names<T: Ord>(
    attribute: &str,
    texts: &Attr<BTreeSet<String>>,
    read: impl Fn(&str) -> std::result::Result<T, InvalidName>,
) -> Result<BTreeSet<T>> {
    let names: std::result::Result<_, _> = texts.known().into_iter().flatten().map(|text| read(text)).collect();
    names.map_err(|error| Error::new(error.to_string()).attribute(attribute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_names_names_nothing() {
        let set = |names: &[&str]| Attr::Known(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
        assert!(are_empty(&[&Attr::Null, &set(&[])]));
        assert!(!are_empty(&[&set(&[]), &set(&["shop"])]));
        assert!(!are_empty(&[&Attr::Null, &Attr::Unknown]));
    }
}
