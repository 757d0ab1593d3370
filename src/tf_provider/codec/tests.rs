// SPDX-License-Identifier: MPL-2.0

use super::*;

fn object() -> Type {
    Type::object([
        ("name", Type::String),
        ("count", Type::Number),
        ("on", Type::Bool),
        ("tags", Type::set(Type::String)),
        ("any", Type::Dynamic),
        ("table", Type::list(Type::object([("where", Type::String)]))),
    ])
}

fn map<const N: usize>(items: [(&str, Value); N]) -> Value {
    Value::Map(items.map(|(name, value)| (name.to_owned(), value)).into())
}

fn full() -> Value {
    map([
        ("name", Value::from("a\u{0}é")),
        ("count", Value::Number(Number::parse("0.1").unwrap())),
        ("on", Value::Bool(true)),
        ("tags", Value::Set(vec![Value::from("x"), Value::UNKNOWN])),
        ("any", Value::Dynamic(Box::new(Type::list(Type::Bool)), Box::new(Value::List(vec![Value::Bool(false)])))),
        ("table", Value::List(vec![map([("where", Value::Null)])])),
    ])
}

#[test]
fn msgpack_goes_round() {
    let bytes = to_msgpack(&object(), &full()).unwrap();
    assert_eq!(from_msgpack(&object(), &bytes).unwrap(), full());
}

#[test]
fn numbers_of_every_form_are_read() {
    let check = |pack: Pack, text: &str| {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &pack).unwrap();
        assert_eq!(from_msgpack(&Type::Number, &bytes).unwrap(), Value::Number(Number::parse(text).unwrap()));
    };
    check(Pack::from(1), "1");
    check(Pack::from(-5), "-5");
    check(Pack::from(u64::MAX), "18446744073709551615");
    check(Pack::from(1.25), "1.25");
    check(Pack::F32(0.5), "0.5");
    check(Pack::from("0.1"), "0.1");
    check(Pack::from("123456789012345678901234567890.5"), "123456789012345678901234567890.5");
}

#[test]
fn numbers_go_out_in_the_smallest_exact_form() {
    let written = |text: &str| pack_number(&Number::parse(text).unwrap());
    assert_eq!(written("7"), Pack::from(7));
    assert_eq!(written("18446744073709551615"), Pack::from(u64::MAX));
    assert_eq!(written("1.25"), Pack::F64(1.25));
    assert_eq!(written("0.1"), Pack::from("0.1"));
    assert_eq!(written("1e300"), Pack::from("1e300"));
}

#[test]
fn refinements_come_back_as_they_came() {
    // {1: false, 2: "pre-"}: not null, and a prefix.
    let payload = [0x82, 0x01, 0xc2, 0x02, 0xa4, b'p', b'r', b'e', b'-'];
    let mut bytes = vec![0xc7, u8::try_from(payload.len()).unwrap(), 12];
    bytes.extend(payload);
    let value = from_msgpack(&Type::String, &bytes).unwrap();
    assert!(value.is_unknown());
    assert_eq!(to_msgpack(&Type::String, &value).unwrap(), bytes);
    assert_eq!(to_msgpack(&Type::String, &Value::UNKNOWN).unwrap(), [0xd4, 0x00, 0x00]);
}

#[test]
fn whole_block_lists_may_be_unknown() {
    let ty = Type::list(Type::object([("where", Type::String)]));
    assert!(from_msgpack(&ty, &[0xd4, 0x00, 0x00]).unwrap().is_unknown());
}

#[test]
fn an_error_says_where() {
    let ty = Type::object([("table", Type::list(Type::object([("where", Type::String)])))]);
    let json = br#"{"table":[{"where":"a"},{"where":1}]}"#;
    assert_eq!(from_json(&ty, json).unwrap_err().to_string(), "table[1].where: expected string, found a number");
    let bytes = to_msgpack(&Type::object([("b", Type::Bool)]), &map([("b", Value::Bool(true))])).unwrap();
    let other = Type::object([("b", Type::String)]);
    assert_eq!(from_msgpack(&other, &bytes).unwrap_err().to_string(), "b: expected string, found a bool");
    let sets = from_json(&Type::set(Type::String), b"[1]").unwrap_err();
    assert_eq!(sets.to_string(), "[*]: expected string, found a number");
}

#[test]
fn objects_have_exactly_their_attributes() {
    let ty = Type::object([("a", Type::Bool), ("b", Type::Bool)]);
    let one = to_msgpack(&Type::object([("a", Type::Bool)]), &map([("a", Value::Bool(true))])).unwrap();
    assert!(from_msgpack(&ty, &one).unwrap_err().to_string().contains("\"b\" is missing"));
    assert!(to_msgpack(&Type::object([("a", Type::Bool)]), &map([("z", Value::Null)])).is_err());
    // A missing attribute is written as null, so that all attributes are there.
    let bytes = to_msgpack(&ty, &map([("a", Value::Bool(true))])).unwrap();
    assert_eq!(from_msgpack(&ty, &bytes).unwrap(), map([("a", Value::Bool(true)), ("b", Value::Null)]));
}

#[test]
fn json_states_bend_to_the_schema() {
    let ty = Type::object([("a", Type::Number), ("new", Type::String)]);
    let value = from_json(&ty, br#"{"a":123456789012345678901234567890.25,"gone":[1]}"#).unwrap();
    let number = Number::parse("123456789012345678901234567890.25").unwrap();
    assert_eq!(value, map([("a", Value::Number(number)), ("new", Value::Null)]));
    let dynamic = from_json(&Type::Dynamic, br#"{"type":"string","value":"x"}"#).unwrap();
    assert_eq!(dynamic, Value::Dynamic(Box::new(Type::String), Box::new(Value::from("x"))));
}

/// Small and fast pseudo-random bytes, the same in every run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

#[test]
fn no_bytes_make_it_panic() {
    let valid = to_msgpack(&object(), &full()).unwrap();
    for seed in 0..20_000_u64 {
        let mut source = noise(seed);
        let mut bytes = valid.clone();
        for _ in 0..=source.next().unwrap() % 4 {
            let at = usize::from(source.next().unwrap()) % bytes.len();
            bytes[at] = source.next().unwrap();
        }
        bytes.truncate(bytes.len() - usize::from(source.next().unwrap()) % 8);
        let _ = from_msgpack(&object(), &bytes);
        let random: Vec<u8> = source.take(64).collect();
        let _ = from_msgpack(&object(), &random);
        let _ = from_json(&object(), &random);
    }
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    let bytes = vec![0x91; 100_000];
    assert!(from_msgpack(&Type::Dynamic, &bytes).is_err());
    assert!(from_json(&Type::Dynamic, &vec![b'['; 100_000]).is_err());
    // A length without its data must not be trusted.
    assert!(from_msgpack(&Type::list(Type::Bool), &[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
}
