// SPDX-License-Identifier: MPL-2.0

//! The effect on subscriptions if a publication publishes something else: tables that stop them, rows that would be
//! lost. It is checked before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;

use super::checks::{BothSides, Objection, Obstacle, Obstacles, described};
use super::error::{Error, Result};
use super::users::User;
use super::{Intended, Pair, names};
use crate::postgres::catalog::{self, Outline};
use crate::postgres::publication::{self, Difference, Publication, Publications, Sent, Target};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Database, QualifiedName};

/// A change of a publication, and the state of its server.
struct Change<'a> {
    publisher: &'a Database,
    old: &'a Publication,
    new: &'a Publication,
    existing: &'a Publications,
    outline: &'a Outline,
    intended: Option<&'a Intended>,
}

/// The effect on one reader.
struct Outlook<'a> {
    before: Sent,
    after: Sent,
    difference: Difference,
    user: &'a User,
}

/// The effect on readers of publication `old` if it becomes `new`, with all other planned changes applied.
///
/// # Errors
/// When a query fails.
pub(super) async fn outlook(
    publisher: &Database,
    users: &[User],
    old: &Publication,
    new: &Publication,
    intended: Option<&Intended>,
) -> Result<Vec<Objection>> {
    let mut objections = Vec::new();
    if users.is_empty() {
        return Ok(objections);
    }
    let (existing, outline) =
        Box::pin(try_join(publication::fetch_all(publisher), catalog::outline(publisher))).await?;
    let change = Change { publisher, old, new, existing: &existing, outline: &outline, intended };
    for user in users {
        let outlook = change.outlook(user).await?;
        objections.extend(change.moved(&outlook).await?);
        objections.extend(change.left(&outlook));
        objections.extend(change.stopped(&outlook).await?);
    }
    Ok(objections)
}

impl Change<'_> {
    async fn outlook<'a>(&self, user: &'a User) -> Result<Outlook<'a>> {
        let version = match self.pair(user) {
            Some(pair) => pair.older_version().await?,
            None => self.publisher.version().await?,
        };
        let read = user.publications();
        let before = read.iter().filter_map(|name| self.existing.get(name));
        let others = read.iter().filter(|name| ![&self.old.name, &self.new.name].contains(name));
        // With the old name: renaming alone makes no difference.
        let changed = Publication { name: self.old.name.clone(), ..self.new.clone() };
        let after = others.filter_map(|name| self.existing.get(name)).chain([&changed]);
        let (before, after) =
            (publication::sent(before, self.outline, version), publication::sent(after, self.outline, version));
        let difference = before.difference(&after);
        Ok(Outlook { before, after, difference, user })
    }

    fn pair(&self, user: &User) -> Option<Pair> {
        let (subscriber, _) = user.subscription()?;
        Some(Pair { publisher: self.publisher.clone(), subscriber: subscriber.clone() })
    }

    /// Rows that would arrive under the name of a table that the subscription does not have: it skips them.
    async fn moved(&self, outlook: &Outlook<'_>) -> Result<Option<Objection>> {
        let mut moved = outlook.difference.moved.clone();
        if moved.is_empty() {
            return Ok(None);
        }
        if let Some((subscriber, subscription)) = outlook.user.subscription() {
            let taken_up = subscription::tables(subscriber, &subscription.name).await?;
            let taken_up: BTreeSet<_> = taken_up.into_iter().map(|(table, _)| table).collect();
            moved.retain(|_, (_, new)| !taken_up.contains(new));
        }
        Ok((!moved.is_empty()).then(|| Objection::Refusal(self.would_move(outlook.user, &moved))))
    }

    fn would_move(&self, user: &User, moved: &BTreeMap<QualifiedName, (QualifiedName, QualifiedName)>) -> Error {
        let (rows, new) =
            (names::tables(moved.keys()), names::tables(moved.values().map(|(_, new)| new).collect::<BTreeSet<_>>()));
        let is_option = self.old.via_partition_root != self.new.via_partition_root;
        let option = if is_option { "publish_via_partition_root" } else { self.option(moved.keys().next()) };
        Error::new(format!("rows of {rows} would arrive as those of {new}, and {} would lose them", user.describe()))
            .detail(
                "Nothing was changed. A subscription skips the rows of tables that it does not have in its list. \
                 Adding the table afterwards (REFRESH PUBLICATION) either copies every row once more, which stops \
                 at the first existing row, or leaves out what was written in between.",
            )
            .detail(format!(
                "Create a second publication that differs from this one only in {}, and let the enabled \
                 subscription use it instead of this one: with copy_data = false if the subscriber has the same \
                 partitions and so already has the rows, or otherwise with the new tables empty. Then drop this \
                 publication, in the same apply with lifecycle {{ create_before_destroy = true }}, or in the next \
                 one. That way nothing is lost while writes go on.",
                if is_option {
                    format!("publish_via_partition_root = {}", self.new.via_partition_root)
                } else {
                    "its tables".to_owned()
                }
            ))
            .about(option)
    }

    /// Tables whose rows are not sent any more.
    fn left(&self, outlook: &Outlook<'_>) -> Option<Objection> {
        let left = &outlook.difference.left;
        let names = names::tables(left);
        let warning = Error::new(format!("{} no longer receives what is written to {names}", outlook.user.describe()))
            .detail(
                "If another publication of the subscription should publish that instead, it must do so before this \
                 one stops: make this publication depend on that one (depends_on), or apply the other change first. \
                 The subscription misses what is written while neither publishes it. If nothing should publish it \
                 any more, nothing is wrong.",
            )
            .about(self.option(None));
        (!left.is_empty()).then_some(Objection::Warning(warning))
    }

    /// Tables that would stop the subscription, or could not be copied.
    async fn stopped(&self, outlook: &Outlook<'_>) -> Result<Option<Objection>> {
        let Difference { joined, changed, moved, .. } = &outlook.difference;
        let is_moved = |table: &&QualifiedName| !moved.values().any(|(_, new)| new == *table);
        let tables: BTreeSet<_> = joined.iter().filter(is_moved).chain(changed).cloned().collect();
        if tables.is_empty() {
            return Ok(None);
        }
        let found = match (self.pair(outlook.user), outlook.user.subscription()) {
            (Some(pair), Some((_, subscription))) => {
                let found = obstacles(&pair, subscription, outlook, &tables).await?;
                match self.intended {
                    Some(intended) => intended.left_of(&pair.subscriber, found),
                    None => found,
                }
            }
            _ => match self.clashes(outlook, &tables).await? {
                clashes if clashes.is_empty() => {
                    return Ok(Some(Objection::Warning(self.unchecked(outlook.user, &tables))));
                }
                clashes => clashes,
            },
        };
        Ok((!found.is_empty()).then(|| self.would_stop(outlook.user, &found)))
    }

    /// The findings for a subscriber that cannot be queried.
    async fn clashes(&self, outlook: &Outlook<'_>, tables: &BTreeSet<QualifiedName>) -> Result<Obstacles> {
        let sources = catalog::tables(self.publisher, tables, None).await?;
        let found = sources.into_iter().filter_map(|(name, table)| {
            let clash = outlook.after.tables.get(&name)?.clash(&table);
            (!clash.is_empty()).then(|| (name, vec![Obstacle::Clash(clash)]))
        });
        Ok(found.collect())
    }

    /// The warning about a reader whose tables cannot be read.
    fn unchecked(&self, user: &User, tables: &BTreeSet<QualifiedName>) -> Error {
        let names = names::tables(tables);
        Error::new(format!("it was not checked whether {} can replicate {names}", user.describe()))
            .detail(
                "It is not a subscription of the provider's subscriber, or the subscriber cannot be asked now. A \
                 subscription stops at the first row of a table that the subscriber does not have, or that lacks a \
                 column there: check that before you apply.",
            )
            .about(self.option(tables.first()))
    }

    fn would_stop(&self, user: &User, found: &Obstacles) -> Objection {
        let what = if found.len() == 1 { "a table".to_owned() } else { format!("{} tables", found.len()) };
        let error = Error::new(format!("{} cannot replicate {what} that would be published", user.describe()));
        let error = described(error, found).about(self.option(found.keys().next()));
        let clashes = found.values().flatten().any(|obstacle| matches!(obstacle, Obstacle::Clash(_)));
        let is_running = user.subscription().is_none_or(|(_, subscription)| subscription.enabled);
        if clashes || is_running {
            let why = "Nothing was changed. A subscription stops at the first row that it cannot replicate, and \
                then replicates nothing else either.";
            Objection::Refusal(error.detail(why))
        } else {
            Objection::Warning(
                error.detail("It is disabled. Once it is enabled, it stops at the first row of such a table."),
            )
        }
    }

    /// The option that publishes a table, or that has changed.
    fn option(&self, table: Option<&QualifiedName>) -> &'static str {
        let lists = |target: &Target| match target {
            Target::AllTables => None,
            Target::Lists { tables, schemas } => Some((tables.clone(), schemas.clone())),
        };
        match (lists(&self.old.target), lists(&self.new.target), table) {
            (_, None, _) | (None, _, _) => "all_tables",
            (_, Some((tables, schemas)), Some(table)) if !tables.contains_key(table) && !schemas.is_empty() => {
                "schemas"
            }
            (Some((old, _)), Some((new, _)), None) if old == new => "schemas",
            _ => "tables",
        }
    }
}

/// The obstacles for tables that are new with the change.
async fn obstacles(
    pair: &Pair,
    subscription: &Subscription,
    outlook: &Outlook<'_>,
    tables: &BTreeSet<QualifiedName>,
) -> Result<Obstacles> {
    let both = BothSides::read(pair, subscription, outlook.user.role().as_ref(), tables).await?;
    let (before, mut after) = (both.obstacles(&outlook.before), both.obstacles(&outlook.after));
    for (table, found) in &mut after {
        found.retain(|obstacle| !before.get(table).is_some_and(|before| before.contains(obstacle)));
    }
    after.retain(|_, found| !found.is_empty());
    Ok(after)
}
