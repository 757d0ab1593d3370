// SPDX-License-Identifier: MPL-2.0

//! The "Schema" section of a page: attributes grouped by who sets them, nested blocks with anchors.

use super::super::schema::{Attribute, Block, NestedBlock, Nesting, Origin, Type};
use super::super::value::Value;

/// The groups of a block's members, in the order of the page.
const GROUPS: [(&str, Group); 3] =
    [("Required", Group::Required), ("Optional", Group::Optional), ("Read-Only", Group::ReadOnly)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Required,
    Optional,
    ReadOnly,
}

/// The section at an anchor, for a member that needs more than its own line.
enum Nested<'a> {
    Block(&'a Block),
    Object(&'a Type, &'a Parts<'a>),
}

/// Describes an attribute of an object by its path, such as `causes.kind`.
type Parts<'a> = dyn Fn(&str) -> &'a str + 'a;

/// The whole section of a root block.
pub(super) fn anchored(block: &Block) -> String {
    let mut text = "## Schema\n".to_owned();
    for (title, lines) in grouped(block, "") {
        text.push_str(&format!("\n### {title}\n\n{}\n", lines.join("\n")));
    }
    nested_sections(block, "", &mut text);
    text
}

/// A line of a list: its head and its description.
pub(super) fn describe(head: &str, description: &str) -> String {
    // A further paragraph would end the item.
    format!("{head} {}", description.split_whitespace().collect::<Vec<_>>().join(" ")).trim_end().to_owned()
}

/// A type in the words of the registries.
pub(super) fn type_name(ty: &Type) -> String {
    match ty {
        Type::Bool => "Boolean".to_owned(),
        Type::Number => "Number".to_owned(),
        Type::String => "String".to_owned(),
        Type::Dynamic => "Dynamic".to_owned(),
        Type::List(of) => format!("List of {}", type_name(of)),
        Type::Set(of) => format!("Set of {}", type_name(of)),
        Type::Map(of) => format!("Map of {}", type_name(of)),
        Type::Object(..) => "Object".to_owned(),
        Type::Tuple(_) => "Tuple".to_owned(),
    }
}

fn grouped(block: &Block, path: &str) -> Vec<(&'static str, Vec<String>)> {
    let lines = |group| {
        let attributes = block.attributes.iter().filter(move |attribute| group_of(attribute) == group);
        let blocks = block.blocks.iter().filter(move |block| group_of_block(block) == group);
        let attributes = attributes.map(|attribute| attribute_line(attribute, path));
        attributes.chain(blocks.map(|block| block_line(block, path))).collect::<Vec<_>>()
    };
    let groups = GROUPS.into_iter().map(|(title, group)| (title, lines(group)));
    groups.filter(|(_, lines)| !lines.is_empty()).collect()
}

fn group_of(attribute: &Attribute) -> Group {
    match attribute.origin {
        Origin::Required => Group::Required,
        Origin::Optional | Origin::OptionalComputed => Group::Optional,
        Origin::Computed => Group::ReadOnly,
    }
}

fn group_of_block(block: &NestedBlock) -> Group {
    let is_read_only = |block: &Block| {
        !block.attributes.is_empty() && block.attributes.iter().all(|attribute| group_of(attribute) == Group::ReadOnly)
    };
    match block.min_items {
        0 if is_read_only(&block.block) => Group::ReadOnly,
        0 => Group::Optional,
        _ => Group::Required,
    }
}

fn attribute_line(attribute: &Attribute, path: &str) -> String {
    let flags = [
        (attribute.sensitive && !attribute.write_only, "Sensitive"),
        (attribute.write_only, "Write-only"),
        (attribute.deprecated.is_some(), "Deprecated"),
    ];
    let flags = flags.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| format!(", {name}"));
    let head = format!("- `{}` ({}{})", attribute.name, type_name(&attribute.ty), flags.collect::<String>());
    let mut text = attribute.description.clone();
    for more in [choices(attribute), default(attribute)].into_iter().flatten() {
        text.push_str(&format!(" {more}"));
    }
    if let Some(instead) = &attribute.deprecated {
        text.push_str(&format!(" **Deprecated** {instead}"));
    }
    if object_in(&attribute.ty).is_some() {
        text.push_str(&format!(" (see [below for nested schema](#nestedatt--{path}{}))", attribute.name));
    }
    describe(&head, &text)
}

/// Its allowed values, unless the description already lists them.
fn choices(attribute: &Attribute) -> Option<String> {
    let marked = |choice: &&str| format!("`{choice}`");
    let is_told = attribute.choices.iter().all(|choice| attribute.description.contains(&marked(choice)));
    if is_told {
        return None;
    }
    let choices: Vec<_> = attribute.choices.iter().map(marked).collect();
    Some(format!("One of {}.", choices.join(", ")))
}

/// The default, unless the description already names one.
fn default(attribute: &Attribute) -> Option<String> {
    let value = attribute.default.as_ref().filter(|_| !attribute.description.contains("Default:"))?;
    let text = match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    Some(format!("Default: `{text}`."))
}

fn block_line(block: &NestedBlock, path: &str) -> String {
    let kind = match block.nesting {
        Nesting::Single | Nesting::Group => "Block",
        Nesting::List => "Block List",
        Nesting::Set => "Block Set",
        Nesting::Map => "Block Map",
    };
    let limits = [("Min", block.min_items), ("Max", block.max_items)].into_iter().filter(|(_, items)| *items > 0);
    let limits: String = limits.map(|(name, items)| format!(", {name}: {items}")).collect();
    let deprecated = block.block.deprecated.as_ref().map(|instead| format!(" **Deprecated** {instead}"));
    let text = format!(
        "{}{} (see [below for nested schema](#nestedblock--{path}{}))",
        block.block.description,
        deprecated.unwrap_or_default(),
        block.name
    );
    describe(&format!("- `{}` ({kind}{limits})", block.name), &text)
}

/// The object type of an attribute, at any depth in collections.
fn object_in(ty: &Type) -> Option<&Type> {
    match ty {
        Type::List(of) | Type::Set(of) | Type::Map(of) => object_in(of),
        Type::Object(..) => Some(ty),
        _ => None,
    }
}

fn nested_sections(block: &Block, path: &str, text: &mut String) {
    for attribute in &block.attributes {
        if let Some(object) = object_in(&attribute.ty) {
            let described = |name: &str| {
                let found = attribute.parts.iter().find(|(part, _)| *part == name);
                found.map_or("", |(_, description)| *description)
            };
            nested_section(&attribute.name, path, &Nested::Object(object, &described), text);
        }
    }
    for nested in &block.blocks {
        nested_section(&nested.name, path, &Nested::Block(&nested.block), text);
    }
}

fn nested_section(name: &str, path: &str, nested: &Nested<'_>, text: &mut String) {
    let anchor = if matches!(nested, Nested::Block(_)) { "nestedblock" } else { "nestedatt" };
    let title = format!("{}{name}", path.replace("--", "."));
    text.push_str(&format!("\n<a id=\"{anchor}--{path}{name}\"></a>\n### Nested Schema for `{title}`\n"));
    let path = format!("{path}{name}--");
    match nested {
        Nested::Block(block) => {
            for (title, lines) in grouped(block, &path) {
                text.push_str(&format!("\n{title}:\n\n{}\n", lines.join("\n")));
            }
            nested_sections(block, &path, text);
        }
        Nested::Object(ty, described) => object_section(ty, &path, described, text),
    }
}

/// The attributes of an object type, with the descriptions from the attribute that has it.
fn object_section(ty: &Type, path: &str, described: &Parts<'_>, text: &mut String) {
    let Type::Object(attributes, _) = ty else { return };
    text.push('\n');
    for (name, ty) in attributes {
        let see = object_in(ty).map(|_| format!(" (see [below for nested schema](#nestedatt--{path}{name}))"));
        let line = format!("{}{}", described(name), see.unwrap_or_default());
        text.push_str(&format!("{}\n", describe(&format!("- `{name}` ({})", type_name(ty)), &line)));
    }
    for (name, ty) in attributes {
        if let Some(object) = object_in(ty) {
            let within = |inner: &str| described(&format!("{name}.{inner}"));
            nested_section(name, path, &Nested::Object(object, &within), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(attribute: Attribute) -> String {
        attribute_line(&attribute, "")
    }

    #[test]
    fn an_attribute_says_its_type_and_what_is_special() {
        let text = |name: &str| Attribute::optional(name, Type::String, "Text.");
        assert_eq!(line(text("a")), "- `a` (String) Text.");
        assert_eq!(line(text("a").sensitive()), "- `a` (String, Sensitive) Text.");
        assert_eq!(line(text("a").write_only()), "- `a` (String, Write-only) Text.");
        assert_eq!(line(text("a").deprecated("Use `b`.")), "- `a` (String, Deprecated) Text. **Deprecated** Use `b`.");
        let nested = Type::set(Type::map(Type::Number));
        assert_eq!(line(Attribute::computed("a", nested, "Many.")), "- `a` (Set of Map of Number) Many.");
    }

    #[test]
    fn defaults_and_choices_are_added_unless_they_are_told() {
        let text = |description: &str| Attribute::optional("a", Type::String, description);
        assert_eq!(line(text("Text.").default("x")), "- `a` (String) Text. Default: `x`.");
        assert_eq!(line(text("Text. Default: `x`.").default("x")), "- `a` (String) Text. Default: `x`.");
        assert_eq!(line(text("Text.").one_of(&["x", "y"])), "- `a` (String) Text. One of `x`, `y`.");
        assert_eq!(line(text("`x` or `y`.").one_of(&["x", "y"])), "- `a` (String) `x` or `y`.");
    }

    #[test]
    fn members_are_grouped_and_blocks_lead_to_their_anchor() {
        let inner = Block::new("Deep.").attribute(Attribute::required("c", Type::Bool, "C."));
        let outer = Block::new("Outer.").block(NestedBlock::list("inner", inner));
        let block = Block::new("")
            .attribute(Attribute::computed("id", Type::String, "Id."))
            .attribute(Attribute::required("name", Type::String, "Name."))
            .block(NestedBlock { min_items: 1, max_items: 2, ..NestedBlock::list("outer", outer) });
        let expected = "\
## Schema

### Required

- `name` (String) Name.
- `outer` (Block List, Min: 1, Max: 2) Outer. (see [below for nested schema](#nestedblock--outer))

### Read-Only

- `id` (String) Id.

<a id=\"nestedblock--outer\"></a>
### Nested Schema for `outer`

Optional:

- `inner` (Block List) Deep. (see [below for nested schema](#nestedblock--outer--inner))

<a id=\"nestedblock--outer--inner\"></a>
### Nested Schema for `outer.inner`

Required:

- `c` (Boolean) C.
";
        assert_eq!(anchored(&block), expected);
    }

    #[test]
    fn an_object_is_shown_below() {
        let tables = Type::list(Type::object([("name", Type::String), ("at", Type::object([("lsn", Type::String)]))]));
        let tables = Attribute::computed("tables", tables, "The tables.");
        let block = Block::new("").attribute(tables.parts(&[("at", "Where."), ("at.lsn", "A position.")]));
        let expected = "\
## Schema

### Read-Only

- `tables` (List of Object) The tables. (see [below for nested schema](#nestedatt--tables))

<a id=\"nestedatt--tables\"></a>
### Nested Schema for `tables`

- `at` (Object) Where. (see [below for nested schema](#nestedatt--tables--at))
- `name` (String)

<a id=\"nestedatt--tables--at\"></a>
### Nested Schema for `tables.at`

- `lsn` (String) A position.
";
        assert_eq!(anchored(&block), expected);
    }
}
