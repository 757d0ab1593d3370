// SPDX-License-Identifier: MPL-2.0

//! Ephemeral values: obtained, kept alive, given back, whatever goes wrong.

use std::time::SystemTime;

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;
use pb::provider_client::ProviderClient;

use super::provider::{TERM, gate};
use super::verbs::passed;
use super::{Served, call, connect};
use crate::common::grpc::within_deadline;
use crate::session::CAPABLE;
use crate::wire::{Shape, check_error, check_fine, said};

const LEASE: &str = "corner_lease";

fn shape(served: &Served) -> Shape {
    Shape::new(&served.schemas.ephemeral_resource_schemas[LEASE])
}

fn lease(served: &Served, mode: &str) -> Value {
    shape(served).object(&[("name", "n".into()), ("mode", mode.into())])
}

fn opening(served: &Served, config: &Value) -> pb::open_ephemeral_resource::Request {
    let config = shape(served).encode(config);
    pb::open_ephemeral_resource::Request { type_name: LEASE.to_owned(), config, client_capabilities: Some(CAPABLE) }
}

async fn open(served: &Served, mode: &str) -> pb::open_ephemeral_resource::Response {
    call!(served, open_ephemeral_resource, opening(served, &lease(served, mode)))
}

async fn renew(served: &Served, private: &[u8]) -> pb::renew_ephemeral_resource::Response {
    let request =
        pb::renew_ephemeral_resource::Request { type_name: LEASE.to_owned(), private: Some(private.to_vec()) };
    call!(served, renew_ephemeral_resource, request)
}

async fn close(served: &Served, private: &[u8]) -> Vec<pb::Diagnostic> {
    let request =
        pb::close_ephemeral_resource::Request { type_name: LEASE.to_owned(), private: Some(private.to_vec()) };
    call!(served, close_ephemeral_resource, request).diagnostics
}

fn after_start(times: u32) -> Option<prost_types::Timestamp> {
    Some((SystemTime::UNIX_EPOCH + TERM * times).into())
}

#[tokio::test]
async fn an_ephemeral_configuration_is_checked() {
    let served = Served::start("lease checks").await;
    let validate = async |items: &[(&str, Value)]| {
        let config = shape(&served).wire(items);
        let request = pb::validate_ephemeral_resource_config::Request { type_name: LEASE.to_owned(), config };
        call!(served, validate_ephemeral_resource_config, request).diagnostics
    };
    check_fine(&validate(&[("name", "n".into())]).await);
    check_fine(&validate(&[("name", Value::UNKNOWN), ("mode", Value::UNKNOWN)]).await);
    check_error(&validate(&[("name", "o".into())]).await, "name", "not one of the values");
    check_error(&validate(&[("name", "n".into()), ("mode", "".into())]).await, "mode", "is empty");
    let panicked = validate(&[("name", "n".into()), ("mode", "validate".into())]).await;
    check_error(&panicked, "", "the provider panicked");
    assert!(!said(&panicked).contains("hunter2"));
}

#[tokio::test]
async fn an_ephemeral_value_is_obtained_kept_alive_and_given_back() {
    let served = Served::start("lease").await;
    let opened = open(&served, "fine").await;
    assert_eq!(said(&opened.diagnostics), "warning [name] somebody else waits for it | ");
    let result = shape(&served).decode(opened.result.as_ref());
    let expected = [("name", "n".into()), ("mode", "fine".into()), ("key", "key of n".into())];
    assert_eq!(result, shape(&served).object(&expected));
    assert_eq!(opened.renew_at, after_start(1));
    assert_eq!(opened.deferred, None);

    let renewed = renew(&served, opened.private()).await;
    check_fine(&renewed.diagnostics);
    assert_eq!(renewed.renew_at, after_start(2));
    let last = renew(&served, renewed.private()).await;
    assert_eq!(last.renew_at, None, "never again");
    assert_eq!(said(&close(&served, last.private()).await), "warning [] it was used little | ");
}

#[tokio::test]
async fn each_ephemeral_verb_says_why_it_failed() {
    let served = Served::start("lease fails").await;
    for (mode, at, text) in [
        ("open fails", "mode", "nothing is left"),
        ("open", "", "the provider panicked"),
        ("leaves an unknown", "", "left a value unknown"),
    ] {
        let opened = open(&served, mode).await;
        check_error(&opened.diagnostics, at, text);
        assert_eq!((opened.result, opened.private, opened.renew_at), (None, None, None), "{mode}");
        assert!(!said(&opened.diagnostics).contains("hunter2"));
    }
    for (mode, text) in [("renew fails", "it ran out"), ("renew", "the provider panicked")] {
        let opened = open(&served, mode).await;
        let renewed = renew(&served, opened.private()).await;
        check_error(&renewed.diagnostics, "", text);
        assert_eq!((renewed.private, renewed.renew_at), (None, None), "{mode}");
    }
    for (mode, text) in [("close fails", "it does not come off"), ("close", "the provider panicked")] {
        let opened = open(&served, mode).await;
        check_error(&close(&served, opened.private()).await, "", text);
    }
}

#[tokio::test]
async fn what_was_obtained_is_given_back_after_a_stop_and_nothing_new_is_obtained() {
    let served = Served::start("lease stop").await;
    let opened = open(&served, "fine").await;
    call!(served, stop, pb::stop::Request {});
    assert_eq!(said(&close(&served, opened.private()).await), "warning [] it was used little | ");
    check_error(&open(&served, "fine").await.diagnostics, "", "cancelled");
}

#[tokio::test]
async fn an_opening_outlives_its_connection() {
    let served = Served::start("lease gone").await;
    let gate = gate("lease gone");
    let mut other = ProviderClient::new(connect(&served.address).await);
    let request = opening(&served, &lease(&served, "waits at the gate"));
    let opening = tokio::spawn(async move { other.open_ephemeral_resource(request).await });
    passed("the opening", &gate.began).await;
    opening.abort();
    assert!(opening.await.unwrap_err().is_cancelled());
    check_fine(&served.validate(&served.thing.object(&[("name", "n".into())])).await);
    gate.go_on.add_permits(1);
    passed("the opening's end", &gate.finished).await;
}
