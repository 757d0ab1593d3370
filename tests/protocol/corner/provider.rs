// SPDX-License-Identifier: MPL-2.0

//! A provider of corner cases: features that the real one does not use, and verbs that fail, hang and panic on request.

mod deed;
mod lease;
mod things;

use std::sync::{Arc, Mutex};

use neonrepl::model;
use neonrepl::tf_provider::action::AnyAction;
use neonrepl::tf_provider::call::{Call, Saved};
use neonrepl::tf_provider::convert::{Attr, SetOf};
use neonrepl::tf_provider::data_source::{AnyDataSource, DataSource};
use neonrepl::tf_provider::diagnostics::{Diagnostics, Error, Result};
use neonrepl::tf_provider::ephemeral_resource::AnyEphemeralResource;
use neonrepl::tf_provider::function::{Function, FunctionError, Parameter, Signature};
use neonrepl::tf_provider::list_resource::AnyListResource;
use neonrepl::tf_provider::provider::Provider;
use neonrepl::tf_provider::resource::{AnyResource, ImportId, MoveSource, PlannedChange, Resource};
use neonrepl::tf_provider::schema::{
    Attribute, Block, IdentityAttribute, IdentitySchema, NestedBlock, Nesting, Schema, Type,
};
use neonrepl::tf_provider::value::Value;
use serde_json::json;
use tokio::sync::Semaphore;

pub(crate) use self::lease::TERM;

/// The provider.
pub(crate) struct Corner;

/// Shared by tests and verbs: the gate that the provider is configured with.
pub(crate) struct Shared {
    gate: Option<Arc<Gate>>,
}

impl Shared {
    /// Reports that a verb has reached a point that its test waits for.
    fn begin(&self) {
        if let Some(gate) = &self.gate {
            gate.began.add_permits(1);
        }
    }

    /// Waits until the test lets the verb continue to its end.
    async fn pass(&self) -> Result<()> {
        self.begin();
        if let Some(gate) = &self.gate {
            gate.go_on.acquire().await.map_err(|error| Error::new(error.to_string()))?.forget();
            gate.finished.add_permits(1);
        }
        Ok(())
    }
}

/// Where a verb waits for its test.
pub(crate) struct Gate {
    /// The verb has begun.
    pub(crate) began: Semaphore,
    /// The verb may continue.
    pub(crate) go_on: Semaphore,
    /// The verb has ended.
    pub(crate) finished: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { began: Semaphore::new(0), go_on: Semaphore::new(0), finished: Semaphore::new(0) }
    }
}

/// The gates of the running tests, by name.
static GATES: Mutex<Vec<(String, Arc<Gate>)>> = Mutex::new(Vec::new());

/// The gate of that name.
pub(crate) fn gate(name: &str) -> Arc<Gate> {
    let mut gates = GATES.lock().unwrap();
    if let Some((_, gate)) = gates.iter().find(|(known, _)| known == name) {
        return Arc::clone(gate);
    }
    let gate = Arc::new(Gate::default());
    gates.push((name.to_owned(), Arc::clone(&gate)));
    gate
}

model! {
    /// The provider's block.
    pub(crate) struct Config {
        /// The gate to wait at.
        gate: Attr<String>,
    }
}

impl Provider for Corner {
    type Config = Config;
    type Context = Shared;

    fn schema() -> Schema {
        Schema::new("Corners.").attribute(Attribute::optional("gate", Type::String, "A gate."))
    }

    fn validate(config: &Config, diagnostics: &mut Diagnostics) {
        match config.gate.known().map(String::as_str) {
            Some("panic") => panic!("told to"),
            Some("") => diagnostics.error(Error::new("the gate has no name").attribute("gate")),
            _ => {}
        }
    }

    fn configure(config: Config, diagnostics: &mut Diagnostics) -> Result<Shared> {
        if config.gate.is_unknown() {
            diagnostics.warning(Error::new("the gate is not known yet").attribute("gate"));
        }
        Ok(Shared { gate: config.gate.known().map(|name| gate(name)) })
    }

    fn resources() -> &'static [&'static dyn AnyResource<Shared>] {
        &[&Thing]
    }

    fn data_sources() -> &'static [&'static dyn AnyDataSource<Shared>] {
        &[&Mirror]
    }

    fn ephemeral_resources() -> &'static [&'static dyn AnyEphemeralResource<Shared>] {
        &[&lease::Lease]
    }

    fn list_resources() -> &'static [&'static dyn AnyListResource<Shared>] {
        &[&things::Things]
    }

    fn actions() -> &'static [&'static dyn AnyAction<Shared>] {
        &[&deed::Deed]
    }

    fn functions() -> &'static [&'static dyn Function] {
        &[&Join]
    }
}

/// The resource, with something of everything.
pub(crate) struct Thing;

model! {
    /// A thing.
    pub(crate) struct Model {
        /// Named by the provider.
        id: Attr<String>,
        /// Names it.
        name: Attr<String>,
        /// What its verbs do: see `misbehave`.
        mode: Attr<String>,
        /// Any type.
        any: Value,
        /// A number of any size.
        number: Value,
        /// A tuple.
        pair: Value,
        /// An object with an optional attribute.
        record: Value,
        /// A set of numbers.
        numbers: Value,
        /// With a default.
        size: Attr<i64>,
        /// Leaves for another object.
        zone: Attr<String>,
        /// Deprecated.
        old: Attr<String>,
        /// Once.
        one: Attr<Part>,
        /// In order.
        many: Attr<Vec<Part>>,
        /// In no order.
        some: Attr<SetOf<Rule>>,
        /// By name.
        named: Attr<std::collections::BTreeMap<String, Part>>,
        /// Always there.
        group: Attr<Part>,
    }
}

model! {
    /// A block.
    pub(crate) struct Part {
        /// Text.
        text: Attr<String>,
        /// At most 10.
        level: Attr<i64>,
        /// With a default.
        kind: Attr<String>,
        /// Write-only.
        secret_wo: Attr<String>,
    }
}

model! {
    /// A block of a set, which cannot hold write-only values.
    pub(crate) struct Rule {
        /// At most 10.
        level: Attr<i64>,
        /// With a default.
        kind: Attr<String>,
    }
}

fn level() -> Attribute {
    Attribute::optional("level", Type::Number, "A level.").between(0, 10)
}

fn kind() -> Attribute {
    Attribute::optional("kind", Type::String, "A kind.").default("plain")
}

fn part() -> Block {
    Block::new("A part.")
        .attribute(Attribute::optional("text", Type::String, "Text."))
        .attribute(level())
        .attribute(kind())
        .attribute(Attribute::optional("secret_wo", Type::String, "A secret.").write_only())
}

impl Resource for Thing {
    type Model = Model;
    type Context = Shared;
    const TYPE_NAME: &'static str = "corner_thing";

    fn schema() -> Schema {
        let record = Type::Object(
            [("a".to_owned(), Type::String), ("b".to_owned(), Type::list(Type::Number))].into(),
            ["b".to_owned()].into(),
        );
        Schema::new("A thing.")
            .version(2)
            .attribute(Attribute::computed("id", Type::String, "An id.").stable())
            .attribute(Attribute::required("name", Type::String, "A name."))
            .attribute(Attribute::optional("mode", Type::String, "How its verbs behave."))
            .attribute(Attribute::optional("any", Type::Dynamic, "Anything."))
            .attribute(Attribute::optional("number", Type::Number, "A number."))
            .attribute(Attribute::optional("pair", Type::Tuple(vec![Type::String, Type::Bool]), "A pair."))
            .attribute(Attribute::optional("record", record, "A record."))
            .attribute(Attribute::optional("numbers", Type::set(Type::Number), "Numbers."))
            .attribute(Attribute::optional("size", Type::Number, "A size.").default(3))
            .attribute(Attribute::optional("zone", Type::String, "A zone.").replaces())
            .attribute(Attribute::optional("old", Type::String, "Old.").deprecated("Use `name`."))
            .block(NestedBlock::single("one", part()))
            .block(NestedBlock::list("many", part()))
            .block(NestedBlock::new("some", Nesting::Set, Block::new("").attribute(level()).attribute(kind())))
            .block(NestedBlock::new("named", Nesting::Map, part()))
            .block(NestedBlock::new("group", Nesting::Group, part()))
    }

    fn identity() -> Option<IdentitySchema> {
        let id = IdentityAttribute { name: "id", description: "The id.", required_for_import: true };
        Some(IdentitySchema { version: 0, attributes: vec![id] })
    }

    fn identify(_context: Option<&Shared>, state: &Model, _stored: &Value) -> Value {
        let id = state.id.known().map_or(Value::UNKNOWN, |id| id.as_str().into());
        Value::Map([("id".to_owned(), id)].into())
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        misbehave_at(config, "validate");
        if config.size.known() == Some(&13) {
            diagnostics.error(Error::new("13 brings bad luck").attribute("size"));
        }
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_some_and(|planned| mode_is(planned, "plan")) {
            panic!("told to");
        }
        Ok(())
    }

    async fn preview(call: &Call<Shared>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_some_and(|planned| mode_is(planned, "preview fails")) {
            change.warn(Error::new("the plan has a flaw"));
        }
        let Some(planned) = change.planned() else {
            call.warn(Error::new("it will be gone"));
            return Ok(());
        };
        if mode_is(planned, "preview fails") {
            call.warn(Error::new("mind this first"));
            return Err(Error::new("the preview failed").attribute("mode"));
        }
        misbehave_at(planned, "preview");
        Ok(())
    }

    async fn read(call: &Call<Shared>, state: Model) -> Result<Option<Model>> {
        misbehave_at(&state, "read");
        match state.mode.known().map(String::as_str) {
            Some("gone") => return Ok(None),
            Some("read fails") => {
                call.warn(Error::new("mind this first"));
                return Err(Error::new("the read failed").attribute("name"));
            }
            Some("read unknown") => return Ok(Some(Model { size: Attr::Unknown, ..state })),
            _ => {}
        }
        call.private()
            .set("reads", json!(call.private().get("reads").and_then(|reads| reads.as_i64()).unwrap_or(0) + 1));
        Ok(Some(state))
    }

    async fn create(call: &Call<Shared>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let model = Model { id: format!("id-{}", plan.name.required("name")?).into(), ..plan };
        call.private().set("created", json!(true));
        finish(call, model, saved).await
    }

    async fn update(call: &Call<Shared>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        finish(call, Model { id: prior.id, ..plan }, saved).await
    }

    async fn delete(call: &Call<Shared>, prior: Model, saved: &Saved<Model>) -> Result<()> {
        misbehave_at(&prior, "delete");
        if mode_is(&prior, "half deleted") {
            saved.record(&Model { size: 0.into(), ..prior });
            call.warn(Error::new("half of it is gone"));
            return Err(Error::new("the other half stays"));
        }
        if mode_is(&prior, "deleted, then fails") {
            saved.record_gone();
            return Err(Error::new("it is gone, but"));
        }
        Ok(())
    }

    async fn import(call: &Call<Shared>, id: ImportId) -> Result<Model> {
        let id = match id {
            ImportId::Id(id) => id,
            ImportId::Identity(value) => value.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        // An object from a list behaves as its name says.
        let mode = id.split_once(": ").map(|(_, mode)| mode.to_owned());
        let Some(name) = id.strip_prefix("id-") else { return Err(Error::new("an id begins with id-")) };
        assert_ne!(name, "panic");
        call.private().set("imported", json!(true));
        let secret = Part { secret_wo: "hunter2".into(), ..Part::default() };
        let model = Model { id: id.clone().into(), name: name.into(), mode: mode.into(), ..Model::default() };
        Ok(Model { one: secret.into(), ..model })
    }

    fn upgrade(version: u64, state: Value) -> Result<Model> {
        let text = |name: &str| state.get(name).and_then(Value::as_str).map(str::to_owned);
        let name = match version {
            0 => text("title"),
            1 => text("label"),
            _ => None,
        };
        assert_ne!(name.as_deref(), Some("panic"));
        let name = name.ok_or_else(|| Error::new(format!("a state of version {version} without a name")))?;
        let one = Part { text: "kept".into(), secret_wo: "must not be kept".into(), ..Part::default() };
        Ok(Model { id: format!("id-{name}").into(), name: name.into(), one: one.into(), ..Model::default() })
    }

    fn move_from(source: &MoveSource) -> Option<Result<Model>> {
        if source.type_name != "other_thing" {
            return None;
        }
        let Some(name) = source.state.get("name").and_then(Value::as_str) else {
            return Some(Err(Error::new("the other thing has no name")));
        };
        Some(Ok(Model { id: format!("id-{name}").into(), name: name.into(), ..Model::default() }))
    }
}

fn mode_is(model: &Model, mode: &str) -> bool {
    model.mode.known().is_some_and(|known| known == mode)
}

fn misbehave_at(model: &Model, verb: &str) {
    assert!(!mode_is(model, verb), "told to panic in {verb}, with {:?}", "hunter2");
}

/// The common part of create and update: a first step that cannot be undone, and then everything that can go wrong.
async fn finish(call: &Call<Shared>, model: Model, saved: &Saved<Model>) -> Result<Model> {
    if mode_is(&model, "fails before") {
        return Err(Error::new("nothing came of it").attribute("name"));
    }
    assert!(!mode_is(&model, "panics before"), "told to");
    saved.record(&Model { size: 1.into(), ..model.clone() });
    call.warn(Error::new("the first step is done").attribute("name"));
    match model.mode.known().map(String::as_str) {
        Some("fails half way") => return Err(Error::new("the second step failed")),
        Some("panics half way") => panic!("told to"),
        Some("leaves an unknown") => return Ok(Model { size: Attr::Unknown, ..model }),
        Some("does not fit") => return Ok(Model { number: "no number".into(), ..model }),
        Some("has no identity") => return Ok(Model { id: Attr::Null, ..model }),
        Some("waits for a stop") => {
            call.context().begin();
            call.stop().cancelled().await;
            call.go_on()?;
        }
        Some("waits at the gate") => call.context().pass().await?,
        // A secret that is only available during an apply.
        Some("needs its secret") => {
            let secrets = [model.one.known(), model.group.known(), model.many.known().and_then(|many| many.first())];
            let named = model.named.known().and_then(|named| named.get("k"));
            if !secrets.into_iter().chain([named]).all(|part| part.is_some_and(|part| part.secret_wo.known().is_some()))
            {
                return Err(Error::new("a secret is missing"));
            }
        }
        _ => {}
    }
    Ok(model)
}

/// The data source, which returns its configuration.
pub(crate) struct Mirror;

model! {
    /// Question and answer.
    pub(crate) struct Reflection {
        /// The question.
        given: Value,
        /// The answer.
        seen: Value,
        /// Panics, fails, or leaves an unknown.
        mode: Attr<String>,
    }
}

impl DataSource for Mirror {
    type Model = Reflection;
    type Context = Shared;
    const TYPE_NAME: &'static str = "corner_mirror";

    fn schema() -> Schema {
        Schema::new("A mirror.")
            .attribute(Attribute::optional("given", Type::Dynamic, "A value."))
            .attribute(Attribute::computed("seen", Type::Dynamic, "The same value."))
            .attribute(Attribute::optional("mode", Type::String, "How it behaves."))
    }

    async fn read(call: &Call<Shared>, config: Reflection) -> Result<Reflection> {
        call.warn(Error::new("things in the mirror are nearer than they seem"));
        match config.mode.known().map(String::as_str) {
            Some("panics") => panic!("told to"),
            Some("fails") => Err(Error::new("the mirror broke").attribute("given")),
            Some("leaves an unknown") => Ok(Reflection { seen: Value::UNKNOWN, ..config }),
            _ => Ok(Reflection { seen: config.given.clone(), ..config }),
        }
    }
}

/// The function: joins texts.
pub(crate) struct Join;

impl Function for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn signature(&self) -> Signature {
        Signature {
            summary: "Joins.",
            description: "Joins texts.",
            parameters: vec![Parameter::new("between", Type::String, "What to put between.")],
            variadic: Some(Parameter::new("texts", Type::String, "The texts.")),
            returns: Type::String,
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let texts: Vec<_> = arguments.iter().filter_map(Value::as_str).collect();
        assert_ne!(texts[0], "panic");
        match texts.iter().position(|text| text.is_empty()) {
            Some(at) if at > 0 => Err(FunctionError::argument(at, "it is empty")),
            _ => Ok(texts[1..].join(texts[0]).into()),
        }
    }
}
