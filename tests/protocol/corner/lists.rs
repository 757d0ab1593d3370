// SPDX-License-Identifier: MPL-2.0

//! Lists: one event for each object, whatever goes wrong with one of them.

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;

use super::{Served, THING, call};
use crate::common::grpc::within_deadline;
use crate::wire::{Shape, check_error, check_fine, map, said};

fn shape(served: &Served) -> Shape {
    Shape::new(&served.schemas.list_resource_schemas[THING])
}

fn modes(modes: &[&str]) -> (&'static str, Value) {
    ("modes", Value::List(modes.iter().map(|mode| Value::from(*mode)).collect()))
}

async fn list(
    served: &Served,
    config: &[(&str, Value)],
    include_resource_object: bool,
    limit: i64,
) -> Vec<pb::list_resource::Event> {
    let config = shape(served).wire(config);
    let request = pb::list_resource::Request { type_name: THING.to_owned(), config, include_resource_object, limit };
    let mut events = call!(served, list_resource, request);
    let mut all = Vec::new();
    while let Some(event) = within_deadline("an event", events.message()).await.unwrap() {
        all.push(event);
    }
    all
}

#[tokio::test]
async fn a_lists_configuration_is_checked() {
    let served = Served::start("list checks").await;
    let validate = async |items: &[(&str, Value)]| {
        let config = shape(&served).wire(items);
        let request =
            pb::validate_list_resource_config::Request { type_name: THING.to_owned(), config, ..Default::default() };
        call!(served, validate_list_resource_config, request).diagnostics
    };
    check_fine(&validate(&[modes(&["fine"])]).await);
    check_fine(&validate(&[("modes", Value::UNKNOWN), ("mode", Value::UNKNOWN)]).await);
    check_error(&validate(&[modes(&[])]).await, "modes", "there is no mode");
    check_error(&validate(&[modes(&["fine"]), ("mode", "other".into())]).await, "mode", "not one of the values");
}

#[tokio::test]
async fn each_object_is_an_event_with_its_identity() {
    let served = Served::start("list").await;
    let events = list(&served, &[modes(&["fine", "well"])], false, 100).await;
    let names: Vec<_> = events.iter().map(|event| event.display_name.as_str()).collect();
    assert_eq!(names, ["the one that is fine", "the one that is well"]);
    for event in &events {
        check_fine(&event.diagnostic);
        assert_eq!(event.resource_object, None, "nobody asked for it");
    }
    assert_eq!(served.identity(events[0].identity.as_ref()), map(&[("id", "id-n: fine".into())]));

    let events = list(&served, &[modes(&["fine", "gone", "well", "more"])], true, 2).await;
    let objects: Vec<_> = events.iter().map(|event| served.thing.decode(event.resource_object.as_ref())).collect();
    assert_eq!(objects.len(), 1, "the second of two was gone");
    assert_eq!(objects[0].get("mode"), Some(&"fine".into()));
    assert_eq!(objects[0].get("one").and_then(|one| one.get("secret_wo")), Some(&Value::Null));
    assert_eq!(list(&served, &[modes(&["fine", "well"])], true, 0).await.len(), 2, "without a limit");
}

#[tokio::test]
async fn what_is_wrong_with_one_does_not_hide_the_others() {
    let served = Served::start("list faults").await;
    let events = list(&served, &[modes(&["read fails", "read unknown", "fine"])], true, 100).await;
    assert_eq!(said(&events[0].diagnostic), "warning [] mind this first | \nerror [name] the read failed | ");
    assert_eq!(events[0].display_name, "the one that is read fails");
    check_error(&events[1].diagnostic, "", "left a value unknown");
    check_fine(&events[2].diagnostic);
    assert!(events[2].resource_object.is_some());

    // A panic ends the list, and is reported.
    let events = list(&served, &[modes(&["fine", "read", "fine"])], true, 100).await;
    assert_eq!(events.len(), 2);
    check_error(&events[1].diagnostic, "", "the provider panicked");
    assert!(!said(&events[1].diagnostic).contains("hunter2"));
}

#[tokio::test]
async fn a_list_that_fails_says_why() {
    let served = Served::start("list fails").await;
    for (mode, at, text) in [("fails", "mode", "nobody knows"), ("panics", "", "the provider panicked")] {
        let events = list(&served, &[modes(&["fine"]), ("mode", mode.into())], false, 100).await;
        assert_eq!(events.len(), 1, "{mode}");
        check_error(&events[0].diagnostic, at, text);
    }
    call!(served, stop, pb::stop::Request {});
    let events = list(&served, &[modes(&["fine"])], false, 100).await;
    check_error(&events[0].diagnostic, "", "cancelled");
}
