// SPDX-License-Identifier: MPL-2.0

//! `Value` to and from msgpack and JSON, guided by the schema's type.
//!
//! It accepts any bytes: a mismatch with the type is an error that says where, never a panic.

use std::collections::BTreeMap;

use rmpv::Value as Pack;
use serde_json::Value as Json;

use super::diagnostics::{Error, Result};
use super::number::Number;
use super::path::{AttributePath, Step};
use super::schema::Type;
use super::value::{Refinement, Value};

/// The msgpack extension of an unknown value.
const UNKNOWN: i8 = 0;
/// The msgpack extension of an unknown value with refinements.
const REFINED: i8 = 12;
/// How deep a value may be nested: far more than configurations need, and far less than the stack allows.
const MAX_DEPTH: usize = 200;

/// Reads the msgpack form of a value of this type.
///
/// # Errors
/// When the bytes are not msgpack, or do not fit the type; the error's path says where.
pub fn from_msgpack(ty: &Type, bytes: &[u8]) -> Result<Value> {
    let mut rest = bytes;
    let pack = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH)
        .map_err(|error| Error::new("the value is not valid msgpack").detail(error.to_string()))?;
    if !rest.is_empty() {
        return Err(Error::new(format!("{} bytes follow the value", rest.len())));
    }
    unpack(ty, pack)
}

/// The msgpack form of a value of this type.
///
/// # Errors
/// When the value does not fit the type; the error's path says where.
pub fn to_msgpack(ty: &Type, value: &Value) -> Result<Vec<u8>> {
    let pack = pack(ty, value)?;
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &pack)
        .map_err(|error| Error::new("the value cannot be written").detail(error.to_string()))?;
    Ok(bytes)
}

/// Reads the JSON form of a value of this type, which states use.
///
/// Skips attributes that the type does not have, and missing ones are null: a state may come from a
/// version of the provider whose schema had one more or one fewer.
///
/// # Errors
/// When the bytes are not JSON, or do not fit the type; the error's path says where.
pub fn from_json(ty: &Type, bytes: &[u8]) -> Result<Value> {
    from_json_value(ty, parse_json(bytes)?)
}

/// Reads JSON without a known type: the state of another provider, or of an older schema. Arrays
/// become lists, objects maps.
///
/// # Errors
/// When the bytes are not JSON.
pub fn from_untyped_json(bytes: &[u8]) -> Result<Value> {
    Ok(untyped(parse_json(bytes)?))
}

fn parse_json(bytes: &[u8]) -> Result<Json> {
    serde_json::from_slice(bytes).map_err(|error| Error::new("the value is not valid JSON").detail(error.to_string()))
}

fn mismatch(ty: &Type, found: &str) -> Error {
    Error::new(format!("expected {ty}, found {found}"))
}

/// Converts one part, and adds it to the path of an error.
fn part<T>(step: impl FnOnce() -> Step, convert: Result<T>) -> Result<T> {
    convert.map_err(|error| error.at(&AttributePath::default().then(step())))
}

fn index(at: usize) -> Step {
    Step::Index(i64::try_from(at).unwrap_or(i64::MAX))
}

// --- msgpack -> Value

fn unpack(ty: &Type, pack: Pack) -> Result<Value> {
    match (ty, pack) {
        (_, Pack::Nil) => Ok(Value::Null),
        (_, Pack::Ext(code, payload)) => Ok(Value::Unknown(refinement(code, payload))),
        (Type::Bool, Pack::Boolean(value)) => Ok(Value::Bool(value)),
        (Type::String, Pack::String(text)) => {
            text.into_str().map(Value::String).ok_or_else(|| Error::new("the text is not UTF-8"))
        }
        (Type::Number, pack) => unpack_number(&pack).map(Value::Number).ok_or_else(|| mismatch(ty, kind(&pack))),
        (Type::List(of), Pack::Array(items)) => unpack_items(of, items, index).map(Value::List),
        (Type::Set(of), Pack::Array(items)) => unpack_items(of, items, |_| Step::Element).map(Value::Set),
        (Type::Tuple(of), Pack::Array(items)) if of.len() == items.len() => {
            let parts = of.iter().zip(items).enumerate();
            parts.map(|(at, (of, item))| part(|| index(at), unpack(of, item))).collect::<Result<_>>().map(Value::List)
        }
        (Type::Map(of), Pack::Map(entries)) => unpack_map(of, entries),
        (Type::Object(of, _), Pack::Map(entries)) => unpack_object(of, entries),
        (Type::Dynamic, Pack::Array(parts)) => unpack_dynamic(parts),
        (ty, pack) => Err(mismatch(ty, kind(&pack))),
    }
}

fn refinement(code: i8, payload: Vec<u8>) -> Refinement {
    Refinement((code == REFINED).then(|| payload.into_boxed_slice()))
}

fn unpack_number(pack: &Pack) -> Option<Number> {
    match pack {
        Pack::Integer(integer) => integer.as_i64().map(Number::from).or_else(|| integer.as_u64().map(Number::from)),
        Pack::F64(value) => Number::from_f64(*value),
        Pack::F32(value) => Number::from_f64(f64::from(*value)),
        Pack::String(text) => Number::parse(text.as_str()?),
        _ => None,
    }
}

fn unpack_items(of: &Type, items: Vec<Pack>, step: impl Fn(usize) -> Step) -> Result<Vec<Value>> {
    items.into_iter().enumerate().map(|(at, item)| part(|| step(at), unpack(of, item))).collect()
}

fn unpack_key(pack: Pack) -> Result<String> {
    match pack {
        Pack::String(text) => text.into_str().ok_or_else(|| Error::new("a key is not UTF-8")),
        other => Err(Error::new(format!("expected a key, found {}", kind(&other)))),
    }
}

fn unpack_map(of: &Type, entries: Vec<(Pack, Pack)>) -> Result<Value> {
    let mut items = BTreeMap::new();
    for (key, pack) in entries {
        let key = unpack_key(key)?;
        let value = part(|| Step::Key(key.clone()), unpack(of, pack))?;
        items.insert(key, value);
    }
    Ok(Value::Map(items))
}

fn unpack_object(of: &BTreeMap<String, Type>, entries: Vec<(Pack, Pack)>) -> Result<Value> {
    let mut items = BTreeMap::new();
    for (key, pack) in entries {
        let name = unpack_key(key)?;
        let ty = of.get(&name).ok_or_else(|| Error::new(format!("there is no attribute {name:?}")))?;
        let value = part(|| Step::Attribute(name.clone()), unpack(ty, pack))?;
        items.insert(name, value);
    }
    match of.keys().find(|name| !items.contains_key(*name)) {
        Some(missing) => Err(Error::new(format!("the attribute {missing:?} is missing"))),
        None => Ok(Value::Map(items)),
    }
}

/// `[type as JSON, value]`.
fn unpack_dynamic(parts: Vec<Pack>) -> Result<Value> {
    let malformed = || Error::new("a dynamic value is not a pair of type and value");
    let [ty, inner]: [Pack; 2] = parts.try_into().map_err(|_| malformed())?;
    let bytes = match &ty {
        Pack::Binary(bytes) => bytes.as_slice(),
        Pack::String(text) => text.as_bytes(),
        _ => return Err(malformed()),
    };
    let ty = Type::from_json(&parse_json(bytes)?).ok_or_else(malformed)?;
    let inner = unpack(&ty, inner)?;
    Ok(Value::Dynamic(Box::new(ty), Box::new(inner)))
}

fn kind(pack: &Pack) -> &'static str {
    match pack {
        Pack::Nil => "null",
        Pack::Boolean(_) => "a bool",
        Pack::Integer(_) | Pack::F32(_) | Pack::F64(_) => "a number",
        Pack::String(_) => "a string",
        Pack::Binary(_) => "bytes",
        Pack::Array(_) => "a list",
        Pack::Map(_) => "an object",
        Pack::Ext(..) => "an unknown value",
    }
}

// --- Value -> msgpack

fn pack(ty: &Type, value: &Value) -> Result<Pack> {
    match (ty, value) {
        (_, Value::Unknown(refinement)) => Ok(pack_unknown(refinement)),
        (Type::Dynamic, Value::Dynamic(ty, inner)) => {
            Ok(Pack::Array(vec![Pack::Binary(ty.to_json().to_string().into_bytes()), pack(ty, inner)?]))
        }
        (_, Value::Null) => Ok(Pack::Nil),
        (Type::Bool, Value::Bool(value)) => Ok(Pack::Boolean(*value)),
        (Type::Number, Value::Number(number)) => Ok(pack_number(number)),
        (Type::String, Value::String(text)) => Ok(Pack::from(text.as_str())),
        (Type::List(of), Value::List(items)) | (Type::Set(of), Value::Set(items)) => {
            let parts = items.iter().enumerate().map(|(at, item)| part(|| index(at), pack(of, item)));
            parts.collect::<Result<_>>().map(Pack::Array)
        }
        (Type::Tuple(of), Value::List(items)) if of.len() == items.len() => {
            let parts = of.iter().zip(items).enumerate();
            parts.map(|(at, (of, item))| part(|| index(at), pack(of, item))).collect::<Result<_>>().map(Pack::Array)
        }
        (Type::Map(of), Value::Map(items)) => {
            let parts = items
                .iter()
                .map(|(key, item)| Ok((Pack::from(key.as_str()), part(|| Step::Key(key.clone()), pack(of, item))?)));
            parts.collect::<Result<_>>().map(Pack::Map)
        }
        (Type::Object(of, _), Value::Map(items)) => pack_object(of, items),
        (ty, value) => Err(mismatch(ty, value.kind())),
    }
}

fn pack_unknown(refinement: &Refinement) -> Pack {
    match &refinement.0 {
        None => Pack::Ext(UNKNOWN, vec![0]),
        Some(payload) => Pack::Ext(REFINED, payload.to_vec()),
    }
}

/// The smallest form that is exact: an integer, a double, or decimal text.
fn pack_number(number: &Number) -> Pack {
    if let Some(integer) = number.as_i64() {
        return Pack::from(integer);
    }
    if let Some(integer) = number.as_u64() {
        return Pack::from(integer);
    }
    let double = number.as_f64();
    if Number::from_f64(double).as_ref() == Some(number) {
        return Pack::F64(double);
    }
    Pack::from(number.to_string())
}

/// An object has exactly its type's attributes: missing ones are null, others are an error.
fn pack_object(of: &BTreeMap<String, Type>, items: &BTreeMap<String, Value>) -> Result<Pack> {
    if let Some(extra) = items.keys().find(|name| !of.contains_key(*name)) {
        return Err(Error::new(format!("there is no attribute {extra:?}")));
    }
    let parts = of.iter().map(|(name, ty)| {
        let item = items.get(name).unwrap_or(&Value::Null);
        Ok((Pack::from(name.as_str()), part(|| Step::Attribute(name.clone()), pack(ty, item))?))
    });
    parts.collect::<Result<_>>().map(Pack::Map)
}

// --- JSON -> Value

fn from_json_value(ty: &Type, json: Json) -> Result<Value> {
    match (ty, json) {
        (_, Json::Null) => Ok(Value::Null),
        (Type::Bool, Json::Bool(value)) => Ok(Value::Bool(value)),
        (Type::String, Json::String(text)) => Ok(Value::String(text)),
        (Type::Number, Json::Number(number)) => number_of(&number.to_string()),
        (Type::Number, Json::String(text)) => number_of(&text),
        (Type::List(of), Json::Array(items)) => items_from_json(of, items, index).map(Value::List),
        (Type::Set(of), Json::Array(items)) => items_from_json(of, items, |_| Step::Element).map(Value::Set),
        (Type::Tuple(of), Json::Array(items)) if of.len() == items.len() => {
            let parts = of.iter().zip(items).enumerate();
            let parts = parts.map(|(at, (of, item))| part(|| index(at), from_json_value(of, item)));
            parts.collect::<Result<_>>().map(Value::List)
        }
        (Type::Map(of), Json::Object(entries)) => {
            let parts = entries.into_iter().map(|(key, json)| {
                let value = part(|| Step::Key(key.clone()), from_json_value(of, json))?;
                Ok((key, value))
            });
            parts.collect::<Result<_>>().map(Value::Map)
        }
        (Type::Object(of, _), Json::Object(entries)) => object_from_json(of, entries),
        (Type::Dynamic, Json::Object(entries)) => dynamic_from_json(entries),
        (ty, json) => Err(mismatch(ty, json_kind(&json))),
    }
}

fn number_of(text: &str) -> Result<Value> {
    Number::parse(text).map(Value::Number).ok_or_else(|| Error::new("expected number, found something else"))
}

fn items_from_json(of: &Type, items: Vec<Json>, step: impl Fn(usize) -> Step) -> Result<Vec<Value>> {
    items.into_iter().enumerate().map(|(at, item)| part(|| step(at), from_json_value(of, item))).collect()
}

fn object_from_json(of: &BTreeMap<String, Type>, mut entries: serde_json::Map<String, Json>) -> Result<Value> {
    let parts = of.iter().map(|(name, ty)| {
        let json = entries.remove(name).unwrap_or(Json::Null);
        let value = part(|| Step::Attribute(name.clone()), from_json_value(ty, json))?;
        Ok((name.clone(), value))
    });
    parts.collect::<Result<_>>().map(Value::Map)
}

/// `{"type": …, "value": …}`.
fn dynamic_from_json(mut entries: serde_json::Map<String, Json>) -> Result<Value> {
    let ty = entries.remove("type").as_ref().and_then(Type::from_json);
    let (Some(ty), Some(json)) = (ty, entries.remove("value")) else {
        return Err(Error::new("a dynamic value is not an object of type and value"));
    };
    let inner = from_json_value(&ty, json)?;
    Ok(Value::Dynamic(Box::new(ty), Box::new(inner)))
}

fn untyped(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::String(text) => Value::String(text),
        Json::Number(number) => Number::parse(&number.to_string()).map_or(Value::Null, Value::Number),
        Json::Array(items) => Value::List(items.into_iter().map(untyped).collect()),
        Json::Object(entries) => Value::Map(entries.into_iter().map(|(key, json)| (key, untyped(json))).collect()),
    }
}

fn json_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
