// SPDX-License-Identifier: MPL-2.0

//! Values as a core sends and reads them, with types from the provider's schemas.

use std::collections::{BTreeMap, BTreeSet};

use neonrepl::tf_provider::codec;
use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::schema::Type;
use neonrepl::tf_provider::value::Value;
use pb::schema::nested_block::NestingMode;

/// A schema, and the type that its values have.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) schema: pb::schema::Block,
    pub(crate) ty: Type,
}

impl Shape {
    pub(crate) fn new(schema: &pb::Schema) -> Self {
        let schema = schema.block.clone().unwrap();
        Self { ty: type_of(&schema), schema }
    }

    /// An object of this shape with these attributes; the others are a core's values for an empty block.
    pub(crate) fn object(&self, items: &[(&str, Value)]) -> Value {
        object(&self.schema, items)
    }

    pub(crate) fn encode(&self, value: &Value) -> Option<pb::DynamicValue> {
        encode(&self.ty, value)
    }

    pub(crate) fn decode(&self, value: Option<&pb::DynamicValue>) -> Value {
        decode(&self.ty, value)
    }

    /// The same as [`Shape::object`], on the wire.
    pub(crate) fn wire(&self, items: &[(&str, Value)]) -> Option<pb::DynamicValue> {
        self.encode(&self.object(items))
    }

    /// The block of that name.
    pub(crate) fn block(&self, name: &str) -> pb::schema::Block {
        let nested = self.schema.block_types.iter().find(|nested| nested.type_name == name).unwrap();
        nested.block.clone().unwrap()
    }

    /// A block of that name, for [`Shape::object`].
    pub(crate) fn nested(&self, name: &str, items: &[(&str, Value)]) -> Value {
        object(&self.block(name), items)
    }

    pub(crate) fn attribute(&self, name: &str) -> &pb::schema::Attribute {
        self.schema.attributes.iter().find(|attribute| attribute.name == name).unwrap()
    }
}

pub(crate) fn encode(ty: &Type, value: &Value) -> Option<pb::DynamicValue> {
    Some(pb::DynamicValue { msgpack: codec::to_msgpack(ty, value).unwrap(), json: Vec::new() })
}

pub(crate) fn decode(ty: &Type, value: Option<&pb::DynamicValue>) -> Value {
    match value {
        Some(value) if !value.msgpack.is_empty() => codec::from_msgpack(ty, &value.msgpack).unwrap(),
        _ => Value::Null,
    }
}

pub(crate) fn attribute_type(attribute: &[u8]) -> Type {
    Type::from_json(&serde_json::from_slice(attribute).unwrap()).unwrap()
}

fn type_of(block: &pb::schema::Block) -> Type {
    let attributes = block.attributes.iter().map(|a| (a.name.clone(), attribute_type(&a.r#type)));
    let blocks = block.block_types.iter().map(|nested| {
        let ty = type_of(nested.block.as_ref().unwrap());
        let ty = match nested.nesting() {
            NestingMode::List => Type::list(ty),
            NestingMode::Set => Type::set(ty),
            NestingMode::Map => Type::map(ty),
            _ => ty,
        };
        (nested.type_name.clone(), ty)
    });
    Type::Object(attributes.chain(blocks).collect(), BTreeSet::new())
}

pub(crate) fn object(block: &pb::schema::Block, items: &[(&str, Value)]) -> Value {
    let attributes = block.attributes.iter().map(|attribute| (attribute.name.clone(), Value::Null));
    let blocks = block.block_types.iter().map(|nested| {
        let empty = match nested.nesting() {
            NestingMode::List => Value::List(Vec::new()),
            NestingMode::Set => Value::Set(Vec::new()),
            NestingMode::Map => Value::Map(BTreeMap::new()),
            NestingMode::Group => object(nested.block.as_ref().unwrap(), &[]),
            _ => Value::Null,
        };
        (nested.type_name.clone(), empty)
    });
    let mut all: BTreeMap<String, Value> = attributes.chain(blocks).collect();
    for (name, value) in items {
        assert!(all.insert((*name).to_owned(), value.clone()).is_some(), "there is no {name}");
    }
    Value::Map(all)
}

pub(crate) fn set(items: &[&str]) -> Value {
    Value::Set(items.iter().map(|item| Value::from(*item)).collect())
}

pub(crate) fn map(items: &[(&str, Value)]) -> Value {
    Value::Map(items.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// Diagnostics as text, one on each line: severity, path, summary, detail.
pub(crate) fn said(diagnostics: &[pb::Diagnostic]) -> String {
    let lines = diagnostics.iter().map(|diagnostic| {
        let severity = match diagnostic.severity() {
            pb::diagnostic::Severity::Error => "error",
            pb::diagnostic::Severity::Warning => "warning",
            pb::diagnostic::Severity::Invalid => "INVALID",
        };
        let path = diagnostic.attribute.as_ref().map(path).unwrap_or_default();
        format!("{severity} [{path}] {} | {}", diagnostic.summary, diagnostic.detail.replace('\n', " "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A path in the form of a reference.
pub(crate) fn path(path: &pb::AttributePath) -> String {
    use pb::attribute_path::step::Selector;
    let steps = path.steps.iter().map(|step| match step.selector.as_ref().unwrap() {
        Selector::AttributeName(name) => format!(".{name}"),
        Selector::ElementKeyString(key) => format!("[{key:?}]"),
        Selector::ElementKeyInt(index) => format!("[{index}]"),
    });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

/// Asserts that there is exactly one error, about `at` ("" for none in particular), whose text contains `text`.
#[track_caller]
pub(crate) fn check_error(diagnostics: &[pb::Diagnostic], at: &str, text: &str) {
    let said = said(diagnostics);
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(errors[0].starts_with(&format!("error [{at}]")), "{said}");
    assert!(errors[0].contains(text), "{said}");
}

/// Passes if the only message is that the server could not be queried yet.
#[track_caller]
pub(crate) fn check_not_asked(diagnostics: &[pb::Diagnostic]) {
    let is_that = |diagnostic: &pb::Diagnostic| {
        diagnostic.severity == pb::diagnostic::Severity::Warning as i32
            && diagnostic.summary.contains("could not be asked")
    };
    assert!(diagnostics.iter().all(is_that), "{}", said(diagnostics));
}

#[track_caller]
pub(crate) fn check_fine(diagnostics: &[pb::Diagnostic]) {
    assert!(diagnostics.is_empty(), "{}", said(diagnostics));
}
