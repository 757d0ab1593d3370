// SPDX-License-Identifier: MPL-2.0

//! Every RPC of the protocol, called on the built provider like a core does.

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::schema::Type;
use neonrepl::tf_provider::value::Value;
use tonic::{Code, Status};

use crate::common::grpc::{Launch, within_deadline};
use crate::session::{
    AURORA, CAPABLE, NAT_ADDRESSES, PASSWORD, PUBLICATION, SUBSCRIPTION, Session, TOKEN, closed_port,
};
use crate::wire::{
    Shape, attribute_type, check_error, check_fine, check_not_asked, decode, encode, map, path, said, set,
};

/// The answer of one RPC, within the deadline.
macro_rules! call {
    ($session:expr, $rpc:ident, $request:expr) => {
        within_deadline(stringify!($rpc), async { $session.client().$rpc($request).await }).await.unwrap().into_inner()
    };
}

fn raw(json: &str) -> Option<pb::RawState> {
    Some(pb::RawState { json: json.as_bytes().to_vec(), ..Default::default() })
}

fn name(type_name: &str) -> String {
    type_name.to_owned()
}

/// The empty request; its type follows from the RPC.
fn empty<T: Default>() -> tonic::Request<T> {
    tonic::Request::new(T::default())
}

/// The answer to an empty request, or its error.
async fn answered<T>(what: &str, call: impl Future<Output = Result<T, Status>>) {
    if let Err(status) = within_deadline(what, call).await {
        panic!("{what}: {:?} {}", status.code(), status.message());
    }
}

#[tokio::test]
async fn every_rpc_is_answered() {
    let session = Session::start().await;
    macro_rules! all {
        ($($rpc:ident),* $(,)?) => {
            [$({
                answered(stringify!($rpc), async { session.client().$rpc(empty()).await }).await;
                stringify!($rpc)
            }),*]
        };
    }
    let rpcs = all!(
        get_metadata,
        get_schema,
        prepare_provider_config,
        validate_resource_type_config,
        validate_data_source_config,
        upgrade_resource_state,
        get_resource_identity_schemas,
        upgrade_resource_identity,
        configure,
        read_resource,
        plan_resource_change,
        apply_resource_change,
        import_resource_state,
        move_resource_state,
        read_data_source,
        generate_resource_config,
        validate_ephemeral_resource_config,
        open_ephemeral_resource,
        renew_ephemeral_resource,
        close_ephemeral_resource,
        list_resource,
        validate_list_resource_config,
        get_functions,
        call_function,
        plan_action,
        invoke_action,
        validate_action_config,
        stop,
    );
    assert_eq!(rpcs.len(), 28);
}

#[tokio::test]
async fn the_metadata_lists_what_the_schemas_describe() {
    let session = Session::start().await;
    let metadata = call!(session, get_metadata, pb::get_metadata::Request {});
    check_fine(&metadata.diagnostics);
    let names: Vec<_> = metadata.resources.iter().map(|resource| resource.type_name.as_str()).collect();
    for name in [AURORA, PUBLICATION, SUBSCRIPTION] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(names.len(), session.schemas.resource_schemas.len());
    let names: Vec<_> = metadata.data_sources.iter().map(|data_source| data_source.type_name.as_str()).collect();
    assert!(names.contains(&NAT_ADDRESSES), "{names:?}");
    assert_eq!(names.len(), session.schemas.data_source_schemas.len());
    assert!(metadata.functions.iter().any(|function| function.name == "neon_nat_cidrs"));
    let schemas = &session.schemas;
    for (kind, listed, described) in [
        ("function", metadata.functions.len(), schemas.functions.len()),
        ("ephemeral", metadata.ephemeral_resources.len(), schemas.ephemeral_resource_schemas.len()),
        ("list", metadata.list_resources.len(), schemas.list_resource_schemas.len()),
        ("action", metadata.actions.len(), schemas.action_schemas.len()),
    ] {
        assert_eq!(listed, described, "{kind}");
    }
    assert_eq!(metadata.server_capabilities, session.schemas.server_capabilities);
}

#[tokio::test]
async fn the_schemas_are_sane() {
    let session = Session::start().await;
    let schemas = &session.schemas;
    check_fine(&schemas.diagnostics);
    let capabilities = schemas.server_capabilities.unwrap();
    assert!(capabilities.plan_destroy && capabilities.get_provider_schema_optional);
    assert!(capabilities.move_resource_state && capabilities.generate_resource_config);
    let blocks = schemas.resource_schemas.iter().chain(&schemas.data_source_schemas);
    let blocks = blocks.chain(&schemas.ephemeral_resource_schemas).chain(&schemas.list_resource_schemas);
    let actions = schemas.action_schemas.iter().map(|(name, action)| (name, action.schema.as_ref().unwrap()));
    for (name, schema) in blocks.chain(actions) {
        assert!(name.starts_with("neonrepl_"), "{name}");
        assert_eq!(schema.version, 0, "{name}");
        check_block(name, schema.block.as_ref().unwrap());
    }
    check_block("provider", schemas.provider.as_ref().unwrap().block.as_ref().unwrap());
    let publication = session.resource(PUBLICATION);
    assert_eq!(publication.attribute("name").r#type, br#""string""#);
    assert_eq!(publication.attribute("tables").r#type, br#"["set","string"]"#);
    assert!(publication.attribute("name").required);
    assert!(publication.attribute("id").computed && !publication.attribute("id").optional);
    assert!(publication.attribute("all_tables").computed && publication.attribute("all_tables").optional);
    let connection = session.resource(SUBSCRIPTION).block(&session.connection_block());
    let password = connection.attributes.iter().find(|attribute| attribute.name == "password_wo").unwrap();
    assert!(password.write_only && password.sensitive && !password.computed);
}

/// A core's checks of a schema, and the docs' requirements.
fn check_block(name: &str, block: &pb::schema::Block) {
    for attribute in &block.attributes {
        let name = format!("{name}.{}", attribute.name);
        attribute_type(&attribute.r#type);
        assert!(attribute.required || attribute.optional || attribute.computed, "{name}");
        assert!(!(attribute.required && (attribute.optional || attribute.computed)), "{name}");
        assert!(!attribute.description.is_empty(), "{name}");
    }
    for nested in &block.block_types {
        assert_ne!(nested.nesting(), pb::schema::nested_block::NestingMode::Invalid, "{name}.{}", nested.type_name);
        check_block(&format!("{name}.{}", nested.type_name), nested.block.as_ref().unwrap());
    }
    let names: Vec<_> = block.attributes.iter().map(|attribute| &attribute.name).collect();
    let unique: std::collections::BTreeSet<_> =
        names.iter().copied().chain(block.block_types.iter().map(|nested| &nested.type_name)).collect();
    assert_eq!(unique.len(), names.len() + block.block_types.len(), "{name}");
}

#[tokio::test]
async fn a_provider_configuration_is_checked() {
    let session = Session::start().await;
    let prepare = async |config: Option<pb::DynamicValue>| {
        call!(session, prepare_provider_config, pb::prepare_provider_config::Request { config })
    };
    let fine = session.provider().wire(&[("publisher", session.server(5432, 10))]);
    let answer = prepare(fine.clone()).await;
    check_fine(&answer.diagnostics);
    assert_eq!(answer.prepared_config, fine);
    check_fine(&prepare(session.provider().wire(&[])).await.diagnostics);
    check_fine(&prepare(session.provider().wire(&[("publisher", Value::UNKNOWN)])).await.diagnostics);

    let with = |name: &str, value: Value| {
        let mut server = session.server(5432, 10);
        // A part overrides the URL.
        if name == "url" {
            server.set("port", Value::Null);
        }
        server.set(name, value);
        session.provider().wire(&[("publisher", server)])
    };
    for (attribute, value, text) in [
        ("port", Value::from(0), "65535"),
        ("sslmode", "sometimes".into(), "verify-full"),
        (
            "host",
            "ep-cool-name-123456-pooler.us-east-2.aws.neon.tech".into(),
            "ep-cool-name-123456.us-east-2.aws.neon.tech",
        ),
        ("url", format!("postgresql://u:{PASSWORD}@h:port/d").into(), "port"),
    ] {
        let diagnostics = prepare(with(attribute, value)).await.diagnostics;
        check_error(&diagnostics, &format!("publisher.{attribute}"), text);
        assert!(!said(&diagnostics).contains(PASSWORD), "{}", said(&diagnostics));
    }
}

#[tokio::test]
async fn no_error_about_a_url_shows_its_password() {
    let session = Session::start().await;
    for url in [
        format!("postgresql://u:{PASSWORD}@h:5432:1/d"),
        format!("postgresql://u:{PASSWORD}@[::1/d"),
        format!("postgresql://u:{PASSWORD}%zz@h/d"),
        format!("postgresql://u:{PASSWORD}@h/d?nonsense"),
        format!("postgresql://u:{PASSWORD}@h/d?sslmode=sometimes"),
        format!("postgresql://u:{PASSWORD}@h/d?password={PASSWORD}&port=x"),
        format!("http://u:{PASSWORD}@h/d"),
        format!("host=h password='{PASSWORD}"),
        format!("host=h password={PASSWORD} port=x user=u dbname=d"),
        format!("password {PASSWORD}"),
        PASSWORD.to_owned(),
    ] {
        let publisher = session.provider().nested("publisher", &[("url", url.as_str().into())]);
        let config = session.provider().wire(&[("publisher", publisher.clone())]);
        let answer = call!(session, prepare_provider_config, pb::prepare_provider_config::Request { config });
        for said in [said(&answer.diagnostics), said(&session.configure(&[("publisher", publisher)]).await)] {
            assert!(said.contains("error [publisher"), "{said} for {url}");
            assert!(!said.contains(PASSWORD), "{said}");
        }
    }
}

#[tokio::test]
async fn a_resource_configuration_is_checked() {
    let session = Session::start().await;
    let shape = session.resource(PUBLICATION);
    let validate = async |type_name: &str, config: Option<pb::DynamicValue>, capable: bool| {
        let client_capabilities = pb::ClientCapabilities { write_only_attributes_allowed: capable, ..CAPABLE };
        let request = pb::validate_resource_type_config::Request {
            type_name: name(type_name),
            config,
            client_capabilities: Some(client_capabilities),
        };
        call!(session, validate_resource_type_config, request).diagnostics
    };
    let tables = ("tables", set(&["orders"]));
    check_fine(&validate(PUBLICATION, shape.wire(&[("name", "orders".into()), tables.clone()]), true).await);
    check_fine(&validate(PUBLICATION, shape.wire(&[("name", Value::UNKNOWN), ("table", Value::UNKNOWN)]), true).await);
    let both = shape.wire(&[("name", "o".into()), tables, ("all_tables", true.into())]);
    check_error(&validate(PUBLICATION, both, true).await, "tables", "exclude each other");
    let table = |items| Value::List(vec![shape.nested("table", &[("name", "a".into())]), shape.nested("table", items)]);
    let blocks = [("name", "o".into()), ("table", table(&[("name", "b".into()), ("columns", set(&[]))]))];
    check_error(&validate(PUBLICATION, shape.wire(&blocks), true).await, "table[1].columns", "It must not be empty");

    let shape = session.resource(SUBSCRIPTION);
    let connection = shape.nested(&session.connection_block(), &[("password_wo", PASSWORD.into())]);
    let config = shape.wire(&[
        ("name", "s".into()),
        ("publications", set(&["p"])),
        (session.connection_block().as_str(), connection),
    ]);
    check_fine(&validate(SUBSCRIPTION, config.clone(), true).await);
    check_error(
        &validate(SUBSCRIPTION, config, false).await,
        &format!("{}.password_wo", session.connection_block()),
        "write-only",
    );
    check_error(&validate("neonrepl_nothing", None, true).await, "", "has no resource type \"neonrepl_nothing\"");
}

#[tokio::test]
async fn a_state_is_upgraded() {
    let session = Session::start().await;
    let shape = session.resource(PUBLICATION);
    let upgrade = async |type_name: &str, version: i64, raw_state: Option<pb::RawState>| {
        let request = pb::upgrade_resource_state::Request { type_name: name(type_name), version, raw_state };
        call!(session, upgrade_resource_state, request)
    };
    let answer = upgrade(PUBLICATION, 0, raw(r#"{"name":"orders","tables":["public.a"],"table":[],"gone":1}"#)).await;
    check_fine(&answer.diagnostics);
    let state = shape.decode(answer.upgraded_state.as_ref());
    assert_eq!(state, shape.object(&[("name", "orders".into()), ("tables", set(&["public.a"]))]));

    let check = async |version: i64, state: Option<pb::RawState>, text: &str| {
        let answer = upgrade(PUBLICATION, version, state).await;
        check_error(&answer.diagnostics, "", text);
        assert_eq!(answer.upgraded_state, None);
    };
    check(7, raw("{}"), "newer version").await;
    check(-1, raw("{}"), "version -1").await;
    check(0, raw("{\"name\":"), "not valid JSON").await;
    check(0, raw("[]"), "expected object").await;
    check(0, None, "no state").await;
    let flatmap = [("name".to_owned(), "orders".to_owned())].into();
    check(0, Some(pb::RawState { flatmap, ..Default::default() }), "0.11").await;
    let wrong = upgrade(PUBLICATION, 0, raw(r#"{"tables":[1]}"#)).await;
    check_error(&wrong.diagnostics, "tables", "expected string, found a number");
    check_error(&upgrade("neonrepl_nothing", 0, raw("{}")).await.diagnostics, "", "no resource type");
}

#[tokio::test]
async fn identities_are_described_and_upgraded() {
    let session = Session::start().await;
    let schemas = call!(session, get_resource_identity_schemas, pb::get_resource_identity_schemas::Request {});
    check_fine(&schemas.diagnostics);
    let identity = &schemas.identity_schemas[PUBLICATION];
    let names: Vec<_> = identity.identity_attributes.iter().map(|a| (a.name.as_str(), a.required_for_import)).collect();
    assert_eq!(names, [("host", false), ("port", false), ("database", false), ("name", true)]);
    for schema in schemas.identity_schemas.values() {
        assert!(schema.identity_attributes.iter().all(|a| a.required_for_import != a.optional_for_import));
    }

    let upgrade = async |type_name: &str, version: i64, json: &str| {
        let request =
            pb::upgrade_resource_identity::Request { type_name: name(type_name), version, raw_identity: raw(json) };
        call!(session, upgrade_resource_identity, request)
    };
    // The server is not known before the provider is configured.
    let nowhere = orders_at(Value::Null, Value::Null);
    for (version, json) in [
        (0, r#"{"database":"shop","name":"orders"}"#),
        (1, r#"{"host":null,"port":null,"database":"shop","name":"orders"}"#),
    ] {
        let answer = upgrade(PUBLICATION, version, json).await;
        check_fine(&answer.diagnostics);
        let data = answer.upgraded_identity.unwrap().identity_data;
        assert_eq!(decode(&identity_type(), data.as_ref()), nowhere, "{version}");
    }
    check_error(&upgrade(PUBLICATION, 0, "{}").await.diagnostics, "", "has no name");
    check_error(&upgrade("neonrepl_aurora_logical_replication", 1, "{}").await.diagnostics, "", "version 1");
    check_error(&upgrade(PUBLICATION, 3, "{}").await.diagnostics, "", "version 3");
    check_error(&upgrade(PUBLICATION, 0, "nonsense").await.diagnostics, "", "not valid JSON");
    check_error(&upgrade("neonrepl_nothing", 0, "{}").await.diagnostics, "", "no resource type");
}

fn identity_type() -> Type {
    Type::object(["host", "port", "database", "name"].map(|name| (name, Type::String)))
}

fn orders_at(host: Value, port: Value) -> Value {
    map(&[("host", host), ("port", port), ("database", "shop".into()), ("name", "orders".into())])
}

#[tokio::test]
async fn it_is_configured_with_what_is_known() {
    let session = Session::start().await;
    check_fine(&session.configure(&[]).await);
    check_fine(&session.configure(&[("publisher", Value::UNKNOWN), ("aws", Value::UNKNOWN)]).await);
    let mut server = session.server(1, 10);
    server.set("password", Value::UNKNOWN);
    check_fine(&session.configure(&[("publisher", server.clone())]).await);

    // A plan that needs no server continues; a read says what it waits for.
    let shape = session.resource(PUBLICATION);
    let config = shape.object(&[("name", "o".into()), ("tables", set(&["a"])), ("database", "shop".into())]);
    check_fine(&session.plan_create(PUBLICATION, &config).await.diagnostics);
    let read = read(&session, PUBLICATION, shape.encode(&config)).await;
    check_error(&read.diagnostics, "", "publisher.password is not known yet");
    assert_eq!(read.new_state, None);

    server.set("password", Value::Null);
    server.set("sslcert", "only one half".into());
    check_error(&session.configure(&[("publisher", server)]).await, "publisher.sslcert", "sslkey");
}

async fn read(
    session: &Session,
    type_name: &str,
    current_state: Option<pb::DynamicValue>,
) -> pb::read_resource::Response {
    let request = pb::read_resource::Request {
        type_name: name(type_name),
        current_state,
        private: b"{\"kept\":1}".to_vec(),
        client_capabilities: Some(CAPABLE),
        ..Default::default()
    };
    call!(session, read_resource, request)
}

#[tokio::test]
async fn a_read_says_why_it_failed() {
    let session = Session::start().await;
    let state = session.resource(PUBLICATION).wire(&[("name", "o".into()), ("database", "shop".into())]);
    check_error(&read(&session, PUBLICATION, state.clone()).await.diagnostics, "", "not configured");

    let port = closed_port();
    let session = Session::configured(port).await;
    let answer = read(&session, PUBLICATION, state).await;
    check_error(&answer.diagnostics, "", &format!("127.0.0.1:{port}"));
    assert!(!said(&answer.diagnostics).contains(PASSWORD));
    // Neither gone nor changed: a core keeps its state.
    assert_eq!(answer.new_state, None);
    check_error(&read(&session, "neonrepl_nothing", None).await.diagnostics, "", "no resource type");
}

#[tokio::test]
async fn a_creation_is_planned() {
    let session = Session::configured(closed_port()).await;
    let shape = session.resource(PUBLICATION);
    let config = shape.object(&[("name", "orders".into()), ("tables", set(&["public.orders"]))]);
    let plan = session.plan_create(PUBLICATION, &config).await;
    check_not_asked(&plan.diagnostics);
    let planned = shape.decode(plan.planned_state.as_ref());
    assert_eq!(planned.get("name"), Some(&"orders".into()));
    assert_eq!(planned.get("all_tables"), Some(&false.into()));
    assert_eq!(planned.get("publish"), Some(&set(&["insert", "update", "delete", "truncate"])));
    assert_eq!(planned.get("database"), Some(&"shop".into()), "the configured one");
    assert_eq!(planned.get("id"), Some(&"shop/orders".into()));
    assert!(planned.get("owner").unwrap().is_unknown());
    assert!(planned.get("fingerprint").unwrap().as_str().is_some());
    assert!(plan.requires_replace.is_empty() && !plan.legacy_type_system);
    assert_eq!(plan.planned_identity, None);
    // The same again: a core compares the two.
    assert_eq!(session.plan_create(PUBLICATION, &config).await, plan);
}

#[tokio::test]
async fn a_creation_is_planned_without_knowing_all() {
    let session = Session::start().await;
    let shape = session.resource(PUBLICATION);
    // {1: false, 2: "pre-"}: a core's knowledge about an interpolation.
    let refined = [&[0xc7, 9, 12, 0x82, 0x01, 0xc2, 0x02, 0xa4][..], b"pre-"].concat();
    let prefix = decode(&Type::String, Some(&pb::DynamicValue { msgpack: refined.clone(), json: Vec::new() }));
    let config = shape.object(&[("name", prefix), ("tables", Value::UNKNOWN), ("table", Value::UNKNOWN)]);
    let plan = session.plan_create(PUBLICATION, &config).await;
    check_fine(&plan.diagnostics);
    let wire = plan.planned_state.clone().unwrap().msgpack;
    assert!(wire.windows(refined.len()).any(|part| part == refined), "the refinement is lost");
    let planned = shape.decode(plan.planned_state.as_ref());
    for name in ["name", "tables", "table", "id", "fingerprint", "database", "owner"] {
        assert!(planned.get(name).unwrap().is_unknown(), "{name}");
    }
    assert_eq!(planned.get("all_tables"), Some(&false.into()));
}

#[tokio::test]
async fn write_only_values_are_not_planned() {
    let session = Session::start().await;
    let shape = session.resource(SUBSCRIPTION);
    let connection =
        shape.nested(&session.connection_block(), &[("host", "h".into()), ("password_wo", PASSWORD.into())]);
    let config = shape.object(&[
        ("name", "s".into()),
        ("publications", set(&["p"])),
        (session.connection_block().as_str(), connection),
    ]);
    let plan = session.plan_create(SUBSCRIPTION, &config).await;
    check_fine(&plan.diagnostics);
    let planned = shape.decode(plan.planned_state.as_ref());
    assert_eq!(planned.get(&session.connection_block()).unwrap().get("host"), Some(&"h".into()));
    assert_eq!(planned.get(&session.connection_block()).unwrap().get("password_wo"), Some(&Value::Null));
    let bytes = plan.planned_state.unwrap().msgpack;
    assert!(!bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
}

fn state(session: &Session) -> Value {
    session.resource(PUBLICATION).object(&[
        ("id", "shop/orders".into()),
        ("name", "orders".into()),
        ("database", "shop".into()),
        ("tables", set(&["public.orders"])),
        ("all_tables", false.into()),
        ("publish", set(&["insert", "update", "delete", "truncate"])),
        ("publish_via_partition_root", false.into()),
        ("publish_generated_columns", "none".into()),
        ("owner", "postgres".into()),
        ("fingerprint", "0".into()),
    ])
}

#[tokio::test]
async fn a_change_is_planned() {
    let session = Session::start().await;
    let shape = session.resource(PUBLICATION);
    let prior = state(&session);
    let mut config = shape.object(&[("name", "renamed".into()), ("tables", set(&["public.orders"]))]);
    let mut proposed = prior.clone();
    proposed.set("name", "renamed".into());
    let plan = session.plan(PUBLICATION, shape.encode(&prior), shape.encode(&proposed), shape.encode(&config)).await;
    // Only its server, which this session does not have, can show the users of its old name.
    check_fine(&plan.diagnostics);
    let planned = shape.decode(plan.planned_state.as_ref());
    assert!(plan.requires_replace.is_empty());
    assert_eq!(planned.get("owner"), Some(&"postgres".into()));
    assert_eq!(planned.get("id"), Some(&"shop/renamed".into()));

    config.set("database", "other".into());
    proposed.set("database", "other".into());
    let plan = session.plan(PUBLICATION, shape.encode(&prior), shape.encode(&proposed), shape.encode(&config)).await;
    assert_eq!(plan.requires_replace.iter().map(path).collect::<Vec<_>>(), ["database"]);
    assert_eq!(plan.planned_identity, None, "another object has another identity");
}

#[tokio::test]
async fn a_destruction_is_planned_and_needs_no_server() {
    let session = Session::configured(closed_port()).await;
    for (name, state) in [(PUBLICATION, state(&session)), (SUBSCRIPTION, session.resource(SUBSCRIPTION).object(&[]))] {
        let shape = session.resource(name);
        let null = shape.encode(&Value::Null);
        let plan = session.plan(name, shape.encode(&state), null.clone(), null).await;
        check_fine(&plan.diagnostics);
        assert!(shape.decode(plan.planned_state.as_ref()).is_null());
    }
}

#[tokio::test]
async fn an_apply_that_failed_keeps_what_there_was() {
    let port = closed_port();
    let session = Session::configured(port).await;
    let shape = session.resource(PUBLICATION);

    let created = session.apply(session.creation().await).await;
    check_error(&created.diagnostics, "", &format!("127.0.0.1:{port}"));
    assert!(said(&created.diagnostics).contains("creating publication \"orders\""), "{}", said(&created.diagnostics));
    assert!(!said(&created.diagnostics).contains(PASSWORD));
    assert!(shape.decode(created.new_state.as_ref()).is_null());

    let mut planned = state(&session);
    planned.set("name", "renamed".into());
    for planned in [planned, Value::Null] {
        let request = pb::apply_resource_change::Request {
            type_name: name(PUBLICATION),
            prior_state: shape.encode(&state(&session)),
            planned_state: shape.encode(&planned),
            config: shape.encode(&planned),
            planned_private: b"{\"kept\":1}".to_vec(),
            ..Default::default()
        };
        let answer = session.apply(request).await;
        check_error(&answer.diagnostics, "", &format!("127.0.0.1:{port}"));
        assert_eq!(shape.decode(answer.new_state.as_ref()), state(&session));
        assert_eq!(answer.private, b"{\"kept\":1}");
    }
}

#[tokio::test]
async fn an_apply_that_never_began_keeps_what_there_was() {
    let session = Session::start().await;
    let prior_state = session.resource(PUBLICATION).encode(&state(&session));
    let stored = orders_at("db.example".into(), "5432".into());
    let identity = pb::ResourceIdentityData { identity_data: encode(&identity_type(), &stored) };
    let request = pb::apply_resource_change::Request {
        type_name: name(PUBLICATION),
        prior_state: prior_state.clone(),
        planned_private: b"{\"kept\":1}".to_vec(),
        planned_identity: Some(identity.clone()),
        ..Default::default()
    };
    let answer = session.apply(request).await;
    check_error(&answer.diagnostics, "", "not configured");
    assert_eq!(answer.new_state, prior_state);
    assert_eq!(answer.private, b"{\"kept\":1}");
    assert_eq!(answer.new_identity, Some(identity));
}

#[tokio::test]
async fn an_object_is_imported() {
    let port = closed_port();
    let session = Session::configured(port).await;
    let shape = session.resource(PUBLICATION);
    let import = async |type_name: &str, id: &str, given: Option<Value>| {
        let identity =
            given.map(|identity| pb::ResourceIdentityData { identity_data: encode(&identity_type(), &identity) });
        let request = pb::import_resource_state::Request {
            type_name: name(type_name),
            id: id.to_owned(),
            client_capabilities: Some(CAPABLE),
            identity,
        };
        call!(session, import_resource_state, request)
    };
    let here = orders_at("127.0.0.1".into(), port.to_string().into());
    let without = |parts: &[&str]| {
        let mut identity = here.clone();
        parts.iter().for_each(|part| identity.set(part, Value::Null));
        Some(identity)
    };
    for (id, given) in [
        ("shop/orders", None),
        ("orders", None),
        ("", without(&[])),
        ("", without(&["host", "port"])),
        ("", without(&["host", "port", "database"])),
    ] {
        let answer = import(PUBLICATION, id, given).await;
        check_fine(&answer.diagnostics);
        let imported = &answer.imported_resources[0];
        assert_eq!(imported.type_name, PUBLICATION);
        let state = shape.decode(imported.state.as_ref());
        assert_eq!(state.get("id"), Some(&"shop/orders".into()));
        let identity = imported.identity.as_ref().unwrap().identity_data.as_ref();
        assert_eq!(decode(&identity_type(), identity), here);
    }
    let elsewhere = orders_at("db.example".into(), Value::Null);
    let refused = import(PUBLICATION, "", Some(elsewhere)).await.diagnostics;
    check_error(&refused, "host", &format!("but the provider's publisher is 127.0.0.1:{port}"));
    for id in ["", "/", "a/", "a/b/c", "%zz", "%ff/x"] {
        check_error(&import(PUBLICATION, id, None).await.diagnostics, "", "is not a valid id");
    }
    check_error(&import(PUBLICATION, "", without(&["name"])).await.diagnostics, "name", "must be set");
    check_error(&import("neonrepl_nothing", "a", None).await.diagnostics, "", "no resource type");
}

#[tokio::test]
async fn a_move_from_a_stranger_is_refused() {
    let session = Session::start().await;
    let request = pb::move_resource_state::Request {
        source_provider_address: "registry.terraform.io/acme/things".to_owned(),
        source_type_name: "things_publication".to_owned(),
        source_state: raw(r#"{"name":"orders"}"#),
        target_type_name: name(PUBLICATION),
        ..Default::default()
    };
    let answer = call!(session, move_resource_state, request.clone());
    check_error(&answer.diagnostics, "", "things_publication cannot be moved to neonrepl_publication");
    assert!(said(&answer.diagnostics).contains("registry.terraform.io/acme/things"));
    let unknown = pb::move_resource_state::Request { target_type_name: name("neonrepl_nothing"), ..request };
    check_error(&call!(session, move_resource_state, unknown).diagnostics, "", "no resource type");
}

#[tokio::test]
async fn a_data_source_is_read() {
    let session = Session::configured(closed_port()).await;
    let shape = session.data_source(NAT_ADDRESSES);
    let read = async |type_name: &str, items: &[(&str, Value)]| {
        let config = shape.wire(items);
        call!(
            session,
            read_data_source,
            pb::read_data_source::Request { type_name: name(type_name), config, ..Default::default() }
        )
    };
    let answer = read(NAT_ADDRESSES, &[("region", "aws-us-east-2".into())]).await;
    check_fine(&answer.diagnostics);
    let state = shape.decode(answer.state.as_ref());
    assert!(matches!(state.get("cidrs"), Some(Value::List(cidrs)) if !cidrs.is_empty()));
    assert!(state.is_wholly_known());
    check_error(&read(NAT_ADDRESSES, &[("region", "mars".into())]).await.diagnostics, "region", "aws-us-east-2");
    check_error(&read("neonrepl_nothing", &[]).await.diagnostics, "", "no data source type");

    let validate = async |type_name: &str, items: &[(&str, Value)]| {
        let config = shape.wire(items);
        let request = pb::validate_data_source_config::Request { type_name: name(type_name), config };
        call!(session, validate_data_source_config, request).diagnostics
    };
    check_fine(&validate(NAT_ADDRESSES, &[("host", Value::UNKNOWN)]).await);
    check_error(&validate(NAT_ADDRESSES, &[]).await, "region", "must be set");
    check_error(&validate("neonrepl_nothing", &[]).await, "", "no data source type");
}

#[tokio::test]
async fn a_configuration_is_generated() {
    let session = Session::start().await;
    let shape = session.resource(PUBLICATION);
    let generate = async |type_name: &str, state: Option<pb::DynamicValue>| {
        let request = pb::generate_resource_config::Request { type_name: name(type_name), state };
        call!(session, generate_resource_config, request)
    };
    let answer = generate(PUBLICATION, shape.encode(&state(&session))).await;
    check_fine(&answer.diagnostics);
    let config = shape.decode(answer.config.as_ref());
    assert_eq!(config.get("name"), Some(&"orders".into()));
    for name in ["id", "fingerprint", "all_tables", "publish"] {
        assert_eq!(config.get(name), Some(&Value::Null), "{name}");
    }
    check_error(&generate("neonrepl_nothing", None).await.diagnostics, "", "no resource type");
}

#[tokio::test]
async fn what_the_provider_has_none_of_is_answered_so() {
    let session = Session::start().await;
    let type_name = || name("neonrepl_nothing");
    let refused = |diagnostics: Vec<pb::Diagnostic>, kind: &str| {
        check_error(&diagnostics, "", &format!("this provider has no {kind} \"neonrepl_nothing\""));
    };
    let ephemeral = "ephemeral resource type";
    let request = pb::validate_ephemeral_resource_config::Request { type_name: type_name(), ..Default::default() };
    refused(call!(session, validate_ephemeral_resource_config, request).diagnostics, ephemeral);
    let request = pb::open_ephemeral_resource::Request { type_name: type_name(), ..Default::default() };
    refused(call!(session, open_ephemeral_resource, request).diagnostics, ephemeral);
    let request = pb::renew_ephemeral_resource::Request { type_name: type_name(), ..Default::default() };
    refused(call!(session, renew_ephemeral_resource, request).diagnostics, ephemeral);
    let request = pb::close_ephemeral_resource::Request { type_name: type_name(), ..Default::default() };
    refused(call!(session, close_ephemeral_resource, request).diagnostics, ephemeral);

    let request = pb::validate_list_resource_config::Request { type_name: type_name(), ..Default::default() };
    refused(call!(session, validate_list_resource_config, request).diagnostics, "list resource type");
    let request = pb::list_resource::Request { type_name: type_name(), ..Default::default() };
    let mut events = call!(session, list_resource, request);
    refused(events.message().await.unwrap().unwrap().diagnostic, "list resource type");
    assert_eq!(events.message().await.unwrap(), None);

    let request = pb::validate_action_config::Request { type_name: type_name(), ..Default::default() };
    refused(call!(session, validate_action_config, request).diagnostics, "action type");
    let request = pb::plan_action::Request { action_type: type_name(), ..Default::default() };
    refused(call!(session, plan_action, request).diagnostics, "action type");
    let request = pb::invoke_action::Request { action_type: type_name(), ..Default::default() };
    let mut events = call!(session, invoke_action, request);
    let Some(pb::invoke_action::event::Type::Completed(completed)) = events.message().await.unwrap().unwrap().r#type
    else {
        panic!("not completed");
    };
    refused(completed.diagnostics, "action type");
    assert_eq!(events.message().await.unwrap(), None);
}

#[tokio::test]
async fn functions_are_called_without_a_configuration() {
    let session = Session::start().await;
    let functions = call!(session, get_functions, pb::get_functions::Request {});
    check_fine(&functions.diagnostics);
    assert_eq!(functions.functions, session.schemas.functions);
    let returns = attribute_type(&functions.functions["neon_nat_cidrs"].r#return.as_ref().unwrap().r#type);

    let call = async |function: &str, arguments: &[Value]| {
        let arguments = arguments.iter().filter_map(|argument| encode(&Type::String, argument)).collect();
        call!(session, call_function, pb::call_function::Request { name: name(function), arguments })
    };
    let answer = call("neon_nat_cidrs", &["aws-us-east-2".into()]).await;
    assert_eq!(answer.error, None);
    assert!(matches!(decode(&returns, answer.result.as_ref()), Value::List(cidrs) if !cidrs.is_empty()));

    let check = async |function: &str, arguments: &[Value], argument: Option<i64>, text: &str| {
        let answer = call(function, arguments).await;
        let error = answer.error.unwrap();
        assert!(error.text.contains(text), "{}", error.text);
        assert_eq!((error.function_argument, answer.result), (argument, None), "{}", error.text);
    };
    check("neon_nat_cidrs", &["mars".into()], Some(0), "no Neon region \"mars\"").await;
    check("neon_nat_cidrs", &[], None, "fewer arguments").await;
    check("neon_nat_cidrs", &["aws-us-east-2".into(), "b".into()], Some(1), "more arguments").await;
    check("nothing", &[], None, "no function \"nothing\"").await;
    let number = encode(&Type::Number, &Value::from(7)).unwrap();
    let request = pb::call_function::Request { name: name("neon_nat_cidrs"), arguments: vec![number] };
    let error = call!(session, call_function, request).error.unwrap();
    assert_eq!((error.function_argument, error.text.as_str()), (Some(0), "region: expected string, found a number"));
}

#[tokio::test]
async fn a_token_is_opened_without_a_server() {
    let session = Session::start().await;
    let shape = Shape::new(&session.schemas.ephemeral_resource_schemas[TOKEN]);
    let keys = [("access_key", "AKIATEST".into()), ("secret_key", PASSWORD.into())];
    check_fine(&session.configure(&[("aws", session.provider().nested("aws", &keys))]).await);
    let open = async |items: &[(&str, Value)]| {
        let request = pb::open_ephemeral_resource::Request {
            type_name: name(TOKEN),
            config: shape.wire(items),
            client_capabilities: Some(CAPABLE),
        };
        call!(session, open_ephemeral_resource, request)
    };
    let host = "shop.cluster-abc.us-east-2.rds.amazonaws.com";
    let login = [("host", host.into()), ("username", "app".into())];
    let opened = open(&login).await;
    check_fine(&opened.diagnostics);
    assert_eq!(opened.renew_at, None, "nothing keeps a token alive");
    let result = shape.decode(opened.result.as_ref());
    let text = |name: &str| result.get(name).and_then(Value::as_str).unwrap().to_owned();
    assert!(text("token").starts_with(&format!("{host}:5432/?Action=connect&DBUser=app&")), "{}", text("token"));
    assert!(text("token").contains("%2Fus-east-2%2Frds-db%2F") && !text("token").contains(PASSWORD));
    assert!(text("expires_at").len() == 20 && text("expires_at").ends_with('Z'), "{}", text("expires_at"));
    assert_eq!(result.get("region"), Some(&Value::Null));
    let [host, username] = login;
    let elsewhere = open(&[host, username, ("region", "eu-west-1".into()), ("port", 6000.into())]).await;
    let token = shape.decode(elsewhere.result.as_ref()).get("token").cloned().unwrap();
    assert!(token.as_str().is_some_and(|token| token.contains(":6000/") && token.contains("%2Feu-west-1%2F")));

    let request = pb::validate_ephemeral_resource_config::Request {
        type_name: name(TOKEN),
        config: shape.wire(&[("host", " ".into()), ("username", Value::UNKNOWN)]),
    };
    let checked = call!(session, validate_ephemeral_resource_config, request).diagnostics;
    check_error(&checked, "host", "is not the name of an RDS endpoint");
    check_fine(&session.configure(&[("aws", Value::UNKNOWN)]).await);
    check_error(
        &open(&[("host", "h".into()), ("username", "app".into())]).await.diagnostics,
        "",
        "aws is not known yet",
    );
}

#[tokio::test]
async fn a_stopped_provider_begins_nothing_new() {
    let session = Session::configured(closed_port()).await;
    let creation = session.creation().await;
    assert_eq!(call!(session, stop, pb::stop::Request {}).error, "");
    let answer = session.apply(creation).await;
    check_error(&answer.diagnostics, "", "cancelled");
    assert!(session.resource(PUBLICATION).decode(answer.new_state.as_ref()).is_null());
}

#[tokio::test]
async fn a_value_of_ninety_megabytes_passes() {
    let session = Session::start().await;
    let shape = session.resource(SUBSCRIPTION);
    let large = "x".repeat(90 << 20);
    let triggers = map(&[("t", large.as_str().into())]);
    let config = shape.object(&[("name", "s".into()), ("publications", set(&["p"])), ("refresh_triggers", triggers)]);
    let plan = session.plan_create(SUBSCRIPTION, &config).await;
    check_fine(&plan.diagnostics);
    let planned = shape.decode(plan.planned_state.as_ref());
    assert!(planned.get("refresh_triggers").unwrap().get("t") == Some(&large.into()));
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused() {
    let session = Session::start().await;
    let raw_state = Some(pb::RawState { json: vec![b' '; (256 << 20) + 1], ..Default::default() });
    let request = pb::upgrade_resource_state::Request { type_name: name(PUBLICATION), version: 0, raw_state };
    let answer = within_deadline("refusing", async { session.client().upgrade_resource_state(request).await }).await;
    assert_eq!(answer.unwrap_err().code(), Code::OutOfRange);
    check_fine(&call!(session, get_metadata, pb::get_metadata::Request {}).diagnostics);
}

#[tokio::test]
async fn no_log_holds_a_password() {
    let mut session = Session::launch(Launch::by_core().variable("TF_LOG", "TRACE")).await;
    let url = format!("postgresql://u:{PASSWORD}@127.0.0.1:{}/shop?sslmode=disable", closed_port());
    let server = session.provider().nested("publisher", &[("url", url.into())]);
    check_fine(&session.configure(&[("publisher", server)]).await);
    let answer = session.apply(session.creation().await).await;
    assert!(!said(&answer.diagnostics).contains(PASSWORD));
    session.core.shut_down().await;
    let (_, stderr) = session.core.process.exit().await;
    assert!(stderr.contains("told to shut down"), "{stderr}");
    assert!(!stderr.contains(PASSWORD), "{stderr}");
}
