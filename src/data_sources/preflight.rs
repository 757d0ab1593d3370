// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_preflight`: whether a replication would work, and what it would not copy, before anything is changed.

use std::collections::BTreeSet;

use super::with_databases;
use crate::config::{Context, check_name, check_table, names};
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::preflight::{Question, preflight};
use crate::replication::{Finding, Operation};
use crate::report::{self, Style};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The data source.
pub(super) struct Preflight;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The publications to subscribe to.
        publications: Attr<BTreeSet<String>>,
        /// Tables that will be published.
        tables: Attr<BTreeSet<String>>,
        /// The role that the subscription logs in as.
        subscription_role: Attr<String>,
        /// Whether a cutover is planned.
        cutover: Attr<bool>,
        /// Whether changes will flow back later.
        reverse: Attr<bool>,
        /// The role that the way back logs in as.
        reverse_role: Attr<String>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// Whether no finding is an error.
        ok: Attr<bool>,
        /// The findings.
        findings: Attr<Vec<Found>>,
        /// The same as text.
        report: Attr<String>,
    }
}

crate::model! {
    /// A finding.
    pub(super) struct Found {
        /// Its severity.
        severity: Attr<String>,
        /// The check that found it.
        check: Attr<String>,
        /// The side.
        side: Attr<String>,
        /// Its object.
        object: Attr<String>,
        /// The message.
        message: Attr<String>,
        /// What to do.
        remedy: Attr<String>,
    }
}

/// The descriptions of the nested attributes.
const PARTS: &[(&str, &str)] = &[
    ("severity", "`error` (replicating would fail, or lose something), `warning` or `info`."),
    ("check", "The name of the check, such as `wal_level` or `replica_identity`. It does not change between releases."),
    ("side", "`publisher`, `subscriber` or `both`."),
    ("object", "What it is about, such as a table or a role. Empty if it is about the server."),
    ("message", "What was found."),
    ("remedy", "What to do: the statement with the server to run it on, or the step. Empty if nothing has to be done."),
];

impl DataSource for Preflight {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_preflight";

    fn schema() -> Schema {
        let finding = Type::object([
            ("severity", Type::String),
            ("check", Type::String),
            ("side", Type::String),
            ("object", Type::String),
            ("message", Type::String),
            ("remedy", Type::String),
        ]);
        let asked = Schema::new(
            "Checks both servers before anything moves: whether replicating the tables would work, what stands in \
             the way, what would not be copied, and how large the tables are. It changes nothing, and uses one \
             connection to each server. It can stay in a configuration, in a `precondition` or a `check` block: \
             tables that a subscription to these publications already replicates may hold rows.",
        )
        .attribute(
            Attribute::optional(
                "publications",
                Type::set(Type::String),
                "The publications to subscribe to. One that does not exist is an error, or a warning if `tables` \
                 says what it will publish.",
            )
            .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "tables",
                Type::set(Type::String),
                "Tables that will be published in addition to those of the publications, as `schema.table`, or \
                 `table` in `public`. Default: none if publications are given, otherwise every table of the \
                 database.",
            )
            .text(check_table),
        )
        .attribute(
            Attribute::optional(
                "subscription_role",
                Type::String,
                "The role as which the subscription will log in to the publisher. Default: the role of the \
                 provider's publisher block.",
            )
            .text(check_name),
        )
        .attribute(Attribute::optional(
            "cutover",
            Type::Bool,
            "Whether a cutover is planned. What would stop `neonrepl_cutover` is then an error, such as \
             tables that the provider's role does not own. Replicated tables that were never analyzed on the \
             subscriber are reported as well. Default: `false`.",
        ))
        .attribute(Attribute::optional(
            "reverse",
            Type::Bool,
            "Whether changes will flow back after the cutover: the subscriber is then also checked as a publisher, \
             and the publisher as a subscriber. Includes `cutover`. Default: `false`.",
        ))
        .attribute(
            Attribute::optional(
                "reverse_role",
                Type::String,
                "With `reverse`: the role as which the publisher's server will log in to the subscriber. Default: \
                 the role of the provider's subscriber block.",
            )
            .text(check_name),
        );
        with_databases(asked)
            .attribute(Attribute::computed("ok", Type::Bool, "Whether no finding is an error. Warnings do not count."))
            .attribute(
                Attribute::computed(
                    "findings",
                    Type::list(finding),
                    "All findings: errors first, then warnings, then information, always in the same order.",
                )
                .parts(PARTS),
            )
            .attribute(Attribute::computed(
                "report",
                Type::String,
                "The findings and the amount to copy, as a table to read.",
            ))
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let pair = call.context().pair(&config.publisher_database, &config.database)?;
        let limits = Limits::default().cancelled_by(call.stop().clone());
        let operation = Operation::new("looking at both servers", limits, call);
        let report = Box::pin(preflight(&operation, &pair, &question(&config)?)).await?;
        let found: Vec<_> = report.findings.iter().map(to_found).collect();
        Ok(Model {
            publisher_database: pair.publisher.name().into(),
            database: pair.subscriber.name().into(),
            ok: report.is_ok().into(),
            findings: found.into(),
            report: report::preflight(&report, &Style::plain()).into(),
            ..config
        })
    }
}

fn question(config: &Model) -> Result<Question> {
    let role = |attribute, given: &Attr<String>| {
        let name = given.known().map(|name| Ident::new(name.as_str())).transpose();
        name.map_err(|error| Error::new(error.to_string()).attribute(attribute))
    };
    Ok(Question {
        publications: names("publications", &config.publications, |text| Ident::new(text))?,
        tables: names("tables", &config.tables, QualifiedName::parse)?,
        subscription_role: role("subscription_role", &config.subscription_role)?,
        cutover: config.cutover.known() == Some(&true),
        reverse: config.reverse.known() == Some(&true),
        reverse_role: role("reverse_role", &config.reverse_role)?,
    })
}

fn to_found(finding: &Finding) -> Found {
    Found {
        severity: finding.severity.as_str().into(),
        check: finding.check.into(),
        side: finding.place.as_str().into(),
        object: finding.object.as_str().into(),
        message: finding.message.as_str().into(),
        remedy: finding.remedy.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Attr<BTreeSet<String>> {
        names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>().into()
    }

    #[test]
    fn what_is_asked_is_what_the_configuration_says() {
        let config = Model { publications: set(&["Shop"]), tables: set(&["a", "\"b.c\".d"]), ..Model::default() };
        let question = question(&config).unwrap();
        assert_eq!(question.publications.iter().map(Ident::as_str).collect::<Vec<_>>(), ["Shop"]);
        assert_eq!(question.tables.iter().map(QualifiedName::to_text).collect::<Vec<_>>(), ["\"b.c\".d", "public.a"]);
        assert_eq!((question.subscription_role, question.reverse), (None, false));
        let asked = Model { subscription_role: "replicator".into(), reverse: true.into(), ..Model::default() };
        let question = super::question(&asked).unwrap();
        assert_eq!((question.subscription_role, question.reverse), (Some(Ident::new("replicator").unwrap()), true));
        assert!(super::question(&Model { tables: set(&["a.b.c"]), ..Model::default() }).is_err());
    }
}
