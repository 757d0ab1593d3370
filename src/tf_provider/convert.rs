// SPDX-License-Identifier: MPL-2.0

//! `Value` to and from the structs that a resource is written with.
//!
//! [`model!`](crate::model) writes a struct whose fields are the attributes of a block, and both conversions.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostics::{Error, Result};
use super::number::Number;
use super::path::AttributePath;
use super::value::Value;

/// An attribute as a configuration, plan or state has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attr<T> {
    /// Not set.
    #[default]
    Null,
    /// Not known before apply; so is a collection of plain values of which one is unknown.
    Unknown,
    /// Set.
    Known(T),
}

impl<T> Attr<T> {
    /// The value, where it is known and set.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }

    /// The value, taken out, where it is known and set.
    pub fn into_known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is not set.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is not known before apply.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// The value or `None` where it is not set.
    ///
    /// # Errors
    /// When it is unknown, naming the attribute: by now it must be known.
    pub fn optional(&self, name: &str) -> Result<Option<&T>> {
        match self {
            Self::Null => Ok(None),
            Self::Known(value) => Ok(Some(value)),
            Self::Unknown => Err(Error::new(format!("{name} is not known yet")).attribute(name)),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// When it is unknown or not set, naming the attribute.
    pub fn required(&self, name: &str) -> Result<&T> {
        let missing = || Error::new(format!("{name} must be set")).attribute(name);
        self.optional(name)?.ok_or_else(missing)
    }
}

impl<T> From<T> for Attr<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl From<&str> for Attr<String> {
    fn from(value: &str) -> Self {
        Self::Known(value.to_owned())
    }
}

impl<T> From<Option<T>> for Attr<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::Known)
    }
}

/// What can be read from a [`Value`].
pub trait FromValue: Sized {
    /// Whether it can hold this value, which is not unknown itself, with all that is unknown in it.
    fn holds(value: &Value) -> bool {
        value.is_wholly_known()
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the value is of another kind; the path says which part of it.
    fn from_value(value: Value) -> Result<Self>;
}

/// What can be written as a [`Value`].
pub trait ToValue {
    /// Writes it.
    fn to_value(self) -> Value;
}

/// A struct whose fields are the attributes of a block; written by [`model!`](crate::model).
pub trait Model: FromValue + ToValue + Clone + Default + Send + Sync + 'static {}

/// Whether `T` can hold each element of a collection.
fn elements_held<T: FromValue>(value: &Value) -> bool {
    match value {
        Value::List(items) | Value::Set(items) => items.iter().all(T::holds),
        Value::Map(items) => items.values().all(T::holds),
        _ => true,
    }
}

/// The blocks of a set: in no order, as `SetOf` compares them too.
#[derive(Clone, Debug, Default)]
pub struct SetOf<T>(pub Vec<T>);

impl<T: FromValue> FromValue for SetOf<T> {
    fn holds(value: &Value) -> bool {
        elements_held::<T>(value)
    }

    fn from_value(value: Value) -> Result<Self> {
        let within = |error: Error| error.at(&AttributePath::default().element());
        match value {
            Value::Set(items) => {
                items.into_iter().map(|item| T::from_value(item).map_err(within)).collect::<Result<_>>().map(Self)
            }
            other => expected("a set", &other),
        }
    }
}

impl<T: ToValue> ToValue for SetOf<T> {
    fn to_value(self) -> Value {
        Value::Set(self.0.into_iter().map(ToValue::to_value).collect())
    }
}

impl<T: Clone + ToValue> PartialEq for SetOf<T> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().to_value() == other.clone().to_value()
    }
}

fn expected<T>(what: &str, found: &Value) -> Result<T> {
    Err(Error::new(format!("expected {what}, found {}", found.kind())))
}

impl<T: FromValue> FromValue for Attr<T> {
    fn holds(_value: &Value) -> bool {
        true
    }

    fn from_value(value: Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::Null);
        }
        if value.is_unknown() || !T::holds(&value) {
            return Ok(Self::Unknown);
        }
        T::from_value(value).map(Self::Known)
    }
}

impl<T: ToValue> ToValue for Attr<T> {
    fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Unknown => Value::UNKNOWN,
            Self::Known(value) => value.to_value(),
        }
    }
}

impl FromValue for Value {
    fn holds(_value: &Value) -> bool {
        true
    }

    fn from_value(value: Value) -> Result<Self> {
        Ok(value)
    }
}

impl ToValue for Value {
    fn to_value(self) -> Value {
        self
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::String(text) => Ok(text),
            other => expected("a string", &other),
        }
    }
}

impl ToValue for String {
    fn to_value(self) -> Value {
        Value::String(self)
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Bool(value) => Ok(value),
            other => expected("a bool", &other),
        }
    }
}

impl ToValue for bool {
    fn to_value(self) -> Value {
        Value::Bool(self)
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<Self> {
        let number = Number::from_value(value)?;
        number.as_i64().ok_or_else(|| Error::new(format!("expected a whole number, found {number}")))
    }
}

impl ToValue for i64 {
    fn to_value(self) -> Value {
        Value::Number(self.into())
    }
}

impl FromValue for Number {
    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Number(number) => Ok(number),
            other => expected("a number", &other),
        }
    }
}

impl ToValue for Number {
    fn to_value(self) -> Value {
        Value::Number(self)
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn holds(value: &Value) -> bool {
        elements_held::<T>(value)
    }

    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::List(items) | Value::Set(items) => items
                .into_iter()
                .enumerate()
                .map(|(at, item)| T::from_value(item).map_err(|error| error.at(&AttributePath::default().index(at))))
                .collect(),
            other => expected("a list", &other),
        }
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(self) -> Value {
        Value::List(self.into_iter().map(ToValue::to_value).collect())
    }
}

impl<T: FromValue + Ord> FromValue for BTreeSet<T> {
    fn holds(value: &Value) -> bool {
        elements_held::<T>(value)
    }

    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::List(items) | Value::Set(items) => items.into_iter().map(T::from_value).collect(),
            other => expected("a set", &other),
        }
    }
}

impl<T: ToValue> ToValue for BTreeSet<T> {
    fn to_value(self) -> Value {
        Value::Set(self.into_iter().map(ToValue::to_value).collect())
    }
}

impl<T: FromValue> FromValue for BTreeMap<String, T> {
    fn holds(value: &Value) -> bool {
        elements_held::<T>(value)
    }

    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Map(items) => items
                .into_iter()
                .map(|(key, item)| {
                    let path = || AttributePath::default().key(&key);
                    let item = T::from_value(item).map_err(|error| error.at(&path()))?;
                    Ok((key, item))
                })
                .collect(),
            other => expected("a map", &other),
        }
    }
}

impl<T: ToValue> ToValue for BTreeMap<String, T> {
    fn to_value(self) -> Value {
        Value::Map(self.into_iter().map(|(key, item)| (key, item.to_value())).collect())
    }
}

/// The attributes of an object, taken one by one; what is left over at the end is an error.
pub struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// The attributes of this object.
    ///
    /// # Errors
    /// When the value is no object.
    pub fn new(value: Value) -> Result<Self> {
        match value {
            Value::Map(items) => Ok(Self(items)),
            other => expected("an object", &other),
        }
    }

    /// Takes the attribute that a field of this name stands for; one that is absent is null.
    ///
    /// # Errors
    /// When its value is of another kind; the path begins with its name.
    pub fn take<T: FromValue>(&mut self, field: &str) -> Result<T> {
        let name = attribute_name(field);
        let value = self.0.remove(name).unwrap_or(Value::Null);
        T::from_value(value).map_err(|error| error.attribute(name))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When an attribute was not taken.
    pub fn finish(self) -> Result<()> {
        match self.0.into_keys().next() {
            Some(left) => Err(Error::new(format!("no field takes the attribute {left:?}"))),
            None => Ok(()),
        }
    }
}

/// The attribute that a field stands for: its name, less Rust's mark for names that are keywords.
pub fn attribute_name(field: &str) -> &str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Writes a [`Model`](crate::tf_provider::convert::Model): a struct whose fields are the attributes and nested
/// blocks of a schema (a field that is a Rust keyword is written `r#where`), with both conversions.
#[macro_export]
macro_rules! model {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident : $ty:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Default, PartialEq)]
        $vis struct $name { $($(#[$field_meta])* pub $field: $ty),* }

        impl $crate::tf_provider::convert::FromValue for $name {
            fn holds(value: &$crate::tf_provider::value::Value) -> bool {
                !value.is_unknown()
            }

            fn from_value(value: $crate::tf_provider::value::Value) -> $crate::tf_provider::Result<Self> {
                #[allow(unused_mut, reason = "a model may have no field")]
                let mut fields = $crate::tf_provider::convert::Fields::new(value)?;
                let model = Self { $($field: fields.take(stringify!($field))?),* };
                fields.finish()?;
                Ok(model)
            }
        }

        impl $crate::tf_provider::convert::ToValue for $name {
            fn to_value(self) -> $crate::tf_provider::value::Value {
                let fields = [$((
                    $crate::tf_provider::convert::attribute_name(stringify!($field)).to_owned(),
                    $crate::tf_provider::convert::ToValue::to_value(self.$field),
                )),*];
                $crate::tf_provider::value::Value::Map(fields.into_iter().collect())
            }
        }

        impl $crate::tf_provider::convert::Model for $name {}

        /// Names the type and nothing else: a field may hold a password.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    model! {
        /// A nested block.
        struct Table {
            /// A keyword as a name.
            r#where: Attr<String>,
        }
    }

    model! {
        /// A root block.
        struct Root {
            /// A plain attribute.
            name: Attr<String>,
            /// A set of plain values.
            tables: Attr<BTreeSet<String>>,
            /// Nested blocks.
            table: Attr<Vec<Table>>,
        }
    }

    fn map<const N: usize>(items: [(&str, Value); N]) -> Value {
        Value::Map(items.map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn root(tables: Value, table: Value) -> Value {
        map([("name", Value::from("shop")), ("tables", tables), ("table", table)])
    }

    #[test]
    fn a_model_goes_round() {
        let tables = Value::Set(vec![Value::from("a"), Value::from("b")]);
        let value = root(tables, Value::List(vec![map([("where", Value::UNKNOWN)])]));
        assert_eq!(Root::from_value(value.clone()).unwrap().to_value(), value);
    }

    #[test]
    fn one_unknown_element_makes_a_plain_set_unknown() {
        let tables = Value::Set(vec![Value::from("a"), Value::UNKNOWN]);
        let model = Root::from_value(root(tables, Value::UNKNOWN)).unwrap();
        assert!(model.tables.is_unknown());
        assert!(model.table.is_unknown());
    }

    #[test]
    fn an_unknown_block_makes_its_list_unknown() {
        let tables = Value::List(vec![map([("where", Value::Null)]), Value::UNKNOWN]);
        assert!(Root::from_value(root(Value::Null, tables)).unwrap().table.is_unknown());
    }

    #[test]
    fn a_set_of_blocks_stays_a_set() {
        let blocks = |names: &[&str]| Value::Set(names.iter().map(|name| map([("where", (*name).into())])).collect());
        let read = |value: Value| SetOf::<Table>::from_value(value);
        assert_eq!(read(blocks(&["a", "b"])).unwrap().to_value(), blocks(&["a", "b"]));
        assert!(read(blocks(&["a", "b"])).unwrap() == read(blocks(&["b", "a"])).unwrap());
        let wrong = Value::Set(vec![map([("where", true.into())])]);
        assert_eq!(read(wrong).unwrap_err().to_string(), "[*].where: expected a string, found a bool");
    }

    #[test]
    fn an_error_says_which_field() {
        let value = root(Value::Null, Value::List(vec![map([("where", Value::Bool(true))])]));
        assert_eq!(Root::from_value(value).unwrap_err().to_string(), "table[0].where: expected a string, found a bool");
    }

    #[test]
    fn leftovers_are_an_error() {
        let value = map([("name", Value::Null), ("nmae", Value::Null)]);
        assert!(Root::from_value(value).unwrap_err().to_string().contains("\"nmae\""));
    }

    #[test]
    fn what_must_be_known_says_its_name() {
        let unknown: Attr<String> = Attr::Unknown;
        assert_eq!(unknown.required("host").unwrap_err().to_string(), "host: host is not known yet");
        let null: Attr<String> = Attr::Null;
        assert_eq!(null.required("host").unwrap_err().to_string(), "host: host must be set");
        assert_eq!(null.optional("host"), Ok(None));
    }
}
