// SPDX-License-Identifier: MPL-2.0

//! States of releases: each stays readable, with all of its values.
//!
//! `states/VERSION.json` has one state of each resource, with every attribute set, as a core stores it. The file of the
//! current version is generated from the schema (`make generate`); those of earlier versions stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::schema::Type;
use neonrepl::tf_provider::{codec, value::Value};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::common::grpc::within_deadline;
use crate::common::tools::checkout;
use crate::session::Session;
use crate::wire::check_fine;

/// One state, as a core stores it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    schema_version: i64,
    attributes: Json,
}

type Release = BTreeMap<String, Stored>;

fn directory() -> PathBuf {
    checkout().join("tests/protocol/states")
}

/// A value of every part of the type. States have no write-only values.
fn sample(ty: &Type, name: &str) -> Json {
    match ty {
        Type::Bool => true.into(),
        Type::Number => 7.into(),
        Type::String | Type::Dynamic => name.into(),
        Type::List(of) | Type::Set(of) => json!([sample(of, name)]),
        Type::Map(of) => json!({ "key": sample(of, name) }),
        Type::Tuple(parts) => parts.iter().map(|part| sample(part, name)).collect(),
        Type::Object(parts, _) => parts
            .iter()
            .map(|(name, part)| (name.clone(), sample(part, name)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// The state without write-only values, at any depth of blocks.
fn without_secrets(block: &pb::schema::Block, state: &mut Json) {
    for attribute in block.attributes.iter().filter(|attribute| attribute.write_only) {
        state[&attribute.name] = Json::Null;
    }
    for nested in &block.block_types {
        let block = nested.block.as_ref().unwrap();
        match &mut state[&nested.type_name] {
            Json::Array(items) => items.iter_mut().for_each(|item| without_secrets(block, item)),
            item => without_secrets(block, item),
        }
    }
}

/// The states that a core would store now.
fn under_way(session: &Session) -> Release {
    let stored = session.schemas.resource_schemas.iter().map(|(name, schema)| {
        let shape = session.resource(name);
        let mut attributes = sample(&shape.ty, name);
        without_secrets(&shape.schema, &mut attributes);
        (name.clone(), Stored { schema_version: schema.version, attributes })
    });
    stored.collect()
}

async fn upgrade(session: &Session, name: &str, stored: &Stored) -> Value {
    let json = serde_json::to_vec(&stored.attributes).unwrap();
    let request = pb::upgrade_resource_state::Request {
        type_name: name.to_owned(),
        version: stored.schema_version,
        raw_state: Some(pb::RawState { json, ..Default::default() }),
    };
    let asked =
        within_deadline("UpgradeResourceState", async { session.client().upgrade_resource_state(request).await });
    let answer = asked.await.unwrap().into_inner();
    check_fine(&answer.diagnostics);
    session.resource(name).decode(answer.upgraded_state.as_ref())
}

#[tokio::test]
async fn the_states_of_every_release_are_read_whole() {
    let session = Session::start().await;
    let current = directory().join(concat!(env!("CARGO_PKG_VERSION"), ".json"));
    let now = under_way(&session);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(directory()).unwrap();
        fs::write(&current, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let kept = fs::read(&current).ok().and_then(|text| serde_json::from_slice::<Release>(&text).ok());
    assert!(kept.as_ref() == Some(&now), "{} is not what the schema says. Run `make generate`.", current.display());
    for file in fs::read_dir(directory()).unwrap().flatten() {
        let release: Release = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        for (name, stored) in &release {
            let upgraded = upgrade(&session, name, stored).await;
            let json = serde_json::to_vec(&stored.attributes).unwrap();
            let whole = codec::from_json(&session.resource(name).ty, &json).unwrap();
            assert_eq!(upgraded, whole, "{name} of {}", file.path().display());
        }
        println!("{}: {} states", file.file_name().display(), release.len());
    }
}
