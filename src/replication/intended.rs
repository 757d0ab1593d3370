// SPDX-License-Identifier: MPL-2.0

//! Objects that the plans of one run will create. Resources that refer to them are planned later, and must not
//! report them as missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checks::{Obstacle, Obstacles};
use crate::postgres::catalog::{Outline, Relation};
use crate::postgres::publication::{Publication, Publications};
use crate::postgres::{Database, Ident, QualifiedName};

/// The objects that will exist after the apply, as planned so far.
#[derive(Debug, Default)]
pub struct Intended(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    /// The planned publications; none if one is not known yet.
    publications: BTreeMap<(Place, Ident), Option<Publication>>,
    slots: BTreeSet<(String, Ident)>,
    subscriptions: BTreeSet<(Place, Ident)>,
    /// The planned tables.
    relations: BTreeMap<(Place, QualifiedName), Relation>,
    /// Tables of a subscriber that will be like the publisher's.
    copies: BTreeSet<(Place, QualifiedName)>,
    logical: bool,
}

/// A database: the address of its server, and its name.
type Place = (String, String);

fn place(database: &Database) -> Place {
    (database.config().address(), database.name().to_owned())
}

impl Intended {
    /// Records a publication that a plan creates or changes; `None` if its planned state is not known yet.
    pub fn publication(&self, database: &Database, name: &Ident, publication: Option<Publication>) {
        self.lock().publications.insert((place(database), name.clone()), publication);
    }

    /// Records a replication slot that a plan creates. Its name is unique on the whole server.
    pub fn slot(&self, database: &Database, name: &Ident) {
        self.lock().slots.insert((database.config().address(), name.clone()));
    }

    /// Records a subscription that a plan creates or replaces.
    pub fn subscription(&self, database: &Database, name: &Ident) {
        self.lock().subscriptions.insert((place(database), name.clone()));
    }

    /// Whether a plan creates this subscription.
    pub fn makes_subscription(&self, database: &Database, name: &Ident) -> bool {
        self.lock().subscriptions.contains(&(place(database), name.clone()))
    }

    /// Records the planned state of a table whose replica identity a plan changes.
    pub fn relation(&self, database: &Database, table: &QualifiedName, relation: Relation) {
        self.lock().relations.insert((place(database), table.clone()), relation);
    }

    /// Records tables of a subscriber that are, or will be, like the publisher's.
    pub fn copies(&self, subscriber: &Database, tables: impl IntoIterator<Item = QualifiedName>) {
        let here = place(subscriber);
        self.lock().copies.extend(tables.into_iter().map(|table| (here.clone(), table)));
    }

    /// Records that a plan sets the publisher's WAL to logical.
    pub fn logical_wal(&self) {
        self.lock().logical = true;
    }

    /// Whether a plan creates this slot.
    pub fn has_slot(&self, database: &Database, name: &Ident) -> bool {
        self.lock().slots.contains(&(database.config().address(), name.clone()))
    }

    /// Whether a plan sets the publisher's WAL to logical.
    pub fn makes_wal_logical(&self) -> bool {
        self.lock().logical
    }

    /// The publications in their planned state, and the names of those whose planned state is not known yet.
    pub fn over(&self, database: &Database, existing: &Publications) -> (Publications, BTreeSet<Ident>) {
        let (mut all, mut open) = (existing.clone(), BTreeSet::new());
        let here = place(database);
        for ((at, name), publication) in &self.lock().publications {
            match publication {
                _ if *at != here => {}
                Some(publication) => drop(all.insert(name.clone(), publication.clone())),
                None => {
                    all.remove(name);
                    open.insert(name.clone());
                }
            }
        }
        (all, open)
    }

    /// The tables in their planned state. Missing tables stay missing.
    pub fn over_tables(&self, database: &Database, existing: Arc<Outline>) -> Arc<Outline> {
        let here = place(database);
        let planned = self.lock();
        let changed =
            planned.relations.iter().filter(|((at, name), _)| *at == here && existing.relations.contains_key(name));
        let changed: Vec<_> = changed.map(|((_, name), relation)| (name.clone(), relation.clone())).collect();
        if changed.is_empty() {
            return existing;
        }
        let mut all = Arc::unwrap_or_clone(existing);
        all.relations.extend(changed);
        Arc::new(all)
    }

    /// The obstacles that remain once the subscriber's tables are in their planned state.
    #[must_use]
    pub fn left_of(&self, subscriber: &Database, mut found: Obstacles) -> Obstacles {
        let here = place(subscriber);
        let planned = self.lock();
        let is_mended =
            |of: &Obstacle| matches!(of, Obstacle::NoTable | Obstacle::NoColumns(_) | Obstacle::BinaryTypes(_));
        for (table, obstacles) in &mut found {
            if planned.copies.contains(&(here.clone(), table.clone())) {
                obstacles.retain(|obstacle| !is_mended(obstacle));
            }
        }
        found.retain(|_, obstacles| !obstacles.is_empty());
        found
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::{Identity, Kind, ReplicaIdentity};
    use crate::postgres::publication::{GeneratedColumns, Operation, Target};
    use crate::postgres::{Server, ServerConfig};

    fn ident(name: &str) -> Ident {
        Ident::new(name).unwrap()
    }

    fn publication(name: &str, via_partition_root: bool) -> Publication {
        Publication {
            name: ident(name),
            owner: None,
            target: Target::none(),
            publish: BTreeSet::from([Operation::Insert]),
            via_partition_root,
            generated_columns: GeneratedColumns::default(),
        }
    }

    #[test]
    fn a_table_counts_as_planned_where_it_is_there() {
        let server = Server::new(ServerConfig::new("h", "shop", "u"));
        let (shop, mall) = (server.database(None), server.database(Some("mall")));
        let relation = |identity| Relation {
            kind: Kind::Table,
            is_unlogged: false,
            replica_identity: ReplicaIdentity::Default,
            has_primary_key: false,
            identity,
            stored_generated: BTreeSet::new(),
            virtual_generated: BTreeSet::new(),
            ancestors: Vec::new(),
        };
        let table = |name: &str| QualifiedName::parse(name).unwrap();
        let relations = BTreeMap::from([(table("there"), relation(Identity::Missing))]);
        let existing = Arc::new(Outline { relations, ..Outline::default() });
        let intended = Intended::default();
        intended.relation(&shop, &table("there"), relation(Identity::Full));
        intended.relation(&shop, &table("gone"), relation(Identity::Full));
        let over = intended.over_tables(&shop, Arc::clone(&existing));
        assert_eq!(over.relations, BTreeMap::from([(table("there"), relation(Identity::Full))]));
        assert_eq!(intended.over_tables(&mall, Arc::clone(&existing)), existing);
    }

    #[test]
    fn a_table_that_a_plan_makes_is_in_nobodys_way() {
        let server = Server::new(ServerConfig::new("h", "shop", "u"));
        let (shop, mall) = (server.database(None), server.database(Some("mall")));
        let table = |name: &str| QualifiedName::parse(name).unwrap();
        let found = BTreeMap::from([
            (table("made"), vec![Obstacle::NoTable]),
            (table("other"), vec![Obstacle::NoTable]),
            (table("unread"), vec![Obstacle::NoTable, Obstacle::NoSelect { role: ident("r") }]),
        ]);
        let intended = Intended::default();
        intended.copies(&shop, [table("made"), table("unread")]);
        let left = intended.left_of(&shop, found.clone());
        let expected = BTreeMap::from([
            (table("other"), vec![Obstacle::NoTable]),
            (table("unread"), vec![Obstacle::NoSelect { role: ident("r") }]),
        ]);
        assert_eq!(left, expected);
        assert_eq!(intended.left_of(&mall, found.clone()), found);
    }

    #[test]
    fn what_is_planned_counts_as_there() {
        let server = Server::new(ServerConfig::new("h", "shop", "u"));
        let (shop, mall) = (server.database(None), server.database(Some("mall")));
        let existing = Publications::from([(ident("old"), publication("old", false))]);
        let intended = Intended::default();
        intended.publication(&shop, &ident("old"), Some(publication("old", true)));
        intended.publication(&shop, &ident("open"), None);
        intended.publication(&mall, &ident("elsewhere"), Some(publication("elsewhere", false)));
        let (all, open) = intended.over(&shop, &existing);
        assert_eq!(all, Publications::from([(ident("old"), publication("old", true))]));
        assert_eq!(open, BTreeSet::from([ident("open")]));

        intended.subscription(&shop, &ident("sub"));
        assert!(
            intended.makes_subscription(&shop, &ident("sub")) && !intended.makes_subscription(&mall, &ident("sub"))
        );

        intended.slot(&mall, &ident("s"));
        assert!(intended.has_slot(&shop, &ident("s")), "a slot is of the whole server");
        assert!(!intended.has_slot(&shop, &ident("t")) && !intended.makes_wal_logical());
    }
}
