// SPDX-License-Identifier: MPL-2.0

//! An apply in flight when a person interrupts it, when the core ends, and when the core vanishes.
//!
//! The server is a socket that accepts connections and sends nothing, so that the apply hangs while connecting.

use std::time::{Duration, Instant};

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::common::grpc::within_deadline;
use crate::session::{PUBLICATION, SUBSCRIPTION, Session};
use crate::wire::{check_error, check_fine, set};

/// How long a core waits for a plugin to shut down.
const CORES_PATIENCE: Duration = Duration::from_secs(2);

type Applied = Result<tonic::Response<pb::apply_resource_change::Response>, Status>;

/// A session whose apply has reached the silent server.
struct InFlight {
    session: Session,
    apply: JoinHandle<Applied>,
    connection: TcpStream,
    /// Accepts further connections.
    listener: TcpListener,
}

impl InFlight {
    async fn begin(connect_timeout: i64) -> Self {
        let (session, listener) = silent_server(connect_timeout).await;
        let request = session.creation().await;
        Self::apply(session, listener, request).await
    }

    async fn apply(session: Session, listener: TcpListener, request: pb::apply_resource_change::Request) -> Self {
        let mut client = session.client();
        let apply = tokio::spawn(async move { client.apply_resource_change(request).await });
        let (connection, _) = within_deadline("connecting", listener.accept()).await.unwrap();
        Self { session, apply, connection, listener }
    }
}

/// A session in which both servers are a socket that sends nothing.
async fn silent_server(connect_timeout: i64) -> (Session, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let session = Session::start().await;
    let server = session.server(listener.local_addr().unwrap().port(), connect_timeout);
    check_fine(&session.configure(&[("publisher", server.clone()), ("subscriber", server)]).await);
    (session, listener)
}

/// Waits until the provider has closed the connection.
async fn hung_up(connection: &mut TcpStream) {
    let mut buffer = [0; 1024];
    let end = async { while matches!(connection.read(&mut buffer).await, Ok(1..)) {} };
    within_deadline("hanging up", end).await;
}

fn check_nothing_created(session: &Session, applied: Applied, text: &str) {
    let answer = applied.unwrap().into_inner();
    check_error(&answer.diagnostics, "", text);
    assert!(session.resource(PUBLICATION).decode(answer.new_state.as_ref()).is_null());
}

#[tokio::test]
async fn an_interrupted_apply_ends_at_once_and_tells_what_exists() {
    let InFlight { session, apply, mut connection, .. } = InFlight::begin(60).await;
    let start = Instant::now();
    let stop = async { session.client().stop(pb::stop::Request {}).await };
    within_deadline("Stop", stop).await.unwrap();
    let applied = within_deadline("the apply", apply).await.unwrap();
    assert!(start.elapsed() < CORES_PATIENCE, "{:?}", start.elapsed());
    check_nothing_created(&session, applied, "cancelled");
    hung_up(&mut connection).await;
}

#[tokio::test]
async fn an_interrupted_change_keeps_what_there_was() {
    for (name, destroys) in [(PUBLICATION, false), (PUBLICATION, true), (SUBSCRIPTION, false), (SUBSCRIPTION, true)] {
        let (session, listener) = silent_server(60).await;
        let shape = session.resource(name);
        let mut items = vec![("id", "shop/o".into()), ("name", "o".into()), ("database", "shop".into())];
        if name == SUBSCRIPTION {
            items.extend([("publications", set(&["p"])), ("enabled", true.into()), ("owner", "u".into())]);
        }
        let prior = shape.object(&items);
        let mut planned = prior.clone();
        planned.set("name", "renamed".into());
        let request = pb::apply_resource_change::Request {
            type_name: name.to_owned(),
            prior_state: shape.encode(&prior),
            planned_state: shape.encode(if destroys { &Value::Null } else { &planned }),
            config: shape.encode(if destroys { &Value::Null } else { &planned }),
            planned_private: b"{\"kept\":1}".to_vec(),
            ..Default::default()
        };
        let InFlight { session, apply, connection: _silent, listener: _listener } =
            InFlight::apply(session, listener, request).await;
        let start = Instant::now();
        let stop = async { session.client().stop(pb::stop::Request {}).await };
        within_deadline("Stop", stop).await.unwrap();
        let answer = within_deadline("the apply", apply).await.unwrap().unwrap().into_inner();
        assert!(start.elapsed() < CORES_PATIENCE, "{name} {destroys}: {:?}", start.elapsed());
        check_error(&answer.diagnostics, "", "cancelled");
        assert_eq!(shape.decode(answer.new_state.as_ref()), prior, "{name} {destroys}");
        assert_eq!(answer.private, b"{\"kept\":1}");
    }
}

#[tokio::test]
async fn an_interrupted_read_ends_at_once() {
    let InFlight { session, listener, .. } = InFlight::begin(60).await;
    let current_state = session.resource(PUBLICATION).wire(&[("name", "o".into()), ("database", "shop".into())]);
    let request = pb::read_resource::Request { type_name: PUBLICATION.to_owned(), current_state, ..Default::default() };
    let (mut reader, mut stopper) = (session.client(), session.client());
    let stop = async {
        let _second = listener.accept().await.unwrap();
        stopper.stop(pb::stop::Request {}).await.unwrap();
        Instant::now()
    };
    let (read, stopped) = within_deadline("both", async { tokio::join!(reader.read_resource(request), stop) }).await;
    assert!(stopped.elapsed() < CORES_PATIENCE, "{:?}", stopped.elapsed());
    check_error(&read.unwrap().into_inner().diagnostics, "", "cancelled");
}

#[tokio::test]
async fn a_shutdown_in_the_middle_of_an_apply_still_gets_its_answer() {
    let InFlight { mut session, apply, mut connection, .. } = InFlight::begin(60).await;
    let start = Instant::now();
    session.core.shut_down().await;
    let applied = within_deadline("the apply", apply).await.unwrap();
    check_nothing_created(&session, applied, "cancelled");
    let (status, _) = session.core.process.exit().await;
    assert!(start.elapsed() < CORES_PATIENCE, "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    hung_up(&mut connection).await;
}

#[tokio::test]
async fn an_apply_outlives_the_core_that_asked_for_it() {
    let connect_timeout = 3;
    let InFlight { session, apply, mut connection, .. } = InFlight::begin(connect_timeout).await;
    let began = Instant::now();
    apply.abort();
    let mut process = session.core.vanish();
    // The work continued until its own end, not only until the end of the connection.
    hung_up(&mut connection).await;
    let least = Duration::from_secs(connect_timeout.unsigned_abs()) - Duration::from_secs(1);
    assert!(began.elapsed() > least, "{:?}", began.elapsed());
    assert!(process.is_running());
    let (status, _) = process.exit().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn an_apply_that_would_take_long_is_ended_when_the_core_does_not_come_back() {
    let InFlight { session, apply, mut connection, .. } = InFlight::begin(3600).await;
    apply.abort();
    let mut process = session.core.vanish();
    let (status, _) = process.exit().await;
    assert_eq!(status.code(), Some(0));
    hung_up(&mut connection).await;
}
