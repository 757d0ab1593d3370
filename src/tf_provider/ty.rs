// SPDX-License-Identifier: MPL-2.0

//! Terraform's type system, and its JSON form in the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value as Json, json};

/// A type of Terraform's type system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `bool`
    Bool,
    /// `number`
    Number,
    /// `string`
    String,
    /// Any type, decided by the value.
    Dynamic,
    /// `list(…)`
    List(Box<Type>),
    /// `set(…)`
    Set(Box<Type>),
    /// `map(…)`
    Map(Box<Type>),
    /// `object({…})`, with the names of its optional attributes.
    Object(BTreeMap<String, Type>, BTreeSet<String>),
    /// `tuple([…])`
    Tuple(Vec<Type>),
}

/// The form of a type constraint in a configuration: `set(string)`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Number => f.write_str("number"),
            Self::String => f.write_str("string"),
            Self::Dynamic => f.write_str("any"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Set(of) => write!(f, "set({of})"),
            Self::Map(of) => write!(f, "map({of})"),
            Self::Tuple(of) => {
                let of: Vec<_> = of.iter().map(ToString::to_string).collect();
                write!(f, "tuple([{}])", of.join(", "))
            }
            Self::Object(of, _) => {
                let of: Vec<_> = of.iter().map(|(name, ty)| format!("{name} = {ty}")).collect();
                write!(f, "object({{ {} }})", of.join(", "))
            }
        }
    }
}

impl Type {
    /// `list(of)`
    pub fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    /// `set(of)`
    pub fn set(of: Self) -> Self {
        Self::Set(Box::new(of))
    }

    /// `map(of)`
    pub fn map(of: Self) -> Self {
        Self::Map(Box::new(of))
    }

    /// `object({…})` with no optional attribute.
    pub fn object<const N: usize>(attributes: [(&str, Self); N]) -> Self {
        let attributes = attributes.map(|(name, ty)| (name.to_owned(), ty));
        Self::Object(attributes.into(), BTreeSet::new())
    }

    /// The JSON form in `Schema.Attribute.type` of the protocol.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool => json!("bool"),
            Self::Number => json!("number"),
            Self::String => json!("string"),
            Self::Dynamic => json!("dynamic"),
            Self::List(of) => json!(["list", of.to_json()]),
            Self::Set(of) => json!(["set", of.to_json()]),
            Self::Map(of) => json!(["map", of.to_json()]),
            Self::Tuple(of) => json!(["tuple", of.iter().map(Self::to_json).collect::<Vec<_>>()]),
            Self::Object(of, optional) => {
                let of: serde_json::Map<_, _> = of.iter().map(|(name, ty)| (name.clone(), ty.to_json())).collect();
                if optional.is_empty() { json!(["object", of]) } else { json!(["object", of, optional]) }
            }
        }
    }

    /// Reads the JSON form; `None` if it is not one.
    pub fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(name) => match name.as_str() {
                "bool" => Some(Self::Bool),
                "number" => Some(Self::Number),
                "string" => Some(Self::String),
                "dynamic" => Some(Self::Dynamic),
                _ => None,
            },
            Json::Array(parts) => Self::from_json_parts(parts),
            _ => None,
        }
    }

    fn from_json_parts(parts: &[Json]) -> Option<Self> {
        let (kind, rest) = parts.split_first()?;
        let (of, rest) = rest.split_first()?;
        if !rest.is_empty() && kind != "object" {
            return None;
        }
        match kind.as_str()? {
            "list" => Self::from_json(of).map(Self::list),
            "set" => Self::from_json(of).map(Self::set),
            "map" => Self::from_json(of).map(Self::map),
            "tuple" => of.as_array()?.iter().map(Self::from_json).collect::<Option<_>>().map(Self::Tuple),
            "object" => {
                let attributes = of.as_object()?.iter();
                let attributes =
                    attributes.map(|(name, ty)| Some((name.clone(), Self::from_json(ty)?))).collect::<Option<_>>()?;
                let optional = rest.first().and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
                let optional = optional.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
                Some(Self::Object(attributes, optional))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_survive_their_json() {
        for ty in [
            Type::Bool,
            Type::Dynamic,
            Type::list(Type::set(Type::map(Type::Number))),
            Type::Tuple(vec![Type::String, Type::Bool]),
            Type::object([("a", Type::String), ("b", Type::list(Type::Number))]),
            Type::Object([("a".to_owned(), Type::String)].into(), ["a".to_owned()].into()),
        ] {
            assert_eq!(Type::from_json(&ty.to_json()), Some(ty.clone()), "{ty}");
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for json in [json!("int"), json!(["list"]), json!(["list", "bool", 1]), json!({}), json!(null), json!([])] {
            assert_eq!(Type::from_json(&json), None, "{json}");
        }
    }
}
