// SPDX-License-Identifier: MPL-2.0

//! Actions: validated, planned and invoked, with lines meanwhile and one end, whatever goes wrong.

use std::time::Instant;

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;
use pb::invoke_action::event::Type;
use pb::provider_client::ProviderClient;
use tonic::Streaming;

use super::provider::gate;
use super::verbs::{PROMPT, passed};
use super::{Served, call, connect};
use crate::common::grpc::within_deadline;
use crate::session::CAPABLE;
use crate::wire::{Shape, check_error, check_fine, said};

const DEED: &str = "corner_deed";

fn shape(served: &Served) -> Shape {
    Shape::new(served.schemas.action_schemas[DEED].schema.as_ref().unwrap())
}

fn twice(served: &Served, mode: &str) -> Option<pb::DynamicValue> {
    shape(served).wire(&[("times", 2.into()), ("mode", mode.into())])
}

fn invocation(config: Option<pb::DynamicValue>) -> pb::invoke_action::Request {
    pb::invoke_action::Request { action_type: DEED.to_owned(), config, client_capabilities: Some(CAPABLE) }
}

/// The lines of an invocation, and its final diagnostics.
async fn follow(mut events: Streaming<pb::invoke_action::Event>) -> (Vec<String>, Vec<pb::Diagnostic>) {
    let mut lines = Vec::new();
    loop {
        match within_deadline("an event", events.message()).await.unwrap().unwrap().r#type.unwrap() {
            Type::Progress(progress) => lines.push(progress.message),
            Type::Completed(completed) => {
                assert_eq!(events.message().await.unwrap(), None, "nothing comes after the end");
                return (lines, completed.diagnostics);
            }
        }
    }
}

async fn invoke(served: &Served, mode: &str) -> (Vec<String>, Vec<pb::Diagnostic>) {
    follow(call!(served, invoke_action, invocation(twice(served, mode)))).await
}

#[tokio::test]
async fn an_actions_configuration_is_checked() {
    let served = Served::start("deed checks").await;
    let validate = async |items: &[(&str, Value)]| {
        let config = shape(&served).wire(items);
        let request = pb::validate_action_config::Request { type_name: DEED.to_owned(), config };
        call!(served, validate_action_config, request).diagnostics
    };
    check_fine(&validate(&[("times", 9.into())]).await);
    check_fine(&validate(&[("times", Value::UNKNOWN), ("mode", Value::UNKNOWN)]).await);
    check_error(&validate(&[("times", 10.into())]).await, "times", "from 1 to 9");
    check_error(&validate(&[("times", 1.into()), ("mode", "".into())]).await, "mode", "is empty");
    let panicked = validate(&[("times", 1.into()), ("mode", "validate".into())]).await;
    check_error(&panicked, "", "the provider panicked");
    assert!(!said(&panicked).contains("hunter2"));
}

#[tokio::test]
async fn an_action_is_planned_with_what_is_known() {
    let served = Served::start("deed plan").await;
    let plan = async |config: Option<pb::DynamicValue>| {
        let action_type = DEED.to_owned();
        let request = pb::plan_action::Request { action_type, config, client_capabilities: Some(CAPABLE) };
        call!(served, plan_action, request)
    };
    let planned = plan(twice(&served, "fine")).await;
    assert_eq!(said(&planned.diagnostics), "warning [times] it will be done 2 times | ");
    assert_eq!(planned.deferred, None);
    let planned = plan(shape(&served).wire(&[("times", Value::UNKNOWN)])).await;
    assert_eq!(said(&planned.diagnostics), "warning [times] it will be done some times | ");
    let refused = plan(twice(&served, "plan fails")).await;
    check_error(&refused.diagnostics, "mode", "it cannot be done");
    assert!(said(&refused.diagnostics).contains("warning [times]"), "{}", said(&refused.diagnostics));
    check_error(&plan(twice(&served, "plan")).await.diagnostics, "", "the provider panicked");
}

#[tokio::test]
async fn an_action_says_its_lines_and_then_its_end() {
    let served = Served::start("deed").await;
    let warned = "warning [times] it was hard | ";
    let (lines, diagnostics) = invoke(&served, "fine").await;
    assert_eq!(lines, ["time 1", "time 2"]);
    assert_eq!(said(&diagnostics), warned);

    let (lines, diagnostics) = invoke(&served, "invoke fails").await;
    assert_eq!(lines.len(), 2);
    assert_eq!(said(&diagnostics), format!("{warned}\nerror [mode] it came to nothing | "));

    let (lines, diagnostics) = invoke(&served, "invoke").await;
    assert_eq!(lines.len(), 2);
    check_error(&diagnostics, "", "the provider panicked");
    assert!(!said(&diagnostics).contains("hunter2"));
}

#[tokio::test]
async fn lines_come_while_an_action_runs_and_a_stop_ends_it() {
    let served = Served::start("deed stop").await;
    let request = invocation(twice(&served, "waits for a stop"));
    let mut events = call!(served, invoke_action, request);
    for line in ["time 1", "time 2"] {
        let event = within_deadline("a line", events.message()).await.unwrap().unwrap();
        assert!(matches!(event.r#type, Some(Type::Progress(progress)) if progress.message == line));
    }
    passed("the action", &gate("deed stop").began).await;
    let start = Instant::now();
    call!(served, stop, pb::stop::Request {});
    let (_, diagnostics) = follow(events).await;
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    check_error(&diagnostics, "", "cancelled");

    // Nothing new begins.
    let (lines, diagnostics) = invoke(&served, "fine").await;
    assert!(lines.is_empty(), "{lines:?}");
    check_error(&diagnostics, "", "Nothing was begun");
}

#[tokio::test]
async fn an_action_outlives_its_stream() {
    let served = Served::start("deed gone").await;
    let gate = gate("deed gone");
    let mut other = ProviderClient::new(connect(&served.address).await);
    let request = invocation(twice(&served, "waits at the gate"));
    let events = within_deadline("the answer", other.invoke_action(request)).await.unwrap();
    passed("the action", &gate.began).await;
    drop((events, other));
    check_fine(&served.validate(&served.thing.object(&[("name", "n".into())])).await);
    gate.go_on.add_permits(1);
    passed("the action's end", &gate.finished).await;
}
