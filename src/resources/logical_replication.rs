// SPDX-License-Identifier: MPL-2.0

//! Logical replication on RDS as a resource: for an Aurora cluster, and for a single DB instance. They differ only
//! in their [`Product`].

mod lifecycle;
mod model;
mod preview;
mod schema;

use std::marker::PhantomData;

use self::model::{Attributes, Model};
use crate::config::Context;
use crate::rds::api::{Deployment, RdsApi};
use crate::rds::{self, Kind};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::{Attr, FromValue};
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{Attribute, IdentityAttribute, IdentitySchema, Schema};
use crate::tf_provider::value::Value;

/// One of the two products: the parts that differ between their resources.
pub(super) trait Product: Copy + Default + Send + Sync + 'static {
    /// The API for it.
    type Api: RdsApi + 'static;
    /// Its kind of deployment.
    const DEPLOYMENT: Deployment;
    /// The name of the resource.
    const TYPE_NAME: &'static str;
    /// The attribute that names it.
    const IDENTIFIER: &'static str;
    /// Whether it has a writer among several instances.
    const HAS_READERS: bool;
    /// The default of `reboot`.
    const REBOOT: &'static str;
    /// The words in the texts of its schema.
    const WORDS: Words;

    /// The API, which makes no call yet.
    fn api(context: &Context) -> Result<&Self::Api>;

    /// The attribute `reboot`, with the product's own choices.
    fn reboot() -> Attribute;
}

/// The words in the texts of a product's schema.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// The description of the resource.
    pub(super) resource: &'static str,
    /// The owner of the parameter group.
    pub(super) whole: &'static str,
    /// The server that is rebooted and queried.
    pub(super) server: &'static str,
    /// The kind of parameter group.
    pub(super) group: &'static str,
    /// The beginning of the description of `parameters`.
    pub(super) parameters: &'static str,
    /// An example of a family.
    pub(super) family: &'static str,
    /// The description of `endpoint`.
    pub(super) endpoint: &'static str,
}

/// The resource of a product.
pub(super) struct LogicalReplication<P>(PhantomData<P>);

impl<P: Product> LogicalReplication<P> {
    /// The only value.
    pub(super) const NEW: Self = Self(PhantomData);
}

impl<P: Product> Resource for LogicalReplication<P> {
    type Model = Model<P>;
    type Context = Context;
    const TYPE_NAME: &'static str = P::TYPE_NAME;

    fn schema() -> Schema {
        schema::schema::<P>()
    }

    fn identity() -> Option<IdentitySchema> {
        let description = match P::DEPLOYMENT {
            Deployment::AuroraCluster => "The cluster's identifier.",
            Deployment::RdsInstance => "The instance's identifier.",
        };
        let attribute = IdentityAttribute { name: P::IDENTIFIER, description, required_for_import: true };
        Some(IdentitySchema { version: 0, attributes: vec![attribute] })
    }

    fn identify(_context: Option<&Context>, state: &Model<P>, _stored: &Value) -> Value {
        let identifier = state.attributes.identifier.known();
        let identifier = identifier.map_or(Value::UNKNOWN, |name| Value::from(name.as_str()));
        Value::Map([(P::IDENTIFIER.to_owned(), identifier)].into())
    }

    fn validate(config: &Model<P>, diagnostics: &mut Diagnostics) {
        model::validate(&config.attributes, diagnostics);
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model<P>>) -> Result<()> {
        preview::preview(call, change).await
    }

    async fn read(call: &Call<Context>, state: Model<P>) -> Result<Option<Model<P>>> {
        lifecycle::read(call, state).await
    }

    async fn create(call: &Call<Context>, plan: Model<P>, saved: &Saved<Model<P>>) -> Result<Model<P>> {
        lifecycle::create(call, plan, saved).await
    }

    async fn update(
        call: &Call<Context>,
        _prior: Model<P>,
        plan: Model<P>,
        saved: &Saved<Model<P>>,
    ) -> Result<Model<P>> {
        lifecycle::update(call, plan, saved).await
    }

    async fn delete(call: &Call<Context>, prior: Model<P>, _saved: &Saved<Model<P>>) -> Result<()> {
        lifecycle::delete(call, prior).await
    }

    async fn import(_call: &Call<Context>, id: ImportId) -> Result<Model<P>> {
        let identifier = match id {
            ImportId::Id(text) => text,
            ImportId::Identity(value) => {
                let given = value.get(P::IDENTIFIER).cloned().unwrap_or(Value::Null);
                Attr::<String>::from_value(given)?.required(P::IDENTIFIER)?.clone()
            }
        };
        let named = Attributes { identifier: identifier.into(), ..Attributes::default() };
        Ok(Model::from(model::with_defaults(named, P::REBOOT)))
    }
}

/// The error with its attribute.
fn shown<P: Product>(error: rds::Error) -> Error {
    let is_about_it = error.parameter.is_none() && matches!(error.kind, Kind::NotFound | Kind::Refused);
    let shown = Error::from(error);
    if is_about_it { shown.attribute(P::IDENTIFIER) } else { shown }
}
