// SPDX-License-Identifier: MPL-2.0

//! Takes over an existing subscription by an import, a list or a move. This does not change it, so
//! the state begins with its current connection.

use super::connection;
use super::difference;
use super::model::Model;
use super::sent;
use crate::config::Context;
use crate::postgres::conninfo_parts::ATTRIBUTES;
use crate::postgres::subscription::Subscription;
use crate::postgres::{Conninfo, keywords};
use crate::replication::names;
use crate::resources::reaching::{self, Connection};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::Error;

/// Fills the `publisher` block from the connection string, once, if the configuration alone would give another one.
/// Warns of parts that the state cannot have.
pub(super) fn take_over(call: &Call<Context>, found: &Subscription, model: &mut Model) {
    let private = call.private();
    if !sent::is_to_be_taken_over(private) {
        return;
    }
    sent::take_over(private);
    let Some(there) = &found.connection else {
        call.warn(unknown(found));
        return;
    };
    let without_block = Model { publisher: Attr::Null, ..model.clone() };
    match connection::conninfo(call.context(), &without_block, None) {
        Ok(by_default) if difference::is_same(there, &by_default) => {
            reaching::remember(private, &by_default, &without_block.publisher);
        }
        _ => fill(call, found, there, model),
    }
}

fn fill(call: &Call<Context>, found: &Subscription, there: &Conninfo, model: &mut Model) {
    if model.publisher.is_null() {
        model.publisher = Connection::of(there).into();
    }
    let left_out: Vec<_> = left_out(there).collect();
    if !left_out.is_empty() {
        let names = names::list(left_out.iter().map(|keyword| (*keyword).to_owned()));
        let warning = format!(
            "subscription {}: its connection has keywords that are not taken into the state: {names}",
            found.name
        );
        call.warn(Error::new(warning).detail(
            "They hold a secret or lead to one, or cannot be set in a configuration. The subscription keeps them, \
             even when another connection is sent.",
        ));
    }
}

fn left_out(there: &Conninfo) -> impl Iterator<Item = &str> {
    let keywords = there.iter().map(|(keyword, _)| keyword);
    keywords.filter(|keyword| !ATTRIBUTES.contains(keyword) && !keywords::may_be_option(keyword))
}

fn unknown(found: &Subscription) -> Error {
    Error::new(format!("subscription {}: how it reaches its publisher is not known", found.name))
        .detail("The provider's role may not read pg_subscription.subconninfo, so the state has no publisher block.")
        .detail(
            "The connection stays as it is, whatever the configuration says, until connection_version is set or \
             changed: then the configured connection is sent, password included.",
        )
}
