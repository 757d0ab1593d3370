// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource.

use std::collections::BTreeSet;

use crate::config::{Context, names};
use crate::postgres::definition::{Known, Left, Step};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::destination::{Look, Unlike, When, Wish};
use crate::resources::destination_tables::{name, of_tables, with_places};
use crate::resources::object_id::in_database;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, timeouts_block};

crate::model! {
    /// The tables of a subscriber.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// What it is of: its publications and tables.
        name: Attr<String>,
        /// The publications whose tables are made.
        publications: Attr<BTreeSet<String>>,
        /// Further tables.
        tables: Attr<BTreeSet<String>>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// When indexes are made.
        indexes: Attr<String>,
        /// When foreign keys are made.
        foreign_keys: Attr<String>,
        /// Which functions are made.
        functions: Attr<String>,
        /// What becomes of later changes.
        changes: Attr<String>,
        /// Whether empty tables are dropped.
        drop_on_destroy: Attr<bool>,
        /// A hash of the publisher's definitions.
        fingerprint: Attr<String>,
        /// What is not the same.
        differences: Attr<Vec<Unlikeness>>,
        /// What is not copied.
        not_copied: Attr<Vec<LeftOut>>,
        /// What is left for later.
        later: Attr<Vec<Later>>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

crate::model! {
    /// A difference.
    pub(in crate::resources) struct Unlikeness {
        /// What it is about.
        object: Attr<String>,
        /// What of it.
        attribute: Attr<String>,
        /// What the publisher has.
        publisher: Attr<String>,
        /// What the subscriber has.
        subscriber: Attr<String>,
        /// What to do.
        remedy: Attr<String>,
    }
}

crate::model! {
    /// Something that is not copied.
    pub(in crate::resources) struct LeftOut {
        /// What it is.
        object: Attr<String>,
        /// Why.
        reason: Attr<String>,
    }
}

crate::model! {
    /// A statement for later.
    pub(in crate::resources) struct Later {
        /// What it makes.
        object: Attr<String>,
        /// The statement.
        statement: Attr<String>,
    }
}

in_database!(Model, Context::subscriber);
of_tables!(Model);

pub(super) fn schema() -> Schema {
    let schema = Schema::new(
        "The tables of the subscriber, made as they are on the publisher: with the schemas, types, collations, sequences and \
         functions that they need, their columns, defaults, checks, primary keys, unique and exclusion constraints, replica \
         identities, partitions, parents and comments. Everything is read from the catalogs of the publisher, made in one \
         transaction in the order of its dependencies, and compared afterwards: both sides are the same then, or nothing was \
         made. It needs neither pg_dump nor psql.\n\n\
         What is there is compared and never replaced. If it is the same it is left alone; if it is not, the plan is an error \
         that lists every difference. With `changes = \"follow\"` a difference that only adds, such as a new table or column, a \
         new label of an enum, a wider type, a NOT NULL that was dropped or a new name of a column, is planned as a change of \
         the subscriber: a \
         migration that ran on the publisher first, and has stopped the replication, is healed by one apply.\n\n\
         Extensions are never made silently, and what cannot be made from the catalogs (functions in C, types that need \
         functions in C, foreign tables) is named, all of it at once, before anything is made. Triggers, rules, policies, \
         views, owners and \
         privileges are not copied: they are for those who write, and are made when they move. The guide *What is copied of a schema* \
         lists all of it.\n\n\
         Tables that join a publication later are best made before they are published: name them in `tables` here, and let the \
         publication take them from it (`tables = neonrepl_destination_schema.shop.tables`). Then one apply makes a new table, \
         publishes it and has the subscription copy it, in that order, while rows are written. With `publications` the order is the \
         other one: until the same apply has made the table, the subscription may stop at a row of it, and goes on by itself then.",
    );
    let schema = with_places(schema, "whose tables are made", "what was made stays");
    let choice = |name: &str, choices: &[&'static str], default: &str, description: &str| {
        Attribute::optional(name, Type::String, description).default(default).one_of(choices)
    };
    schema
        .attribute(choice(
            "indexes",
            &["with_tables", "later", "never"],
            "later",
            "When indexes that no constraint has, and extended statistics, are made. `later` leaves them for the time when the rows \
             are there, since a copy into a table without them is several times as fast: their statements are in the attribute \
             `later`. The index of a replica identity is always made with its table. Default: `later`.",
        ))
        .attribute(choice(
            "foreign_keys",
            &["with_tables", "later", "never"],
            "later",
            "When foreign keys are made, in the same way. Neither the copy nor the replication checks them, but a TRUNCATE of the \
             table that one refers to stops the replication. One that refers to a table which is not among these is left out. \
             Default: `later`.",
        ))
        .attribute(choice(
            "functions",
            &["needed", "never"],
            "needed",
            "Whether functions are made that a default, a check, a generated column, a domain or an index calls. With `never`, what \
             calls a function that the subscriber does not have is left out, or refused where the table cannot be without it. \
             Default: `needed`.",
        ))
        .attribute(choice(
            "changes",
            &["follow", "report"],
            "follow",
            "What becomes of what the publisher changes later. `follow` plans a change of the subscriber for what only adds. \
             `report` shows it in `differences` and as a warning. What takes something away is shown with either, with the \
             order in which to do it. Default: `follow`.",
        ))
        .attribute(
            Attribute::optional(
                "drop_on_destroy",
                Type::Bool,
                "Whether destroy drops what this resource has made, where none of its tables holds a row. Otherwise the tables stay. \
                 What was there before stays in any case; after an import nothing is known to be made here, so that a destroy drops \
                 nothing and warns of it. Default: `false`.",
            )
            .default(false),
        )
        .attribute(Attribute::computed("id", Type::String, "`database/name`, by which it is imported."))
        .attribute(Attribute::computed(
            "name",
            Type::String,
            "The publications and tables that it is of, joined by commas; tables begin with `table:`. In a name, `,` is written \
             `%2C` and `%` is written `%25`, encoded again in `id`.",
        ))
        .attribute(Attribute::computed(
            "fingerprint",
            Type::String,
            "A hash of how the publisher defines the tables and what they need.",
        ))
        .attribute(Attribute::computed(
            "differences",
            texts(["object", "attribute", "publisher", "subscriber", "remedy"]),
            "What is not the same on both sides, as it was last read.",
        ).parts(&[
            ("object", "The table, type or other object."),
            ("attribute", "What about it differs, such as a column or a default."),
            ("publisher", "What the publisher has. Empty where it has nothing."),
            ("subscriber", "What the subscriber has. Empty where it has nothing."),
            ("remedy", "What to do about it."),
        ]))
        .attribute(Attribute::computed(
            "not_copied",
            texts(["object", "reason"]),
            "What the publisher has on these tables that the subscriber does not get, with the reason.",
        ).parts(&[("object", "The object."), ("reason", "Why it is not made.")]))
        .attribute(Attribute::computed(
            "later",
            texts(["object", "statement"]),
            "The statements that are left for later, in their order: indexes, foreign keys and extended statistics that the \
             subscriber does not have yet.",
        ).parts(&[("object", "What the statement makes."), ("statement", "The statement, to be run on the subscriber.")]))
        .block(timeouts_block("20m", "20m", "5m"))
}

/// A list of objects of texts.
fn texts<const N: usize>(names: [&str; N]) -> Type {
    Type::list(Type::object(names.map(|name| (name, Type::String))))
}

/// What the subscriber is to have.
pub(super) fn wish(model: &Model, known: Known) -> Result<Wish> {
    let when = |name: &str, attribute: &Attr<String>| match attribute.optional(name)? {
        Some(text) => When::from_name(text).ok_or_else(|| Error::new(format!("{text:?} is unknown")).attribute(name)),
        None => Ok(When::Later),
    };
    model.publications.optional("publications")?;
    model.tables.optional("tables")?;
    Ok(Wish {
        publications: names("publications", &model.publications, |text| Ident::new(text))?,
        tables: names("tables", &model.tables, QualifiedName::parse)?,
        indexes: when("indexes", &model.indexes)?,
        foreign_keys: when("foreign_keys", &model.foreign_keys)?,
        makes_functions: model.functions.known().is_none_or(|functions| functions != "never"),
        follows: model.changes.known().is_none_or(|changes| changes != "report"),
        known,
    })
}

/// The state of what was found, with the configuration of before.
pub(super) fn to_model(look: &Look, before: &Model) -> Model {
    let or = |attribute: &Attr<String>, default: &str| attribute.known().map_or(default, String::as_str).into();
    Model {
        name: name(&before.publications, &before.tables),
        indexes: or(&before.indexes, "later"),
        foreign_keys: or(&before.foreign_keys, "later"),
        functions: or(&before.functions, "needed"),
        changes: or(&before.changes, "follow"),
        drop_on_destroy: before.drop_on_destroy.known().copied().unwrap_or(false).into(),
        differences: look.plan.unlike().into_iter().map(Unlikeness::from).collect::<Vec<_>>().into(),
        not_copied: look.plan.not_copied.iter().map(LeftOut::from).collect::<Vec<_>>().into(),
        later: look.plan.later.iter().flat_map(laters).collect::<Vec<_>>().into(),
        ..before.clone()
    }
}

impl From<Unlike> for Unlikeness {
    fn from(unlike: Unlike) -> Self {
        Self {
            object: unlike.object.into(),
            attribute: unlike.attribute.into(),
            publisher: unlike.publisher.into(),
            subscriber: unlike.subscriber.into(),
            remedy: unlike.remedy.into(),
        }
    }
}

impl From<&Left> for LeftOut {
    fn from(left: &Left) -> Self {
        Self { object: left.object.clone().into(), reason: left.reason.clone().into() }
    }
}

fn laters(step: &Step) -> Vec<Later> {
    let object = step.object.to_string();
    let later = |statement: &crate::postgres::Statement| Later {
        object: object.clone().into(),
        statement: format!("{statement};").into(),
    };
    step.statements.iter().map(later).collect()
}
