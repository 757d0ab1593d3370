// SPDX-License-Identifier: MPL-2.0

//! Finds what prevents the subscription that brings changes back.

use std::collections::BTreeSet;

use crate::postgres::catalog::{self, Identity, Kind, Outline};
use crate::postgres::publication::{self, Lack, Publications};
use crate::postgres::subscription;
use crate::postgres::{Ident, QualifiedName, quoted, slot};
use crate::replication::checks::{self, Objection, Obstacle};
use crate::replication::cutover::run::Run;
use crate::replication::cutover::streams::quietly;
use crate::replication::error::{Error, Result};
use crate::replication::{Place, names};

use super::{refusal, room};

pub(super) async fn objections(run: &Run<'_>) -> Result<Vec<Objection>> {
    let (publisher, subscriber) = (&run.pair().publisher, &run.pair().subscriber);
    let mut found = Vec::new();
    let outline = run.operation().unless_stopped(catalog::outline(subscriber)).await?;
    found.extend(wal_level(&outline));
    found.extend(identities(&outline, &run.facts.tables));
    found.extend(publishes(run).await?);
    let doing = run.operation().doing();
    if let Some(said) = run.operation().unless_stopped(slot::forbidden(subscriber, doing)).await? {
        found.push(refusal(Error::from(said).about("reverse")));
    }
    found.extend(room::full(run, Place::Subscriber).await?);
    found.extend(room::login(run).await?);
    let Some(desired) = run.back_subscription() else { return Ok(found) };
    if let Some(said) =
        run.operation().unless_stopped(subscription::refused(publisher, doing, &desired, &quietly())).await?
    {
        found.push(refusal(Error::from(said).about("reverse")));
    }
    found.extend(tables(run, &outline).await?);
    Ok(found)
}

fn wal_level(outline: &Outline) -> Option<Objection> {
    let level = &outline.wal_level;
    (level != "logical").then(|| {
        let error = Error::new(format!("wal_level of the subscriber is {level}, and the way back needs logical"));
        refusal(
            error
                .detail("Before the cutover, turn on logical replication there, which needs a restart.")
                .about("reverse"),
        )
    })
}

/// Tables of the subscriber without a replica identity: once they are published, the application's updates fail.
fn identities(outline: &Outline, tables: &BTreeSet<QualifiedName>) -> Option<Objection> {
    let members = tables.iter().flat_map(|table| match outline.partitions.get(table) {
        Some(partitions) => partitions.iter().collect(),
        None => vec![table],
    });
    let lacks = |table: &&QualifiedName| {
        let relation = outline.relations.get(*table);
        relation.is_some_and(|relation| relation.kind == Kind::Table && relation.identity == Identity::Missing)
    };
    let lacking: BTreeSet<_> = members.filter(lacks).collect();
    let first = lacking.first()?;
    let error = Error::new(format!(
        "{} on the subscriber has no replica identity, so every UPDATE and DELETE there would fail once changes \
         flow back",
        names::tables(lacking.iter().copied())
    ));
    let mend =
        format!("On the subscriber, for each: give it a primary key, or ALTER TABLE {first} REPLICA IDENTITY FULL;");
    Some(refusal(error.detail(mend).about("reverse")))
}

async fn publishes(run: &Run<'_>) -> Result<Vec<Objection>> {
    let desired = run.back_publication();
    let lacks = run.operation().unless_stopped(publication::lacks(&run.pair().subscriber, None, &desired)).await?;
    Ok(lacks.into_iter().filter_map(|lack| lacking(run, &lack)).collect())
}

fn lacking(run: &Run<'_>, lack: &Lack) -> Option<Objection> {
    let role = &run.facts.subscriber.standing.role;
    let (what, mend) = match lack {
        Lack::ReadOnly => ("the subscriber only reads".to_owned(), String::new()),
        Lack::Create => (
            format!("role {role} may not create a publication on the subscriber"),
            format!(
                "On the subscriber, as the owner: GRANT CREATE ON DATABASE {} TO {role};",
                quoted(run.pair().subscriber.name())
            ),
        ),
        Lack::Tables(tables) => {
            let owners: BTreeSet<&Ident> = tables.iter().map(|(_, owner)| owner).collect();
            let grants: Vec<_> = owners.into_iter().map(|owner| format!("GRANT {owner} TO {role};")).collect();
            (
                format!(
                    "role {role} may not publish {} on the subscriber",
                    names::tables(tables.iter().map(|(table, _)| table))
                ),
                format!("On the subscriber: {}", grants.join(" ")),
            )
        }
        Lack::Superuser(_) | Lack::Publication(_) | Lack::NoOwner(_) | Lack::SetOwner(_) => return None,
    };
    Some(refusal(Error::new(what).detail(mend).about("reverse")))
}

/// Tables of the publisher that cannot take the changes that come back.
async fn tables(run: &Run<'_>, outline: &Outline) -> Result<Option<Objection>> {
    let Some(desired) = run.back_subscription() else { return Ok(None) };
    let back = run.back_publication();
    let publications = Publications::from([(back.name.clone(), back)]);
    let pair = run.pair().reversed();
    let read = async {
        let sent = checks::sent(&pair, &desired, &publications, outline).await?;
        checks::obstacles_of(&pair, &desired, checks::login(&desired).as_ref(), &sent).await
    };
    let mut obstacles = run.operation().unless_stopped(Box::pin(read)).await?;
    // No rows are copied, and changes are sent even from tables that the role may not read.
    obstacles.retain(|_, all| {
        all.retain(|one| !matches!(one, Obstacle::NoSelect { .. }));
        !all.is_empty()
    });
    if obstacles.is_empty() {
        return Ok(None);
    }
    let error = Error::new(format!("changes of {} cannot flow back", names::tables(obstacles.keys())));
    let lines = obstacles.iter().flat_map(|(table, all)| all.iter().map(move |one| line(table, one)));
    Ok(Some(refusal(lines.take(names::SHOWN).fold(error, Error::detail).about("reverse"))))
}

/// An obstacle, worded with the sides' usual names, which do not change when changes flow back.
fn line(table: &QualifiedName, obstacle: &Obstacle) -> String {
    let text = format!("{}: {obstacle}. {}", table.to_text(), obstacle.remedy(table));
    let parts = text.split("publisher").map(|part| part.replace("subscriber", "publisher"));
    parts.collect::<Vec<_>>().join("subscriber")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_have_their_names_of_before() {
        let role = Ident::new("app").unwrap();
        let table = QualifiedName::parse("orders").unwrap();
        let text = line(&table, &Obstacle::NoSelect { role });
        assert!(
            text.starts_with("public.orders: role \"app\" may not read it on the subscriber. On the subscriber: GRANT"),
            "{text}"
        );
        let text = line(&table, &Obstacle::NoTable);
        assert!(text.contains("it is not a table on the publisher. Create the table on the publisher first"), "{text}");
    }
}
