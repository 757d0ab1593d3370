// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_subscriptions`: the subscriptions of a database of the subscriber.

use std::collections::{BTreeMap, BTreeSet};

use super::{database, database_attribute, texts};
use crate::config::Context;
use crate::postgres::conninfo_parts::{self, Parts};
use crate::postgres::subscription::{self, Origin, Streaming, Subscription};
use crate::postgres::{Conninfo, Ident};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The data source.
pub(super) struct Subscriptions;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The database.
        database: Attr<String>,
        /// Its subscriptions.
        subscriptions: Attr<Vec<Found>>,
    }
}

crate::model! {
    /// A subscription's connection without its password.
    pub(super) struct Publisher {
        /// The host.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The database.
        database: Attr<String>,
        /// The role.
        username: Attr<String>,
        /// Encryption.
        sslmode: Attr<String>,
        /// Further keywords.
        options: Attr<BTreeMap<String, String>>,
    }
}

crate::model! {
    /// A subscription.
    pub(super) struct Found {
        /// Its name.
        name: Attr<String>,
        /// Its owner.
        owner: Attr<String>,
        /// Whether it is enabled.
        enabled: Attr<bool>,
        /// Its publications.
        publications: Attr<BTreeSet<String>>,
        /// The slot; null if it has none.
        slot_name: Attr<String>,
        /// Binary transfer.
        binary: Attr<bool>,
        /// Transactions in progress.
        streaming: Attr<String>,
        /// The worker's `synchronous_commit`.
        synchronous_commit: Attr<String>,
        /// Prepared transactions.
        two_phase: Attr<bool>,
        /// Whether an error disables it.
        disable_on_error: Attr<bool>,
        /// Whether the connection needs a password.
        password_required: Attr<bool>,
        /// Whether changes are applied with the rights of the subscription's owner.
        run_as_owner: Attr<bool>,
        /// Which changes are sent.
        origin: Attr<String>,
        /// Whether the slot is copied to standbys.
        failover: Attr<bool>,
        /// Its connection; null if it is the same as the provider's publisher block.
        publisher: Attr<Publisher>,
    }
}

/// The descriptions of the nested attributes.
const PARTS: &[(&str, &str)] = &[
    ("name", "The name."),
    ("owner", "The role that owns it."),
    ("enabled", "Whether it runs."),
    ("publications", "The publications that it subscribes to."),
    ("slot_name", "Its replication slot on the publisher. Null if it has none."),
    ("binary", "Whether values are sent in binary form."),
    ("streaming", "Whether transactions in progress are sent: `off`, `on` or `parallel`."),
    ("synchronous_commit", "The worker's `synchronous_commit`."),
    ("two_phase", "Whether prepared transactions are sent when they are prepared (Postgres 15)."),
    ("disable_on_error", "Whether an error disables it (Postgres 15)."),
    ("password_required", "Whether the connection needs a password if the owner is not a superuser (Postgres 16)."),
    ("run_as_owner", "Whether changes are applied with the rights of its owner (Postgres 16)."),
    (
        "origin",
        "Which changes it asks for: `any`, or `none` for those that were not replicated to the publisher (Postgres 16).",
    ),
    ("failover", "Whether its slot is copied to the publisher's standbys (Postgres 17)."),
    (
        "publisher",
        "How it connects, without the password, as the block `publisher` of `neonrepl_subscription`. Null if it is \
         the same as the provider's `publisher` block, or if the provider's role may not read it.",
    ),
    ("publisher.host", "The publisher's host, as the subscriber reaches it."),
    ("publisher.port", "Its port."),
    ("publisher.database", "The database on the publisher."),
    ("publisher.username", "The role as which it logs in."),
    ("publisher.sslmode", "Whether the connection is encrypted, and what is verified, as in libpq."),
    ("publisher.options", "Further libpq keywords."),
];

impl DataSource for Subscriptions {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_subscriptions";

    fn schema() -> Schema {
        let publisher = Type::object([
            ("host", Type::String),
            ("port", Type::Number),
            ("database", Type::String),
            ("username", Type::String),
            ("sslmode", Type::String),
            ("options", Type::map(Type::String)),
        ]);
        let subscription = Type::object([
            ("name", Type::String),
            ("owner", Type::String),
            ("enabled", Type::Bool),
            ("publications", Type::set(Type::String)),
            ("slot_name", Type::String),
            ("binary", Type::Bool),
            ("streaming", Type::String),
            ("synchronous_commit", Type::String),
            ("two_phase", Type::Bool),
            ("disable_on_error", Type::Bool),
            ("password_required", Type::Bool),
            ("run_as_owner", Type::Bool),
            ("origin", Type::String),
            ("failover", Type::Bool),
            ("publisher", publisher),
        ]);
        Schema::new(
            "The subscriptions of a database of the subscriber: what could be imported as `neonrepl_subscription`. \
             Their passwords do not reach the state.",
        )
        .attribute(database_attribute("subscriber"))
        .attribute(Attribute::computed(
            "subscriptions",
            Type::list(subscription),
            "The subscriptions in the order of their names, with the attributes of `neonrepl_subscription`. An option that the \
             server's version lacks is null.",
        ).parts(PARTS))
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let database = database(call.context().subscriber(), &config.database)?;
        let found = call.unless_stopped(Box::pin(subscription::fetch_all(&database))).await?;
        let publisher = call.context().publisher().database(None).ok();
        let by_default = publisher.map(|publisher| publisher.config().conninfo_without_files());
        let subscriptions: Vec<_> = found.values().map(|one| to_found(one, by_default.as_ref())).collect();
        Ok(Model { database: database.name().into(), subscriptions: subscriptions.into() })
    }
}

/// Its connection, if it differs from that of a resource without a `publisher` block.
fn publisher(there: Option<&Conninfo>, by_default: Option<&Conninfo>) -> Attr<Publisher> {
    let is_default =
        |there: &&Conninfo| by_default.is_some_and(|other| conninfo_parts::differing(there, other).is_empty());
    let Some(there) = there.filter(|there| !is_default(there)) else { return Attr::Null };
    let Parts { host, port, database, username, sslmode, options } = Parts::of(there);
    let publisher = Publisher {
        host: host.into(),
        port: port.map(i64::from).into(),
        database: database.into(),
        username: username.into(),
        sslmode: sslmode.into(),
        options: Some(options).filter(|options| !options.is_empty()).into(),
    };
    publisher.into()
}

fn to_found(subscription: &Subscription, by_default: Option<&Conninfo>) -> Found {
    let text = |text: Option<&str>| Attr::from(text.map(str::to_owned));
    let options = &subscription.options;
    Found {
        name: subscription.name.as_str().into(),
        owner: text(subscription.owner.as_ref().map(Ident::as_str)),
        enabled: subscription.enabled.into(),
        publications: texts(&subscription.publications).into(),
        slot_name: text(subscription.slot_name().map(Ident::as_str)),
        binary: options.binary.into(),
        streaming: text(options.streaming.map(Streaming::as_str)),
        synchronous_commit: text(options.synchronous_commit.as_deref()),
        two_phase: options.two_phase.into(),
        disable_on_error: options.disable_on_error.into(),
        password_required: options.password_required.into(),
        run_as_owner: options.run_as_owner.into(),
        origin: text(options.origin.map(Origin::as_str)),
        failover: options.failover.into(),
        publisher: publisher(subscription.connection.as_ref(), by_default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Conninfo;
    use crate::postgres::subscription::SlotName;

    #[test]
    fn a_slot_and_options_that_are_absent_are_null() {
        let connection = Conninfo::parse("host=h password=hidden").unwrap();
        let name = |text: &str| Ident::new(text).unwrap();
        let mut subscription = Subscription::new(name("s"), connection, [name("p")]);
        subscription.slot = Some(SlotName::None);
        let found = to_found(&subscription, None);
        assert!(found.slot_name.is_null() && found.origin.is_null() && found.failover.is_null());
        subscription.slot = Some(SlotName::Named(name("t")));
        subscription.options.origin = Some(Origin::None);
        let found = to_found(&subscription, None);
        assert_eq!((found.slot_name, found.origin), ("t".into(), "none".into()));
        assert_eq!(found.publisher.known().map(|publisher| publisher.host.clone()), Some("h".into()));
        assert!(to_found(&subscription, subscription.connection.as_ref()).publisher.is_null());
    }
}
