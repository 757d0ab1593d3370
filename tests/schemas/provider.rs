// SPDX-License-Identifier: MPL-2.0

//! The provider, driven like by a core, for any number of objects.

use std::time::Duration;

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;
use tokio::time::timeout;

use crate::common::postgres::Database;
use crate::session::{CAPABLE, Session};
use crate::wire::{Shape, said};

/// Much longer than any request takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// A provider configured for two databases.
pub(crate) struct Provider(Session);

/// The state of an object in a core.
pub(crate) struct State {
    pub(crate) value: Value,
    private: Vec<u8>,
}

async fn answer<T>(what: &str, asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> T {
    let answered = timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("{what} took longer than {DEADLINE:?}"));
    answered.unwrap_or_else(|status| panic!("{what}: {status:?}")).into_inner()
}

/// The errors that a core would fail with.
fn check(diagnostics: &[pb::Diagnostic]) -> Result<(), String> {
    let is_error = |diagnostic: &pb::Diagnostic| diagnostic.severity() == pb::diagnostic::Severity::Error;
    if diagnostics.iter().any(is_error) { Err(said(diagnostics)) } else { Ok(()) }
}

impl Provider {
    /// A new provider for this pair.
    pub(crate) async fn start(publisher: &Database, subscriber: &Database) -> Self {
        let session = Session::start().await;
        let side = |name: &str, database: &Database| {
            session.provider().nested(name, &[("url", database.url().as_str().into()), ("sslmode", "disable".into())])
        };
        let blocks = [("publisher", side("publisher", publisher)), ("subscriber", side("subscriber", subscriber))];
        let diagnostics = session.configure(&blocks).await;
        assert_eq!(check(&diagnostics), Ok(()));
        Self(session)
    }

    /// Makes an object.
    pub(crate) async fn create(&self, name: &str, items: &[(&str, Value)]) -> Result<State, String> {
        let shape = self.0.resource(name);
        let (none, config) = (shape.encode(&Value::Null), shape.wire(items));
        let planned = self.plan(name, none.clone(), config.clone(), config.clone(), Vec::new()).await?;
        let request = pb::apply_resource_change::Request {
            type_name: name.to_owned(),
            prior_state: none,
            planned_state: planned.planned_state,
            config,
            planned_private: planned.planned_private,
            ..Default::default()
        };
        let mut client = self.0.client();
        let applied = answer("Apply", client.apply_resource_change(request)).await;
        check(&applied.diagnostics)?;
        Ok(State { value: shape.decode(applied.new_state.as_ref()), private: applied.private })
    }

    /// Reads an object again and plans the same configuration. Returns the changes as text.
    pub(crate) async fn changes(
        &self,
        name: &str,
        items: &[(&str, Value)],
        state: &State,
    ) -> Result<Vec<String>, String> {
        let shape = self.0.resource(name);
        let request = pb::read_resource::Request {
            type_name: name.to_owned(),
            current_state: shape.encode(&state.value),
            private: state.private.clone(),
            client_capabilities: Some(CAPABLE),
            ..Default::default()
        };
        let mut client = self.0.client();
        let read = answer("Read", client.read_resource(request)).await;
        check(&read.diagnostics)?;
        let prior = shape.decode(read.new_state.as_ref());
        let config = shape.object(items);
        let proposed = merged(&shape, &config, &prior);
        let (prior_wire, config) = (shape.encode(&prior), shape.encode(&config));
        let planned = self.plan(name, prior_wire, shape.encode(&proposed), config, read.private).await?;
        let planned = shape.decode(planned.planned_state.as_ref());
        let names = shape.schema.attributes.iter().map(|attribute| attribute.name.as_str());
        let differs = names.filter(|name| planned.get(name) != prior.get(name));
        Ok(differs.map(str::to_owned).collect())
    }

    async fn plan(
        &self,
        name: &str,
        prior_state: Option<pb::DynamicValue>,
        proposed_new_state: Option<pb::DynamicValue>,
        config: Option<pb::DynamicValue>,
        prior_private: Vec<u8>,
    ) -> Result<pb::plan_resource_change::Response, String> {
        let request = pb::plan_resource_change::Request {
            type_name: name.to_owned(),
            prior_state,
            proposed_new_state,
            config,
            prior_private,
            client_capabilities: Some(CAPABLE),
            ..Default::default()
        };
        let mut client = self.0.client();
        let planned = answer("Plan", client.plan_resource_change(request)).await;
        check(&planned.diagnostics)?;
        Ok(planned)
    }
}

/// A core's proposal: the configuration, with prior values for computed attributes.
fn merged(shape: &Shape, config: &Value, prior: &Value) -> Value {
    let mut merged = config.clone();
    for attribute in shape.schema.attributes.iter().filter(|attribute| attribute.computed) {
        if config.get(&attribute.name).is_some_and(Value::is_null) {
            merged.set(&attribute.name, prior.get(&attribute.name).cloned().unwrap_or(Value::Null));
        }
    }
    merged
}
