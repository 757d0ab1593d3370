// SPDX-License-Identifier: MPL-2.0

//! The list of things.

use neonrepl::model;
use neonrepl::tf_provider::call::Call;
use neonrepl::tf_provider::convert::Attr;
use neonrepl::tf_provider::diagnostics::{Diagnostics, Error, Result};
use neonrepl::tf_provider::list_resource::{ListResource, Listed};
use neonrepl::tf_provider::resource::{ImportId, Resource};
use neonrepl::tf_provider::schema::{Attribute, Schema, Type};

use super::{Shared, Thing};

/// The list.
pub(crate) struct Things;

model! {
    /// The question.
    pub(crate) struct Model {
        /// What the verbs of the things do.
        modes: Attr<Vec<String>>,
        /// What the list itself does.
        mode: Attr<String>,
    }
}

impl ListResource for Things {
    type Model = Model;
    type Context = Shared;
    const TYPE_NAME: &'static str = Thing::TYPE_NAME;

    fn schema() -> Schema {
        Schema::new("Things.")
            .attribute(Attribute::required("modes", Type::list(Type::String), "A mode for each."))
            .attribute(Attribute::optional("mode", Type::String, "How the list behaves.").one_of(&["fails", "panics"]))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        if config.modes.known().is_some_and(Vec::is_empty) {
            diagnostics.error(Error::new("there is no mode").attribute("modes"));
        }
    }

    async fn list(call: &Call<Shared>, config: Model) -> Result<Vec<Listed>> {
        call.go_on()?;
        match config.mode.known().map(String::as_str) {
            Some("panics") => panic!("told to, with {:?}", "hunter2"),
            Some("fails") => return Err(Error::new("nobody knows").attribute("mode")),
            _ => {}
        }
        let listed = |mode: &String| Listed {
            display_name: format!("the one that is {mode}"),
            id: ImportId::Id(format!("id-n: {mode}")),
        };
        Ok(config.modes.required("modes")?.iter().map(listed).collect())
    }
}
