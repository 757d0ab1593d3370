//! What a role needs for a publication, and does not have.
//!
//! Source: `CREATE PUBLICATION` and `ALTER PUBLICATION` in the Postgres documentation; the access privilege inquiry functions.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use super::{Publication, Target};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version;

/// What stands in the way of making or changing a publication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The server only reads.
    ReadOnly,
    /// The role may not make publications in the database.
    Create,
    /// What is asked for needs a superuser, by the name of its option.
    Superuser(&'static str),
    /// The publication belongs to this role.
    Publication(Ident),
    /// These tables belong to others: the table, and its owner.
    Tables(BTreeSet<(QualifiedName, Ident)>),
    /// There is no such role, which is to own it.
    NoOwner(Ident),
    /// The role may not make this one the owner.
    SetOwner(Ident),
}

/// What the connected role lacks to turn `old` into `new`. Tables that are not there are passed over.
///
/// # Errors
/// When the server cannot be asked.
pub async fn lacks(db: &Database, old: Option<&Publication>, new: &Publication) -> Result<Vec<Lack>> {
    let doing = format!("asking for the rights that publication {} needs", new.name);
    let known: BTreeSet<_> = old.into_iter().flat_map(Publication::listed).map(|(table, _)| table).collect();
    let tables: Vec<_> = new.listed().map(|(table, _)| table).filter(|table| !known.contains(table)).collect();
    let schemas: Vec<_> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    let becomes = if db.version().await?.has(version::RUN_AS_OWNER) { "SET" } else { "MEMBER" };
    let owner = new.owner.as_ref().map(Ident::as_str);
    let sql = format!(
        "SELECT pg_is_in_recovery(), r.rolsuper, has_database_privilege(current_database(), 'CREATE'), \
         o.oid IS NOT NULL, coalesce(pg_has_role(o.oid, '{becomes}'), false), \
         (SELECT pg_get_userbyid(p.pubowner)::text FROM pg_publication p WHERE p.pubname = $4 AND NOT pg_has_role(p.pubowner, 'USAGE')), \
         ARRAY(SELECT w.s FROM {FOREIGN}), ARRAY(SELECT w.t FROM {FOREIGN}), \
         ARRAY(SELECT pg_get_userbyid(c.relowner)::text FROM {FOREIGN}) \
         FROM pg_roles r LEFT JOIN pg_roles o ON o.rolname = $3 WHERE r.rolname = current_user"
    );
    let name = old.map_or(&new.name, |old| &old.name).as_str();
    let params: &[crate::postgres::work::Param<'_>] =
        &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&owner, Type::TEXT), (&name, Type::TEXT)];
    let rows = db.query(&doing, &sql, params).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let read = || {
        let (schemas, names, owners): (Vec<&str>, Vec<&str>, Vec<&str>) =
            (row.try_get(6)?, row.try_get(7)?, row.try_get(8)?);
        let tables = schemas.iter().zip(&names).zip(&owners);
        Ok(Rights {
            reads_only: row.try_get(0)?,
            is_super: row.try_get(1)?,
            creates: row.try_get(2)?,
            has_owner: row.try_get(3)?,
            sets_owner: row.try_get(4)?,
            owned_by: row.try_get::<_, Option<&str>>(5)?.map(Ident::from_catalog),
            foreign: tables
                .map(|((schema, name), owner)| (QualifiedName::from_catalog(schema, name), Ident::from_catalog(owner)))
                .collect(),
        })
    };
    let rights = read().map_err(|error| db.error(&doing, Cause::Statement(error)))?;
    Ok(rights.lacks(old, new))
}

/// The statement, for people, that gives a table to a role; its name is quoted already.
pub fn owned_by(table: &QualifiedName, role: &str) -> String {
    format!("ALTER TABLE {table} OWNER TO {role};")
}

/// The tables that the role does not own.
const FOREIGN: &str = "unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c \
     ON c.relnamespace = n.oid AND c.relname = w.t WHERE c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1, c.oid";

/// What a role has.
#[derive(Debug, Clone, Default)]
struct Rights {
    reads_only: bool,
    is_super: bool,
    creates: bool,
    has_owner: bool,
    sets_owner: bool,
    owned_by: Option<Ident>,
    foreign: BTreeSet<(QualifiedName, Ident)>,
}

impl Rights {
    fn lacks(self, old: Option<&Publication>, new: &Publication) -> Vec<Lack> {
        if self.reads_only {
            return vec![Lack::ReadOnly];
        }
        let owner = new.owner.clone().filter(|owner| old.and_then(|old| old.owner.as_ref()) != Some(owner));
        let mut found = Vec::new();
        match old {
            None => found.extend((!self.creates).then_some(Lack::Create)),
            Some(_) => found.extend(self.owned_by.map(Lack::Publication)),
        }
        found.extend(needs_superuser(old, new).filter(|_| !self.is_super).map(Lack::Superuser));
        found.extend((!self.foreign.is_empty()).then_some(Lack::Tables(self.foreign)));
        found.extend(owner.and_then(|owner| match (self.has_owner, self.sets_owner) {
            (false, _) => Some(Lack::NoOwner(owner)),
            (true, false) => Some(Lack::SetOwner(owner)),
            (true, true) => None,
        }));
        found
    }
}

/// The option that only a superuser may ask for.
fn needs_superuser(old: Option<&Publication>, new: &Publication) -> Option<&'static str> {
    match (&new.target, old.map(|old| &old.target)) {
        (Target::AllTables, None | Some(Target::Lists { .. })) => Some("all_tables"),
        (Target::Lists { schemas, .. }, Some(Target::Lists { schemas: before, .. })) if schemas.is_subset(before) => {
            None
        }
        (Target::Lists { schemas, .. }, _) if !schemas.is_empty() => Some("schemas"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::publication::{GeneratedColumns, Operation};

    fn publication(target: Target) -> Publication {
        Publication {
            name: Ident::new("p").unwrap(),
            owner: Some(Ident::new("app").unwrap()),
            target,
            publish: BTreeSet::from([Operation::Insert]),
            via_partition_root: false,
            generated_columns: GeneratedColumns::default(),
        }
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let app = Ident::new("app").unwrap();
        let new = publication(Target::AllTables);
        let nothing = Rights::default();
        assert_eq!(
            nothing.clone().lacks(None, &new),
            [Lack::Create, Lack::Superuser("all_tables"), Lack::NoOwner(app.clone())]
        );
        let owned = Rights { owned_by: Some(app.clone()), has_owner: true, ..nothing.clone() };
        assert_eq!(owned.lacks(Some(&new), &new), [Lack::Publication(app.clone())]);
        let standby = Rights { reads_only: true, ..nothing.clone() };
        assert_eq!(standby.lacks(None, &new), [Lack::ReadOnly]);
        let lists = publication(Target::tables([QualifiedName::parse("t").unwrap()]));
        let foreign = BTreeSet::from([(QualifiedName::parse("t").unwrap(), app.clone())]);
        let rights = Rights { creates: true, has_owner: true, foreign: foreign.clone(), ..nothing };
        assert_eq!(rights.lacks(None, &lists), [Lack::Tables(foreign), Lack::SetOwner(app)]);
    }
}
