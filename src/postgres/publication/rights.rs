// SPDX-License-Identifier: MPL-2.0

//! The rights that a role lacks for a publication.
//!
//! Source: `CREATE PUBLICATION` and `ALTER PUBLICATION` in the Postgres documentation; the access privilege inquiry functions.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

use super::{Publication, Target};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version;

/// What prevents creating or changing a publication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The server is read-only.
    ReadOnly,
    /// The role may not create publications in the database.
    Create,
    /// This option needs a superuser.
    Superuser(&'static str),
    /// The publication belongs to this role.
    Publication(Ident),
    /// These tables belong to others, each with its owner.
    Tables(BTreeSet<(QualifiedName, Ident)>),
    /// The role that should own it does not exist.
    NoOwner(Ident),
    /// The role may not make this one the owner.
    SetOwner(Ident),
}

/// The rights that the connected role lacks to turn `old` into `new`. Missing tables are skipped.
///
/// Most objects of a plan lack nothing, so rights come from a snapshot that is at most two seconds old. A right that it
/// lacks is read again, because another resource of the same apply may just have granted it.
///
/// # Errors
/// When a query fails.
pub async fn lacks(db: &Database, old: Option<&Publication>, new: &Publication) -> Result<Vec<Lack>> {
    let known = db.snapshot::<Rights>().get(|| 0, load(db)).await?;
    if known.lacks(old, new).is_empty() {
        return Ok(Vec::new());
    }
    Ok(load(db).await?.lacks(old, new))
}

async fn load(db: &Database) -> Result<Rights> {
    let doing = "asking for the rights that publications need";
    let becomes = if db.version().await?.has(version::RUN_AS_OWNER) { "SET" } else { "MEMBER" };
    let sql = format!(
        "SELECT pg_is_in_recovery(), r.rolsuper, has_database_privilege(current_database(), 'CREATE'), \
         ARRAY(SELECT o.rolname::text FROM pg_roles o ORDER BY o.oid), \
         ARRAY(SELECT pg_has_role(o.oid, '{becomes}') FROM pg_roles o ORDER BY o.oid), \
         ARRAY(SELECT p.pubname::text FROM {PUBLICATIONS}), ARRAY(SELECT pg_get_userbyid(p.pubowner)::text FROM {PUBLICATIONS}), \
         ARRAY(SELECT n.nspname::text FROM {TABLES}), ARRAY(SELECT c.relname::text FROM {TABLES}), \
         ARRAY(SELECT pg_get_userbyid(c.relowner)::text FROM {TABLES}) \
         FROM pg_roles r WHERE r.rolname = current_user"
    );
    let rows = db.query(doing, &sql, &[]).await?;
    let read = |row: &Row| {
        let names = |at: usize| -> std::result::Result<Vec<&str>, tokio_postgres::Error> { row.try_get(at) };
        let (roles, becomes): (_, Vec<bool>) = (names(3)?, row.try_get(4)?);
        let tables = names(7)?.into_iter().zip(names(8)?);
        Ok(Rights {
            reads_only: row.try_get(0)?,
            is_super: row.try_get(1)?,
            creates: row.try_get(2)?,
            roles: roles.into_iter().map(Ident::from_catalog).zip(becomes).collect(),
            publications: idents(names(5)?).zip(idents(names(6)?)).collect(),
            tables: tables
                .map(|(schema, name)| QualifiedName::from_catalog(schema, name))
                .zip(idents(names(9)?))
                .collect(),
        })
    };
    let rights: std::result::Result<Option<_>, tokio_postgres::Error> = rows.first().map(read).transpose();
    Ok(rights.map_err(|error| db.error(doing, Cause::Statement(error)))?.unwrap_or_default())
}

fn idents<'a>(names: Vec<&'a str>) -> impl Iterator<Item = Ident> + use<'a> {
    names.into_iter().map(Ident::from_catalog)
}

/// The statement, for people, that gives a table to a role, whose name is already quoted.
pub fn owned_by(table: &QualifiedName, role: &str) -> String {
    format!("ALTER TABLE {table} OWNER TO {role};")
}

/// The publications that the role may not change.
const PUBLICATIONS: &str = "pg_publication p WHERE NOT pg_has_role(p.pubowner, 'USAGE') ORDER BY p.oid";

/// The tables that the role does not own.
const TABLES: &str = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
     AND c.relpersistence <> 't' AND n.nspname <> 'pg_catalog' AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY c.oid";

/// The rights of a role in a database.
#[derive(Debug, Clone, Default)]
struct Rights {
    reads_only: bool,
    is_super: bool,
    creates: bool,
    /// All roles of the server, each with whether it may be made an owner.
    roles: BTreeMap<Ident, bool>,
    /// The objects of other owners, with these.
    publications: BTreeMap<Ident, Ident>,
    tables: BTreeMap<QualifiedName, Ident>,
}

impl Rights {
    fn lacks(&self, old: Option<&Publication>, new: &Publication) -> Vec<Lack> {
        if self.reads_only {
            return vec![Lack::ReadOnly];
        }
        let mut found = Vec::new();
        match old {
            None => found.extend((!self.creates).then_some(Lack::Create)),
            Some(old) => found.extend(self.publications.get(&old.name).cloned().map(Lack::Publication)),
        }
        found.extend(needs_superuser(old, new).filter(|_| !self.is_super).map(Lack::Superuser));
        let foreign = self.foreign(old, new);
        found.extend((!foreign.is_empty()).then_some(Lack::Tables(foreign)));
        let owner = new.owner.as_ref().filter(|owner| old.and_then(|old| old.owner.as_ref()) != Some(owner));
        found.extend(owner.and_then(|owner| match self.roles.get(owner) {
            None => Some(Lack::NoOwner(owner.clone())),
            Some(false) => Some(Lack::SetOwner(owner.clone())),
            Some(true) => None,
        }));
        found
    }

    /// The new tables that belong to others.
    fn foreign(&self, old: Option<&Publication>, new: &Publication) -> BTreeSet<(QualifiedName, Ident)> {
        let known: BTreeSet<_> = old.into_iter().flat_map(Publication::listed).map(|(table, _)| table).collect();
        let joining = new.listed().map(|(table, _)| table).filter(|table| !known.contains(table));
        joining.filter_map(|table| Some((table.clone(), self.tables.get(table)?.clone()))).collect()
    }
}

/// The option that only a superuser may use.
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
        let roles = BTreeMap::from([(app.clone(), false)]);
        let owned =
            Rights { publications: [(new.name.clone(), app.clone())].into(), roles: roles.clone(), ..nothing.clone() };
        assert_eq!(owned.lacks(Some(&new), &new), [Lack::Publication(app.clone())]);
        let standby = Rights { reads_only: true, ..nothing.clone() };
        assert_eq!(standby.lacks(None, &new), [Lack::ReadOnly]);
        let lists = publication(Target::tables([QualifiedName::parse("t").unwrap()]));
        let table = QualifiedName::parse("t").unwrap();
        let rights = Rights { creates: true, roles, tables: [(table.clone(), app.clone())].into(), ..nothing };
        let foreign = BTreeSet::from([(table, app.clone())]);
        assert_eq!(rights.lacks(None, &lists), [Lack::Tables(foreign), Lack::SetOwner(app)]);
    }
}
