// SPDX-License-Identifier: MPL-2.0

//! The action, which leaves no state.

use neonrepl::model;
use neonrepl::tf_provider::action::{Action, Progress};
use neonrepl::tf_provider::call::Call;
use neonrepl::tf_provider::convert::Attr;
use neonrepl::tf_provider::diagnostics::{Diagnostics, Error, Result};
use neonrepl::tf_provider::schema::{Attribute, Schema, Type};

use super::Shared;

/// The action.
pub(crate) struct Deed;

model! {
    /// A deed.
    pub(crate) struct Model {
        /// How often.
        times: Attr<i64>,
        /// What its verbs do.
        mode: Attr<String>,
    }
}

impl Action for Deed {
    type Model = Model;
    type Context = Shared;
    const TYPE_NAME: &'static str = "corner_deed";

    fn schema() -> Schema {
        Schema::new("A deed.")
            .attribute(Attribute::required("times", Type::Number, "How often.").between(1, 9))
            .attribute(Attribute::optional("mode", Type::String, "How its verbs behave."))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        match mode(config) {
            "validate" => panic!("told to, with {:?}", "hunter2"),
            "" => diagnostics.error(Error::new("the mode is empty").attribute("mode")),
            _ => {}
        }
    }

    async fn plan(call: &Call<Shared>, config: Model) -> Result<()> {
        let times = config.times.known().map_or("some".to_owned(), ToString::to_string);
        call.warn(Error::new(format!("it will be done {times} times")).attribute("times"));
        match mode(&config) {
            "plan" => panic!("told to, with {:?}", "hunter2"),
            "plan fails" => Err(Error::new("it cannot be done").attribute("mode")),
            _ => Ok(()),
        }
    }

    async fn invoke(call: &Call<Shared>, config: Model, progress: &Progress) -> Result<()> {
        for time in 1..=*config.times.required("times")? {
            progress.say(format!("time {time}"));
        }
        call.warn(Error::new("it was hard").attribute("times"));
        match mode(&config) {
            "invoke" => panic!("told to, with {:?}", "hunter2"),
            "invoke fails" => Err(Error::new("it came to nothing").attribute("mode")),
            "waits for a stop" => {
                call.context().begin();
                call.stop().cancelled().await;
                call.go_on()
            }
            "waits at the gate" => call.context().pass().await,
            _ => Ok(()),
        }
    }
}

fn mode(config: &Model) -> &str {
    config.mode.known().map_or("fine", String::as_str)
}
