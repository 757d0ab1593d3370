// SPDX-License-Identifier: MPL-2.0

//! `Value`: any value of Terraform's type system, without a schema.

use std::collections::BTreeMap;
use std::fmt;

use super::number::Number;
use super::ty::Type;

/// One value of a configuration, plan or state.
///
/// Lists and tuples are `List`; sets are `Set` and compare without order; objects and maps are `Map`.
#[derive(Clone, Default)]
pub enum Value {
    /// Absent: not set, or set to `null`.
    #[default]
    Null,
    /// Not known before apply.
    Unknown(Refinement),
    /// A boolean.
    Bool(bool),
    /// A number of any size.
    Number(Number),
    /// Text.
    String(String),
    /// A list or a tuple.
    List(Vec<Value>),
    /// A set; the order of the vector means nothing.
    Set(Vec<Value>),
    /// A map or an object.
    Map(BTreeMap<String, Value>),
    /// A value of a `dynamic` attribute, with its actual type.
    Dynamic(Box<Type>, Box<Value>),
}

/// Terraform's promises about an unknown value (a prefix, not null, …), as received.
///
/// Opaque on purpose: a planned value that is the configured one must be returned unchanged, and
/// Terraform would enforce a refinement of our own at apply.
#[derive(Clone, Default)]
pub struct Refinement(pub(super) Option<Box<[u8]>>);

impl Value {
    /// An unknown value without promises.
    pub const UNKNOWN: Self = Self::Unknown(Refinement(None));

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Dynamic(_, inner) => inner.is_null(),
            _ => false,
        }
    }

    /// Whether this value itself is unknown (not a part of it).
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Dynamic(_, inner) => inner.is_unknown(),
            _ => false,
        }
    }

    /// Whether this value has no unknown part, at any depth.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::List(items) | Self::Set(items) => items.iter().all(Self::is_wholly_known),
            Self::Map(items) => items.values().all(Self::is_wholly_known),
            Self::Dynamic(_, inner) => inner.is_wholly_known(),
            _ => true,
        }
    }

    /// The attribute or element of that name; `None` if this is not a map or has none.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(items) => items.get(name),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Self::Map(items) => items.get_mut(name),
            _ => None,
        }
    }

    /// Sets an attribute of an object; does nothing for other values.
    pub fn set(&mut self, name: &str, value: Self) {
        if let Self::Map(items) = self {
            items.insert(name.to_owned(), value);
        }
    }

    /// The text, if this is a known string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A name for messages: what kind of value this is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Unknown(_) => "an unknown value",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Set(_) => "a set",
            Self::Map(_) => "an object",
            Self::Dynamic(_, inner) => inner.kind(),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) | (Self::Unknown(_), Self::Unknown(_)) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Set(a), Self::Set(b)) => same_elements(a, b),
            (Self::Dynamic(a, x), Self::Dynamic(b, y)) => a == b && x == y,
            _ => false,
        }
    }
}

/// Whether two sets have the same elements.
fn same_elements(a: &[Value], b: &[Value]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // Sets of strings are common and can be large: ten thousand tables must not take quadratic time.
    if let (Some(mut a), Some(mut b)) = (texts(a), texts(b)) {
        a.sort_unstable();
        b.sort_unstable();
        return a == b;
    }
    let mut rest: Vec<&Value> = b.iter().collect();
    a.iter().all(|item| match rest.iter().position(|other| *other == item) {
        Some(at) => {
            rest.swap_remove(at);
            true
        }
        None => false,
    })
}

fn texts(items: &[Value]) -> Option<Vec<&str>> {
    items.iter().map(Value::as_str).collect()
}

/// Shows only the shape, because a value may be a password.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Unknown(_) => f.write_str("unknown"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::String(text) => write!(f, "string({} bytes)", text.len()),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Set(items) => f.debug_set().entries(items).finish(),
            Self::Map(items) => f.debug_map().entries(items).finish(),
            Self::Dynamic(_, inner) => write!(f, "dynamic({inner:?})"),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: &[&str]) -> Value {
        Value::Set(items.iter().map(|item| Value::from(*item)).collect())
    }

    #[test]
    fn sets_compare_without_order() {
        assert_eq!(set(&["a", "b"]), set(&["b", "a"]));
        assert_ne!(set(&["a", "b"]), set(&["a", "a"]));
        assert_ne!(set(&["a"]), set(&["a", "b"]));
        let nested = |a: &[&str], b: &[&str]| Value::Set(vec![set(a), set(b)]);
        assert_eq!(nested(&["a", "b"], &["c"]), nested(&["c"], &["b", "a"]));
    }

    #[test]
    fn unknown_deep_inside_is_found() {
        let value = Value::Map([("a".to_owned(), Value::List(vec![Value::UNKNOWN]))].into());
        assert!(!value.is_unknown());
        assert!(!value.is_wholly_known());
    }

    #[test]
    fn debug_shows_no_text() {
        let value = Value::Map([("password".to_owned(), Value::from("hunter2"))].into());
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
