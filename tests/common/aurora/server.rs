// SPDX-License-Identifier: MPL-2.0

//! The HTTP side: one POST for each action, one XML document for each answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;

use super::form::Form;
use super::groups::{CLUSTER, INSTANCE};
use super::xml::{Element, document, node, text};
use super::{Call, Shared, clusters, groups, shapes};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    status: u16,
    code: String,
    message: String,
}

impl Fault {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// An invalid request.
    pub(super) fn invalid(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }
}

pub(super) type Answer = Result<Vec<Element>, Fault>;

pub(super) async fn listen(shared: Arc<Shared>) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening on loopback");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/", post(handle)).with_state(shared);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
    (format!("http://{address}"), server)
}

async fn handle(Extracted(shared): Extracted<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let form = Form::parse(&body);
    let action = form.get("Action").unwrap_or_default().to_owned();
    let slow = shared.state().slow;
    tokio::time::sleep(slow).await;
    let answered = refused(&shared, &action, &headers, &form).and_then(|()| dispatch(&shared, &action, &form));
    match honest(&shared, &action, answered) {
        Ok(result) => {
            shared.state().accepted.push(Call { action: action.clone(), parameters: form.0 });
            answer(StatusCode::OK, &success(&action, result))
        }
        Err(fault) => {
            let status = StatusCode::from_u16(fault.status).expect("a status");
            answer(status, &failure(&fault))
        }
    }
}

/// The answer, if RDS could give it; otherwise an error that no client accepts as an answer.
fn honest(shared: &Shared, action: &str, answered: Answer) -> Answer {
    let problems = match &answered {
        Ok(result) => shapes::problems_of_result(action, result),
        Err(fault) => shapes::problem_of_error(action, &fault.code, fault.status).into_iter().collect(),
    };
    if problems.is_empty() || !shapes::OPERATIONS.contains(&action) {
        return answered;
    }
    let what = problems.join("; ");
    shared.state().violations.extend(problems);
    Err(Fault::new(500, "InternalFailure", format!("the stand-in does not answer as RDS does: {what}")))
}

/// Why a call is not handled: no signature, throttling, an error set by a test.
fn refused(shared: &Shared, action: &str, headers: &HeaderMap, form: &Form) -> Result<(), Fault> {
    let mut state = shared.state();
    state.calls.push(Call { action: action.to_owned(), parameters: form.0.clone() });
    let signature = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !signature.starts_with("AWS4-HMAC-SHA256 ") {
        return Err(Fault::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token"));
    }
    if state.throttled > 0 {
        state.throttled -= 1;
        return Err(Fault::invalid("Throttling", "Rate exceeded"));
    }
    let calls = state.calls.len();
    if let Some((_, token)) = state.stop_at.take_if(|(at, _)| *at <= calls) {
        token.cancel();
    }
    if let Some((_, fault)) = state.lasting.iter().find(|(of, _)| of == action || of == "*") {
        return Err(fault.clone());
    }
    if state.lists_are_denied && is_list(action, form) {
        return Err(Fault::new(403, "AccessDenied", format!("User is not authorized to perform: rds:{action}")));
    }
    if let Some(at) = state.faults.iter().position(|(of, _)| of == action) {
        return Err(state.faults.remove(at).1);
    }
    match shapes::missing(action, form) {
        Some(name) => Err(Fault::invalid("MissingParameter", format!("The request must contain the parameter {name}"))),
        None => Ok(()),
    }
}

/// Whether a call lists all objects, which a policy with a resource does not allow.
fn is_list(action: &str, form: &Form) -> bool {
    let named = |name| form.get(name).is_some();
    match action {
        "DescribeDBClusters" => !named("DBClusterIdentifier"),
        "DescribeDBInstances" => !named("DBInstanceIdentifier") && form.filter("db-cluster-id").is_none(),
        "DescribeBlueGreenDeployments" => true,
        _ => false,
    }
}

fn dispatch(shared: &Arc<Shared>, action: &str, form: &Form) -> Answer {
    match action {
        "DescribeBlueGreenDeployments" => clusters::describe_blue_green(shared, form),
        "DescribeDBClusters" => clusters::describe_clusters(shared, form),
        "DescribeDBInstances" => clusters::describe_instances(shared, form),
        "DescribeDBEngineVersions" => clusters::describe_engine_versions(form),
        "ModifyDBCluster" => clusters::modify_cluster(shared, form),
        "ModifyDBInstance" => clusters::modify_instance(shared, form),
        "RebootDBInstance" => clusters::reboot_instance(shared, form),
        "DescribeDBClusterParameterGroups" => groups::describe_groups(shared, &CLUSTER, form),
        "DescribeDBParameterGroups" => groups::describe_groups(shared, &INSTANCE, form),
        "DescribeDBClusterParameters" => groups::describe_parameters(shared, &CLUSTER, form),
        "DescribeDBParameters" => groups::describe_parameters(shared, &INSTANCE, form),
        "CreateDBClusterParameterGroup" => groups::create(shared, &CLUSTER, form),
        "CreateDBParameterGroup" => groups::create(shared, &INSTANCE, form),
        "CopyDBClusterParameterGroup" => groups::copy(shared, &CLUSTER, form),
        "CopyDBParameterGroup" => groups::copy(shared, &INSTANCE, form),
        "ModifyDBClusterParameterGroup" => groups::modify(shared, &CLUSTER, form),
        "ModifyDBParameterGroup" => groups::modify(shared, &INSTANCE, form),
        "ResetDBClusterParameterGroup" => groups::reset(shared, &CLUSTER, form),
        "ResetDBParameterGroup" => groups::reset(shared, &INSTANCE, form),
        "DeleteDBClusterParameterGroup" => groups::delete(shared, &CLUSTER, form),
        "DeleteDBParameterGroup" => groups::delete(shared, &INSTANCE, form),
        "ListTagsForResource" => groups::list_tags(shared, form),
        "AddTagsToResource" => groups::add_tags(shared, form),
        "RemoveTagsFromResource" => groups::remove_tags(shared, form),
        _ => Err(Fault::invalid("InvalidAction", format!("Could not find operation {action}"))),
    }
}

fn answer(status: StatusCode, body: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/xml")], body.to_owned()).into_response()
}

fn success(action: &str, result: Vec<Element>) -> String {
    let metadata = node("ResponseMetadata", vec![text("RequestId", REQUEST_ID)]);
    let result = shapes::has_result(action).then(|| node(format!("{action}Result"), result));
    let parts: Vec<Element> = result.into_iter().chain([metadata]).collect();
    document(&format!("{action}Response"), &parts)
}

fn failure(fault: &Fault) -> String {
    let sender = if fault.status < 500 { "Sender" } else { "Receiver" };
    let error = vec![text("Type", sender), text("Code", &fault.code), text("Message", &fault.message)];
    document("ErrorResponse", &[node("Error", error), text("RequestId", REQUEST_ID)])
}

const REQUEST_ID: &str = "7c2c1bd1-6ae1-4d3a-9b7c-4f1a2c0d9e11";
