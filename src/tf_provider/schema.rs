// SPDX-License-Identifier: MPL-2.0

//! The schemas of blocks: types, attributes, nested blocks, and their builders.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use super::ty::Type;
use super::value::Value;

/// The root block of a resource, data source or provider, and the version of its state.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The version that is stored with a state; older states go through `Resource::upgrade`.
    pub version: u64,
    /// The block.
    pub block: Block,
}

impl Schema {
    /// Version 0 of a schema. The description is Markdown and becomes the head of its page in the docs.
    pub fn new(description: &str) -> Self {
        Self { version: 0, block: Block::new(description) }
    }

    /// Sets the version of the state.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, attribute: Attribute) -> Self {
        self.block = self.block.attribute(attribute);
        self
    }

    /// Adds a nested block.
    #[must_use]
    pub fn block(mut self, block: NestedBlock) -> Self {
        self.block = self.block.block(block);
        self
    }

    /// The object type that the protocol's values of this schema have.
    pub fn implied_type(&self) -> Type {
        self.block.implied_type()
    }
}

/// Attributes and nested blocks, in the order in which they are documented.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Markdown.
    pub description: String,
    /// The attributes.
    pub attributes: Vec<Attribute>,
    /// The nested blocks.
    pub blocks: Vec<NestedBlock>,
    /// What to use instead, if the block is deprecated.
    pub deprecated: Option<String>,
}

impl Block {
    /// An empty block with its description (Markdown).
    pub fn new(description: &str) -> Self {
        Self { description: description.to_owned(), ..Self::default() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, attribute: Attribute) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// Adds a nested block.
    #[must_use]
    pub fn block(mut self, block: NestedBlock) -> Self {
        self.blocks.push(block);
        self
    }

    /// Marks the whole block as deprecated; the text says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, instead: &str) -> Self {
        self.deprecated = Some(instead.to_owned());
        self
    }

    /// The object type that the protocol's values of this block have.
    pub fn implied_type(&self) -> Type {
        let attributes = self.attributes.iter().map(|attribute| (attribute.name.clone(), attribute.ty.clone()));
        let blocks = self.blocks.iter().map(|block| (block.name.clone(), block.implied_type()));
        Type::Object(attributes.chain(blocks).collect(), BTreeSet::new())
    }

    /// The attribute of that name.
    pub fn find(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

/// Who gives an attribute its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration must.
    Required,
    /// The configuration may; null otherwise.
    Optional,
    /// The configuration may; otherwise the provider does.
    OptionalComputed,
    /// Only the provider does.
    Computed,
}

/// A check of one known, non-null value; the text says what is wrong and what would be right.
pub type Validator = Arc<dyn Fn(&Value) -> Result<(), String> + Send + Sync>;

/// One attribute. Created by a constructor for its [`Origin`], and extended with the methods below.
#[derive(Clone)]
pub struct Attribute {
    /// Its name in the configuration.
    pub name: String,
    /// The type of its value.
    pub ty: Type,
    /// Markdown.
    pub description: String,
    /// Who gives it its value.
    pub origin: Origin,
    /// Whether Terraform and OpenTofu hide its value in their output.
    pub sensitive: bool,
    /// Whether its value is only ever in the configuration, never in plan or state.
    pub write_only: bool,
    /// What to use instead, if the attribute is deprecated.
    pub deprecated: Option<String>,
    /// Its default.
    pub default: Option<Value>,
    /// Whether a change of its value needs a new object.
    pub replaces: bool,
    /// Whether the provider's value stays when other attributes change.
    pub stable: bool,
    /// Whether a generated configuration omits it, because others than the configuration may change it.
    pub unpinned: bool,
    /// The only allowed values, if there are few; for messages and docs.
    pub choices: Vec<&'static str>,
    /// The descriptions of nested attributes, for docs: names, with dots for nested objects, and Markdown.
    pub parts: &'static [(&'static str, &'static str)],
    /// The checks that validation runs.
    pub validators: Vec<Validator>,
}

impl Attribute {
    /// An attribute that the configuration must give.
    pub fn required(name: &str, ty: Type, description: &str) -> Self {
        Self::new(name, ty, description, Origin::Required)
    }

    /// An attribute that the configuration may give, and that is null otherwise.
    pub fn optional(name: &str, ty: Type, description: &str) -> Self {
        Self::new(name, ty, description, Origin::Optional)
    }

    /// An attribute that the configuration may give, and otherwise the provider. Its value stays
    /// when other attributes change, so that omitting it never shows a difference.
    pub fn optional_computed(name: &str, ty: Type, description: &str) -> Self {
        Self::new(name, ty, description, Origin::OptionalComputed).stable()
    }

    /// An attribute that only the provider gives.
    pub fn computed(name: &str, ty: Type, description: &str) -> Self {
        Self::new(name, ty, description, Origin::Computed)
    }

    fn new(name: &str, ty: Type, description: &str, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            ty,
            description: description.to_owned(),
            origin,
            sensitive: false,
            write_only: false,
            deprecated: None,
            default: None,
            replaces: false,
            stable: false,
            unpinned: false,
            choices: Vec::new(),
            parts: &[],
            validators: Vec::new(),
        }
    }

    /// Hides the value in the output of Terraform and OpenTofu.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Keeps the value out of plans and states; it is only available during an apply.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self.sensitive = true;
        self
    }

    /// Warns users who set it; the text says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, instead: &str) -> Self {
        self.deprecated = Some(instead.to_owned());
        self
    }

    /// Sets the default. The protocol then counts it as computed.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self.origin = Origin::OptionalComputed;
        self
    }

    /// A change needs a new object.
    #[must_use]
    pub fn replaces(mut self) -> Self {
        self.replaces = true;
        self
    }

    /// The provider's value stays when other attributes change.
    #[must_use]
    pub fn stable(mut self) -> Self {
        self.stable = true;
        self
    }

    /// A generated configuration omits it: others may change it, and its current value is not a decision.
    #[must_use]
    pub fn unpinned(mut self) -> Self {
        self.unpinned = true;
        self
    }

    /// Describes the attributes of the objects in it, which the protocol has no descriptions for: `causes.kind` is attribute `kind`
    /// of the objects in `causes`.
    #[must_use]
    pub fn parts(mut self, parts: &'static [(&'static str, &'static str)]) -> Self {
        self.parts = parts;
        self
    }

    /// Sets the only allowed values.
    #[must_use]
    pub fn one_of(mut self, choices: &[&'static str]) -> Self {
        self.choices = choices.to_vec();
        let choices = self.choices.clone();
        self.text(move |text| {
            if choices.contains(&text) {
                return Ok(());
            }
            Err(format!("{text:?} is not one of the values it may have: {}.", quoted(&choices)))
        })
    }

    /// Sets the smallest and the largest allowed integer.
    #[must_use]
    pub fn between(self, least: i64, most: i64) -> Self {
        self.validator(move |value| {
            let Value::Number(number) = value else { return Ok(()) };
            match number.as_i64() {
                Some(number) if (least..=most).contains(&number) => Ok(()),
                _ => Err(format!("{number} is not a whole number from {least} to {most}.")),
            }
        })
    }

    /// Adds a check of its text, or, for a list or a set, of each text in it.
    #[must_use]
    pub fn text(self, check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.validator(move |value| match value {
            Value::String(text) => check(text),
            Value::List(items) | Value::Set(items) => items.iter().filter_map(Value::as_str).try_for_each(&check),
            _ => Ok(()),
        })
    }

    /// Adds a check of its value, which is neither null nor unknown itself (its parts may be).
    #[must_use]
    pub fn validator(mut self, check: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.validators.push(Arc::new(check));
        self
    }

    /// Whether the provider may give it a value.
    pub fn is_computed(&self) -> bool {
        matches!(self.origin, Origin::Computed | Origin::OptionalComputed)
    }
}

/// Omits the checks, which are code.
impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attribute")
            .field("name", &self.name)
            .field("ty", &self.ty)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

fn quoted(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("{choice:?}")).collect::<Vec<_>>().join(", ")
}

/// How often a nested block may occur, and the form of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// At most once: an object, or null.
    Single,
    /// Any number, in order: a list of objects.
    List,
    /// Any number, without order: a set of objects.
    Set,
    /// Any number, each with a label: a map of objects.
    Map,
    /// Exactly once: an object whose attributes are null if it is not written.
    Group,
}

/// A block within a block.
#[derive(Clone, Debug)]
pub struct NestedBlock {
    /// Its name in the configuration.
    pub name: String,
    /// The block itself.
    pub block: Block,
    /// How often it may occur.
    pub nesting: Nesting,
    /// The least number of blocks; 0 for no limit.
    pub min_items: u64,
    /// The greatest number of blocks; 0 for no limit.
    pub max_items: u64,
}

impl NestedBlock {
    /// A nested block.
    pub fn new(name: &str, nesting: Nesting, block: Block) -> Self {
        Self { name: name.to_owned(), block, nesting, min_items: 0, max_items: 0 }
    }

    /// A block that may occur once.
    pub fn single(name: &str, block: Block) -> Self {
        Self::new(name, Nesting::Single, block)
    }

    /// A block that may occur any number of times, in order.
    pub fn list(name: &str, block: Block) -> Self {
        Self::new(name, Nesting::List, block)
    }

    /// The type of the protocol's values of this block.
    pub fn implied_type(&self) -> Type {
        let object = self.block.implied_type();
        match self.nesting {
            Nesting::Single | Nesting::Group => object,
            Nesting::List => Type::list(object),
            Nesting::Set => Type::set(object),
            Nesting::Map => Type::map(object),
        }
    }
}

/// The schema of an identity, which names an object across configurations (`ResourceIdentitySchema`): plain
/// text attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySchema {
    /// The version of the identity.
    pub version: u64,
    /// Name, description, and whether an import must give it.
    pub attributes: Vec<IdentityAttribute>,
}

/// One text attribute of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityAttribute {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub description: &'static str,
    /// Whether an import must give it; otherwise the provider's configuration completes it.
    pub required_for_import: bool,
}

impl IdentitySchema {
    /// The type of the protocol's values of this identity.
    pub fn implied_type(&self) -> Type {
        let attributes = self.attributes.iter().map(|attribute| (attribute.name.to_owned(), Type::String));
        Type::Object(attributes.collect(), BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_implies_an_object() {
        let schema = Schema::new("").attribute(Attribute::required("name", Type::String, "")).block(NestedBlock::list(
            "table",
            Block::new("").attribute(Attribute::optional("where", Type::String, "")),
        ));
        assert_eq!(
            schema.implied_type().to_string(),
            "object({ name = string, table = list(object({ where = string })) })"
        );
    }

    #[test]
    fn choices_are_named_in_the_message() {
        let attribute = Attribute::optional("streaming", Type::String, "").one_of(&["off", "on"]);
        let message = attribute.validators[0](&Value::from("maybe")).unwrap_err();
        assert_eq!(message, r#""maybe" is not one of the values it may have: "off", "on"."#);
    }

    #[test]
    fn a_range_takes_whole_numbers_only() {
        let check = |text: &str| {
            let number = super::super::number::Number::parse(text).unwrap();
            Attribute::optional("port", Type::Number, "").between(1, 65535).validators[0](&Value::Number(number))
                .is_ok()
        };
        assert!(check("5432"));
        assert!(!check("0") && !check("1.5") && !check("1e30"));
    }
}
