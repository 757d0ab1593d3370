//! The HTTP side: one POST an action, one XML document an answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;

use super::form::Form;
use super::xml::{Element, document, node, text};
use super::{Call, Shared, clusters, groups};

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

    /// A request that is wrong in itself.
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
    match refused(&shared, &action, &headers, &form).and_then(|()| dispatch(&shared, &action, &form)) {
        Ok(result) => answer(StatusCode::OK, &success(&action, result)),
        Err(fault) => {
            let status = StatusCode::from_u16(fault.status).expect("a status");
            answer(status, &failure(&fault))
        }
    }
}

/// What keeps a call from being looked at: no signature, throttling, an error set by a test.
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
    match state.faults.iter().position(|(of, _)| of == action) {
        Some(at) => Err(state.faults.remove(at).1),
        None => Ok(()),
    }
}

fn dispatch(shared: &Arc<Shared>, action: &str, form: &Form) -> Answer {
    match action {
        "DescribeDBClusters" => clusters::describe_clusters(shared, form),
        "DescribeDBInstances" => clusters::describe_instances(shared, form),
        "DescribeDBEngineVersions" => clusters::describe_engine_versions(form),
        "ModifyDBCluster" => clusters::modify_cluster(shared, form),
        "RebootDBInstance" => clusters::reboot_instance(shared, form),
        "DescribeDBClusterParameterGroups" => groups::describe_groups(shared, form),
        "DescribeDBClusterParameters" => groups::describe_parameters(shared, form),
        "CreateDBClusterParameterGroup" => groups::create(shared, form),
        "CopyDBClusterParameterGroup" => groups::copy(shared, form),
        "ModifyDBClusterParameterGroup" => groups::modify(shared, form),
        "ResetDBClusterParameterGroup" => groups::reset(shared, form),
        "DeleteDBClusterParameterGroup" => groups::delete(shared, form),
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
    // The element's name depends on the action, and the builder takes static names only: the set of actions is small.
    let name: &'static str =
        RESULTS.iter().find(|name| name.strip_suffix("Result") == Some(action)).unwrap_or(&"Result");
    let metadata = node("ResponseMetadata", vec![text("RequestId", REQUEST_ID)]);
    document(&format!("{action}Response"), &[node(name, result), metadata])
}

fn failure(fault: &Fault) -> String {
    let sender = if fault.status < 500 { "Sender" } else { "Receiver" };
    let error = vec![text("Type", sender), text("Code", &fault.code), text("Message", &fault.message)];
    document("ErrorResponse", &[node("Error", error), text("RequestId", REQUEST_ID)])
}

const REQUEST_ID: &str = "7c2c1bd1-6ae1-4d3a-9b7c-4f1a2c0d9e11";

const RESULTS: [&str; 14] = [
    "DescribeDBClustersResult",
    "DescribeDBInstancesResult",
    "DescribeDBEngineVersionsResult",
    "ModifyDBClusterResult",
    "RebootDBInstanceResult",
    "DescribeDBClusterParameterGroupsResult",
    "DescribeDBClusterParametersResult",
    "CreateDBClusterParameterGroupResult",
    "CopyDBClusterParameterGroupResult",
    "ModifyDBClusterParameterGroupResult",
    "ResetDBClusterParameterGroupResult",
    "ListTagsForResourceResult",
    "AddTagsToResourceResult",
    "RemoveTagsFromResourceResult",
];
