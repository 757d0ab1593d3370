// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource.

use std::collections::BTreeSet;

use crate::config::{ConfiguredServer, Context, names};
use crate::postgres::Ident;
use crate::resources::object_id::{self, InDatabase, ObjectId};
use crate::resources::reaching::{self, Connection, Way};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::PlannedChange;
use crate::tf_provider::timeouts::Timeouts;

crate::model! {
    /// Which of two sides takes writes.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// The subscriptions, as one name.
        name: Attr<String>,
        /// The subscriptions from the publisher to the subscriber.
        subscriptions: Attr<BTreeSet<String>>,
        /// The side that takes writes: `publisher` or `subscriber`.
        active: Attr<String>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        subscriber_database: Attr<String>,
        /// How the publisher reaches the subscriber, for the way back.
        reverse: Attr<Connection>,
        /// A change of this number sets that connection again.
        connection_version: Attr<i64>,
        /// Who stops the writes: `fence` or `external`.
        writes: Attr<String>,
        /// Whether the inactive side refuses writes.
        guard: Attr<bool>,
        /// What happens to writes to unpublished tables: `block` or `allow`.
        unpublished_writes: Attr<String>,
        /// The largest lag at which a switch begins.
        max_lag_bytes: Attr<i64>,
        /// When to end sessions that block a table.
        end_blockers_after: Attr<String>,
        /// How to compare tables before the commit: `counts`, `checksums` or `none`.
        compare: Attr<String>,
        /// The largest number of rows of a table that is compared.
        compare_max_rows: Attr<i64>,
        /// How many values sequences skip.
        sequence_margin: Attr<i64>,
        /// Further sequences to copy.
        sequences: Attr<BTreeSet<String>>,
        /// What happens to the slots of the subscriptions: `drop` or `disable`.
        forward: Attr<String>,
        /// The message for an application that still writes.
        message: Attr<String>,
        /// Whether destroy opens the inactive side.
        open_on_destroy: Attr<bool>,
        /// Whether everything that a switch needs exists.
        prepared: Attr<bool>,
        /// The tables that are guarded.
        fenced_tables: Attr<BTreeSet<String>>,
        /// The subscription on the publisher that brings changes back.
        reverse_subscription: Attr<String>,
        /// The host of the active side.
        host: Attr<String>,
        /// Its port.
        port: Attr<i64>,
        /// Its database.
        database: Attr<String>,
        /// The position up to which the other side has applied everything.
        position: Attr<String>,
        /// When the last switch was committed.
        cut_over_at: Attr<String>,
        /// How long writers waited, in milliseconds.
        write_pause_ms: Attr<i64>,
        /// How many writers waited.
        writers_waited: Attr<i64>,
        /// How many sequences were raised.
        sequences_copied: Attr<i64>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

impl InDatabase for Model {
    fn server(context: &Context) -> &ConfiguredServer {
        context.subscriber()
    }

    #[expect(clippy::misnamed_getters, reason = "the attribute of that name is the active side's")]
    fn database(&self) -> &Attr<String> {
        &self.subscriber_database
    }

    fn name(&self) -> &Attr<String> {
        &self.name
    }

    fn called(id: &ObjectId) -> Self {
        let subscriptions = named(&id.name);
        Self {
            id: id.to_string().into(),
            name: id.name.clone().into(),
            subscriptions: subscriptions.into(),
            subscriber_database: id.database.clone().into(),
            ..Self::default()
        }
    }
}

/// The name of a cutover of these subscriptions.
pub(super) fn name(subscriptions: &Attr<BTreeSet<String>>) -> Attr<String> {
    let encode = |name: &String| name.replace('%', "%25").replace(',', "%2C");
    match subscriptions {
        Attr::Known(names) => names.iter().map(encode).collect::<Vec<_>>().join(",").into(),
        Attr::Null => Attr::Null,
        Attr::Unknown => Attr::Unknown,
    }
}

/// The subscriptions of a name.
fn named(name: &str) -> BTreeSet<String> {
    name.split(',').map(|part| part.replace("%2C", ",").replace("%25", "%")).collect()
}

pub(super) fn validate(config: &Model, diagnostics: &mut Diagnostics) {
    reaching::validate(Way::BACK, &config.reverse, diagnostics);
    if config.reverse.is_null() && config.connection_version.known().is_some() {
        let error = Error::new("connection_version needs a reverse block").detail(
            "A change of it sends that block's connection again. Add the block, or leave connection_version \
                 out.",
        );
        diagnostics.error(error.attribute("connection_version"));
    }
    if config.message.known().is_some_and(|message| message.trim().is_empty()) {
        let error = Error::new("message is empty").detail("Write the message for applications, or leave it out.");
        diagnostics.error(error.attribute("message"));
    }
    if config.writes.known().is_some_and(|writes| writes == "external") && config.end_blockers_after.known().is_some() {
        let error = Error::new("end_blockers_after does not go with writes = \"external\"")
            .detail("You stop the writers yourself then, so there are no sessions to end. Leave one of the two out.");
        diagnostics.error(error.attribute("end_blockers_after"));
    }
}

/// The names of the subscriptions.
///
/// # Errors
/// When one of them is not a valid name.
pub(super) fn subscriptions(model: &Model) -> Result<BTreeSet<Ident>> {
    names("subscriptions", &model.subscriptions, |text| Ident::new(text))
}

/// The attributes of the last switch.
const OF_SWITCH: [&str; 5] = ["position", "cut_over_at", "write_pause_ms", "writers_waited", "sequences_copied"];
/// The attributes with the address of the active side.
const WHERE: [&str; 3] = ["host", "port", "database"];
/// Further attributes that follow from the servers.
pub(super) const OF_SERVERS: [&str; 2] = ["fenced_tables", "reverse_subscription"];

/// Plans the attributes that follow from others. A change without a switch keeps those of the last switch.
pub(super) fn plan_computed(change: &mut PlannedChange<Model>) -> Result<()> {
    let Some(planned) = change.planned().cloned() else { return Ok(()) };
    change.set("name", name(&planned.subscriptions))?;
    object_id::plan_id(change)?;
    let Some(prior) = change.prior().cloned() else { return Ok(()) };
    let unprepared = prior.prepared.known() != Some(&true);
    if !unprepared && !change.changes() || change.replaces() {
        return Ok(());
    }
    let switches = prior.active != planned.active;
    change.set_unknown("prepared")?;
    for attribute in OF_SWITCH.into_iter().chain(WHERE) {
        if switches { change.set_unknown(attribute)? } else { change.keep(attribute)? }
    }
    OF_SERVERS.iter().try_for_each(|attribute| change.set_unknown(attribute))
}

/// The state of an import with the defaults of all attributes that no server stores.
pub(super) fn with_defaults(imported: Model) -> Model {
    Model {
        writes: "fence".into(),
        guard: true.into(),
        unpublished_writes: "block".into(),
        max_lag_bytes: 16_777_216.into(),
        compare: "counts".into(),
        compare_max_rows: 1_000_000.into(),
        sequence_margin: 0.into(),
        forward: "drop".into(),
        open_on_destroy: false.into(),
        ..imported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_round_whatever_is_in_it() {
        for names in [vec!["shop"], vec!["a,b", "c%2C", "d"], vec!["ü/x"]] {
            let names: BTreeSet<_> = names.into_iter().map(str::to_owned).collect();
            let name = name(&names.clone().into()).into_known().unwrap();
            assert_eq!(named(&name), names, "{name}");
        }
        assert!(name(&Attr::Unknown).is_unknown());
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_what_is_unknown_is_passed_over() {
        let said = |config: Model| {
            let mut diagnostics = Diagnostics::default();
            validate(&config, &mut diagnostics);
            diagnostics.into_iter().map(|one| one.summary).collect::<Vec<_>>()
        };
        let contradicting = Model {
            connection_version: 1.into(),
            message: " ".into(),
            writes: "external".into(),
            end_blockers_after: "30s".into(),
            ..Model::default()
        };
        assert_eq!(said(contradicting).len(), 3);
        let unknown = Model {
            connection_version: 1.into(),
            reverse: Attr::Unknown,
            message: Attr::Unknown,
            writes: Attr::Unknown,
            end_blockers_after: "30s".into(),
            ..Model::default()
        };
        assert_eq!(said(unknown), Vec::<String>::new());
        let both = Connection { password: "pw-a".into(), password_wo: "pw-b".into(), ..Connection::default() };
        let twice = said(Model { reverse: both.into(), ..Model::default() });
        assert_eq!(twice, ["password and password_wo exclude each other"]);
    }
}
