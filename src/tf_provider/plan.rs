// SPDX-License-Identifier: MPL-2.0

//! Plans what follows from a schema alone: defaults, computed values, replacement. Pure.

use std::collections::VecDeque;

use super::path::AttributePath;
use super::schema::{Attribute, Block, NestedBlock, Nesting, Origin};
use super::value::Value;

/// A planned value, and the attributes whose change needs a new object.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The value after apply; values that are not known yet are unknown.
    pub planned: Value,
    /// The attributes whose change needs a new object.
    pub replace: Vec<AttributePath>,
}

/// Plans the creation (`prior` is null) or change of an object.
///
/// `proposed` is Terraform's merge of configuration and prior state. Write-only values are removed, and
/// defaults set. Computed values are unknown if the object is new, or if it changes and the attribute is not
/// stable.
pub fn plan(block: &Block, prior: &Value, proposed: Value, config: &Value) -> Plan {
    let mut planned = proposed;
    let beside = Beside { config, prior };
    each_attribute(block, &mut planned, beside, &mut |attribute, value, beside| {
        fill(attribute, value, part(beside.config, &attribute.name));
    });
    let creates = prior.is_null();
    if creates || planned != *prior {
        each_attribute(block, &mut planned, beside, &mut |attribute, value, beside| {
            let configured = part(beside.config, &attribute.name);
            if awaits_apply(attribute, value, configured, beside.prior.is_null()) {
                *value = Value::UNKNOWN;
            }
        });
    }
    let replace = if creates { Vec::new() } else { replacing(block, prior, &planned) };
    Plan { planned, replace }
}

/// Removes all write-only values, at any depth: plans and states never have them.
pub fn without_write_only(block: &Block, value: &mut Value) {
    each_attribute(block, value, Beside::NOTHING, &mut |attribute, value, _| {
        if attribute.write_only {
            *value = Value::Null;
        }
    });
}

/// Adds the configuration's write-only values to a planned value, for the apply.
pub fn with_write_only(block: &Block, planned: &mut Value, config: &Value) {
    each_attribute(block, planned, Beside { config, ..Beside::NOTHING }, &mut |attribute, value, beside| {
        if attribute.write_only {
            value.clone_from(part(beside.config, &attribute.name));
        }
    });
}

/// The configuration that would give this state: without computed values, defaults, and values that others
/// may change.
pub fn config_of(block: &Block, state: &Value) -> Value {
    let mut config = state.clone();
    each_attribute(block, &mut config, Beside::NOTHING, &mut |attribute, value, _| {
        let is_default = attribute.default.as_ref() == Some(value);
        if attribute.origin == Origin::Computed || attribute.write_only || attribute.unpinned || is_default {
            *value = Value::Null;
        }
    });
    config
}

fn fill(attribute: &Attribute, value: &mut Value, configured: &Value) {
    if attribute.write_only {
        *value = Value::Null;
    } else if let Some(default) = &attribute.default
        && configured.is_null()
    {
        value.clone_from(default);
    }
}

fn awaits_apply(attribute: &Attribute, value: &Value, configured: &Value, is_new: bool) -> bool {
    let ours = attribute.is_computed() && attribute.default.is_none() && configured.is_null();
    ours && (is_new || !attribute.stable || value.is_null() && attribute.origin == Origin::Computed)
}

/// The values at the same place in other objects, null if there is none.
#[derive(Clone, Copy)]
struct Beside<'a> {
    config: &'a Value,
    prior: &'a Value,
}

impl<'a> Beside<'a> {
    const NOTHING: Self = Self { config: &Value::Null, prior: &Value::Null };

    fn part(self, name: &str) -> Self {
        Self { config: part(self.config, name), prior: part(self.prior, name) }
    }

    fn element(self, at: usize) -> Self {
        let element = |value: &'a Value| elements(value).get(at).unwrap_or(&Value::Null);
        Self { config: element(self.config), prior: element(self.prior) }
    }
}

/// The work for an attribute: it gets the value, and the values beside its block.
type Visit<'v> = &'v mut dyn FnMut(&Attribute, &mut Value, Beside<'_>);

/// Visits each attribute of the block and of those within it.
fn each_attribute(block: &Block, value: &mut Value, beside: Beside<'_>, visit: Visit<'_>) {
    let Value::Map(items) = value else { return };
    for attribute in &block.attributes {
        visit(attribute, items.entry(attribute.name.clone()).or_insert(Value::Null), beside);
    }
    for nested in &block.blocks {
        if let Some(item) = items.get_mut(&nested.name) {
            each_nested(nested, item, beside.part(&nested.name), visit);
        }
    }
}

fn each_nested(nested: &NestedBlock, value: &mut Value, beside: Beside<'_>, visit: Visit<'_>) {
    match (nested.nesting, value) {
        (Nesting::Single | Nesting::Group, value) => each_attribute(&nested.block, value, beside, visit),
        (_, Value::Set(items)) => {
            let mut configured = elements(beside.config).iter().collect();
            for item in items {
                let config = take_fitting(&nested.block, &mut configured, item);
                let prior = elements(beside.prior).iter().find(|prior| fits(&nested.block, config, prior));
                let beside = Beside { config, prior: prior.unwrap_or(&Value::Null) };
                each_attribute(&nested.block, item, beside, visit);
            }
        }
        (_, Value::List(items)) => {
            for (at, item) in items.iter_mut().enumerate() {
                each_attribute(&nested.block, item, beside.element(at), visit);
            }
        }
        (_, Value::Map(items)) => {
            for (key, item) in items {
                each_attribute(&nested.block, item, beside.part(key), visit);
            }
        }
        _ => {}
    }
}

fn part<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn elements(value: &Value) -> &[Value] {
    match value {
        Value::List(items) | Value::Set(items) => items,
        _ => &[],
    }
}

/// Takes out the configured block that this planned block of a set came from, null if there is none. Terraform
/// and OpenTofu order a set by its contents, so a computed value or a default can move a block.
fn take_fitting<'a>(block: &Block, configured: &mut VecDeque<&'a Value>, planned: &Value) -> &'a Value {
    let at = configured.iter().position(|configured| fits(block, configured, planned));
    at.and_then(|at| configured.remove(at)).unwrap_or(&Value::Null)
}

/// Whether all configured values are planned.
fn fits(block: &Block, configured: &Value, planned: &Value) -> bool {
    let attributes = block.attributes.iter().all(|attribute| {
        let configured = part(configured, &attribute.name);
        attribute.write_only || configured.is_null() || configured == part(planned, &attribute.name)
    });
    attributes
        && block.blocks.iter().all(|nested| {
            let (configured, planned) = (part(configured, &nested.name), part(planned, &nested.name));
            match nested.nesting {
                Nesting::Single | Nesting::Group => fits(&nested.block, configured, planned),
                _ => elements(configured).len() == elements(planned).len(),
            }
        })
}

fn replacing(block: &Block, prior: &Value, planned: &Value) -> Vec<AttributePath> {
    let mut found = Vec::new();
    find_replacing(block, prior, planned, &AttributePath::default(), &mut found);
    found
}

fn find_replacing(block: &Block, prior: &Value, planned: &Value, path: &AttributePath, found: &mut Vec<AttributePath>) {
    for attribute in block.attributes.iter().filter(|attribute| attribute.replaces) {
        if part(prior, &attribute.name) != part(planned, &attribute.name) {
            found.push(path.clone().attribute(&attribute.name));
        }
    }
    for nested in block.blocks.iter().filter(|nested| has_replacing(&nested.block)) {
        let path = path.clone().attribute(&nested.name);
        find_replacing_nested(nested, part(prior, &nested.name), part(planned, &nested.name), &path, found);
    }
}

fn find_replacing_nested(
    nested: &NestedBlock,
    prior: &Value,
    planned: &Value,
    path: &AttributePath,
    found: &mut Vec<AttributePath>,
) {
    match (nested.nesting, prior, planned) {
        (Nesting::Single | Nesting::Group, _, _) => find_replacing(&nested.block, prior, planned, path, found),
        (Nesting::List, Value::List(old), Value::List(new)) => {
            for at in 0..old.len().max(new.len()) {
                let (old, new) = (old.get(at).unwrap_or(&Value::Null), new.get(at).unwrap_or(&Value::Null));
                find_replacing(&nested.block, old, new, &path.clone().index(at), found);
            }
        }
        (Nesting::Map, Value::Map(old), Value::Map(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                let (old, new) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
                find_replacing(&nested.block, old, new, &path.clone().key(key), found);
            }
        }
        // The blocks of a set cannot be matched, and unknown values cannot be compared.
        (_, prior, planned) if prior != planned => found.push(path.clone()),
        _ => {}
    }
}

fn has_replacing(block: &Block) -> bool {
    block.attributes.iter().any(|attribute| attribute.replaces)
        || block.blocks.iter().any(|nested| has_replacing(&nested.block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tf_provider::schema::{Schema, Type};

    fn schema() -> Schema {
        Schema::new("")
            .attribute(Attribute::required("name", Type::String, ""))
            .attribute(Attribute::optional("database", Type::String, "").replaces())
            .attribute(Attribute::optional("enabled", Type::Bool, "").default(true))
            .attribute(Attribute::optional_computed("streaming", Type::String, ""))
            .attribute(Attribute::computed("id", Type::String, "").stable())
            .attribute(Attribute::computed("pending", Type::String, ""))
            .block(NestedBlock::single(
                "connection",
                Block::new("")
                    .attribute(Attribute::optional("host", Type::String, ""))
                    .attribute(Attribute::optional("password_wo", Type::String, "").write_only()),
            ))
    }

    fn object(items: &[(&str, Value)]) -> Value {
        let names = ["name", "database", "enabled", "streaming", "id", "pending", "connection"];
        let mut value = Value::Map(names.map(|name| (name.to_owned(), Value::Null)).into());
        for (name, item) in items {
            value.set(name, item.clone());
        }
        value
    }

    fn connection(host: &str, password: Value) -> Value {
        Value::Map([("host".to_owned(), host.into()), ("password_wo".to_owned(), password)].into())
    }

    fn state() -> Value {
        object(&[
            ("name", "a".into()),
            ("enabled", true.into()),
            ("streaming", "off".into()),
            ("id", "db/a".into()),
            ("pending", "no".into()),
            ("connection", connection("h", Value::Null)),
        ])
    }

    /// Plans with the proposal of Terraform: the configuration, with prior values for missing ones.
    fn check(prior: &Value, config: &Value) -> Plan {
        let mut proposed = config.clone();
        for name in ["enabled", "streaming", "id", "pending"] {
            if config.get(name) == Some(&Value::Null) {
                proposed.set(name, prior.get(name).cloned().unwrap_or(Value::Null));
            }
        }
        plan(&schema().block, prior, proposed, config)
    }

    #[test]
    fn a_new_object_has_its_defaults_and_awaits_the_rest() {
        let Plan { planned, replace } = check(&Value::Null, &object(&[("name", "a".into())]));
        assert_eq!(planned.get("enabled"), Some(&Value::Bool(true)));
        for name in ["streaming", "id", "pending"] {
            assert!(planned.get(name).unwrap().is_unknown(), "{name}");
        }
        assert!(replace.is_empty());
    }

    #[test]
    fn nothing_changes_where_the_configuration_says_what_is() {
        let config = object(&[("name", "a".into()), ("connection", connection("h", "secret".into()))]);
        assert_eq!(check(&state(), &config).planned, state());
    }

    #[test]
    fn a_change_makes_only_unstable_values_unknown() {
        let config = object(&[("name", "b".into()), ("connection", connection("h", Value::Null))]);
        let planned = check(&state(), &config).planned;
        assert_eq!(planned.get("id"), Some(&"db/a".into()));
        assert_eq!(planned.get("streaming"), Some(&"off".into()));
        assert!(planned.get("pending").unwrap().is_unknown());
    }

    #[test]
    fn leaving_a_default_out_again_brings_it_back() {
        let mut prior = state();
        prior.set("enabled", false.into());
        let config = object(&[("name", "a".into()), ("connection", connection("h", Value::Null))]);
        assert_eq!(check(&prior, &config).planned.get("enabled"), Some(&Value::Bool(true)));
    }

    #[test]
    fn only_what_replaces_replaces() {
        let config = object(&[("name", "b".into()), ("database", "other".into())]);
        assert_eq!(check(&state(), &config).replace, [AttributePath::of("database")]);
    }

    #[test]
    fn write_only_values_are_there_to_apply_and_nowhere_else() {
        let config = object(&[("name", "a".into()), ("connection", connection("h", "secret".into()))]);
        let mut planned = check(&Value::Null, &config).planned;
        assert_eq!(planned.get("connection").unwrap().get("password_wo"), Some(&Value::Null));
        with_write_only(&schema().block, &mut planned, &config);
        assert_eq!(planned.get("connection").unwrap().get("password_wo"), Some(&"secret".into()));
        without_write_only(&schema().block, &mut planned);
        assert_eq!(planned.get("connection").unwrap().get("password_wo"), Some(&Value::Null));
    }

    fn block_of<const N: usize>(items: [(&str, Value); N]) -> Value {
        Value::Map(items.map(|(name, value)| (name.to_owned(), value)).into())
    }

    #[test]
    fn the_order_of_a_set_means_nothing() {
        let rule = Block::new("")
            .attribute(Attribute::required("port", Type::Number, ""))
            .attribute(Attribute::optional("kind", Type::String, "").default("tcp"));
        let block = Block::new("").block(NestedBlock::new("rule", Nesting::Set, rule));
        let rule = |port: i64, kind: Value| block_of([("port", port.into()), ("kind", kind)]);
        let rules = |rules: &[Value]| block_of([("rule", Value::Set(rules.to_vec()))]);
        let config = rules(&[rule(1, "udp".into()), rule(2, Value::Null)]);
        let proposed = rules(&[rule(2, Value::Null), rule(1, "udp".into())]);
        let planned = plan(&block, &Value::Null, proposed, &config).planned;
        assert_eq!(planned, rules(&[rule(1, "udp".into()), rule(2, "tcp".into())]));
    }

    #[test]
    fn what_is_computed_of_a_new_block_is_not_known_yet() {
        let table = Block::new("")
            .attribute(Attribute::required("name", Type::String, ""))
            .attribute(Attribute::optional_computed("kind", Type::String, ""));
        let block = Block::new("").block(NestedBlock::list("table", table));
        let table = |name: &str, kind: Value| block_of([("name", name.into()), ("kind", kind)]);
        let tables = |tables: &[Value]| block_of([("table", Value::List(tables.to_vec()))]);
        let prior = tables(&[table("a", "heap".into()), table("b", Value::Null)]);
        let config = tables(&[table("a", Value::Null), table("b", Value::Null), table("c", Value::Null)]);
        let proposed = tables(&[table("a", "heap".into()), table("b", Value::Null), table("c", Value::Null)]);
        let planned = plan(&block, &prior, proposed, &config).planned;
        let expected = [table("a", "heap".into()), table("b", Value::Null), table("c", Value::UNKNOWN)];
        assert_eq!(planned, tables(&expected));
    }

    #[test]
    fn a_value_within_a_block_replaces_too() {
        let zone = || Block::new("").attribute(Attribute::optional("zone", Type::String, "").replaces());
        let block = Block::new("")
            .block(NestedBlock::single("one", zone()))
            .block(NestedBlock::list("many", zone()))
            .block(NestedBlock::new("named", Nesting::Map, zone()))
            .block(NestedBlock::new("some", Nesting::Set, zone()));
        let zone = |name: &str| block_of([("zone", name.into())]);
        let object = |name: &str| {
            block_of([
                ("one", zone(name)),
                ("many", Value::List(vec![zone("a"), zone(name)])),
                ("named", block_of([("k", zone(name))])),
                ("some", Value::Set(vec![zone(name)])),
            ])
        };
        let replace = plan(&block, &object("a"), object("b"), &object("b")).replace;
        let replace: Vec<_> = replace.iter().map(ToString::to_string).collect();
        assert_eq!(replace, ["one.zone", "many[1].zone", "named[\"k\"].zone", "some"]);
        assert!(plan(&block, &object("a"), object("a"), &object("a")).replace.is_empty());
    }

    #[test]
    fn a_generated_configuration_leaves_out_what_others_may_change() {
        let block = Block::new("").attribute(Attribute::optional_computed("followed", Type::Bool, "").unpinned());
        let state = block_of([("followed", false.into())]);
        assert_eq!(config_of(&block, &state), block_of([("followed", Value::Null)]));
    }

    #[test]
    fn a_generated_configuration_says_only_what_is_not_so_anyway() {
        let config = config_of(&schema().block, &state());
        assert_eq!(config.get("name"), Some(&"a".into()));
        for name in ["enabled", "id", "pending"] {
            assert_eq!(config.get(name), Some(&Value::Null), "{name}");
        }
    }
}
