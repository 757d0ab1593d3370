// SPDX-License-Identifier: MPL-2.0

//! Values of every type, and blocks of every nesting, from configuration to state.

use neonrepl::tf_provider::codec;
use neonrepl::tf_provider::number::Number;
use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::schema::Type;
use neonrepl::tf_provider::value::Value;

use super::{Served, call};
use crate::common::grpc::within_deadline;
use crate::session::CAPABLE;
use crate::wire::{check_error, check_fine, decode, encode, map, path, said};

fn number(text: &str) -> Value {
    Value::Number(Number::parse(text).unwrap())
}

fn list(items: &[Value]) -> Value {
    Value::List(items.to_vec())
}

/// Every type and every nesting, with a write-only value wherever there can be one.
fn full(served: &Served) -> Value {
    let part = |text: &str| {
        served.thing.nested("one", &[("text", text.into()), ("level", 7.into()), ("secret_wo", "hunter2".into())])
    };
    let rule = |level: i64, kind: Value| served.thing.nested("some", &[("level", level.into()), ("kind", kind)]);
    served.thing.object(&[
        ("name", "full".into()),
        ("any", Value::Dynamic(Box::new(Type::Tuple(vec![Type::Bool])), Box::new(list(&[true.into()])))),
        ("number", number("123456789012345678901234567890.5")),
        ("pair", list(&["a".into(), false.into()])),
        ("record", map(&[("a", "x".into()), ("b", Value::Null)])),
        ("numbers", Value::Set(vec![number("0.1"), number("1e300"), number("18446744073709551615"), number("-5")])),
        ("one", part("one")),
        ("many", list(&[part("first"), part("second")])),
        ("some", Value::Set(vec![rule(1, Value::Null), rule(2, "other".into())])),
        ("named", map(&[("k", part("k")), ("a b", part("other"))])),
        ("group", part("group")),
    ])
}

#[tokio::test]
async fn every_type_and_nesting_goes_from_configuration_to_state() {
    let served = Served::start("full").await;
    let config = full(&served);
    check_fine(&served.validate(&config).await);
    let planned = served.planned(&config).await;
    for name in ["any", "number", "pair", "record", "numbers"] {
        assert_eq!(planned.get(name), config.get(name), "{name}");
    }
    assert_eq!(planned.get("size"), Some(&3.into()));
    assert!(planned.get("id").unwrap().is_unknown());
    let parts = [
        planned.get("one"),
        planned.get("group"),
        planned.get("named").and_then(|named| named.get("a b")),
        planned.get("many").and_then(|many| if let Value::List(many) = many { many.get(1) } else { None }),
    ];
    for part in parts {
        let part = part.unwrap();
        assert_eq!(part.get("kind"), Some(&"plain".into()));
        assert_eq!(part.get("secret_wo"), Some(&Value::Null));
        assert_eq!(part.get("level"), Some(&7.into()));
    }
    let rule = |level: i64, kind: &str| map(&[("level", level.into()), ("kind", kind.into())]);
    assert_eq!(planned.get("some"), Some(&Value::Set(vec![rule(2, "other"), rule(1, "plain")])));

    let applied = served.apply(&Value::Null, &planned, &config).await;
    assert!(!said(&applied.answer.diagnostics).contains("error"), "{}", said(&applied.answer.diagnostics));
    let mut expected = planned;
    expected.set("id", "id-full".into());
    assert_eq!(applied.state, expected);
    let bytes = applied.answer.new_state.unwrap().msgpack;
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
}

#[tokio::test]
async fn a_second_plan_is_empty() {
    let served = Served::start("second").await;
    let config = full(&served);
    let state = served.create(&config).await.state;
    // A core's proposal: the configuration, with prior values for computed attributes.
    let mut proposed = config.clone();
    for name in ["id", "size", "one", "many", "some", "named", "group"] {
        let mut value = state.get(name).unwrap().clone();
        if let (Value::Map(part), "one" | "group") = (&mut value, name) {
            part.insert("secret_wo".to_owned(), "hunter2".into());
        }
        proposed.set(name, value);
    }
    let plan = served.plan(&state, &proposed, &config).await;
    check_fine(&plan.diagnostics);
    assert_eq!(served.thing.decode(plan.planned_state.as_ref()), state);
    assert!(plan.requires_replace.is_empty());
    assert_eq!(served.identity(plan.planned_identity.as_ref()), map(&[("id", "id-full".into())]));
}

#[tokio::test]
async fn planning_twice_gives_the_same() {
    let served = Served::start("twice").await;
    let mut config = full(&served);
    config.set("zone", Value::UNKNOWN);
    let plan = async || served.plan(&Value::Null, &config, &config).await;
    assert_eq!(plan().await, plan().await);
}

#[tokio::test]
async fn write_only_values_are_there_when_they_are_applied() {
    let served = Served::start("secrets").await;
    let mut config = full(&served);
    config.set("mode", "needs its secret".into());
    let planned = served.planned(&config).await;
    let applied = served.apply(&Value::Null, &planned, &config).await;
    assert!(!said(&applied.answer.diagnostics).contains("error"), "{}", said(&applied.answer.diagnostics));
    let without = served.apply(&Value::Null, &planned, &planned).await;
    check_error(&without.answer.diagnostics, "", "a secret is missing");
}

#[tokio::test]
async fn unknown_values_come_back_as_they_came() {
    let served = Served::start("unknown").await;
    // {1: false, 2: "pre-"}: a core's knowledge about an interpolation.
    let refined = [&[0xc7, 9, 12, 0x82, 0x01, 0xc2, 0x02, 0xa4][..], b"pre-"].concat();
    let prefix = codec::from_msgpack(&Type::String, &refined).unwrap();
    let typed = Value::Dynamic(Box::new(Type::String), Box::new(Value::UNKNOWN));
    let config = served.thing.object(&[
        ("name", prefix),
        ("any", typed),
        ("number", Value::UNKNOWN),
        ("pair", list(&[Value::UNKNOWN, true.into()])),
        ("record", map(&[("a", Value::UNKNOWN), ("b", list(&[Value::UNKNOWN]))])),
        ("numbers", Value::Set(vec![Value::UNKNOWN, 1.into()])),
        ("size", Value::UNKNOWN),
        ("many", Value::UNKNOWN),
        ("some", Value::UNKNOWN),
        ("named", Value::UNKNOWN),
    ]);
    check_fine(&served.validate(&config).await);
    let plan = served.plan(&Value::Null, &config, &config).await;
    check_fine(&plan.diagnostics);
    let planned = served.thing.decode(plan.planned_state.as_ref());
    for name in ["any", "number", "pair", "record", "numbers", "size", "many", "some", "named"] {
        assert_eq!(planned.get(name), config.get(name), "{name}");
    }
    let bytes = plan.planned_state.unwrap().msgpack;
    assert!(bytes.windows(refined.len()).any(|part| part == refined));
    assert_eq!(plan.planned_identity, None);
}

#[tokio::test]
async fn numbers_of_any_size_lose_nothing() {
    let served = Served::start("numbers").await;
    for text in [
        "0",
        "-1",
        "0.1",
        "1e300",
        "-1e-300",
        "18446744073709551615",
        "-9223372036854775809",
        "3.14159265358979323846264338327950288",
    ] {
        let config = served.thing.object(&[("name", "n".into()), ("number", number(text))]);
        assert_eq!(served.create(&config).await.state.get("number"), Some(&number(text)), "{text}");
    }
}

#[tokio::test]
async fn wrong_values_are_named_wherever_they_are() {
    let served = Served::start("wrong").await;
    let part = |level: i64| served.thing.nested("one", &[("level", level.into())]);
    let rule = served.thing.nested("some", &[("level", 11.into())]);
    for (name, value, at) in [
        ("one", part(11), "one.level"),
        ("many", list(&[part(1), part(11)]), "many[1].level"),
        ("named", map(&[("k", part(11))]), "named[\"k\"].level"),
        ("group", part(11), "group.level"),
        // The protocol cannot say which element of a set.
        ("some", Value::Set(vec![rule]), "some"),
        ("size", 13.into(), "size"),
    ] {
        let config = served.thing.object(&[("name", "n".into()), (name, value)]);
        check_error(&served.validate(&config).await, at, if name == "size" { "bad luck" } else { "from 0 to 10" });
    }
}

#[tokio::test]
async fn write_only_values_are_refused_for_a_core_that_would_keep_them() {
    let served = Served::start("old core").await;
    let part = served.thing.nested("one", &[("secret_wo", "hunter2".into())]);
    let config = served.thing.wire(&[("name", "n".into()), ("many", list(&[part]))]);
    for (capabilities, refused) in [(Some(CAPABLE), false), (Some(pb::ClientCapabilities::default()), true)] {
        let request = pb::validate_resource_type_config::Request {
            type_name: super::THING.to_owned(),
            config: config.clone(),
            client_capabilities: capabilities,
        };
        let diagnostics = call!(served, validate_resource_type_config, request).diagnostics;
        if refused {
            check_error(&diagnostics, "many[0].secret_wo", "write-only");
        } else {
            check_fine(&diagnostics);
        }
    }
}

#[tokio::test]
async fn a_deprecated_attribute_is_warned_of() {
    let served = Served::start("deprecated").await;
    let config = served.thing.object(&[("name", "n".into()), ("old", "x".into())]);
    assert_eq!(said(&served.validate(&config).await), "warning [old] old is deprecated | Use `name`.");
    assert!(served.thing.attribute("old").deprecated);
    assert_eq!(served.thing.attribute("old").deprecation_message, "Use `name`.");
}

#[tokio::test]
async fn what_replaces_is_named() {
    let served = Served::start("replace").await;
    let config = served.thing.object(&[("name", "n".into()), ("zone", "a".into())]);
    let state = served.create(&config).await.state;
    let (mut config, mut proposed) = (config, state.clone());
    config.set("zone", "b".into());
    proposed.set("zone", "b".into());
    let plan = served.plan(&state, &proposed, &config).await;
    assert_eq!(plan.requires_replace.iter().map(path).collect::<Vec<_>>(), ["zone"]);
    assert_eq!(plan.planned_identity, None);
}

#[tokio::test]
async fn a_generated_configuration_says_what_is_needed() {
    let served = Served::start("generate").await;
    let state = served.create(&full(&served)).await.state;
    let request = pb::generate_resource_config::Request {
        type_name: super::THING.to_owned(),
        state: served.thing.encode(&state),
    };
    let answer = call!(served, generate_resource_config, request);
    check_fine(&answer.diagnostics);
    let config = served.thing.decode(answer.config.as_ref());
    assert_eq!(config.get("id"), Some(&Value::Null));
    assert_eq!(config.get("size"), Some(&Value::Null));
    assert_eq!(config.get("any"), state.get("any"));
    // The plan is the same again.
    let again = served.planned(&config).await;
    for name in ["name", "size", "number", "one", "many", "some", "named", "group"] {
        assert_eq!(again.get(name), state.get(name), "{name}");
    }
}

#[tokio::test]
async fn a_data_source_gives_back_what_it_is_asked() {
    let served = Served::start("mirror").await;
    let ty = Type::object([("given", Type::Dynamic), ("seen", Type::Dynamic), ("mode", Type::String)]);
    let read = async |given: Value, mode: Value| {
        let config = encode(&ty, &map(&[("given", given), ("seen", Value::Null), ("mode", mode)]));
        let request =
            pb::read_data_source::Request { type_name: "corner_mirror".to_owned(), config, ..Default::default() };
        call!(served, read_data_source, request)
    };
    let given = Value::Dynamic(Box::new(Type::map(Type::Number)), Box::new(map(&[("a", number("0.1"))])));
    let answer = read(given.clone(), Value::Null).await;
    assert!(said(&answer.diagnostics).starts_with("warning [] things in the mirror"));
    assert_eq!(decode(&ty, answer.state.as_ref()).get("seen"), Some(&given));
    for (mode, at, text) in [
        ("panics", "", "panicked"),
        ("fails", "given", "the mirror broke"),
        ("leaves an unknown", "", "left a value unknown"),
    ] {
        let answer = read(given.clone(), mode.into()).await;
        check_error(&answer.diagnostics, at, text);
        assert_eq!(answer.state, None);
        // Messages from before the failure are still reported.
        assert_eq!(said(&answer.diagnostics).contains("warning [] things in the mirror"), mode != "panics", "{mode}");
    }
}

#[tokio::test]
async fn a_function_takes_any_number_of_arguments() {
    let served = Served::start("join").await;
    let join = async |texts: &[&str]| {
        let arguments = texts.iter().filter_map(|text| encode(&Type::String, &(*text).into())).collect();
        call!(served, call_function, pb::call_function::Request { name: "join".to_owned(), arguments })
    };
    for (texts, expected) in [(&["-", "a", "b", "c"][..], "a-b-c"), (&["-"], "")] {
        let answer = join(texts).await;
        assert_eq!(answer.error, None);
        assert_eq!(decode(&Type::String, answer.result.as_ref()), expected.into());
    }
    assert_eq!(join(&["-", "a", ""]).await.error.unwrap().function_argument, Some(2));
    let error = join(&["panic"]).await.error.unwrap();
    assert!(error.text.contains("panicked"), "{}", error.text);
    assert_eq!(error.function_argument, None);
}
