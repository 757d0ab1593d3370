// SPDX-License-Identifier: MPL-2.0

//! A provider: its own configuration, the resulting context, and the plain lists of everything that it offers.

use super::action::AnyAction;
use super::convert::Model;
use super::data_source::AnyDataSource;
use super::diagnostics::{Diagnostics, Result};
use super::ephemeral_resource::AnyEphemeralResource;
use super::function::Function;
use super::list_resource::AnyListResource;
use super::resource::AnyResource;
use super::schema::Schema;

/// A provider. The server only calls this and the members of its lists.
pub trait Provider: Send + Sync + 'static {
    /// The `provider` block.
    type Config: Model;
    /// The result of the configuration; every verb gets it.
    type Context: Send + Sync + 'static;

    /// The schema of the `provider` block.
    fn schema() -> Schema;

    /// Checks a configuration across its attributes. Must skip unknown values.
    fn validate(_config: &Self::Config, _diagnostics: &mut Diagnostics) {}

    /// Creates the context. Values may be unknown during a plan, and nothing may be connected, resolved
    /// or loaded yet: a plan that needs no server must work without one.
    ///
    /// # Errors
    /// When the configuration cannot be valid, whatever the unknown values will be.
    fn configure(config: Self::Config, diagnostics: &mut Diagnostics) -> Result<Self::Context>;

    /// The managed resources, in the order of the docs.
    fn resources() -> &'static [&'static dyn AnyResource<Self::Context>];

    /// The data sources, in the order of the docs.
    fn data_sources() -> &'static [&'static dyn AnyDataSource<Self::Context>];

    /// The ephemeral resources, in the order of the docs.
    fn ephemeral_resources() -> &'static [&'static dyn AnyEphemeralResource<Self::Context>];

    /// The lists of managed resources, in the order of the docs.
    fn list_resources() -> &'static [&'static dyn AnyListResource<Self::Context>];

    /// The actions, in the order of the docs.
    fn actions() -> &'static [&'static dyn AnyAction<Self::Context>];

    /// The functions, in the order of the docs.
    fn functions() -> &'static [&'static dyn Function];
}
