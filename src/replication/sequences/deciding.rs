// SPDX-License-Identifier: MPL-2.0

//! Decides whether sequences match, and where each must continue. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::Matched;
use super::{Defined, Pair, Prepared, Sides};
use crate::postgres::sequence::{Definition, Position, Raised};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::error::{Error, Result};
use crate::replication::{Operation, Place, names};

/// A sequence that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The one that was read.
    pub from: QualifiedName,
    /// The one that continues it.
    pub to: QualifiedName,
    /// The position of that one before.
    pub before: Position,
    /// Its target: the lowest position that it must have.
    pub position: Position,
    /// Whether it was raised. Otherwise it had already reached the target.
    pub is_raised: bool,
    /// Whether there was no room for the whole margin.
    pub is_clamped: bool,
}

/// The target of a sequence.
pub(super) struct Target<'p> {
    pub(super) pair: &'p Pair,
    pub(super) position: Position,
    is_clamped: bool,
}

impl Target<'_> {
    /// The result of raising it.
    pub(super) fn copied(&self, raised: Raised) -> Copied {
        Copied {
            from: self.pair.from.0.clone(),
            to: self.pair.to.0.clone(),
            before: raised.before,
            position: self.position,
            is_raised: raised.is_raised,
            is_clamped: self.is_clamped,
        }
    }
}

/// The pairs with their definitions, or everything that prevents copying them.
pub(super) fn prepared(
    operation: &Operation<'_>,
    sides: &Sides,
    (matched, margin): (Matched, u32),
    defined: &Defined,
) -> Result<Prepared> {
    let mut problems = missing(sides.place, &matched, defined);
    let mut pairs = Vec::new();
    for (from, to) in &matched.pairs {
        if let (Some(here), Some(there)) = (defined.from.get(from), defined.to.get(to)) {
            pairs.push(Pair { from: (from.clone(), here.clone()), to: (to.clone(), there.clone()) });
        }
    }
    problems.extend(pairs.iter().filter_map(|pair| turned(sides.place, pair)));
    problems.extend(lacking(sides.place, &pairs));
    let left_out = matched.left_out.into_iter().collect();
    refused(operation, problems, "sequences cannot be copied").map(|()| Prepared { pairs, margin, left_out })
}

fn refused(operation: &Operation<'_>, problems: Vec<String>, what: &str) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let more = problems.len().saturating_sub(names::SHOWN);
    let error: Error = problems.iter().take(names::SHOWN).fold(operation.error(what), Error::detail);
    let rest = if more == 0 { String::new() } else { format!("The same applies to {more} more.") };
    Err(error.detail(rest).about("sequences"))
}

fn missing(place: Place, matched: &Matched, defined: &Defined) -> Vec<String> {
    let mut problems = Vec::new();
    for (from, to) in &matched.pairs {
        match (defined.from.get(from), defined.to.get(to)) {
            (None, _) => problems.push(format!("There is no sequence {} on the {}.", from.to_text(), place.as_str())),
            (Some(here), None) => problems.push(format!(
                "There is no sequence {name} on the {side}. On the {side}: CREATE SEQUENCE {to} INCREMENT \
                 {increment} MINVALUE {min} MAXVALUE {max}; and use it for the column's default.",
                name = to.to_text(),
                side = place.other().as_str(),
                increment = here.increment,
                min = here.min,
                max = here.max,
            )),
            (Some(_), Some(_)) => {}
        }
    }
    problems
}

/// The objection if one counts up and the other down.
fn turned(place: Place, pair: &Pair) -> Option<String> {
    let ((from, here), (to, there)) = (&pair.from, &pair.to);
    let says = || {
        format!(
            "Sequence {} on the {} counts by {}, and {} on the {side} by {}. On the {side}: ALTER SEQUENCE {to} INCREMENT {};",
            from.to_text(),
            place.as_str(),
            here.increment,
            to.to_text(),
            there.increment,
            here.increment,
            side = place.other().as_str(),
        )
    };
    (here.increment.signum() != there.increment.signum()).then(says)
}

/// A right that a copy needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    /// To use the schema of a sequence.
    Schema,
    /// To read its position.
    Read,
    /// To raise it, which also requires reading it.
    Raise,
}

impl Right {
    fn is_lacking(self, one: &Definition) -> bool {
        match self {
            Self::Schema => !one.may_use_schema,
            Self::Read => !one.may_read,
            Self::Raise => !one.may_read || !one.may_set,
        }
    }

    fn remedy(self, side: &str, sequences: &[&QualifiedName], role: &Ident) -> String {
        let owner = format!("On the {side}, as the owner");
        let all = sequences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Schema => {
                let schemas: BTreeSet<String> = sequences.iter().map(|name| name.schema.to_string()).collect();
                let schemas = schemas.into_iter().collect::<Vec<_>>().join(", ");
                format!("{owner}: GRANT USAGE ON SCHEMA {schemas} TO {role};")
            }
            Self::Read => format!("{owner}: GRANT SELECT ON SEQUENCE {all} TO {role};"),
            Self::Raise => format!("{owner}: GRANT SELECT, UPDATE ON SEQUENCE {all} TO {role};"),
        }
    }
}

/// The rights that the roles lack, with a statement for each kind of them.
fn lacking(place: Place, pairs: &[Pair]) -> Vec<String> {
    let from: BTreeMap<_, _> = pairs.iter().map(|pair| (&pair.from.0, &pair.from.1)).collect();
    let to: BTreeMap<_, _> = pairs.iter().map(|pair| (&pair.to.0, &pair.to.1)).collect();
    let sides = [(place, Right::Read, from), (place.other(), Right::Raise, to)];
    let each = sides.iter().flat_map(|(place, right, all)| [(place, Right::Schema, all), (place, *right, all)]);
    each.filter_map(|(place, right, all)| grant(*place, right, all)).collect()
}

fn grant(place: Place, right: Right, all: &BTreeMap<&QualifiedName, &Definition>) -> Option<String> {
    let lacking = all.iter().filter(|(_, one)| right.is_lacking(one));
    let (lacking, roles): (Vec<&QualifiedName>, Vec<&Ident>) = lacking.map(|(name, one)| (*name, &one.role)).unzip();
    let role = roles.first()?;
    let verb = if right == Right::Raise { "raise" } else { "read" };
    let remedy = right.remedy(place.as_str(), &lacking, role);
    Some(format!("Role {role} may not {verb} sequence {}. {remedy}", names::tables(lacking.iter().copied())))
}

/// The targets of the other side's sequences: each must reach the furthest of those that it continues.
pub(super) fn targets<'p>(
    operation: &Operation<'_>,
    sides: &Sides,
    prepared: &'p Prepared,
    positions: &[Position],
) -> Result<Vec<Target<'p>>> {
    let mut targets: BTreeMap<&QualifiedName, Target<'p>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (pair, position) in prepared.pairs.iter().zip(positions) {
        problems.extend(outside(sides.place, pair, *position));
        let target = target(pair, *position, prepared.margin);
        let is_further = |other: &Target<'_>| pair.to.1.compare(target.position, other.position).is_gt();
        if targets.get(&pair.to.0).is_none_or(is_further) {
            targets.insert(&pair.to.0, target);
        }
    }
    refused(operation, problems, "numbers of sequences do not fit; no sequence was raised")?;
    Ok(targets.into_values().collect())
}

/// The objection if the other sequence cannot have this number.
fn outside(place: Place, pair: &Pair, position: Position) -> Option<String> {
    let ((from, here), (to, there)) = (&pair.from, &pair.to);
    let says = || {
        format!(
            "Sequence {} on the {} is at {}, but {} on the {side} only ranges from {} to {}. On the {side}: ALTER \
             SEQUENCE {to} AS bigint MINVALUE {} MAXVALUE {}; if its column is smaller, make that bigint first.",
            from.to_text(),
            place.as_str(),
            position.last,
            to.to_text(),
            there.min,
            there.max,
            here.min,
            here.max,
            side = place.other().as_str(),
        )
    };
    (position.last < there.min || position.last > there.max).then(says)
}

/// The target with the margin, in steps of the source, as far as the other side has room for it and one more number.
fn target(pair: &Pair, position: Position, margin: u32) -> Target<'_> {
    let (here, there) = (&pair.from.1, &pair.to.1);
    let end = i128::from(if there.increment > 0 { there.max } else { there.min });
    let (last, step) = (i128::from(position.last), i128::from(here.increment));
    let (wanted, most) = (last + step * i128::from(margin), end - i128::from(there.increment));
    let kept = if step > 0 { wanted.min(most).max(last) } else { wanted.max(most).min(last) };
    let number = i64::try_from(kept).unwrap_or(position.last);
    Target { pair, position: Position { last: number, ..position }, is_clamped: kept != wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn name(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn definition(increment: i64, min: i64, max: i64) -> Definition {
        let role = Ident::new("me").unwrap();
        Definition { increment, min, max, role, may_use_schema: true, may_read: true, may_set: true }
    }

    fn pair(from: Definition, to: Definition) -> Pair {
        Pair { from: (name("a"), from), to: (name("b"), to) }
    }

    fn at(last: i64, margin: u32, increment: i64) -> (i64, bool) {
        let pair = pair(definition(increment, -100, 100), definition(increment, -100, 100));
        let target = target(&pair, Position { last, is_called: true }, margin);
        (target.position.last, target.is_clamped)
    }

    #[test]
    fn a_margin_ends_one_step_before_the_end() {
        assert_eq!(at(7, 0, 1), (7, false));
        assert_eq!(at(7, 10, 2), (27, false));
        assert_eq!(at(7, 1000, 2), (98, true));
        assert_eq!(at(-7, 10, -2), (-27, false));
        assert_eq!(at(-7, 1000, -2), (-98, true));
        assert_eq!(at(100, 0, 1), (100, false));
        assert_eq!(at(100, 5, 1), (100, true));
        let whole = || definition(i64::MAX, i64::MIN, i64::MAX);
        let pair = pair(whole(), whole());
        let target = target(&pair, Position { last: i64::MAX - 1, is_called: true }, u32::MAX);
        assert_eq!(target.position.last, i64::MAX - 1);
    }

    fn check(problems: impl IntoIterator<Item = String>, expected: &Expect) {
        expected.assert_eq(&problems.into_iter().map(|line| line + "\n").collect::<String>());
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_remedy() {
        let wide = || definition(1, 1, 1000);
        let narrow = pair(wide(), definition(1, 1, 100));
        check(
            outside(Place::Publisher, &narrow, Position { last: 101, is_called: true }),
            &expect![[r#"
                Sequence public.a on the publisher is at 101, but public.b on the subscriber only ranges from 1 to 100. On the subscriber: ALTER SEQUENCE "public"."b" AS bigint MINVALUE 1 MAXVALUE 1000; if its column is smaller, make that bigint first.
            "#]],
        );
        check(outside(Place::Publisher, &narrow, Position { last: 100, is_called: true }), &expect![[""]]);
        check(
            turned(Place::Subscriber, &pair(wide(), definition(-1, 1, 100))),
            &expect![[r#"
                Sequence public.a on the subscriber counts by 1, and public.b on the publisher by -1. On the publisher: ALTER SEQUENCE "public"."b" INCREMENT 1;
            "#]],
        );
        let blind = Definition { may_read: false, ..wide() };
        let stranger = Definition { may_use_schema: false, may_set: false, ..wide() };
        check(
            lacking(Place::Publisher, &[pair(blind, stranger)]),
            &expect![[r#"
                Role "me" may not read sequence public.a. On the publisher, as the owner: GRANT SELECT ON SEQUENCE "public"."a" TO "me";
                Role "me" may not read sequence public.b. On the subscriber, as the owner: GRANT USAGE ON SCHEMA "public" TO "me";
                Role "me" may not raise sequence public.b. On the subscriber, as the owner: GRANT SELECT, UPDATE ON SEQUENCE "public"."b" TO "me";
            "#]],
        );
        let pairs = [("gone", "b"), ("a", "gone")].map(|(from, to)| (name(from), name(to)));
        let matched = Matched { pairs: pairs.into_iter().collect(), ..Matched::default() };
        let defined =
            Defined { from: BTreeMap::from([(name("a"), wide())]), to: BTreeMap::from([(name("b"), wide())]) };
        check(
            missing(Place::Publisher, &matched, &defined),
            &expect![[r#"
                There is no sequence public.gone on the subscriber. On the subscriber: CREATE SEQUENCE "public"."gone" INCREMENT 1 MINVALUE 1 MAXVALUE 1000; and use it for the column's default.
                There is no sequence public.gone on the publisher.
            "#]],
        );
    }
}
