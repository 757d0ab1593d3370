// SPDX-License-Identifier: MPL-2.0

//! What publications send of each table.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version;

/// What publications together send of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The columns; none if the server is too old for column lists, so that all columns except generated ones are sent.
    pub columns: Option<BTreeSet<Ident>>,
    /// The row filter, as the server prints it; none if every row is sent.
    pub filter: Option<String>,
}

/// What these publications send, by the names under which the rows arrive.
///
/// # Errors
/// When a query fails.
pub async fn published(db: &Database, names: &BTreeSet<Ident>) -> Result<BTreeMap<QualifiedName, Published>> {
    let doing = "reading what is published";
    // Row filters and column lists came in the same version.
    let details = match db.version().await?.has(version::ROW_FILTERS) {
        true => "attnames::text[], rowfilter",
        false => "NULL::text[], NULL::text",
    };
    let sql = format!(
        "SELECT schemaname::text, tablename::text, {details} FROM pg_publication_tables WHERE pubname = ANY ($1) \
         ORDER BY 1, 2, pubname"
    );
    let names: Vec<&str> = names.iter().map(Ident::as_str).collect();
    let rows = db.query(doing, &sql, &[(&names, Type::TEXT_ARRAY)]).await?;
    let parts: std::result::Result<Vec<_>, tokio_postgres::Error> = rows.iter().map(read).collect();
    Ok(merged(parts.map_err(|error| db.error(doing, Cause::Statement(error)))?))
}

fn read(row: &Row) -> std::result::Result<(QualifiedName, Published), tokio_postgres::Error> {
    let columns: Option<Vec<&str>> = row.try_get(2)?;
    let columns = columns.map(|columns| columns.into_iter().map(Ident::from_catalog).collect());
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), Published { columns, filter: row.try_get(3)? }))
}

/// A row is sent if any of the publications sends it, so a publication without a filter makes all others irrelevant.
fn merged(parts: Vec<(QualifiedName, Published)>) -> BTreeMap<QualifiedName, Published> {
    let mut found: BTreeMap<QualifiedName, Published> = BTreeMap::new();
    for (name, part) in parts {
        match found.get_mut(&name) {
            None => drop(found.insert(name, part)),
            Some(whole) => {
                whole.filter = whole.filter.take().zip(part.filter).map(|(one, other)| format!("({one}) OR ({other})"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_one_publication_sends_is_sent() {
        let part = |name: &str, filter: Option<&str>| {
            let filter = filter.map(str::to_owned);
            (QualifiedName::parse(name).unwrap(), Published { columns: None, filter })
        };
        let merged = merged(vec![
            part("a", Some("x > 1")),
            part("a", Some("x < 0")),
            part("b", Some("x > 1")),
            part("b", None),
            part("b", Some("x < 0")),
        ]);
        let filters: Vec<_> = merged.values().map(|table| table.filter.as_deref()).collect();
        assert_eq!(filters, [Some("(x > 1) OR (x < 0)"), None]);
    }
}
