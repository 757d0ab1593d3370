// SPDX-License-Identifier: MPL-2.0

//! Schemas, diagnostics and values in the protocol's form.

use crate::tf_provider::codec;
use crate::tf_provider::diagnostics::{Diagnostic, Diagnostics, Result, Severity};
use crate::tf_provider::function::{Parameter, Signature};
use crate::tf_provider::path::{AttributePath, Step};
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::schema::{Attribute, Block, IdentitySchema, NestedBlock, Nesting, Origin, Schema, Type};
use crate::tf_provider::value::Value;

/// Reads a value of this type, in either form.
pub(super) fn decode(ty: &Type, value: Option<&pb::DynamicValue>) -> Result<Value> {
    match value {
        None => Ok(Value::Null),
        Some(value) if !value.msgpack.is_empty() => codec::from_msgpack(ty, &value.msgpack),
        Some(value) if !value.json.is_empty() => codec::from_json(ty, &value.json),
        Some(_) => Ok(Value::Null),
    }
}

/// Writes a value of this type.
pub(super) fn encode(ty: &Type, value: &Value) -> Result<pb::DynamicValue> {
    Ok(pb::DynamicValue { msgpack: codec::to_msgpack(ty, value)?, json: Vec::new() })
}

/// Writes an identity; omits a null one.
pub(super) fn encode_identity(identity: &IdentitySchema, value: &Value) -> Result<Option<pb::ResourceIdentityData>> {
    if value.is_null() {
        return Ok(None);
    }
    let data = encode(&identity.implied_type(), value)?;
    Ok(Some(pb::ResourceIdentityData { identity_data: Some(data) }))
}

pub(super) fn diagnostics(diagnostics: Diagnostics) -> Vec<pb::Diagnostic> {
    diagnostics.into_iter().map(diagnostic).collect()
}

fn diagnostic(diagnostic: Diagnostic) -> pb::Diagnostic {
    let severity = match diagnostic.severity {
        Severity::Error => pb::diagnostic::Severity::Error,
        Severity::Warning => pb::diagnostic::Severity::Warning,
    };
    pb::Diagnostic {
        severity: severity.into(),
        summary: diagnostic.summary,
        detail: diagnostic.detail,
        attribute: (!diagnostic.path.is_root()).then(|| attribute_path(&diagnostic.path)),
    }
}

pub(super) fn attribute_path(path: &AttributePath) -> pb::AttributePath {
    use pb::attribute_path::step::Selector;
    let selector = |step: &Step| match step {
        Step::Attribute(name) => Some(Selector::AttributeName(name.clone())),
        Step::Key(key) => Some(Selector::ElementKeyString(key.clone())),
        Step::Index(index) => Some(Selector::ElementKeyInt(*index)),
        Step::Element => None,
    };
    let steps = path.steps().iter().map_while(selector);
    pb::AttributePath { steps: steps.map(|selector| pb::attribute_path::Step { selector: Some(selector) }).collect() }
}

pub(super) fn schema(schema: &Schema) -> pb::Schema {
    pb::Schema { version: i64::try_from(schema.version).unwrap_or(i64::MAX), block: Some(block(&schema.block)) }
}

fn block(block: &Block) -> pb::schema::Block {
    pb::schema::Block {
        version: 0,
        attributes: block.attributes.iter().map(attribute).collect(),
        block_types: block.blocks.iter().map(nested_block).collect(),
        description: block.description.clone(),
        description_kind: pb::StringKind::Markdown.into(),
        deprecated: block.deprecated.is_some(),
        deprecation_message: block.deprecated.clone().unwrap_or_default(),
    }
}

fn attribute(attribute: &Attribute) -> pb::schema::Attribute {
    pb::schema::Attribute {
        name: attribute.name.clone(),
        r#type: type_bytes(&attribute.ty),
        description: attribute.description.clone(),
        required: attribute.origin == Origin::Required,
        optional: matches!(attribute.origin, Origin::Optional | Origin::OptionalComputed),
        computed: attribute.is_computed(),
        sensitive: attribute.sensitive,
        description_kind: pb::StringKind::Markdown.into(),
        deprecated: attribute.deprecated.is_some(),
        write_only: attribute.write_only,
        deprecation_message: attribute.deprecated.clone().unwrap_or_default(),
    }
}

fn nested_block(nested: &NestedBlock) -> pb::schema::NestedBlock {
    use pb::schema::nested_block::NestingMode;
    let nesting = match nested.nesting {
        Nesting::Single => NestingMode::Single,
        Nesting::List => NestingMode::List,
        Nesting::Set => NestingMode::Set,
        Nesting::Map => NestingMode::Map,
        Nesting::Group => NestingMode::Group,
    };
    pb::schema::NestedBlock {
        type_name: nested.name.clone(),
        block: Some(block(&nested.block)),
        nesting: nesting.into(),
        min_items: i64::try_from(nested.min_items).unwrap_or(i64::MAX),
        max_items: i64::try_from(nested.max_items).unwrap_or(i64::MAX),
    }
}

pub(super) fn identity_schema(identity: &IdentitySchema) -> pb::ResourceIdentitySchema {
    let attributes = identity.attributes.iter().map(|attribute| pb::resource_identity_schema::IdentityAttribute {
        name: attribute.name.to_owned(),
        r#type: type_bytes(&Type::String),
        required_for_import: attribute.required_for_import,
        optional_for_import: !attribute.required_for_import,
        description: attribute.description.to_owned(),
    });
    pb::ResourceIdentitySchema {
        version: i64::try_from(identity.version).unwrap_or(i64::MAX),
        identity_attributes: attributes.collect(),
    }
}

pub(super) fn function(signature: &Signature) -> pb::Function {
    pb::Function {
        parameters: signature.parameters.iter().map(parameter).collect(),
        variadic_parameter: signature.variadic.as_ref().map(parameter),
        r#return: Some(pb::function::Return { r#type: type_bytes(&signature.returns) }),
        summary: signature.summary.to_owned(),
        description: signature.description.to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        deprecation_message: String::new(),
    }
}

fn parameter(parameter: &Parameter) -> pb::function::Parameter {
    pb::function::Parameter {
        name: parameter.name.to_owned(),
        r#type: type_bytes(&parameter.ty),
        allow_null_value: parameter.allow_null,
        allow_unknown_values: false,
        description: parameter.description.to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
    }
}

fn type_bytes(ty: &Type) -> Vec<u8> {
    ty.to_json().to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_the_set_whose_element_it_means() {
        let path = AttributePath::of("rule").element().attribute("port");
        assert_eq!(path.to_string(), "rule[*].port");
        assert_eq!(attribute_path(&path), attribute_path(&AttributePath::of("rule")));
        assert_eq!(attribute_path(&AttributePath::of("rule").index(1).attribute("port")).steps.len(), 3);
    }
}
