// SPDX-License-Identifier: MPL-2.0

//! The differences for replaced tables: their names and definitions are the same, but their rows are not.

use super::super::known::Replaced;
use super::super::mending::Remedy;
use super::super::model::Definition;
use super::super::new_names::{NewName, NewNames};
use super::super::object::Object;
use super::Difference;
use crate::postgres::sql::QualifiedName;

/// The attribute that differs.
pub(super) const ROWS: &str = "rows";

const COPY_AGAIN: &str = "once the new table is published, and while the publisher takes the writes; with CASCADE where other tables refer to it. Then apply: that makes it \
    again, and neonrepl_subscription takes it up and copies its rows; any other subscription needs REFRESH PUBLICATION. The \
    publisher has dropped the table that had this name before, or has given it another one, so that the subscriber still has its \
    rows, and lacks those that the new table got while it was not published. If the rows are right, as a comparison shows, apply \
    with -replace of this resource, which leaves the tables as they are";

const TAKE_UP_AGAIN: &str = "somebody has dropped the table there and made it again, and no subscription has taken it up since: what the \
    publisher writes to it does not arrive, and no error says so. Then have the subscription look for tables, which copies all \
    rows of it: neonrepl_subscription plans that by itself, and for another one it is ALTER SUBSCRIPTION … REFRESH PUBLICATION";

const ALL_OF_PUBLISHER: &str = "the publisher's database was restored from a dump or set up again, or all of these were dropped and made \
    again. If the subscription has gone on, it has rows of the old tables, and may lack rows of the new ones: compare them. To copy all of them \
    again, drop them on the subscriber while the publisher takes the writes, and apply, which makes them again; neonrepl_subscription \
    copies their rows, as does a subscription that is made again. Where that has been done, or the rows are right, apply with \
    -replace of this resource, which leaves the tables as they are";

const ALL_OF_SUBSCRIBER: &str = "the subscriber's database was restored from a dump or set up again, and no subscription has taken these \
    tables up since: what the publisher writes does not arrive. Empty them, and then have the subscription look for tables, which copies all rows: \
    neonrepl_subscription plans that by itself, and for another one it is ALTER SUBSCRIPTION … REFRESH PUBLICATION";

const DISPLACED: &str = "the publisher has renamed this table and has another one of its old name, which is not published, as after a \
    migration that has put a new table in the place of the old one. If so, publish that one instead (ALTER PUBLICATION … SET TABLE, \
    or tables of neonrepl_publication): the next plan then says how its rows are copied";

impl Replaced {
    /// A difference for each table, or one for all of them. Partitions are replaced with their parent.
    pub(super) fn differences(&self, publisher: &Definition) -> Vec<Difference> {
        if self.is_all_of_publisher {
            return vec![all(self.on_publisher.len(), true)];
        }
        if self.is_all_of_subscriber {
            return vec![all(self.on_subscriber.len(), false)];
        }
        let is_first = |name: &QualifiedName, is_replaced: &dyn Fn(&QualifiedName) -> bool| {
            let table = publisher.tables.get(name).filter(|table| table.is_partition());
            !table.is_some_and(|table| table.parents.iter().any(is_replaced))
        };
        let is_there = |name: &QualifiedName| self.on_publisher.contains_key(name);
        let there = self.on_publisher.iter().filter(|(name, _)| is_first(name, &is_there));
        let there = there.map(|(name, had)| on_publisher(name, had.as_ref()));
        let is_here = |name: &QualifiedName| self.on_subscriber.contains(name);
        let here = self.on_subscriber.iter().filter(|name| is_first(name, &is_here)).map(on_subscriber);
        there.chain(here).collect()
    }
}

fn on_publisher(name: &QualifiedName, had: Option<&QualifiedName>) -> Difference {
    let publisher = match had {
        Some(had) => format!("the table that is {} on the subscriber", had.to_text()),
        None => "another table of this name".to_owned(),
    };
    let subscriber = "rows of the one that had it before".to_owned();
    let remedy = Remedy::person(vec![format!("DROP TABLE {name}")], COPY_AGAIN);
    Difference { object: Object::Table(name.clone()), attribute: ROWS.to_owned(), publisher, subscriber, remedy }
}

fn on_subscriber(name: &QualifiedName) -> Difference {
    Difference {
        object: Object::Table(name.clone()),
        attribute: ROWS.to_owned(),
        publisher: "the same table as before".to_owned(),
        subscriber: "another table of this name".to_owned(),
        remedy: Remedy::person(vec![format!("TRUNCATE {name}")], TAKE_UP_AGAIN),
    }
}

fn all(count: usize, is_publisher: bool) -> Difference {
    let others = format!("all {count} tables are others of the same names");
    let (publisher, subscriber, when) = match is_publisher {
        true => (others, "rows of those that had these names before".to_owned(), ALL_OF_PUBLISHER),
        false => ("the same tables as before".to_owned(), others, ALL_OF_SUBSCRIBER),
    };
    let remedy = Remedy::person(Vec::new(), when);
    Difference { object: Object::Tables, attribute: ROWS.to_owned(), publisher, subscriber, remedy }
}

impl NewNames {
    /// A difference for each table that the subscriber has under its old name.
    pub(super) fn differences(&self) -> impl Iterator<Item = Difference> {
        let due = self.due.iter().map(|one| {
            one.difference(Remedy::person(
                vec![one.text()],
                "the replication stops at its next row until then, and goes on by itself",
            ))
        });
        due.chain(self.displaced.iter().map(|one| one.difference(Remedy::person(Vec::new(), DISPLACED))))
    }
}

impl NewName {
    fn difference(&self, remedy: Remedy) -> Difference {
        Difference {
            object: self.object(),
            attribute: "name".to_owned(),
            publisher: self.to.to_text(),
            subscriber: self.from.to_text(),
            remedy,
        }
    }
}
