// SPDX-License-Identifier: MPL-2.0

//! Renders schemas as the Markdown pages that the registries show, in their layout.
//!
//! The text of a page comes only from the schema, its examples from files. The wording of sections and the anchors of
//! nested blocks are the same as in other providers' docs, so that readers find everything in the usual place.

mod schema;

use std::collections::BTreeMap;

use self::schema::{anchored, describe, type_name};
use super::function::{Function, Parameter};
use super::provider::Provider;
use super::resource::AnyResource;
use super::schema::{IdentitySchema, Schema};

/// Reads a file of a directory by its relative path; `None` if there is none.
pub type Files<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The sources of a page, in addition to the schema.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// `examples/`.
    pub examples: Files<'a>,
    /// `templates/`: handwritten Markdown between a page's example and its schema.
    pub templates: Files<'a>,
}

/// All pages of a provider by their path below `docs/`. `name` is the provider's own, such as `neonrepl`: page names
/// omit it. A template has the path of its page.
pub fn render<P: Provider>(name: &str, sources: Sources<'_>) -> BTreeMap<String, String> {
    let short = |type_name: &str| type_name.strip_prefix(&format!("{name}_")).unwrap_or(type_name).to_owned();
    let mut pages = BTreeMap::from([("index.md".to_owned(), provider(name, &P::schema(), sources))]);
    for resource in P::resources() {
        let path = format!("resources/{}.md", short(resource.type_name()));
        let page = resource_page(name, *resource, (sources, &path));
        pages.insert(path, page);
    }
    let mut plain = |kind: &Kind, type_name: &str, schema: &Schema| {
        let path = format!("{}/{}.md", kind.directory, short(type_name));
        let page = plain_page(name, kind, type_name, schema, (sources, &path));
        pages.insert(path, page);
    };
    P::data_sources().iter().for_each(|one| plain(&DATA_SOURCE, one.type_name(), &one.schema()));
    P::ephemeral_resources().iter().for_each(|one| plain(&EPHEMERAL_RESOURCE, one.type_name(), &one.schema()));
    P::list_resources().iter().for_each(|one| plain(&LIST_RESOURCE, one.type_name(), &one.schema()));
    P::actions().iter().for_each(|one| plain(&ACTION, one.type_name(), &one.schema()));
    for function in P::functions() {
        pages.insert(format!("functions/{}.md", function.name()), function_page(name, *function, sources.examples));
    }
    pages
}

fn provider(name: &str, schema: &Schema, sources: Sources<'_>) -> String {
    let mut page = Page::new(&format!("{name} Provider"), None, &schema.block.description);
    page.heading(&format!("{name} Provider"));
    page.text(&schema.block.description);
    page.example(sources.examples, "provider/provider.tf");
    page.written(sources.templates, "index.md");
    page.text(&anchored(&schema.block));
    page.0
}

fn resource_page<C>(provider: &str, resource: &dyn AnyResource<C>, (sources, path): (Sources<'_>, &str)) -> String {
    let examples = sources.examples;
    let (name, schema) = (resource.type_name(), resource.schema());
    let mut page = Page::new(&format!("{name} Resource - {provider}"), Some(""), &schema.block.description);
    page.heading(&format!("{name} (Resource)"));
    page.deprecation(schema.block.deprecated.as_deref());
    page.text(&schema.block.description);
    page.example(examples, &format!("resources/{name}/resource.tf"));
    page.written(sources.templates, path);
    page.text(&anchored(&schema.block));
    page.import(examples, name, resource.identity().as_ref());
    page.moved(examples, name);
    page.0
}

/// A kind of block whose page has only an example and a schema.
struct Kind {
    title: &'static str,
    /// Below `docs/` and below `examples/`.
    directory: &'static str,
    /// The file of its example.
    example: &'static str,
}

const DATA_SOURCE: Kind = Kind { title: "Data Source", directory: "data-sources", example: "data-source.tf" };
const EPHEMERAL_RESOURCE: Kind =
    Kind { title: "Ephemeral Resource", directory: "ephemeral-resources", example: "ephemeral-resource.tf" };
const LIST_RESOURCE: Kind =
    Kind { title: "List Resource", directory: "list-resources", example: "list-resource.tfquery.hcl" };
const ACTION: Kind = Kind { title: "Action", directory: "actions", example: "action.tf" };

fn plain_page(
    provider: &str,
    kind: &Kind,
    name: &str,
    schema: &Schema,
    (sources, path): (Sources<'_>, &str),
) -> String {
    let Kind { title, directory, example } = kind;
    let mut page = Page::new(&format!("{name} {title} - {provider}"), Some(""), &schema.block.description);
    page.heading(&format!("{name} ({title})"));
    page.deprecation(schema.block.deprecated.as_deref());
    page.text(&schema.block.description);
    page.example(sources.examples, &format!("{directory}/{name}/{example}"));
    page.written(sources.templates, path);
    page.text(&anchored(&schema.block));
    page.0
}

fn function_page(provider: &str, function: &dyn Function, examples: Files<'_>) -> String {
    let (name, signature) = (function.name(), function.signature());
    let mut page = Page::new(&format!("{name} function - {provider}"), Some(""), signature.summary);
    page.heading(&format!("function: {name}"));
    page.text(signature.description);
    page.example(examples, &format!("functions/{name}/function.tf"));

    let named = |parameter: &Parameter| format!("{} {}", parameter.name, type_name(&parameter.ty).to_lowercase());
    let variadic = signature.variadic.as_ref().map(|parameter| format!("{}...", named(parameter)));
    let parameters: Vec<_> = signature.parameters.iter().map(named).chain(variadic).collect();
    let returns = type_name(&signature.returns).to_lowercase();
    page.section("Signature");
    page.code("text", &format!("{name}({}) {returns}", parameters.join(", ")));

    page.section("Arguments");
    let arguments = signature.parameters.iter().enumerate().map(|(at, parameter)| argument(at + 1, parameter, false));
    let variadic = signature.variadic.iter().map(|parameter| argument(signature.parameters.len() + 1, parameter, true));
    page.text(&arguments.chain(variadic).collect::<Vec<_>>().join("\n"));
    page.0
}

fn argument(position: usize, parameter: &Parameter, is_variadic: bool) -> String {
    let kind = if is_variadic { "Variadic, " } else { "" };
    let null = if parameter.allow_null { ", Nullable" } else { "" };
    let ty = type_name(&parameter.ty);
    describe(&format!("{position}. `{}` ({kind}{ty}{null})", parameter.name), parameter.description)
}

/// A page under construction: paragraphs with an empty line between them.
struct Page(String);

impl Page {
    /// A page with its front matter. The provider's own page has no subcategory.
    fn new(title: &str, subcategory: Option<&str>, description: &str) -> Self {
        let subcategory = subcategory.map(|name| format!("subcategory: {name:?}\n")).unwrap_or_default();
        // The registries show it as plain text.
        let description = description.replace('`', "");
        let description = description.lines().next().unwrap_or_default();
        Self(format!("---\npage_title: {title:?}\n{subcategory}description: |-\n  {description}\n---\n"))
    }

    fn heading(&mut self, text: &str) {
        self.text(&format!("# {text}"));
    }

    fn section(&mut self, text: &str) {
        self.text(&format!("## {text}"));
    }

    fn text(&mut self, text: &str) {
        self.0.push('\n');
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    fn code(&mut self, language: &str, text: &str) {
        self.text(&format!("```{language}\n{}\n```", text.trim_end()));
    }

    fn deprecation(&mut self, instead: Option<&str>) {
        if let Some(instead) = instead {
            self.text(&format!("~> **Deprecated** {instead}"));
        }
    }

    /// Adds the handwritten part of the page.
    fn written(&mut self, templates: Files<'_>, path: &str) {
        if let Some(text) = templates(path) {
            self.text(text.trim());
        }
    }

    fn example(&mut self, examples: Files<'_>, path: &str) {
        if let Some(text) = examples(path) {
            self.section("Example Usage");
            self.code("terraform", &text);
        }
    }

    /// Adds the ways to import that have examples.
    fn import(&mut self, examples: Files<'_>, name: &str, identity: Option<&IdentitySchema>) {
        let read = |file: &str| examples(&format!("resources/{name}/{file}"));
        let by_identity = read("import-by-identity.tf").zip(identity);
        let (by_id, by_command) = (read("import-by-string-id.tf"), read("import.sh"));
        if by_identity.is_none() && by_id.is_none() && by_command.is_none() {
            return;
        }
        self.section("Import");
        if let Some((example, identity)) = by_identity {
            self.text("With an `import` block and the identity, in Terraform 1.12, OpenTofu 1.12 and later:");
            self.code("terraform", &example);
            self.text(&identity_section(identity));
        }
        if let Some(example) = by_id {
            self.text("With an `import` block and the `id`, in Terraform 1.5 and OpenTofu 1.6 and later:");
            self.code("terraform", &example);
        }
        if let Some(example) = by_command {
            self.text("On the command line:");
            self.code("shell", &example);
        }
    }

    /// Adds the move from another provider's resource, if it has an example.
    fn moved(&mut self, examples: Files<'_>, name: &str) {
        if let Some(example) = examples(&format!("resources/{name}/moved.tf")) {
            self.section("Move");
            self.text("With a `moved` block, from a resource of another provider that was in the same state:");
            self.code("terraform", &example);
        }
    }
}

fn identity_section(identity: &IdentitySchema) -> String {
    let mut text = "### Identity Schema\n".to_owned();
    for (title, required) in [("Required", true), ("Optional", false)] {
        let attributes = identity.attributes.iter().filter(|attribute| attribute.required_for_import == required);
        let lines: Vec<_> =
            attributes.map(|one| describe(&format!("- `{}` (String)", one.name), one.description)).collect();
        if !lines.is_empty() {
            text.push_str(&format!("\n#### {title}\n\n{}\n", lines.join("\n")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Attribute, Block, IdentityAttribute, NestedBlock, Type};
    use super::*;

    fn page() -> Page {
        Page(String::new())
    }

    #[test]
    fn front_matter_is_plain_text_of_one_paragraph() {
        let page = Page::new("thing Resource - it", Some(""), "A `thing`: one.\n\nMore.");
        let expected =
            "---\npage_title: \"thing Resource - it\"\nsubcategory: \"\"\ndescription: |-\n  A thing: one.\n---\n";
        assert_eq!(page.0, expected);
    }

    #[test]
    fn an_example_that_is_absent_leaves_no_section() {
        let mut page = page();
        page.example(&|_| None, "provider/provider.tf");
        page.import(&|_| None, "it_thing", None);
        page.moved(&|_| None, "it_thing");
        assert_eq!(page.0, "");
    }

    #[test]
    fn imports_are_shown_in_each_way_that_has_an_example() {
        let identity = IdentitySchema {
            version: 0,
            attributes: vec![IdentityAttribute { name: "name", description: "The name.", required_for_import: true }],
        };
        let mut page = page();
        page.import(&|path| Some(path.to_owned()), "it_thing", Some(&identity));
        for part in [
            "## Import\n",
            "```terraform\nresources/it_thing/import-by-identity.tf\n```",
            "#### Required\n\n- `name` (String) The name.\n",
            "```terraform\nresources/it_thing/import-by-string-id.tf\n```",
            "```shell\nresources/it_thing/import.sh\n```",
        ] {
            assert!(page.0.contains(part), "{part:?} is not in\n{}", page.0);
        }
        assert!(!page.0.contains("Optional"), "{}", page.0);
    }

    #[test]
    fn a_page_reads_from_the_title_to_the_schema() {
        let schema = Schema::new("A thing.")
            .attribute(Attribute::required("name", Type::String, "The name."))
            .block(NestedBlock::single("part", Block::new("A part.")));
        let example = |_: &str| Some("data \"it_thing\" \"x\" {}\n".to_owned());
        let template = |path: &str| Some(format!("## Guides\n\nof {path}\n"));
        let sources = Sources { examples: &example, templates: &template };
        let text = plain_page("it", &DATA_SOURCE, "it_thing", &schema, (sources, "data-sources/thing.md"));
        let order = [
            "page_title",
            "# it_thing (Data Source)",
            "A thing.",
            "## Example Usage",
            "of data-sources/thing.md",
            "## Schema",
            "### Required",
        ];
        let found: Vec<_> = order.iter().map(|part| text.rfind(part)).collect();
        assert!(found.iter().all(Option::is_some), "{found:?}");
        assert!(found.is_sorted(), "{found:?}\n{text}");
    }
}
