// SPDX-License-Identifier: MPL-2.0

//! Checks a configuration by its schema: the checks of its attributes, and deprecations.

use super::diagnostics::{Diagnostics, Error};
use super::path::AttributePath;
use super::schema::{Attribute, Block, NestedBlock, Nesting};
use super::value::Value;

/// Checks a configuration. Skips unknown values, which are checked again once they are known.
pub fn validate(block: &Block, config: &Value, diagnostics: &mut Diagnostics) {
    check_block(block, config, &AttributePath::default(), diagnostics);
}

fn check_block(block: &Block, value: &Value, path: &AttributePath, diagnostics: &mut Diagnostics) {
    if !matches!(value, Value::Map(_)) {
        return;
    }
    if let Some(instead) = &block.deprecated {
        diagnostics.warning(Error::new("this block is deprecated").detail(instead).at(path));
    }
    for attribute in &block.attributes {
        let item = value.get(&attribute.name).unwrap_or(&Value::Null);
        check_attribute(attribute, item, &path.clone().attribute(&attribute.name), diagnostics);
    }
    for nested in &block.blocks {
        let item = value.get(&nested.name).unwrap_or(&Value::Null);
        check_nested(nested, item, &path.clone().attribute(&nested.name), diagnostics);
    }
}

fn check_attribute(attribute: &Attribute, value: &Value, path: &AttributePath, diagnostics: &mut Diagnostics) {
    if value.is_null() {
        return;
    }
    if let Some(instead) = &attribute.deprecated {
        diagnostics.warning(Error::new(format!("{} is deprecated", attribute.name)).detail(instead).at(path));
    }
    if value.is_unknown() {
        return;
    }
    for check in &attribute.validators {
        if let Err(wrong) = check(value) {
            diagnostics.error(Error::new(format!("{path} has an invalid value")).detail(wrong).at(path));
        }
    }
}

fn check_nested(nested: &NestedBlock, value: &Value, path: &AttributePath, diagnostics: &mut Diagnostics) {
    match (nested.nesting, value) {
        (Nesting::Single | Nesting::Group, value) => check_block(&nested.block, value, path, diagnostics),
        (_, Value::List(items) | Value::Set(items)) => {
            for (at, item) in items.iter().enumerate() {
                check_block(&nested.block, item, &item_path(nested, path, at), diagnostics);
            }
        }
        (_, Value::Map(items)) => {
            for (key, item) in items {
                check_block(&nested.block, item, &path.clone().key(key), diagnostics);
            }
        }
        _ => {}
    }
}

fn item_path(nested: &NestedBlock, path: &AttributePath, at: usize) -> AttributePath {
    if nested.nesting == Nesting::Set { path.clone().element() } else { path.clone().index(at) }
}

/// Refuses write-only values, for versions of Terraform that do not support them and would store them.
pub fn refuse_write_only(block: &Block, config: &Value, diagnostics: &mut Diagnostics) {
    refuse_in(block, config, &AttributePath::default(), diagnostics);
}

fn refuse_in(block: &Block, value: &Value, path: &AttributePath, diagnostics: &mut Diagnostics) {
    let is_set = |name: &str| value.get(name).is_some_and(|value| !value.is_null());
    for attribute in block.attributes.iter().filter(|attribute| attribute.write_only && is_set(&attribute.name)) {
        let refused = Error::new(format!(
            "{} is write-only, which this version of Terraform or OpenTofu does not \
             support",
            attribute.name
        ))
        .detail("Use Terraform 1.11 or OpenTofu 1.11 or later, or another attribute.");
        diagnostics.error(refused.at(&path.clone().attribute(&attribute.name)));
    }
    for nested in &block.blocks {
        let path = path.clone().attribute(&nested.name);
        match (nested.nesting, value.get(&nested.name).unwrap_or(&Value::Null)) {
            (_, Value::List(items) | Value::Set(items)) => {
                let items = items.iter().enumerate();
                items.for_each(|(at, item)| refuse_in(&nested.block, item, &item_path(nested, &path, at), diagnostics));
            }
            (Nesting::Map, Value::Map(items)) => {
                items
                    .iter()
                    .for_each(|(key, item)| refuse_in(&nested.block, item, &path.clone().key(key), diagnostics));
            }
            (_, value) => refuse_in(&nested.block, value, &path, diagnostics),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tf_provider::schema::{Schema, Type};

    fn check(config: &[(&str, Value)]) -> Vec<String> {
        let port = || Attribute::optional("port", Type::Number, "").between(1, 65535);
        let schema = Schema::new("")
            .attribute(port())
            .attribute(Attribute::optional("mode", Type::String, "").one_of(&["a", "b"]))
            .attribute(Attribute::optional("old", Type::String, "").deprecated("Use mode."))
            .block(NestedBlock::list("server", Block::new("").attribute(port())));
        let config = Value::Map(config.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
        let mut diagnostics = Diagnostics::default();
        validate(&schema.block, &config, &mut diagnostics);
        diagnostics.iter().map(|d| format!("{:?} {}: {} {}", d.severity, d.path, d.summary, d.detail)).collect()
    }

    #[test]
    fn each_wrong_value_is_named() {
        let server = Value::List(vec![Value::Map([("port".to_owned(), Value::from(0))].into())]);
        let found = check(&[("mode", "c".into()), ("server", server)]);
        assert_eq!(
            found,
            [
                r#"Error mode: mode has an invalid value "c" is not one of the values it may have: "a", "b"."#,
                "Error server[0].port: server[0].port has an invalid value 0 is not a whole number from 1 to 65535.",
            ]
        );
    }

    #[test]
    fn an_element_of_a_set_is_named_by_its_set() {
        let port = Attribute::optional("port", Type::Number, "").between(1, 65535);
        let rule = NestedBlock::new("rule", Nesting::Set, Block::new("").attribute(port));
        let rules = Value::Set(vec![Value::Map([("port".to_owned(), Value::from(0))].into())]);
        let mut diagnostics = Diagnostics::default();
        validate(&Block::new("").block(rule), &Value::Map([("rule".to_owned(), rules)].into()), &mut diagnostics);
        let paths: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.path.to_string()).collect();
        assert_eq!(paths, ["rule[*].port"]);
    }

    #[test]
    fn write_only_values_are_refused_wherever_they_are() {
        let secret = || Attribute::optional("secret_wo", Type::String, "").write_only();
        let block = Block::new("")
            .attribute(secret())
            .block(NestedBlock::single("one", Block::new("").attribute(secret())))
            .block(NestedBlock::list("many", Block::new("").attribute(secret())));
        let set = || Value::Map([("secret_wo".to_owned(), "x".into())].into());
        let mut config = set();
        config.set("one", Value::Null);
        config.set("many", Value::List(vec![Value::Map([("secret_wo".to_owned(), Value::Null)].into()), set()]));
        let mut diagnostics = Diagnostics::default();
        refuse_write_only(&block, &config, &mut diagnostics);
        let paths: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.path.to_string()).collect();
        assert_eq!(paths, ["secret_wo", "many[1].secret_wo"]);
    }

    #[test]
    fn unknown_and_absent_values_pass() {
        assert!(check(&[("mode", Value::UNKNOWN), ("port", Value::Null), ("server", Value::UNKNOWN)]).is_empty());
    }

    #[test]
    fn a_deprecated_attribute_is_warned_of_where_it_is_set() {
        assert_eq!(check(&[("old", Value::UNKNOWN)]), ["Warning old: old is deprecated Use mode."]);
    }
}
