// SPDX-License-Identifier: MPL-2.0

//! The state after a verb fails, panics, hangs, or is abandoned.

use std::time::{Duration, Instant};

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;
use pb::provider_client::ProviderClient;
use tokio::sync::Semaphore;

use super::provider::gate;
use super::{Served, THING, call, connect};
use crate::common::grpc::within_deadline;
use crate::wire::{check_error, check_fine, map, said};

/// The longest time that a person should wait after an interrupt.
pub(super) const PROMPT: Duration = Duration::from_secs(2);

fn thing(served: &Served, mode: &str) -> Value {
    served.thing.object(&[("name", "n".into()), ("mode", mode.into())])
}

fn state(served: &Served, mode: &str, size: i64) -> Value {
    let group = served.thing.nested("group", &[("kind", "plain".into())]);
    served.thing.object(&[
        ("id", "id-n".into()),
        ("name", "n".into()),
        ("mode", mode.into()),
        ("size", size.into()),
        ("group", group),
    ])
}

pub(super) async fn passed(what: &str, semaphore: &Semaphore) {
    within_deadline(what, semaphore.acquire()).await.unwrap().forget();
}

#[tokio::test]
async fn a_failed_creation_leaves_what_it_had_saved() {
    let served = Served::start("fails").await;
    for (mode, at, text, exists) in [
        ("fails before", "name", "nothing came of it", Value::Null),
        ("panics before", "", "the provider panicked", Value::Null),
        ("fails half way", "", "the second step failed", state(&served, "fails half way", 1)),
        ("panics half way", "", "the provider panicked", state(&served, "panics half way", 1)),
        ("does not fit", "number", "expected number, found a string", state(&served, "does not fit", 1)),
    ] {
        let applied = served.create(&thing(&served, mode)).await;
        check_error(&applied.answer.diagnostics, at, text);
        assert_eq!(applied.state, exists, "{mode}");
        let warned = said(&applied.answer.diagnostics).contains("warning [name] the first step is done");
        assert_eq!(warned, !exists.is_null(), "{mode}");
        let private = if exists.is_null() && mode == "fails before" { "" } else { r#"{"created":true}"# };
        assert!(applied.answer.private == private.as_bytes() || exists.is_null(), "{mode}");
        let identity = if exists.is_null() { Value::Null } else { map(&[("id", "id-n".into())]) };
        assert_eq!(served.identity(applied.answer.new_identity.as_ref()), identity, "{mode}");
    }
}

#[tokio::test]
async fn a_faulty_creation_is_kept_as_far_as_it_is_known() {
    let served = Served::start("faulty").await;
    let applied = served.create(&thing(&served, "leaves an unknown")).await;
    check_error(&applied.answer.diagnostics, "", "left a value unknown");
    assert_eq!(applied.state.get("size"), Some(&Value::Null));
    assert_eq!(applied.state.get("id"), Some(&"id-n".into()));

    let applied = served.create(&thing(&served, "has no identity")).await;
    assert_eq!(applied.state.get("name"), Some(&"n".into()));
    assert_eq!(applied.answer.new_identity, None);
}

#[tokio::test]
async fn a_failed_change_leaves_what_there_was_or_what_it_saved() {
    let served = Served::start("changes").await;
    let prior = state(&served, "fine", 5);
    for (mode, text, exists) in [
        ("fails before", "nothing came of it", prior.clone()),
        ("panics before", "the provider panicked", prior.clone()),
        ("panics half way", "the provider panicked", state(&served, "panics half way", 1)),
    ] {
        let planned = state(&served, mode, 6);
        let applied = served.apply(&prior, &planned, &planned).await;
        assert!(said(&applied.answer.diagnostics).contains(text), "{}", said(&applied.answer.diagnostics));
        assert_eq!(applied.state, exists, "{mode}");
    }
}

#[tokio::test]
async fn a_failed_destruction_leaves_what_is_left() {
    let served = Served::start("deletes").await;
    for (mode, text, exists) in [
        ("delete", "the provider panicked", state(&served, "delete", 5)),
        ("half deleted", "the other half stays", state(&served, "half deleted", 0)),
        ("deleted, then fails", "it is gone, but", Value::Null),
    ] {
        let applied = served.apply(&state(&served, mode, 5), &Value::Null, &Value::Null).await;
        check_error(&applied.answer.diagnostics, "", text);
        assert_eq!(applied.state, exists, "{mode}");
    }
    let applied = served.apply(&state(&served, "fine", 5), &Value::Null, &Value::Null).await;
    check_fine(&applied.answer.diagnostics);
    assert!(applied.state.is_null());
}

#[tokio::test]
async fn a_panic_anywhere_is_a_diagnostic_without_its_text() {
    let served = Served::start("panics").await;
    let panicked = |diagnostics: &[pb::Diagnostic]| {
        check_error(diagnostics, "", "the provider panicked");
        assert!(!said(diagnostics).contains("hunter2"));
    };
    panicked(&served.validate(&thing(&served, "validate")).await);
    for mode in ["plan", "preview"] {
        let config = thing(&served, mode);
        let plan = served.plan(&Value::Null, &config, &config).await;
        panicked(&plan.diagnostics);
        assert_eq!(plan.planned_state, None);
    }
    let read = served.read(&state(&served, "read", 3), b"").await;
    panicked(&read.diagnostics);
    assert_eq!(read.new_state, None);
    let import = pb::import_resource_state::Request {
        type_name: THING.to_owned(),
        id: "id-panic".to_owned(),
        ..Default::default()
    };
    panicked(&call!(served, import_resource_state, import).diagnostics);
    panicked(&upgrade(&served, 0, r#"{"title":"panic"}"#).await.diagnostics);
    let ty = neonrepl::tf_provider::schema::Type::object([("gate", neonrepl::tf_provider::schema::Type::String)]);
    let config = crate::wire::encode(&ty, &map(&[("gate", "panic".into())]));
    panicked(&call!(served, prepare_provider_config, pb::prepare_provider_config::Request { config }).diagnostics);
    // The server continues.
    check_fine(&served.plan(&Value::Null, &thing(&served, "fine"), &thing(&served, "fine")).await.diagnostics);
}

#[tokio::test]
async fn warnings_are_given_even_when_it_fails() {
    let served = Served::start("warnings").await;
    let config = thing(&served, "preview fails");
    let plan = served.plan(&Value::Null, &config, &config).await;
    let expected =
        ["warning [] the plan has a flaw | ", "error [mode] the preview failed | ", "warning [] mind this first | "];
    assert_eq!(said(&plan.diagnostics), expected.join("\n"));
    assert_eq!(plan.planned_state, None);
    let read = served.read(&state(&served, "read fails", 3), b"").await;
    assert_eq!(said(&read.diagnostics), "warning [] mind this first | \nerror [name] the read failed | ");
}

#[tokio::test]
async fn a_destruction_is_previewed() {
    let served = Served::start("preview").await;
    let plan = served.plan(&state(&served, "fine", 3), &Value::Null, &Value::Null).await;
    assert_eq!(said(&plan.diagnostics), "warning [] it will be gone | ");
    assert!(served.thing.decode(plan.planned_state.as_ref()).is_null());
}

#[tokio::test]
async fn a_stop_ends_a_creation_with_what_it_had_saved() {
    let served = Served::start("stop").await;
    let config = thing(&served, "waits for a stop");
    let request = served.change(&Value::Null, &served.planned(&config).await, &config);
    let mut client = served.client();
    let creation = tokio::spawn(async move { client.apply_resource_change(request).await });
    passed("the creation", &gate("stop").began).await;

    let start = Instant::now();
    call!(served, stop, pb::stop::Request {});
    let answer = within_deadline("the creation", creation).await.unwrap().unwrap().into_inner();
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    check_error(&answer.diagnostics, "", "cancelled");
    assert_eq!(served.thing.decode(answer.new_state.as_ref()), state(&served, "waits for a stop", 1));

    // Nothing new begins, and a request keeps its state.
    let prior = state(&served, "fine", 5);
    let request = pb::apply_resource_change::Request {
        planned_private: b"{\"a\":1}".to_vec(),
        ..served.change(&prior, &prior, &prior)
    };
    let answer = call!(served, apply_resource_change, request);
    check_error(&answer.diagnostics, "", "cancelled");
    assert_eq!(served.thing.decode(answer.new_state.as_ref()), prior);
    assert_eq!(answer.private, b"{\"a\":1}");
}

#[tokio::test]
async fn a_creation_outlives_its_connection() {
    let served = Served::start("gone").await;
    let gate = gate("gone");
    let config = thing(&served, "waits at the gate");
    let request = served.change(&Value::Null, &served.planned(&config).await, &config);
    let mut other = ProviderClient::new(connect(&served.address).await);
    let creation = tokio::spawn(async move { other.apply_resource_change(request).await });
    passed("the creation", &gate.began).await;
    creation.abort();
    assert!(creation.await.unwrap_err().is_cancelled());
    // The server is still there for others, and has seen the end of that connection by the time it answers.
    check_fine(&served.validate(&thing(&served, "fine")).await);
    gate.go_on.add_permits(1);
    passed("the creation's end", &gate.finished).await;
}

#[tokio::test]
async fn private_state_goes_round() {
    let served = Served::start("private").await;
    let created = served.create(&thing(&served, "fine")).await;
    assert_eq!(created.answer.private, br#"{"created":true}"#);
    let read = served.read(&created.state, &created.answer.private).await;
    assert_eq!(read.private, br#"{"created":true,"reads":1}"#);
    let read = served.read(&created.state, &read.private).await;
    assert_eq!(read.private, br#"{"created":true,"reads":2}"#);
    let request = pb::plan_resource_change::Request {
        type_name: THING.to_owned(),
        prior_state: served.thing.encode(&created.state),
        proposed_new_state: served.thing.encode(&created.state),
        config: served.thing.encode(&thing(&served, "fine")),
        prior_private: read.private.clone(),
        ..Default::default()
    };
    assert_eq!(call!(served, plan_resource_change, request).planned_private, read.private);
}

#[tokio::test]
async fn a_read_shows_what_is_gone_and_never_what_is_unknown() {
    let served = Served::start("reads").await;
    let gone = served.read(&state(&served, "gone", 3), b"").await;
    check_fine(&gone.diagnostics);
    assert!(served.thing.decode(gone.new_state.as_ref()).is_null());
    assert_eq!(gone.new_identity, None);
    let unknown = served.read(&state(&served, "read unknown", 3), b"").await;
    check_error(&unknown.diagnostics, "", "left a value unknown");
    let fine = served.read(&state(&served, "fine", 3), b"").await;
    check_fine(&fine.diagnostics);
    assert_eq!(served.identity(fine.new_identity.as_ref()), map(&[("id", "id-n".into())]));
}

#[tokio::test]
async fn the_identity_is_given_once_it_is_known() {
    let served = Served::start("identity").await;
    let config = thing(&served, "fine");
    assert_eq!(served.plan(&Value::Null, &config, &config).await.planned_identity, None);
    let created = served.create(&config).await;
    let identity = map(&[("id", "id-n".into())]);
    assert_eq!(served.identity(created.answer.new_identity.as_ref()), identity);
    for (id, given) in [("id-n", None), ("", created.answer.new_identity)] {
        let request = pb::import_resource_state::Request {
            type_name: THING.to_owned(),
            id: id.to_owned(),
            identity: given,
            ..Default::default()
        };
        let answer = call!(served, import_resource_state, request);
        check_fine(&answer.diagnostics);
        let imported = &answer.imported_resources[0];
        assert_eq!(served.identity(imported.identity.as_ref()), identity);
        assert_eq!(served.thing.decode(imported.state.as_ref()).get("name"), Some(&"n".into()));
        assert_eq!(imported.private, br#"{"imported":true}"#);
    }
}

async fn upgrade(served: &Served, version: i64, json: &str) -> pb::upgrade_resource_state::Response {
    let raw_state = Some(pb::RawState { json: json.as_bytes().to_vec(), ..Default::default() });
    let request = pb::upgrade_resource_state::Request { type_name: THING.to_owned(), version, raw_state };
    call!(served, upgrade_resource_state, request)
}

#[tokio::test]
async fn older_states_are_upgraded() {
    let served = Served::start("upgrade").await;
    for (version, json) in [(0, r#"{"title":"n"}"#), (1, r#"{"label":"n","other":[1,{"a":null}]}"#)] {
        let answer = upgrade(&served, version, json).await;
        check_fine(&answer.diagnostics);
        let state = served.thing.decode(answer.upgraded_state.as_ref());
        assert_eq!(state.get("id"), Some(&"id-n".into()));
        let one = state.get("one").unwrap();
        assert_eq!((one.get("text"), one.get("secret_wo")), (Some(&"kept".into()), Some(&Value::Null)));
    }
    check_error(&upgrade(&served, 1, "{}").await.diagnostics, "", "version 1 without a name");
    check_error(&upgrade(&served, 3, "{}").await.diagnostics, "", "newer version");
    let current = upgrade(&served, 2, r#"{"any":{"type":"string","value":"x"},"number":0.10}"#).await;
    check_fine(&current.diagnostics);
}

#[tokio::test]
async fn a_thing_is_moved_from_another_type() {
    let served = Served::start("move").await;
    let request = |source: &str, json: &str| pb::move_resource_state::Request {
        source_provider_address: "registry.terraform.io/acme/other".to_owned(),
        source_type_name: source.to_owned(),
        source_state: Some(pb::RawState { json: json.as_bytes().to_vec(), ..Default::default() }),
        target_type_name: THING.to_owned(),
        ..Default::default()
    };
    let answer = call!(served, move_resource_state, request("other_thing", r#"{"name":"n"}"#));
    check_fine(&answer.diagnostics);
    assert_eq!(served.thing.decode(answer.target_state.as_ref()).get("id"), Some(&"id-n".into()));
    assert_eq!(served.identity(answer.target_identity.as_ref()), map(&[("id", "id-n".into())]));
    let nameless = call!(served, move_resource_state, request("other_thing", "{}"));
    check_error(&nameless.diagnostics, "", "the other thing has no name");
    let stranger = call!(served, move_resource_state, request("strange_thing", "{}"));
    check_error(&stranger.diagnostics, "", "strange_thing cannot be moved to corner_thing");
}
