// SPDX-License-Identifier: MPL-2.0

//! Messages about tables without statistics, for which the server makes poor plans. Pure.

use std::collections::BTreeMap;

use crate::postgres::QualifiedName;
use crate::postgres::catalog::{self, Unanalyzed};
use crate::replication::{Place, names};

/// Tables with the same message.
pub(in crate::replication) struct Unknown<'a> {
    /// The tables.
    pub(in crate::replication) tables: Vec<&'a QualifiedName>,
    /// The message, without a full stop.
    pub(in crate::replication) says: String,
    /// The statement that fixes it, with the server to run it on.
    pub(in crate::replication) remedy: String,
}

/// Messages for tables that were never analyzed, and for tables of which most rows have changed since.
pub(in crate::replication) fn unknown<'a>(
    found: &'a BTreeMap<QualifiedName, Unanalyzed>,
    place: Place,
    database: &str,
) -> Vec<Unknown<'a>> {
    let (never, since): (Vec<_>, Vec<_>) = found.iter().partition(|(_, why)| **why == Unanalyzed::Never);
    let side = place.as_str();
    let kinds =
        [(Unanalyzed::Never, never), (Unanalyzed::Since(0), since)].into_iter().filter(|(_, all)| !all.is_empty());
    kinds
        .map(|(why, tables)| {
            let tables: Vec<_> = tables.into_iter().map(|(table, _)| table).collect();
            let says = says(why, &names::tables(tables.iter().copied()), side);
            let remedy = remedy(&tables, side, database);
            Unknown { says: format!("{says}, so queries there may be slow at first"), remedy, tables }
        })
        .collect()
}

fn says(why: Unanalyzed, tables: &str, side: &str) -> String {
    match why {
        Unanalyzed::Never => format!("the {side} has no statistics of the rows of {tables}"),
        Unanalyzed::Since(_) => format!("most rows of {tables} have changed since the {side} analyzed them"),
    }
}

/// For very many tables, analyzing the whole database is the shorter statement; it skips tables that the role does not
/// own.
fn remedy(tables: &[&QualifiedName], side: &str, database: &str) -> String {
    let statement = match tables.len() {
        ..=names::SHOWN => catalog::analyze(tables.iter().copied()).to_string(),
        _ => "ANALYZE".to_owned(),
    };
    format!(
        "On the {side}, in database {database:?}, as the owner of the tables: {statement}; The resource \
         neonrepl_destination_indexes does it after the initial copy."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_was_never_analyzed_is_apart_from_what_has_changed() {
        let table = |number: usize| QualifiedName::parse(&format!("t{number:02}")).unwrap();
        let mut found = BTreeMap::from([(table(1), Unanalyzed::Never), (table(2), Unanalyzed::Since(5000))]);
        let shown = |found: &BTreeMap<_, _>| {
            let all = unknown(found, Place::Subscriber, "shop");
            all.iter().map(|one| format!("{}. {}\n", one.says, one.remedy)).collect::<String>()
        };
        expect![[r#"
            the subscriber has no statistics of the rows of public.t01, so queries there may be slow at first. On the subscriber, in database "shop", as the owner of the tables: ANALYZE "public"."t01"; The resource neonrepl_destination_indexes does it after the initial copy.
            most rows of public.t02 have changed since the subscriber analyzed them, so queries there may be slow at first. On the subscriber, in database "shop", as the owner of the tables: ANALYZE "public"."t02"; The resource neonrepl_destination_indexes does it after the initial copy.
        "#]]
        .assert_eq(&shown(&found));
        found.extend((3..20).map(|number| (table(number), Unanalyzed::Never)));
        let many = shown(&found);
        assert!(many.contains("t11 and 8 more") && many.contains(": ANALYZE; The resource"), "{many}");
        assert_eq!(shown(&BTreeMap::new()), "");
    }
}
