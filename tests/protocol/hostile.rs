// SPDX-License-Identifier: MPL-2.0

//! Bytes that no core sends: for any input, there is an answer, and the process survives.

use std::collections::BTreeMap;
use std::time::Duration;

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::schema::Type;
use neonrepl::tf_provider::value::Value;
use tokio::time::timeout;
use tonic::Status;

use crate::common::grpc::within_deadline;
use crate::session::{AURORA, CAPABLE, NAT_ADDRESSES, PUBLICATION, REBOOT, SUBSCRIPTION, Session, TOKEN};
use crate::wire::{Shape, check_fine, encode, map, set};

/// How many requests each RPC gets.
const ROUNDS: u64 = 300;

/// Small and fast pseudo-random numbers, the same in every run.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(100);
        (0..length).map(|_| self.byte()).collect()
    }

    /// Valid bytes with a few changed, removed, inserted or doubled; or only noise.
    fn mutated(&mut self, valid: &[u8]) -> Vec<u8> {
        if self.below(8) == 0 {
            return self.bytes();
        }
        let mut bytes = valid.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 => bytes.extend_from_slice(&valid[self.below(valid.len())..]),
                _ if bytes.is_empty() => bytes = self.bytes(),
                // Bytes that begin something large, deep or unknown are more useful than others.
                3 => bytes[at] = [0xc1, 0xc7, 0xc9, 0xd4, 0xdb, 0xdd, 0xdf, 0x9f, 0x8f][self.below(9)],
                _ => bytes[at] = self.byte(),
            }
        }
        bytes
    }

    fn value(&mut self, valid: &[u8]) -> Option<pb::DynamicValue> {
        let (msgpack, json) = match self.below(6) {
            0 => (Vec::new(), self.mutated(br#"{"name":"a","tables":["b"],"table":[{"name":"c"}],"region":"d"}"#)),
            1 if self.below(8) == 0 => return None,
            2 => (valid.to_vec(), Vec::new()),
            _ => (self.mutated(valid), Vec::new()),
        };
        Some(pb::DynamicValue { msgpack, json })
    }

    fn raw(&mut self, valid: &[u8]) -> Option<pb::RawState> {
        let flatmap = [("name".to_owned(), "a".to_owned())].into();
        match self.below(10) {
            0 => None,
            1 => Some(pb::RawState { flatmap, json: Vec::new() }),
            _ => Some(pb::RawState { json: self.mutated(valid), ..Default::default() }),
        }
    }

    fn type_name(&mut self, valid: &str) -> String {
        if self.below(20) == 0 { String::from_utf8_lossy(&self.bytes()).into_owned() } else { valid.to_owned() }
    }
}

/// A valid value of each kind to start from.
fn seeds(session: &Session) -> BTreeMap<&'static str, Vec<u8>> {
    let bytes = |value: Option<pb::DynamicValue>| value.unwrap().msgpack;
    let publication = session.resource(PUBLICATION);
    let table = publication
        .nested("table", &[("name", "a.b".into()), ("columns", set(&["id", "total"])), ("where", "total > 0".into())]);
    let publication = publication.wire(&[
        ("id", "shop/o".into()),
        ("name", "o".into()),
        ("database", "shop".into()),
        ("tables", set(&["public.a", "\"x.y\".z"])),
        ("table", Value::List(vec![table])),
        ("schemas", Value::UNKNOWN),
        ("publish", set(&["insert"])),
        ("publish_generated_columns", "none".into()),
        ("owner", Value::UNKNOWN),
    ]);
    let subscription = session.resource(SUBSCRIPTION);
    let connection = subscription.nested(
        &session.connection_block(),
        &[("port", 5432.into()), ("password_wo", "p".into()), ("options", map(&[("a", "b".into())]))],
    );
    let timeouts = subscription.nested("timeouts", &[("create", "1h30m".into())]);
    let subscription = subscription.wire(&[
        ("name", "s".into()),
        ("publications", set(&["p", "q"])),
        ("refresh_triggers", map(&[("p", "1".into())])),
        (session.connection_block().as_str(), connection),
        ("timeouts", timeouts),
    ]);
    let aurora = session.resource(AURORA).wire(&[
        ("cluster_identifier", "shop".into()),
        ("parameters", map(&[("max_replication_slots", "20".into())])),
        ("reboot", "writer".into()),
        ("tags", Value::UNKNOWN),
    ]);
    let token = Shape::new(&session.schemas.ephemeral_resource_schemas[TOKEN]).wire(&[
        ("host", "shop.abc.us-east-2.rds.amazonaws.com".into()),
        ("port", 5432.into()),
        ("username", "app".into()),
    ]);
    let reboot = Shape::new(session.schemas.action_schemas[REBOOT].schema.as_ref().unwrap());
    let reboot = reboot.wire(&[("cluster_identifier", "shop".into()), ("timeout", "1s".into())]);
    let list = Shape::new(&session.schemas.list_resource_schemas[PUBLICATION]).wire(&[("database", "shop".into())]);
    let identity = Type::object(["host", "port", "database", "name"].map(|name| (name, Type::String)));
    let parts = [("host", "h".into()), ("port", "1".into()), ("database", "shop".into()), ("name", "o".into())];
    let identity = encode(&identity, &map(&parts));
    [
        (PUBLICATION, bytes(publication)),
        (SUBSCRIPTION, bytes(subscription)),
        (AURORA, bytes(aurora)),
        (NAT_ADDRESSES, bytes(session.data_source(NAT_ADDRESSES).wire(&[("region", "aws-us-east-2".into())]))),
        ("provider", bytes(session.provider().wire(&[("publisher", session.server(1, 1))]))),
        (TOKEN, bytes(token)),
        (REBOOT, bytes(reboot)),
        ("list", bytes(list)),
        ("identity", bytes(identity)),
        ("text", bytes(encode(&Type::String, &"aws-us-east-2".into()))),
    ]
    .into()
}

const STATE: &[u8] =
    br#"{"id":"shop/o","name":"o","database":"shop","tables":["public.a"],"table":[{"name":"x","columns":["c"],
"where":"a > 1.5e3"}],"publish":["insert"],"all_tables":false,"owner":"p","connection":{"port":5432},"enabled":true}"#;

/// Sends one request after another, and requires an answer to each.
async fn pelt<T>(what: &str, mut send: impl AsyncFnMut(&mut Noise) -> Result<T, Status>) {
    for round in 0..ROUNDS {
        let answer = timeout(Duration::from_secs(20), send(&mut Noise::new(round))).await;
        match answer {
            Err(_) => panic!("{what}: no answer in round {round}"),
            Ok(Err(status)) => panic!("{what}: round {round}: {:?} {}", status.code(), status.message()),
            Ok(Ok(_)) => {}
        }
    }
}

/// Pelts an RPC with requests made from noise.
macro_rules! pelt {
    ($session:expr, $rpc:ident, |$noise:ident| $request:expr) => {{
        let client = $session.client();
        pelt(stringify!($rpc), async |$noise: &mut Noise| client.clone().$rpc($request).await).await;
    }};
}

/// A session whose server does not listen: connections are refused at once.
async fn session() -> (Session, BTreeMap<&'static str, Vec<u8>>) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let session = Session::start().await;
    let aws = session.provider().nested(
        "aws",
        &[
            ("region", "us-east-2".into()),
            ("access_key", "AKIAEXAMPLE".into()),
            ("secret_key", "secret".into()),
            ("endpoint_url", format!("http://127.0.0.1:{port}").into()),
            ("max_attempts", 1.into()),
        ],
    );
    check_fine(&session.configure(&[("publisher", session.server(port, 10)), ("aws", aws)]).await);
    let seeds = seeds(&session);
    (session, seeds)
}

/// Checks that the process is still the same, and has not panicked.
async fn check_alive(mut session: Session) {
    let metadata = async { session.client().get_metadata(pb::get_metadata::Request {}).await };
    check_fine(&within_deadline("GetMetadata", metadata).await.unwrap().into_inner().diagnostics);
    assert!(session.core.process.is_running());
    assert!(!session.core.process.stderr().contains("panic"), "{}", session.core.process.stderr());
}

#[tokio::test]
async fn configurations_of_noise_are_answered() {
    let (session, seeds) = session().await;
    let provider = &seeds["provider"];
    pelt!(session, prepare_provider_config, |noise| pb::prepare_provider_config::Request {
        config: noise.value(provider)
    });
    for name in [PUBLICATION, SUBSCRIPTION, AURORA] {
        pelt!(session, validate_resource_type_config, |noise| pb::validate_resource_type_config::Request {
            type_name: noise.type_name(name),
            config: noise.value(&seeds[name]),
            client_capabilities: Some(CAPABLE),
        });
        pelt!(session, generate_resource_config, |noise| pb::generate_resource_config::Request {
            type_name: noise.type_name(name),
            state: noise.value(&seeds[name]),
        });
    }
    let data_source = &seeds[NAT_ADDRESSES];
    pelt!(session, validate_data_source_config, |noise| pb::validate_data_source_config::Request {
        type_name: noise.type_name(NAT_ADDRESSES),
        config: noise.value(data_source),
    });
    pelt!(session, read_data_source, |noise| pb::read_data_source::Request {
        type_name: noise.type_name(NAT_ADDRESSES),
        config: noise.value(data_source),
        ..Default::default()
    });
    pelt!(session, call_function, |noise| pb::call_function::Request {
        name: noise.type_name("neon_nat_cidrs"),
        arguments: (0..noise.below(3)).filter_map(|_| noise.value(&seeds["text"])).collect(),
    });
    // The last one, because a server with a random name must not be contacted.
    pelt!(session, configure, |noise| pb::configure::Request { config: noise.value(provider), ..Default::default() });
    check_alive(session).await;
}

#[tokio::test]
async fn states_of_noise_are_answered() {
    let (session, seeds) = session().await;
    for name in [PUBLICATION, SUBSCRIPTION, AURORA] {
        pelt!(session, upgrade_resource_state, |noise| pb::upgrade_resource_state::Request {
            type_name: noise.type_name(name),
            version: [0, 0, 0, 1, -1, i64::MAX, i64::MIN][noise.below(7)],
            raw_state: noise.raw(STATE),
        });
        pelt!(session, move_resource_state, |noise| pb::move_resource_state::Request {
            source_provider_address: "registry.terraform.io/cyrilgdn/postgresql".to_owned(),
            source_type_name: noise.type_name("postgresql_publication"),
            source_schema_version: 0,
            source_state: noise.raw(STATE),
            target_type_name: noise.type_name(name),
            source_private: noise.bytes(),
            ..Default::default()
        });
        pelt!(session, upgrade_resource_identity, |noise| pb::upgrade_resource_identity::Request {
            type_name: noise.type_name(name),
            version: 0,
            raw_identity: noise.raw(br#"{"database":"shop","name":"o"}"#),
        });
        pelt!(session, import_resource_state, |noise| pb::import_resource_state::Request {
            type_name: noise.type_name(name),
            id: String::from_utf8_lossy(&noise.mutated(b"shop/o%2F")).into_owned(),
            identity: (noise.below(2) == 0)
                .then(|| pb::ResourceIdentityData { identity_data: noise.value(&seeds["identity"]) }),
            ..Default::default()
        });
        pelt!(session, read_resource, |noise| pb::read_resource::Request {
            type_name: noise.type_name(name),
            current_state: noise.value(&seeds[name]),
            private: noise.mutated(br#"{"filters":{"a":"b"},"c":[1]}"#),
            ..Default::default()
        });
    }
    check_alive(session).await;
}

#[tokio::test]
async fn changes_of_noise_are_answered() {
    let (session, seeds) = session().await;
    let null = || Some(pb::DynamicValue { msgpack: vec![0xc0], json: Vec::new() });
    for name in [PUBLICATION, SUBSCRIPTION, AURORA] {
        let valid = &seeds[name];
        let some = |noise: &mut Noise| if noise.below(3) == 0 { null() } else { noise.value(valid) };
        pelt!(session, plan_resource_change, |noise| pb::plan_resource_change::Request {
            type_name: noise.type_name(name),
            prior_state: some(noise),
            proposed_new_state: some(noise),
            config: some(noise),
            prior_private: noise.mutated(br#"{"filters":{"a":"b"}}"#),
            ..Default::default()
        });
        // A change of a cluster waits for slow servers, and a missing server may just be slow.
        if name == AURORA {
            continue;
        }
        pelt!(session, apply_resource_change, |noise| pb::apply_resource_change::Request {
            type_name: noise.type_name(name),
            prior_state: some(noise),
            planned_state: some(noise),
            config: some(noise),
            planned_private: noise.mutated(br#"{"filters":{"a":"b"}}"#),
            ..Default::default()
        });
    }
    check_alive(session).await;
}

#[tokio::test]
async fn ephemeral_requests_of_noise_are_answered() {
    let (session, seeds) = session().await;
    let valid = &seeds[TOKEN];
    pelt!(session, validate_ephemeral_resource_config, |noise| pb::validate_ephemeral_resource_config::Request {
        type_name: noise.type_name(TOKEN),
        config: noise.value(valid),
    });
    pelt!(session, open_ephemeral_resource, |noise| pb::open_ephemeral_resource::Request {
        type_name: noise.type_name(TOKEN),
        config: noise.value(valid),
        ..Default::default()
    });
    pelt!(session, renew_ephemeral_resource, |noise| pb::renew_ephemeral_resource::Request {
        type_name: noise.type_name(TOKEN),
        private: Some(noise.bytes()),
    });
    pelt!(session, close_ephemeral_resource, |noise| pb::close_ephemeral_resource::Request {
        type_name: noise.type_name(TOKEN),
        private: Some(noise.bytes()),
    });
    check_alive(session).await;
}

#[tokio::test]
async fn lists_and_actions_of_noise_are_answered_and_end() {
    let (session, seeds) = session().await;
    let (list, action) = (&seeds["list"], &seeds[REBOOT]);
    pelt!(session, validate_list_resource_config, |noise| pb::validate_list_resource_config::Request {
        type_name: noise.type_name(PUBLICATION),
        config: noise.value(list),
        include_resource_object: noise.value(list),
        limit: noise.value(list),
    });
    pelt("list_resource", async |noise: &mut Noise| {
        let request = pb::list_resource::Request {
            type_name: noise.type_name(PUBLICATION),
            config: noise.value(list),
            include_resource_object: noise.below(2) == 0,
            limit: [0, 1, -1, i64::MAX][noise.below(4)],
        };
        let mut events = session.client().list_resource(request).await?.into_inner();
        while events.message().await?.is_some() {}
        Ok(())
    })
    .await;
    pelt!(session, validate_action_config, |noise| pb::validate_action_config::Request {
        type_name: noise.type_name(REBOOT),
        config: noise.value(action),
    });
    pelt!(session, plan_action, |noise| pb::plan_action::Request {
        action_type: noise.type_name(REBOOT),
        config: noise.value(action),
        ..Default::default()
    });
    pelt("invoke_action", async |noise: &mut Noise| {
        let (action_type, config) = (noise.type_name(REBOOT), noise.value(action));
        let request = pb::invoke_action::Request { action_type, config, ..Default::default() };
        let mut events = session.client().invoke_action(request).await?.into_inner();
        while events.message().await?.is_some() {}
        Ok(())
    })
    .await;
    check_alive(session).await;
}

/// A request whose fields have other wire types than the protocol's.
#[derive(Clone, PartialEq, prost::Message)]
struct Garbage {
    #[prost(fixed64, tag = "1")]
    first: u64,
    #[prost(uint32, tag = "3")]
    third: u32,
}

#[tokio::test]
async fn a_request_that_is_no_message_is_refused_alone() {
    let (session, _) = session().await;
    for rpc in ["PlanResourceChange", "ApplyResourceChange", "UpgradeResourceState", "CallFunction", "Configure"] {
        let mut grpc = tonic::client::Grpc::new(session.core.connect_again().await);
        let path = format!("/tfplugin5.Provider/{rpc}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<Garbage, Garbage>::default();
        let answer = async {
            grpc.ready().await.unwrap();
            grpc.unary(tonic::Request::new(Garbage { first: 7, third: 9 }), path, codec).await
        };
        let status = within_deadline(rpc, answer).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal, "{rpc}: {}", status.message());
    }
    check_alive(session).await;
}

#[tokio::test]
async fn a_connection_of_noise_bothers_no_other() {
    let (session, _) = session().await;
    for seed in 0..20 {
        let mut connection = tokio::net::UnixStream::connect(session.core.handshake.address()).await.unwrap();
        // The other side may have hung up before all of it is written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut connection, &Noise::new(seed).bytes()).await;
    }
    check_alive(session).await;
}
