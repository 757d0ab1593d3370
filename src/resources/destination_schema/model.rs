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
        /// Its publications and tables, as one name.
        name: Attr<String>,
        /// The publications whose tables are created.
        publications: Attr<BTreeSet<String>>,
        /// Further tables.
        tables: Attr<BTreeSet<String>>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// When indexes are created.
        indexes: Attr<String>,
        /// When foreign keys are created.
        foreign_keys: Attr<String>,
        /// Which functions are created.
        functions: Attr<String>,
        /// What happens after later changes on the publisher.
        changes: Attr<String>,
        /// Whether destroy drops empty tables.
        drop_on_destroy: Attr<bool>,
        /// A hash of the publisher's definitions.
        fingerprint: Attr<String>,
        /// The differences.
        differences: Attr<Vec<Unlikeness>>,
        /// The objects that are not copied.
        not_copied: Attr<Vec<LeftOut>>,
        /// The statements that are left for later.
        later: Attr<Vec<Later>>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

crate::model! {
    /// A difference.
    pub(in crate::resources) struct Unlikeness {
        /// The object that differs.
        object: Attr<String>,
        /// Its attribute that differs.
        attribute: Attr<String>,
        /// The value on the publisher.
        publisher: Attr<String>,
        /// The value on the subscriber.
        subscriber: Attr<String>,
        /// What to do.
        remedy: Attr<String>,
    }
}

crate::model! {
    /// Something that is not copied.
    pub(in crate::resources) struct LeftOut {
        /// The object.
        object: Attr<String>,
        /// Why it is not copied.
        reason: Attr<String>,
    }
}

crate::model! {
    /// A statement for later.
    pub(in crate::resources) struct Later {
        /// The object that it creates.
        object: Attr<String>,
        /// The statement.
        statement: Attr<String>,
    }
}

in_database!(Model, Context::subscriber);
of_tables!(Model);

pub(super) fn schema() -> Schema {
    let schema = Schema::new(
        "Creates the publisher's tables on the subscriber, with the schemas, types, collations, sequences and \
         functions that they need, and with their columns, defaults, checks, primary keys, unique and exclusion \
         constraints, replica identities, partitions, parents and comments. The definitions are read from the \
         publisher's catalogs, created in one transaction in the order of their dependencies, and compared \
         afterwards: either both sides are the same, or nothing was created. It needs neither pg_dump nor \
         psql.\n\nExisting objects are compared and never replaced. If they are the same, they are left alone; if \
         not, the plan fails and lists every difference. With `changes = \"follow\"`, a difference that loses \
         nothing is planned as a change of the subscriber: a new table or column, a new enum label, a wider type, a \
         dropped NOT NULL, a renamed column or table. So one apply repairs a replication that stopped because a \
         migration ran on the publisher first. A table that was dropped and created again, on either side, is named by each \
         plan until its rows are copied again: nothing else shows it.\n\nExtensions are never created silently. What cannot be created from the \
         catalogs (functions in C, types that need them, foreign tables) is listed at once, before anything is \
         created. Triggers, rules, policies, views, owners and privileges are not copied: only sessions that write \
         need them, so create them when the writers move. The guide *What is copied of a schema* has the whole \
         list.\n\nA table that joins a publication later is best created before it is published: list it in \
         `tables` here, and let the publication refer to that list (`tables = \
         neonrepl_destination_schema.shop.tables`). Then one apply creates the table, publishes it and has the \
         subscription copy it, in that order, while rows are written. With `publications` the table is published \
         first: the subscription may stop at a row of it until the same apply has created the table, and then goes \
         on by itself.",
    );
    let schema = with_places(schema, "whose tables are created", "what was created stays");
    let choice = |name: &str, choices: &[&'static str], default: &str, description: &str| {
        Attribute::optional(name, Type::String, description).default(default).one_of(choices)
    };
    schema
        .attribute(choice(
            "indexes",
            &["with_tables", "later", "never"],
            "later",
            "When to create indexes that do not belong to a constraint, and extended statistics. `later` leaves \
             them until the rows have been copied, because copying into a table without them is several times as \
             fast; the attribute `later` has their statements. The index of a replica identity is always created \
             with its table. Default: `later`.",
        ))
        .attribute(choice(
            "foreign_keys",
            &["with_tables", "later", "never"],
            "later",
            "When to create foreign keys, in the same way. Neither the copy nor the replication checks them, but a \
             TRUNCATE of the table that one refers to stops the replication. A foreign key to a table that is not \
             in the list is left out. Default: `later`.",
        ))
        .attribute(choice(
            "functions",
            &["needed", "never"],
            "needed",
            "Whether to create functions that a default, a check, a generated column, a domain or an index calls. \
             With `never`, whatever calls a function that the subscriber does not have is left out, or refused if \
             the table cannot exist without it. Default: `needed`.",
        ))
        .attribute(choice(
            "changes",
            &["follow", "report"],
            "follow",
            "What to do about later changes on the publisher. `follow` plans the same change for the subscriber, if \
             it only adds something. `report` shows it in `differences` and as a warning. A change that removes \
             something is only shown in both cases, with the order in which to make it on the two sides. Default: \
             `follow`.",
        ))
        .attribute(
            Attribute::optional(
                "drop_on_destroy",
                Type::Bool,
                "Whether a destroy drops what this resource created, if none of its tables holds a row. Otherwise \
                 the tables stay. What existed before always stays. After an import it is not known what this \
                 resource created, so a destroy drops nothing and warns. Default: `false`.",
            )
            .default(false),
        )
        .attribute(Attribute::computed("id", Type::String, "`database/name`, by which it is imported."))
        .attribute(Attribute::computed(
            "name",
            Type::String,
            "Its publications and tables, joined by commas; tables begin with `table:`. In a name, `,` is written \
             `%2C` and `%` is written `%25`, encoded again in `id`.",
        ))
        .attribute(Attribute::computed(
            "fingerprint",
            Type::String,
            "A hash of the publisher's definitions of the tables and of what they need.",
        ))
        .attribute(
            Attribute::computed(
                "differences",
                texts(["object", "attribute", "publisher", "subscriber", "remedy"]),
                "The differences between both sides, as last read.",
            )
            .parts(&[
                ("object", "The table, type or other object."),
                ("attribute", "What differs about it, such as a column or a default."),
                ("publisher", "What the publisher has. Empty if it has nothing."),
                ("subscriber", "What the subscriber has. Empty if it has nothing."),
                ("remedy", "What to do about it."),
            ]),
        )
        .attribute(
            Attribute::computed(
                "not_copied",
                texts(["object", "reason"]),
                "What these tables have on the publisher that is not copied to the subscriber, with the reason.",
            )
            .parts(&[("object", "The object."), ("reason", "Why it is not copied.")]),
        )
        .attribute(
            Attribute::computed(
                "later",
                texts(["object", "statement"]),
                "The statements that are left for later, in order: indexes, foreign keys and extended statistics that \
             the subscriber does not have yet.",
            )
            .parts(&[
                ("object", "What the statement creates."),
                ("statement", "The statement, to be run on the subscriber."),
            ]),
        )
        .block(timeouts_block("20m", "20m", "5m"))
}

/// A list of objects of texts.
fn texts<const N: usize>(names: [&str; N]) -> Type {
    Type::list(Type::object(names.map(|name| (name, Type::String))))
}

/// What the subscriber should have.
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

/// The state from what was found, with the previous configuration.
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
