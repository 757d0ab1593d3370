// SPDX-License-Identifier: MPL-2.0

//! Restores the table's previous choices when the resource is destroyed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checks::{broken, refusal};
use super::model::{Model, choice, kept, table};
use super::{database, make};
use crate::config::Context;
use crate::postgres::replica_identity::{self, Choice, Tree};
use crate::postgres::{Database, Limits, QualifiedName};
use crate::replication::names;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// The choices that can be restored, and those that cannot.
#[derive(Debug, Default, PartialEq, Eq)]
struct Return {
    /// The choice for each relation.
    gets: BTreeMap<QualifiedName, Choice>,
    /// Relations whose old index is gone.
    cannot: Vec<QualifiedName>,
}

/// The previous choice of each member that still has this resource's choice. A later choice by somebody else stays.
fn plan_return(tree: &Tree, given: &Choice, before: &BTreeMap<QualifiedName, Choice>) -> Return {
    let mut plan = Return::default();
    for (name, member) in tree.members.iter().filter(|(_, member)| member.has(given)) {
        match before.get(name) {
            Some(old) if *old == member.choice => {}
            Some(Choice::DroppedIndex) => plan.cannot.push(name.clone()),
            Some(old) => drop(plan.gets.insert(name.clone(), old.clone())),
            None => {}
        }
    }
    plan
}

/// Removes choices whose index no longer exists.
async fn without_dropped(database: &Database, mut plan: Return) -> Result<Return> {
    let named: Vec<_> =
        plan.gets.iter().filter_map(|(table, choice)| Some((table.clone(), choice.index()?.clone()))).collect();
    for (table, index) in named {
        let parts = replica_identity::parts(database, &table, &index).await?;
        if !parts.contains_key(&table) {
            plan.gets.remove(&table);
            plan.cannot.push(table);
        }
    }
    Ok(plan)
}

/// Checks what a destroy would do, and reports obstacles in the plan.
pub(super) async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let Some(prior) = change.prior().cloned() else { return Ok(()) };
    if prior.skip_destroy.known() == Some(&true) || call.context().publisher().is_waiting() {
        return Ok(());
    }
    let (Ok(database), Ok(table), Some(before)) = (database(call, &prior), table(&prior), kept(call.private())) else {
        return Ok(());
    };
    let doing = format!("restoring the replica identity of table {}", table.to_text());
    // A failed check is repeated in the apply, and refused there.
    let Ok(Some(tree)) = replica_identity::fetch(&database, &table).await else { return Ok(()) };
    let Ok(given) = choice(&prior) else { return Ok(()) };
    let plan = without_dropped(&database, plan_return(&tree, &given, &before)).await?;
    let found = Box::pin(broken(call, &database, &tree, &plan.gets)).await?;
    if !found.is_empty() {
        let warning = refusal(&doing, &found, None);
        change.warn(warning.detail(
            "The apply refuses this, unless the publication is gone by then: for instance \
             because it refers to this resource and is destroyed in the same run.",
        ));
    }
    Ok(())
}

/// Restores the previous choices of the table and its partitions.
///
/// # Errors
/// When that would break a publication, or the server refuses it.
pub(super) async fn give_back(call: &Call<Context>, prior: &Model, time: Duration) -> Result<()> {
    let table = table(prior)?;
    let doing = format!("restoring the replica identity of table {}", table.to_text());
    if prior.skip_destroy.known() == Some(&true) {
        return Ok(());
    }
    let Some(before) = kept(call.private()) else {
        call.warn(stays(&doing, "it was imported, so its former identity is not known"));
        return Ok(());
    };
    let limits = Limits::within(time).cancelled_by(call.stop().clone());
    let database = database(call, prior)?.within(&limits);
    let tree = replica_identity::fetch(&database, &table).await?;
    let Some(tree) = tree else { return Ok(()) };
    let Ok(given) = choice(prior) else { return Ok(()) };
    let plan = without_dropped(&database, plan_return(&tree, &given, &before)).await?;
    let found = Box::pin(broken(call, &database, &tree, &plan.gets)).await?;
    if !found.is_empty() {
        return Err(refusal(&doing, &found, None));
    }
    make(&database, &doing, &plan.gets, &limits).await?;
    if !plan.cannot.is_empty() {
        let tables = names::tables(&plan.cannot);
        call.warn(stays(&doing, &format!("its former index no longer exists: {tables}")));
    }
    Ok(())
}

fn stays(doing: &str, why: &str) -> Error {
    Error::new(format!("{doing}: it stays as it is, because {why}"))
        .detail("To choose another one by hand, as the owner of the table on the publisher: ALTER TABLE … REPLICA IDENTITY DEFAULT;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Ident;
    use crate::postgres::replica_identity::Member;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn name(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    /// Members that have `full`, except `stranger`, for which somebody else has chosen nothing.
    fn tree(members: &[&str]) -> Tree {
        let member = |table: &&str| {
            let choice = if *table == "stranger" { Choice::Nothing } else { Choice::Full };
            (name(table), Member { choice, part_of: None, owner: ident("o"), is_owned: true })
        };
        Tree { table: name("root"), members: members.iter().map(member).collect() }
    }

    #[test]
    fn what_was_before_comes_back_and_what_others_have_chosen_stays() {
        let before = [
            ("root", Choice::Default),
            ("keyed", Choice::Index(ident("k"))),
            ("stranger", Choice::Default),
            ("dropped", Choice::DroppedIndex),
            ("same", Choice::Full),
        ];
        let before = before.map(|(table, choice)| (name(table), choice)).into();
        let tree = tree(&["root", "keyed", "stranger", "dropped", "same", "unheard_of"]);
        let plan = plan_return(&tree, &Choice::Full, &before);
        let gets = [("root", Choice::Default), ("keyed", Choice::Index(ident("k")))];
        let gets = gets.map(|(table, choice)| (name(table), choice)).into();
        assert_eq!(plan, Return { gets, cannot: vec![name("dropped")] });
    }
}
