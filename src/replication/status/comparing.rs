// SPDX-License-Identifier: MPL-2.0

//! Compares the tables of a subscription on both sides, also for flaws that do not stop every row, unlike
//! [`obstacles`](crate::replication::checks).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;
use futures_util::try_join;

use super::causes::Flaw;
use crate::postgres::catalog::{
    self, CalledFunction, Constraint, Demand, Guards, Identity, Index, Labels, Outline, Reference, Table,
};
use crate::postgres::publication::{self, Operation, Sent};
use crate::postgres::subscription::Subscription;
use crate::postgres::{Database, Ident, QualifiedName, Result, version};
use crate::replication::Pair;
use crate::replication::checks::{self, BothSides, Obstacle, Obstacles, values};

/// Flaws by table, without tables that have none.
pub(super) type Flaws = BTreeMap<QualifiedName, Vec<Flaw>>;

/// The facts from both sides.
struct Read {
    both: BothSides,
    obstacles: Obstacles,
    sent: Sent,
    outlines: (std::sync::Arc<Outline>, std::sync::Arc<Outline>),
    labels: (Labels, Labels),
    indexes: (Indexes, Indexes),
    constraints: (Constraints, Constraints),
    /// The foreign keys of other tables that reference them.
    references: (References, References),
    guards: BTreeMap<QualifiedName, Guards>,
    functions: BTreeMap<QualifiedName, Vec<CalledFunction>>,
    lacking: BTreeMap<QualifiedName, Vec<String>>,
    /// Whether changes are applied as the owner of each table.
    becomes_owner: bool,
    changes_rows: bool,
    owner: Option<Ident>,
}

type Indexes = BTreeMap<QualifiedName, Vec<Index>>;
type Constraints = BTreeMap<QualifiedName, Vec<Constraint>>;
type References = BTreeMap<QualifiedName, Vec<Reference>>;

/// Compares the tables that a subscription is sent.
///
/// # Errors
/// When one of the servers cannot be queried.
pub(super) async fn compare(pair: &Pair, subscription: &Subscription) -> Result<Flaws> {
    let read = read(pair, subscription).await?;
    let names: BTreeSet<_> = read.sent.tables.keys().collect();
    let found = names.into_iter().map(|name| (name.clone(), read.flaws(name)));
    Ok(found.filter(|(_, flaws)| !flaws.is_empty()).collect())
}

async fn read(pair: &Pair, subscription: &Subscription) -> Result<Read> {
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let outlines = Box::pin(try_join(catalog::outline(publisher), catalog::outline(subscriber)));
    let (existing, outlines) = Box::pin(try_join(publication::fetch_all(publisher), outlines)).await?;
    let publications: Vec<_> = subscription.publications.iter().filter_map(|name| existing.get(name)).collect();
    let sent = publication::sent(publications.iter().copied(), &outlines.0, pair.older_version().await?);
    let tables: BTreeSet<_> = sent.tables.keys().cloned().collect();
    let becomes_owner =
        subscriber.version().await?.has(version::RUN_AS_OWNER) && subscription.options.run_as_owner != Some(true);
    let owner = subscription.owner.clone();
    let role = checks::login(subscription);
    let both = Box::pin(BothSides::read(pair, subscription, role.as_ref(), &tables)).await?;
    let on_both = async |db: &Database| {
        try_join!(
            catalog::labels(db, &tables),
            catalog::indexes(db, &tables),
            catalog::constraints(db, &tables),
            catalog::references(db, &tables)
        )
    };
    let (there, here) = Box::pin(try_join(on_both(publisher), on_both(subscriber))).await?;
    let lacking = async {
        match owner.as_ref().filter(|_| !becomes_owner) {
            Some(owner) => catalog::lacking_writes(subscriber, &tables, owner).await,
            None => Ok(BTreeMap::new()),
        }
    };
    let (guards, functions, lacking) = Box::pin(async {
        try_join!(
            catalog::guards(subscriber, &tables, owner.as_ref()),
            catalog::called_functions(subscriber, &tables),
            lacking
        )
    })
    .await?;
    let changes_rows = publications.iter().any(|publication| {
        [Operation::Update, Operation::Delete].iter().any(|operation| publication.publish.contains(operation))
    });
    let (labels, indexes) = ((there.0, here.0), (there.1, here.1));
    let (constraints, references) = ((there.2, here.2), (there.3, here.3));
    Ok(Read {
        obstacles: both.obstacles(&sent),
        both,
        sent,
        outlines,
        labels,
        indexes,
        constraints,
        references,
        guards,
        functions,
        lacking,
        becomes_owner,
        changes_rows,
        owner,
    })
}

impl Read {
    fn flaws(&self, name: &QualifiedName) -> Vec<Flaw> {
        let obstacles = self.obstacles.get(name).map(Vec::as_slice).unwrap_or_default();
        let Some(source) = self.both.sources().get(name) else { return Vec::new() };
        let columns = self.sent.tables.get(name).map(|sent| sent.columns(source)).unwrap_or_default();
        let target = self.both.targets().get(name).filter(|target| target.takes_rows);
        let mut found: Vec<_> =
            obstacles.iter().flat_map(|obstacle| self.of_obstacle(obstacle, name, source, &columns)).collect();
        let Some(target) = target else { return found };
        found.extend(self.of_types(source, target, &columns));
        found.extend(self.of_identity(name, target));
        found.extend(self.of_keys(name));
        found.extend(self.of_checks(name));
        found.extend(self.of_guards(name));
        found.sort();
        found
    }

    /// The flaws for an obstacle, column by column.
    fn of_obstacle(
        &self,
        obstacle: &Obstacle,
        name: &QualifiedName,
        source: &Table,
        columns: &BTreeSet<Ident>,
    ) -> Vec<Flaw> {
        let target = self.both.targets().get(name);
        match obstacle {
            Obstacle::NoTable if target.is_some() => vec![Flaw::NotATable],
            Obstacle::NoTable => vec![Flaw::NoTable { columns: self.definition(name, source, columns) }],
            Obstacle::Clash(publications) => vec![Flaw::Clash(publications.clone())],
            Obstacle::NoColumns(missing) => self.of_missing(missing, source, target, columns),
            Obstacle::Generated(columns) => columns.iter().cloned().map(Flaw::Generated).collect(),
            Obstacle::Required(columns) => columns.iter().cloned().map(Flaw::Required).collect(),
            Obstacle::BinaryTypes(columns) => {
                columns.iter().filter_map(|column| binary_type(column, source, target?)).collect()
            }
            Obstacle::NoSelect { role } => vec![Flaw::NoSelect(role.clone())],
            Obstacle::NoSetRole { subscription, table } => {
                vec![Flaw::NoSetRole { subscription: subscription.clone(), table: table.clone() }]
            }
        }
    }

    /// If one column is missing and one of the same type is extra, it was renamed.
    fn of_missing(
        &self,
        missing: &BTreeSet<Ident>,
        source: &Table,
        target: Option<&Table>,
        sent: &BTreeSet<Ident>,
    ) -> Vec<Flaw> {
        let ty = |column: &Ident| source.column(column).map(|column| column.ty.clone()).unwrap_or_default();
        let extra: Vec<_> = target
            .into_iter()
            .flat_map(|target| &target.columns)
            .filter(|column| !sent.contains(&column.name) && source.column(&column.name).is_none())
            .collect();
        if let (1, [extra], Some(to)) = (missing.len(), extra.as_slice(), missing.first())
            && extra.ty == ty(to)
        {
            return vec![Flaw::Renamed { from: extra.name.clone(), to: to.clone() }];
        }
        missing.iter().map(|column| Flaw::MissingColumn { column: column.clone(), ty: ty(column) }).collect()
    }

    /// The text of a table for `CREATE TABLE`: its sent columns and its primary key.
    fn definition(&self, name: &QualifiedName, source: &Table, sent: &BTreeSet<Ident>) -> String {
        let columns = source.columns.iter().filter(|column| sent.contains(&column.name));
        let mut parts: Vec<_> = columns
            .map(|column| format!("{} {}{}", column.name, column.ty, if column.is_not_null { " NOT NULL" } else { "" }))
            .collect();
        let primary = self.indexes.0.get(name).and_then(|indexes| indexes.iter().find(|index| index.is_primary));
        let keys: Option<Vec<_>> = primary.and_then(|index| index.keys.iter().cloned().collect());
        let keys = keys.map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        parts.extend(keys.map(|keys| format!("PRIMARY KEY ({keys})")));
        parts.join(", ")
    }

    fn of_types(&self, source: &Table, target: &Table, sent: &BTreeSet<Ident>) -> Vec<Flaw> {
        let both = source.columns.iter().filter(|column| sent.contains(&column.name));
        let both = both.filter_map(|column| Some((column, target.column(&column.name)?)));
        let mut found = Vec::new();
        for (there, here) in both.filter(|(_, here)| !here.is_generated) {
            let labels = values::missing_labels(&there.ty, &here.ty, &self.labels.0, &self.labels.1);
            if !labels.is_empty() {
                let ty = here.ty.trim_end_matches("[]").to_owned();
                found.push(Flaw::MissingLabels { ty, labels });
            } else if !values::takes_all(&there.ty, &here.ty) {
                let (publisher, subscriber) = (there.ty.clone(), here.ty.clone());
                found.push(Flaw::Narrower { column: here.name.clone(), publisher, subscriber });
            }
        }
        found
    }

    /// A subscriber needs a key of its own for updates and deletes, unless the publisher sends whole rows.
    fn of_identity(&self, name: &QualifiedName, target: &Table) -> Option<Flaw> {
        let there = self.outlines.0.relations.get(name)?;
        let here = self.outlines.1.relations.get(name).filter(|here| here.kind == catalog::Kind::Table)?;
        if !self.changes_rows || there.identity == Identity::Missing {
            return None;
        }
        let has_column = |column: &&Ident| target.column(column).is_some();
        match (&there.identity, &here.identity) {
            (Identity::Full, _) => None,
            // A primary key is used if the replica identity is another choice.
            (_, Identity::Missing | Identity::Full) if !here.has_primary_key => Some(Flaw::NoIdentity),
            (Identity::Columns(sent), Identity::Columns(needed)) => {
                let lacking: Vec<_> = needed.difference(sent).filter(has_column).cloned().collect();
                (!lacking.is_empty()).then_some(Flaw::OtherIdentity(lacking))
            }
            _ => None,
        }
    }

    fn of_keys(&self, name: &QualifiedName) -> Vec<Flaw> {
        let unique = |indexes: &Indexes| -> Vec<Index> {
            let indexes = indexes.get(name).into_iter().flatten();
            indexes.filter(|index| index.is_unique).cloned().collect()
        };
        let there = unique(&self.indexes.0);
        let is_there = |here: &Index| match here.columns() {
            Some(columns) => there
                .iter()
                .any(|index| index.is_partial == here.is_partial && index.columns().as_ref() == Some(&columns)),
            None => there.iter().any(|index| index.name == here.name || index.columns().is_none()),
        };
        let extra = unique(&self.indexes.1).into_iter().filter(|index| !is_there(index));
        extra
            .map(|index| {
                let columns = index.keys.iter().flatten().map(|key| key.as_str().to_owned());
                let columns = columns.collect::<Vec<_>>().join(", ");
                Flaw::ExtraUnique {
                    columns: if columns.is_empty() { "value".to_owned() } else { columns },
                    index: index.name,
                }
            })
            .collect()
    }

    fn of_checks(&self, name: &QualifiedName) -> Vec<Flaw> {
        let of = |constraints: &Constraints, name: &QualifiedName| constraints.get(name).cloned().unwrap_or_default();
        let there = of(&self.constraints.0, name);
        let is_there = |check: &Constraint| there.iter().any(|other| other.name == check.name);
        let checks = of(&self.constraints.1, name).into_iter();
        let checks = checks.filter(|check| check.demand == Demand::Check && !is_there(check));
        let checks = checks.map(|check| Flaw::ExtraCheck(check.name));
        checks.chain(self.of_references(name)).collect()
    }

    /// Foreign keys that prevent a TRUNCATE. If the referencing table is replicated too, and has the key on the
    /// publisher, both are truncated together; a table that is not replicated is not.
    fn of_references(&self, name: &QualifiedName) -> Vec<Flaw> {
        let of = |references: &References| references.get(name).cloned().unwrap_or_default();
        let there = of(&self.references.0);
        let is_there = |found: &Reference| there.iter().any(|other| other.by == found.by);
        let is_truncated_too = |found: &Reference| is_there(found) && self.sent.tables.contains_key(&found.by);
        let found = of(&self.references.1).into_iter().filter(|found| !is_truncated_too(found));
        found
            .map(|found| Flaw::Referenced { is_extra: !is_there(&found), by: found.by, constraint: found.name })
            .collect()
    }

    fn of_guards(&self, name: &QualifiedName) -> Vec<Flaw> {
        let guards = self.guards.get(name);
        let hides = guards
            .is_some_and(|guards| if self.becomes_owner { guards.hides_rows_from_owner } else { guards.hides_rows });
        let lacks = self.lacking.get(name).cloned().zip(self.owner.clone());
        let triggers = guards.into_iter().flat_map(|guards| guards.replica_triggers.clone()).map(Flaw::Trigger);
        let functions = self.functions.get(name).into_iter().flatten().map(|called| Flaw::Function {
            function: called.name.clone(),
            arguments: called.arguments.clone(),
            by: called.by.clone(),
        });
        let lacks = lacks.map(|(privileges, role)| Flaw::NoWrite { role, privileges });
        hides.then_some(Flaw::RowSecurity).into_iter().chain(lacks).chain(triggers).chain(functions).collect()
    }
}

fn binary_type(column: &Ident, source: &Table, target: &Table) -> Option<Flaw> {
    let (publisher, subscriber) = (source.column(column)?.ty.clone(), target.column(column)?.ty.clone());
    Some(Flaw::BinaryType { column: column.clone(), publisher, subscriber })
}
