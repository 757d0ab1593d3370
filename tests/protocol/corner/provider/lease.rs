// SPDX-License-Identifier: MPL-2.0

//! The ephemeral resource, which exists for a while.

use std::time::{Duration, SystemTime};

use neonrepl::model;
use neonrepl::tf_provider::call::Call;
use neonrepl::tf_provider::convert::Attr;
use neonrepl::tf_provider::diagnostics::{Diagnostics, Error, Result};
use neonrepl::tf_provider::ephemeral_resource::{EphemeralResource, Opened};
use neonrepl::tf_provider::schema::{Attribute, Schema, Type};
use serde_json::{Value as Json, json};

use super::Shared;

/// The ephemeral resource.
pub(crate) struct Lease;

model! {
    /// A lease.
    pub(crate) struct Model {
        /// Names it.
        name: Attr<String>,
        /// What its verbs do.
        mode: Attr<String>,
        /// The obtained value.
        key: Attr<String>,
    }
}

/// The interval after which it must be renewed.
pub(crate) const TERM: Duration = Duration::from_secs(60);

impl EphemeralResource for Lease {
    type Model = Model;
    type Context = Shared;
    const TYPE_NAME: &'static str = "corner_lease";

    fn schema() -> Schema {
        Schema::new("A lease.")
            .attribute(Attribute::required("name", Type::String, "A name.").one_of(&["n", "m"]))
            .attribute(Attribute::optional("mode", Type::String, "How its verbs behave."))
            .attribute(Attribute::computed("key", Type::String, "A key.").sensitive())
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        match config.mode.known().map(String::as_str) {
            Some("validate") => panic!("told to, with {:?}", "hunter2"),
            Some("") => diagnostics.error(Error::new("the mode is empty").attribute("mode")),
            _ => {}
        }
    }

    async fn open(call: &Call<Shared>, config: Model) -> Result<Opened<Model>> {
        call.warn(Error::new("somebody else waits for it").attribute("name"));
        let mode = config.mode.known().map(String::as_str).unwrap_or_default();
        call.private().set("mode", json!(mode));
        match mode {
            "open" => panic!("told to, with {:?}", "hunter2"),
            "open fails" => return Err(Error::new("nothing is left").attribute("mode")),
            "leaves an unknown" => {
                return Ok(Opened { result: Model { key: Attr::Unknown, ..config }, renew_at: None });
            }
            "waits at the gate" => call.context().pass().await?,
            _ => {}
        }
        let key = format!("key of {}", config.name.required("name")?);
        Ok(Opened { result: Model { key: key.into(), ..config }, renew_at: Some(SystemTime::UNIX_EPOCH + TERM) })
    }

    async fn renew(call: &Call<Shared>) -> Result<Option<SystemTime>> {
        match mode(call).as_str() {
            "renew" => panic!("told to, with {:?}", "hunter2"),
            "renew fails" => return Err(Error::new("it ran out")),
            _ => {}
        }
        let times = call.private().get("renewals").and_then(|times| times.as_u64()).unwrap_or(0) + 1;
        call.private().set("renewals", json!(times));
        let again = TERM * u32::try_from(times + 1).unwrap_or(u32::MAX);
        Ok((times < 2).then_some(SystemTime::UNIX_EPOCH + again))
    }

    async fn close(call: &Call<Shared>) -> Result<()> {
        call.warn(Error::new("it was used little"));
        match mode(call).as_str() {
            "close" => panic!("told to, with {:?}", "hunter2"),
            "close fails" => Err(Error::new("it does not come off")),
            _ => Ok(()),
        }
    }
}

fn mode(call: &Call<Shared>) -> String {
    let mode = call.private().get("mode");
    mode.as_ref().and_then(Json::as_str).map(str::to_owned).expect("what open left")
}
