// SPDX-License-Identifier: MPL-2.0

//! The plan's messages about missing rights for a publication, with the statements that grant them.

use std::collections::BTreeSet;

use crate::postgres::publication::{Lack, Publication, lacks, owned_by};
use crate::postgres::{Database, Ident, QualifiedName, Result, quoted};
use crate::replication::names::SHOWN;
use crate::tf_provider::diagnostics::Error;

/// A message: an error, or a warning if the same apply may still grant it.
pub(super) enum Said {
    Refused(Error),
    Warned(Error),
}

/// The rights that the role lacks to turn one publication into the other.
///
/// # Errors
/// When a query fails.
pub(super) async fn missing(
    database: &Database,
    doing: &str,
    old: Option<&Publication>,
    new: &Publication,
) -> Result<Vec<Said>> {
    let place = Place {
        database: database.name(),
        address: database.config().address(),
        role: quoted(&database.config().username),
    };
    let lacks = lacks(database, old, new).await?;
    Ok(lacks.iter().map(|lack| said(doing, &place, lack, old.unwrap_or(new))).collect())
}

/// The place where rights are missing, and the role.
struct Place<'a> {
    database: &'a str,
    address: String,
    role: String,
}

fn said(doing: &str, place: &Place<'_>, lack: &Lack, publication: &Publication) -> Said {
    let Place { database, address, role } = place;
    let error = |what: String| Error::new(format!("{doing}: {what}"));
    let at = format!("On {address}, in database {database:?}");
    match lack {
        Lack::ReadOnly => Said::Refused(
            error(format!("{address} is read-only, as a standby or a reader is"))
                .detail("Connect to the primary, which for an Aurora cluster is the writer endpoint."),
        ),
        Lack::Create => Said::Refused(
            error(format!(
                "permission denied for database {database:?}: role {role} may not create publications in it"
            ))
            .detail(format!(
                "On {address}, as the owner of the database or a superuser: GRANT CREATE ON DATABASE {} TO {role};",
                quoted(database)
            )),
        ),
        Lack::Superuser(option) => Said::Refused(
            error(format!("only a superuser may create a publication with {option}, and role {role} is not one"))
                .detail("List the tables, which needs their ownership only, or connect as a superuser.")
                .attribute(option),
        ),
        Lack::Publication(owner) => Said::Refused(
            error(format!("it belongs to role {owner}, and role {role} may not change it")).detail(format!(
                "{at}, as {owner} or a superuser: ALTER PUBLICATION {} OWNER TO {role}; or connect as its owner.",
                publication.name
            )),
        ),
        Lack::Tables(tables) => Said::Refused(error(of_tables(tables, role)).detail(statements(&at, tables, role))),
        Lack::NoOwner(owner) => Said::Warned(
            error(format!("there is no role {owner} on {address} to own it"))
                .detail(
                    "Apply fails unless it exists by then. If this configuration creates it, refer to its name, \
                     so that it comes first.",
                )
                .attribute("owner"),
        ),
        Lack::SetOwner(owner) => Said::Refused(
            error(format!("role {role} may not make role {owner} its owner"))
                .detail(format!("On {address}, as a superuser or a role with ADMIN on it: GRANT {owner} TO {role};"))
                .attribute("owner"),
        ),
    }
}

fn of_tables(tables: &BTreeSet<(QualifiedName, Ident)>, role: &str) -> String {
    let names = tables.iter().map(|(table, owner)| format!("{} of {owner}", table.to_text()));
    format!(
        "role {role} must own the tables that it publishes, and does not own: {}",
        crate::replication::names::list(names)
    )
}

fn statements(at: &str, tables: &BTreeSet<(QualifiedName, Ident)>, role: &str) -> String {
    let statements: Vec<_> = tables.iter().take(SHOWN).map(|(table, _)| owned_by(table, role)).collect();
    let more = if tables.len() > SHOWN { " And so on." } else { "" };
    format!("{at}, as their owner or a superuser: {}{more} Or connect as their owner.", statements.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::publication::Target;

    #[test]
    fn a_statement_is_whole_and_says_where_to_run_it() {
        let ident = |name: &str| Ident::new(name).unwrap();
        let place = Place { database: "shop", address: "db:5432".to_owned(), role: quoted("me") };
        let table = QualifiedName::parse("Sales.orders").unwrap();
        let tables = Lack::Tables(BTreeSet::from([(table, ident("app"))]));
        let publication = Publication {
            name: ident("p"),
            owner: None,
            target: Target::none(),
            publish: BTreeSet::new(),
            via_partition_root: false,
            generated_columns: crate::postgres::publication::GeneratedColumns::default(),
        };
        let Said::Refused(error) = said("planning publication \"p\"", &place, &tables, &publication) else {
            panic!("it is refused");
        };
        let text = error.to_string();
        let statement = "On db:5432, in database \"shop\", as their owner or a superuser: ALTER TABLE \"Sales\".\"orders\" OWNER TO \"me\";";
        assert!(text.contains(statement), "{text}");
    }
}
