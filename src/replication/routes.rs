// SPDX-License-Identifier: MPL-2.0

//! Rows of partitions that arrive under the name of a table that the subscription does not have, or under two names.
//!
//! The name follows from all publications of a subscription together: one with `publish_via_partition_root` decides for
//! the others. A subscription skips rows of a table that it does not have, and adding the table copies all of its rows
//! again. Measured on 14 to 18: one statement that changes the publications loses nothing while it runs with `copy_data
//! = false`; a copy into a tree that already holds the rows never ends if a key forbids it, and stores them twice if no
//! key does. Before 16, a new subscription copies a partition twice if it is sent under both names.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;

use super::checks::Objection;
use super::error::{Error, Result};
use super::operation::Operation;
use super::{Pair, names};
use crate::postgres::catalog::{self, Outline};
use crate::postgres::publication::{self, Publications, Sent};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Ident, QualifiedName};

/// A subscription that gets tables: because it is created, changes its publications, or refreshes.
#[derive(Clone, Copy)]
pub struct TakingUp<'a> {
    /// Both servers.
    pub pair: &'a Pair,
    /// The existing subscription.
    pub current: Option<&'a Subscription>,
    /// The desired subscription.
    pub desired: &'a Subscription,
    /// Whether the rows of new tables are copied.
    pub copies: bool,
}

/// Tables that are not partitioned, each with the old and the new name under which its rows arrive.
type Moves = BTreeMap<QualifiedName, (QualifiedName, QualifiedName)>;

/// The state of both servers.
struct Seen {
    taken_up: BTreeSet<QualifiedName>,
    after: Sent,
    /// The tables for which this was already so before the change.
    is_so: BTreeSet<QualifiedName>,
    moves: Moves,
    twice: BTreeMap<QualifiedName, QualifiedName>,
}

impl TakingUp<'_> {
    /// The objections to it.
    ///
    /// # Errors
    /// When one of the servers cannot be queried.
    pub async fn outlook(&self) -> Result<Vec<Objection>> {
        let seen = self.look().await?;
        let mut objections = Vec::new();
        objections.extend(self.twice(&seen).map(Objection::Refusal));
        let (was, becomes): (Moves, Moves) =
            seen.moves.clone().into_iter().partition(|(table, _)| seen.is_so.contains(table));
        for (moves, is_so) in [(was, true), (becomes, false)] {
            if !moves.is_empty() {
                objections.extend(self.moved(&moves, is_so).await?);
            }
        }
        objections.extend(self.left_out(&seen).await?);
        Ok(objections)
    }

    /// Checks it again right before it is done.
    ///
    /// # Errors
    /// When rows would be lost or arrive twice, or a person asks to stop. Failed queries are not an error.
    pub async fn refuse(&self, operation: &Operation<'_>) -> Result<()> {
        let found = match operation.unless_stopped(Box::pin(self.outlook())).await {
            Ok(found) => found,
            Err(cause) => {
                tracing::info!(%cause, "it could not be checked under which names rows arrive");
                return operation.go_on();
            }
        };
        Objection::refuse(found, operation.doing())
    }

    async fn look(&self) -> Result<Seen> {
        let Pair { publisher, subscriber } = self.pair;
        let (existing, outline) =
            Box::pin(try_join(publication::fetch_all(publisher), catalog::outline(publisher))).await?;
        let version = self.pair.older_version().await?;
        let sent = |names: &BTreeSet<Ident>| publication::sent(named(&existing, names), &outline, version);
        let after = sent(&self.desired.publications);
        let taken_up = match self.current {
            Some(current) => subscription::tables(subscriber, &current.name).await?,
            None => Vec::new(),
        };
        let taken_up: BTreeSet<_> = taken_up.into_iter().map(|(table, _)| table).collect();
        let mut twice = after.twice(&outline);
        twice.retain(|part, root| !taken_up.contains(part) && !taken_up.contains(root));
        let is_open = |(_, name): (&QualifiedName, &QualifiedName)| !taken_up.contains(name);
        if twice.is_empty() && (taken_up.is_empty() || !after.routes.iter().any(is_open)) {
            let (is_so, moves) = (BTreeSet::new(), Moves::new());
            return Ok(Seen { taken_up, after, is_so, moves, twice });
        }
        let there = catalog::outline(subscriber).await?;
        twice.retain(|part, root| ancestors(&there, part).any(|ancestor| ancestor == root));
        let moves = moves(&after, &taken_up, [&outline, &there]);
        let before = self.current.map(|current| sent(&current.publications)).unwrap_or_default();
        let is_so = moves.iter().filter(|(table, (_, to))| before.routes.get(*table) == Some(to));
        let is_so = is_so.map(|(table, _)| table.clone()).collect();
        Ok(Seen { taken_up, after, is_so, moves, twice })
    }

    fn twice(&self, seen: &Seen) -> Option<Error> {
        if seen.twice.is_empty() || !self.copies {
            return None;
        }
        let parts = names::tables(seen.twice.keys());
        let roots = names::tables(seen.twice.values().collect::<BTreeSet<_>>());
        let error = Error::new(format!("rows of {parts} would be copied twice: as its own, and as those of {roots}"));
        Some(
            error
                .detail(
                    "Nothing was changed. Its publications have different values of publish_via_partition_root, and \
                     before Postgres 16 a subscription then copies both. If a key forbids the second copy, the copy \
                     never ends, and what is written in the meantime does not arrive; without a key, the rows exist \
                     twice.",
                )
                .detail(
                    "Give all publications of these tables the same publish_via_partition_root, or remove the \
                     tables from the others.",
                )
                .about("publications"),
        )
    }

    async fn moved(&self, moves: &Moves, is_so: bool) -> Result<Option<Objection>> {
        let new: BTreeSet<_> = moves.values().map(|(_, to)| to.clone()).collect();
        let old: BTreeSet<_> = moves.values().map(|(from, _)| from.clone()).collect();
        let filled = catalog::with_rows(&self.pair.subscriber, &new).await?;
        let what = Error::new(summary(moves, is_so)).about("publications");
        if !self.desired.enabled {
            return Ok((!is_so).then(|| Objection::Refusal(what.detail(DISABLED))));
        }
        if self.copies && !filled.is_empty() {
            return Ok(Some(Objection::Refusal(what.detail(again(&filled)).detail(instead(is_so)))));
        }
        if is_so {
            return Ok((!self.copies).then(|| Objection::Warning(what.detail(GAP))));
        }
        let kept = if self.copies { BTreeSet::new() } else { catalog::with_rows(&self.pair.subscriber, &old).await? };
        let are_elsewhere = filled.is_empty() && !kept.is_empty();
        Ok(are_elsewhere.then(|| Objection::Refusal(what.detail(elsewhere(&new, &kept)))))
    }

    /// Tables that joined a publication by themselves, such as an attached partition, and whose rows are not copied.
    async fn left_out(&self, seen: &Seen) -> Result<Option<Objection>> {
        let Some(current) = self.current.filter(|_| self.desired.enabled && !self.copies) else { return Ok(None) };
        if current.publications != self.desired.publications {
            return Ok(None);
        }
        let is_moved = |table: &&QualifiedName| seen.moves.values().any(|(_, to)| to == *table);
        let new = seen.after.tables.keys().filter(|table| !seen.taken_up.contains(*table) && !is_moved(table));
        let filled = catalog::with_rows(&self.pair.publisher, &new.cloned().collect()).await?;
        let what = format!("existing rows of {} are not copied, because copy_data = false", names::tables(&filled));
        let warning = Error::new(what).detail(
            "The subscription does not have these tables in its list yet: what was written since they were \
             published was skipped, and only later rows arrive. If the subscriber already has the rows, nothing is \
             wrong. Otherwise set copy_data = true in the same apply, with these tables empty on the subscriber.",
        );
        Ok((!filled.is_empty()).then(|| Objection::Warning(warning.about("copy_data"))))
    }
}

fn named<'a>(
    existing: &'a Publications,
    names: &'a BTreeSet<Ident>,
) -> impl Iterator<Item = &'a publication::Publication> {
    names.iter().filter_map(|name| existing.get(name))
}

fn ancestors<'a>(outline: &'a Outline, table: &QualifiedName) -> impl Iterator<Item = &'a QualifiedName> {
    outline.relations.get(table).into_iter().flat_map(|relation| &relation.ancestors)
}

/// Tables whose rows will arrive under a name that the subscription does not have, although it has the old one: their
/// own name, or that of an ancestor on either side.
fn moves(after: &Sent, taken_up: &BTreeSet<QualifiedName>, outlines: [&Outline; 2]) -> Moves {
    let moved = after.routes.iter().filter(|(_, to)| !taken_up.contains(*to)).filter_map(|(table, to)| {
        let above = outlines.into_iter().flat_map(|outline| ancestors(outline, table));
        let mut names = std::iter::once(table).chain(above);
        let from = names.find(|name| *name != to && taken_up.contains(*name))?;
        Some((table.clone(), (from.clone(), to.clone())))
    });
    moved.collect()
}

fn summary(moves: &Moves, is_so: bool) -> String {
    let (rows, to) =
        (names::tables(moves.keys()), names::tables(moves.values().map(|(_, to)| to).collect::<BTreeSet<_>>()));
    let from = names::tables(moves.values().map(|(from, _)| from).collect::<BTreeSet<_>>());
    let when = if is_so { "now arrive" } else { "would arrive" };
    format!("rows of {rows} {when} under the name of {to}, and the subscription has {from} in its list")
}

const DISABLED: &str = "Nothing was changed. It skips the rows of tables that are not in its list, and a disabled \
    subscription adds none. Set enabled = true in the same apply: then it changes over without losing a row.";

const GAP: &str = "It skips the rows of tables that are not in its list: what is written under the new name until \
    this is applied never arrives. Compare the tables afterwards, and copy by hand what is missing.";

fn again(filled: &BTreeSet<QualifiedName>) -> String {
    format!(
        "Nothing was changed. On the subscriber {} holds rows, and copy_data = true copies every row once more: if \
         a key forbids that, the copy never ends; without a key, the rows exist twice.",
        names::tables(filled)
    )
}

fn instead(is_so: bool) -> String {
    if is_so {
        return format!(
            "Set copy_data = false. {GAP} Or recreate the subscription with its tables emptied, so that everything \
             is copied."
        );
    }
    "If the rows that the subscriber has are those that arrived until now, set copy_data = false in the same apply: \
     it changes over without losing a row while writes go on."
        .to_owned()
}

fn elsewhere(new: &BTreeSet<QualifiedName>, kept: &BTreeSet<QualifiedName>) -> String {
    format!(
        "Nothing was changed. On the subscriber the rows that have arrived are in {}, and none is in {}: with \
         copy_data = false they would stay where they are, and later changes of them would be lost. Set copy_data = \
         true, so that all of them are copied.",
        names::tables(kept),
        names::tables(new)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::{Identity, Kind, Relation, ReplicaIdentity};

    fn table(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn outline(relations: &[(&str, &[&str])]) -> Outline {
        let relation = |ancestors: &[&str]| Relation {
            kind: Kind::Table,
            is_unlogged: false,
            replica_identity: ReplicaIdentity::Default,
            has_primary_key: true,
            identity: Identity::Missing,
            stored_generated: BTreeSet::new(),
            virtual_generated: BTreeSet::new(),
            ancestors: ancestors.iter().map(|name| table(name)).collect(),
        };
        let relations = relations.iter().map(|(name, ancestors)| (table(name), relation(ancestors))).collect();
        Outline { relations, ..Outline::default() }
    }

    fn check(
        routes: &[(&str, &str)],
        taken_up: &[&str],
        here: &Outline,
        there: &Outline,
        expected: &[(&str, &str, &str)],
    ) {
        let routes = routes.iter().map(|(from, to)| (table(from), table(to))).collect();
        let after = Sent { routes, ..Sent::default() };
        let taken_up = taken_up.iter().map(|name| table(name)).collect();
        let found: Vec<_> = moves(&after, &taken_up, [here, there])
            .into_iter()
            .map(|(table, (from, to))| (table.to_text(), from.to_text(), to.to_text()))
            .collect();
        let text = |name: &str| table(name).to_text();
        let expected: Vec<_> = expected.iter().map(|(a, b, c)| (text(a), text(b), text(c))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_move_between_a_partition_and_its_root() {
        let (tree, flat) = (outline(&[("eu", &["all"]), ("us", &["all"])]), outline(&[("eu", &[]), ("all", &[])]));
        let rooted = [("eu", "all"), ("us", "all")];
        check(&rooted, &["eu", "us"], &tree, &tree, &[("eu", "eu", "all"), ("us", "us", "all")]);
        // A table that the subscription never had is a new one.
        check(&rooted, &["eu"], &tree, &flat, &[("eu", "eu", "all")]);
        check(&[("eu", "eu"), ("us", "us")], &["all"], &tree, &flat, &[("eu", "all", "eu"), ("us", "all", "us")]);
        // Rows of tables that the subscription has already arrive.
        check(&rooted, &["eu", "all"], &tree, &tree, &[]);
        check(&[("other", "other")], &["all"], &tree, &tree, &[]);
    }

    #[test]
    fn a_partition_that_was_detached_is_still_one_on_the_subscriber() {
        let (here, there) = (outline(&[("eu", &["all"]), ("us", &[])]), outline(&[("us", &["all"])]));
        check(&[("eu", "all"), ("us", "us")], &["all"], &here, &there, &[("us", "all", "us")]);
    }

    #[test]
    fn it_is_said_what_becomes_of_which_rows() {
        let moves = Moves::from([(table("eu"), (table("eu"), table("all")))]);
        let said = [true, false].map(|is_so| summary(&moves, is_so));
        assert_eq!(
            said,
            [
                "rows of public.eu now arrive under the name of public.all, and the subscription has public.eu in its list",
                "rows of public.eu would arrive under the name of public.all, and the subscription has public.eu in its list"
            ]
        );
    }
}
