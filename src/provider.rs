// SPDX-License-Identifier: MPL-2.0

//! The provider `neonrepl`: everything that a configuration can hold.

use crate::config::{self, Config, Context};
use crate::tf_provider::action::AnyAction;
use crate::tf_provider::data_source::AnyDataSource;
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::ephemeral_resource::AnyEphemeralResource;
use crate::tf_provider::function::Function;
use crate::tf_provider::list_resource::AnyListResource;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::resource::AnyResource;
use crate::tf_provider::schema::Schema;
use crate::{actions, data_sources, ephemeral_resources, functions, list_resources, resources};

/// The provider: two servers, and access to AWS.
pub struct NeonRepl;

impl Provider for NeonRepl {
    type Config = Config;
    type Context = Context;

    fn schema() -> Schema {
        config::schema()
    }

    fn validate(config: &Config, diagnostics: &mut Diagnostics) {
        config::validate(config, diagnostics);
    }

    fn configure(config: Config, _diagnostics: &mut Diagnostics) -> Result<Context> {
        config::configure(config)
    }

    fn resources() -> &'static [&'static dyn AnyResource<Context>] {
        resources::ALL
    }

    fn data_sources() -> &'static [&'static dyn AnyDataSource<Context>] {
        data_sources::ALL
    }

    fn ephemeral_resources() -> &'static [&'static dyn AnyEphemeralResource<Context>] {
        ephemeral_resources::ALL
    }

    fn list_resources() -> &'static [&'static dyn AnyListResource<Context>] {
        list_resources::ALL
    }

    fn actions() -> &'static [&'static dyn AnyAction<Context>] {
        actions::ALL
    }

    fn functions() -> &'static [&'static dyn Function] {
        functions::ALL
    }
}
