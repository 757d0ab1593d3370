// SPDX-License-Identifier: MPL-2.0

//! `docs/` matches the schema, every block has an example, and every example is valid for the schema.
//!
//! `make generate` rewrites the rendered pages.

#[path = "docs/comparison.rs"]
mod comparison;
#[path = "docs/readme.rs"]
mod readme;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use neonrepl::provider::NeonRepl;
use neonrepl::tf_provider::docs::{self, Sources};
use neonrepl::tf_provider::provider::Provider;
use neonrepl::tf_provider::schema::{Attribute, Block, NestedBlock, Origin, Type};

/// The places of the rendered pages below `docs/`. All other pages are handwritten.
const RENDERED: [&str; 7] =
    ["index.md", "resources", "data-sources", "ephemeral-resources", "list-resources", "actions", "functions"];

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example(path: &str) -> Option<String> {
    fs::read_to_string(checkout().join("examples").join(path)).ok()
}

/// The handwritten part of a page between its example and its schema.
fn template(path: &str) -> Option<String> {
    fs::read_to_string(checkout().join("templates").join(path)).ok()
}

/// The files below a path of the checkout with this ending, with their paths in the checkout.
fn files(below: &str, ending: &str) -> Vec<(String, String)> {
    if Path::new(below).starts_with("docs") {
        LazyLock::force(&PAGES);
    }
    fn visit(path: &Path, found: &mut Vec<PathBuf>) {
        if !path.is_dir() {
            return found.push(path.to_owned());
        }
        // A core's files in an example that was tried.
        if path.ends_with(".terraform") {
            return;
        }
        for entry in fs::read_dir(path).expect("reading a directory").flatten() {
            visit(&entry.path(), found);
        }
    }
    let mut found = Vec::new();
    visit(&checkout().join(below), &mut found);
    found.retain(|path| path.exists() && path.to_string_lossy().ends_with(ending));
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(checkout()).expect("a path in the checkout").to_string_lossy().replace('\\', "/");
        (name, fs::read_to_string(path).expect("reading a file"))
    };
    found.into_iter().map(read).collect()
}

/// The pages as they should be. Where they are to be rewritten, that is done before anything reads one: the tests of this program
/// run at the same time.
static PAGES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let pages = docs::render::<NeonRepl>("neonrepl", Sources { examples: &example, templates: &template });
    let mut pages: BTreeMap<_, _> = pages.into_iter().map(|(path, text)| (format!("docs/{path}"), text)).collect();
    pages.insert(CAUSES.to_owned(), causes_page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        rewrite(&pages);
    }
    pages
});

#[test]
fn pages_are_what_the_schema_and_the_causes_say() {
    let parts = RENDERED.iter().map(|part| format!("docs/{part}")).chain([CAUSES.to_owned()]);
    let committed: BTreeMap<_, _> = parts.flat_map(|part| files(&part, ".md")).collect();
    let paths: BTreeSet<_> = PAGES.keys().chain(committed.keys()).collect();
    let differing = paths.into_iter().filter(|path| PAGES.get(*path) != committed.get(*path));
    let differing: Vec<_> = differing.map(String::as_str).collect();
    assert!(
        differing.is_empty(),
        "not what the schema, the causes and examples/ say: {}. Run `make generate`.",
        differing.join(", ")
    );
}

fn rewrite(pages: &BTreeMap<String, String>) {
    for part in RENDERED {
        // A missing directory need not be removed.
        let _ = fs::remove_dir_all(checkout().join("docs").join(part));
    }
    for (path, text) in pages {
        let path = checkout().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("making a directory");
        fs::write(path, text).expect("writing a page");
    }
}

/// The page that is generated from the causes' own texts.
const CAUSES: &str = "docs/guides/when-something-is-stuck.md";

const CAUSES_INTRODUCTION: &str = "\
---
page_title: \"When something is stuck\"
subcategory: \"\"
description: |-
  Each likely cause of a replication that has stopped, its symptoms, and the statement that fixes it.
---

# When something is stuck

A subscription that cannot continue keeps retrying, and only the log of the subscriber's server has the error. Data source
[neonrepl_replication_status](../data-sources/replication_status.md), `terraform-provider-neonrepl status` and the plans of
`neonrepl_subscription` compare both servers instead. They list the likely causes, the most likely first, each with its
evidence and the statement that fixes it. This page has all of them, with their texts for subscription `shop` and its table
`orders`. Each heading is the `kind` of a cause.

A worker resumes within seconds once the cause is gone. Nothing is lost in the meantime: the replication slot keeps what
was written, and uses disk space on the publisher for it.

~> **A subscriber that is restored to an earlier moment loses rows, and nothing says so.** The slot keeps only what the
subscriber has not confirmed yet, so the publisher never sends again what the subscriber had confirmed before the restore. The
same happens if a standby takes over that was behind. Compare both sides afterwards with `mode = \"rows\"` of
[neonrepl_table_comparison](../data-sources/table_comparison.md), and correct the rows that differ. If there are many, empty the
tables and create the subscription again, which copies all rows.
";

fn causes_page() -> String {
    let causes = neonrepl::replication::status::examples();
    let kinds: BTreeSet<_> = causes.iter().map(|cause| cause.kind).collect();
    assert!(kinds.len() == causes.len() && kinds.len() > 40, "{kinds:?}");
    causes.iter().fold(CAUSES_INTRODUCTION.to_owned(), |page, cause| {
        format!("{page}\n## `{}`\n\n**{}** {}\n\n{}\n", cause.kind, cause.message, cause.evidence, cause.remedy)
    })
}

#[test]
fn every_block_has_its_examples() {
    let mut wanted = vec!["provider/provider.tf".to_owned()];
    for resource in NeonRepl::resources() {
        let files = ["resource.tf", "import.sh", "import-by-string-id.tf", "import-by-identity.tf"];
        wanted.extend(files.map(|file| format!("resources/{}/{file}", resource.type_name())));
    }
    let moved = NeonRepl::resources().iter().map(|resource| format!("resources/{}/moved.tf", resource.type_name()));
    wanted.extend(moved.filter(|path| example(path).is_some()));
    let data_sources = NeonRepl::data_sources().iter();
    wanted.extend(data_sources.map(|source| format!("data-sources/{}/data-source.tf", source.type_name())));
    let ephemeral = NeonRepl::ephemeral_resources().iter();
    wanted.extend(ephemeral.map(|one| format!("ephemeral-resources/{}/ephemeral-resource.tf", one.type_name())));
    let lists = NeonRepl::list_resources().iter();
    wanted.extend(lists.map(|list| format!("list-resources/{}/list-resource.tfquery.hcl", list.type_name())));
    let actions = NeonRepl::actions().iter();
    wanted.extend(actions.map(|action| format!("actions/{}/action.tf", action.type_name())));
    let functions = NeonRepl::functions().iter();
    wanted.extend(functions.map(|function| format!("functions/{}/function.tf", function.name())));

    let missing: Vec<_> = wanted.iter().filter(|path| example(path).is_none()).collect();
    assert!(missing.is_empty(), "not in examples/: {missing:?}");
    let parts = RENDERED.iter().map(|part| if *part == "index.md" { "provider" } else { part });
    for (path, _) in parts.flat_map(|part| files(&format!("examples/{part}"), "")) {
        let is_wanted = wanted.iter().any(|wanted| path == format!("examples/{wanted}"));
        assert!(is_wanted, "{path} is an example of nothing");
    }
}

/// Everything that readers look for on each page: the needed rights, guides, and for a resource a minimal and a
/// complete example, the effect of changes, and how to write `%` and `/` in an id.
#[test]
fn every_page_answers_what_readers_ask() {
    let mut used = BTreeSet::from(["templates/index.md".to_owned()]);
    for part in ["resources", "data-sources", "actions"] {
        for (path, text) in files(&format!("docs/{part}"), ".md") {
            used.insert(path.replacen("docs", "templates", 1));
            let mut asked = vec!["](../guides/"];
            // The cutover's own text has these with shorter titles.
            let is_cutover = path.ends_with("/cutover.md");
            asked.push(if is_cutover { "### Rights" } else { "## Required Privileges" });
            if part == "resources" {
                asked.push(if is_cutover { "### What happens on a change" } else { "## What Happens on a Change" });
                let name =
                    format!("resource \"neonrepl_{}\"", path.trim_end_matches(".md").rsplit('/').next().unwrap());
                let examples = text.split("## Schema").next().unwrap().matches(&name).count();
                assert!(
                    examples >= 2,
                    "{path} has {examples} examples of {name}: a minimal and a complete one are asked for"
                );
                if !path.contains("logical_replication") {
                    asked.extend(["%2F", "%25"]);
                }
            }
            let missing: Vec<_> = asked.iter().filter(|asked| !text.contains(**asked)).collect();
            assert!(missing.is_empty(), "{path} lacks {missing:?}: see templates/");
        }
    }
    for (path, _) in files("templates", ".md") {
        assert!(used.contains(&path), "{path} is of no page");
    }
}

#[test]
fn descriptions_are_sentences() {
    fn visit(at: &str, block: &Block) {
        assert!(is_sentence(&block.description), "{at}: {:?}", block.description);
        for attribute in &block.attributes {
            assert!(is_sentence(&attribute.description), "{at}.{}: {:?}", attribute.name, attribute.description);
            described_one_by_one(&format!("{at}.{}", attribute.name), attribute);
        }
        for nested in &block.blocks {
            visit(&format!("{at}.{}", nested.name), &nested.block);
        }
    }
    for (name, block) in blocks() {
        visit(&name, &block);
    }
    for resource in NeonRepl::resources() {
        for attribute in resource.identity().into_iter().flat_map(|identity| identity.attributes) {
            assert!(is_sentence(attribute.description), "{}: {:?}", resource.type_name(), attribute.description);
        }
    }
    for function in NeonRepl::functions() {
        let signature = function.signature();
        assert!(is_sentence(signature.description), "{}", function.name());
        for parameter in signature.parameters.iter().chain(&signature.variadic) {
            assert!(is_sentence(parameter.description), "{}: {:?}", function.name(), parameter.description);
        }
    }
}

/// Every nested attribute has its own description, and there are no descriptions of missing ones.
fn described_one_by_one(at: &str, attribute: &Attribute) {
    fn paths(ty: &Type, before: &str, found: &mut BTreeSet<String>) {
        match ty {
            Type::List(of) | Type::Set(of) | Type::Map(of) => paths(of, before, found),
            Type::Object(attributes, _) => attributes.iter().for_each(|(name, ty)| {
                found.insert(format!("{before}{name}"));
                paths(ty, &format!("{before}{name}."), found);
            }),
            _ => {}
        }
    }
    let mut expected = BTreeSet::new();
    paths(&attribute.ty, "", &mut expected);
    let described: BTreeSet<_> = attribute.parts.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(described, expected, "{at}");
    assert!(attribute.parts.iter().all(|(_, text)| is_sentence(text)), "{at}: {:?}", attribute.parts);
}

fn is_sentence(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_uppercase() || c == '`');
    begins && text.ends_with('.') && !text.contains("  ")
}

/// The root blocks of a configuration, by how they are written.
fn blocks() -> BTreeMap<String, Block> {
    let resources = NeonRepl::resources().iter();
    let resources = resources.map(|resource| (format!("resource {}", resource.type_name()), resource.schema().block));
    let data_sources = NeonRepl::data_sources().iter();
    let data_sources = data_sources.map(|source| (format!("data {}", source.type_name()), source.schema().block));
    let ephemeral = NeonRepl::ephemeral_resources().iter();
    let ephemeral = ephemeral.map(|one| (format!("ephemeral {}", one.type_name()), one.schema().block));
    let actions = NeonRepl::actions().iter();
    let actions = actions.map(|action| (format!("action {}", action.type_name()), action.schema().block));
    let lists = NeonRepl::list_resources().iter();
    let lists = lists.map(|list| (format!("list {}", list.type_name()), list.schema().block));
    let provider = ("provider neonrepl".to_owned(), NeonRepl::schema().block);
    resources.chain(data_sources).chain(ephemeral).chain(lists).chain(actions).chain([provider]).collect()
}

#[test]
fn examples_use_what_exists() {
    let schemas = blocks();
    let examples = files("examples", ".tf").into_iter().chain(files("examples", ".tfquery.hcl"));
    let configurations = examples.chain(written().flat_map(|(path, text)| {
        let fenced = fenced(&text, &["hcl", "terraform"]);
        fenced.into_iter().map(move |code| (path.clone(), code)).collect::<Vec<_>>()
    }));
    let mut checked = 0;
    for (path, text) in configurations {
        for written in hcl::parse(&text) {
            let [kind, name, ..] = written.header.as_slice() else { continue };
            if !name.starts_with("neonrepl") || !KINDS.contains(&kind.as_str()) {
                continue;
            }
            let at = format!("{path}: {kind} {name}");
            let schema = schemas.get(&format!("{kind} {name}")).unwrap_or_else(|| panic!("{at} does not exist"));
            let is_configured_within = ["action", "list"].contains(&kind.as_str());
            let schema = if is_configured_within { configured(schema) } else { schema.clone() };
            conforms(&at, &written, &schema, true);
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} blocks were found");
}

/// The kinds of root blocks that belong to a provider.
const KINDS: [&str; 6] = ["provider", "resource", "data", "ephemeral", "list", "action"];

/// The block of an action or a list, which has its own attributes in a block `config`.
fn configured(schema: &Block) -> Block {
    Block::new("").block(NestedBlock::single("config", schema.clone()))
}

/// Attributes that a core reads itself, in any root block.
const META: [&str; 8] =
    ["alias", "count", "depends_on", "for_each", "include_resource", "lifecycle", "limit", "provider"];

fn conforms(at: &str, written: &hcl::Block, schema: &Block, is_root: bool) {
    let is_meta = |name: &str| is_root && META.contains(&name);
    for name in written.attributes.iter().filter(|name| !is_meta(name)) {
        let attribute = schema.find(name).unwrap_or_else(|| panic!("{at} has no attribute {name}"));
        assert_ne!(attribute.origin, Origin::Computed, "{at}.{name} is the provider's to set");
    }
    for attribute in schema.attributes.iter().filter(|attribute| attribute.origin == Origin::Required) {
        assert!(written.attributes.contains(&attribute.name), "{at} lacks {}", attribute.name);
    }
    for block in written.blocks.iter().filter(|block| !is_meta(&block.header[0])) {
        let (name, block) = match block.header.as_slice() {
            // The blocks that it creates are like its `content`.
            [dynamic, name] if dynamic == "dynamic" => (name, &block.blocks[0]),
            header => (&header[0], block),
        };
        let nested = schema.blocks.iter().find(|nested| nested.name == *name);
        let nested = nested.unwrap_or_else(|| panic!("{at} has no block {name}"));
        conforms(&format!("{at}.{name}"), block, &nested.block, false);
    }
}

/// Just enough of the language for configurations formatted by `fmt`: names of attributes and blocks, no values.
mod hcl {
    #[derive(Debug, Default)]
    pub(crate) struct Block {
        /// Its kind and labels.
        pub(crate) header: Vec<String>,
        pub(crate) attributes: Vec<String>,
        pub(crate) blocks: Vec<Block>,
    }

    /// The blocks of a file.
    pub(crate) fn parse(text: &str) -> Vec<Block> {
        let mut open = vec![Block::default()];
        let mut depth = 0;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(!line.contains("<<"), "heredocs are not read here: {line}");
            if depth > 0 {
                depth += brackets(line);
            } else if line == "}" {
                close(&mut open);
            } else if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.contains('{')) {
                innermost(&mut open).attributes.push(name.trim().to_owned());
                depth = brackets(value);
            } else if let Some((header, body)) = line.split_once('{') {
                let header = header.split_whitespace().map(|word| word.trim_matches('"').to_owned());
                open.push(Block { header: header.collect(), ..Block::default() });
                if let Some(body) = body.strip_suffix('}') {
                    let name = body.split_once('=').map(|(name, _)| name.trim().to_owned());
                    innermost(&mut open).attributes.extend(name);
                    close(&mut open);
                }
            } else {
                panic!("neither an attribute nor a block: {line}");
            }
        }
        assert_eq!(open.len(), 1, "a block is not closed");
        open.remove(0).blocks
    }

    fn innermost(open: &mut [Block]) -> &mut Block {
        open.last_mut().expect("the file itself")
    }

    fn close(open: &mut Vec<Block>) {
        let block = open.pop().expect("an open block");
        assert!(!open.is_empty(), "a block is closed that was not opened");
        innermost(open).blocks.push(block);
    }

    /// How many more brackets open than close, without strings.
    fn brackets(text: &str) -> i32 {
        let (mut depth, mut in_string, mut escaped) = (0, false, false);
        for c in text.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = in_string,
                '"' => in_string = !in_string,
                '#' if !in_string => break,
                '(' | '[' | '{' if !in_string => depth += 1,
                ')' | ']' | '}' if !in_string => depth -= 1,
                _ => {}
            }
        }
        depth
    }

    #[test]
    fn names_are_found_at_their_depth() {
        let text = "# note\nresource \"a\" \"b\" {\n  x = 1\n  y = {\n    not = \"}\"\n  }\n  z { w = 2 }\n}\n";
        let [block] = parse(text).try_into().expect("one block");
        assert_eq!(block.header, ["resource", "a", "b"]);
        assert_eq!(block.attributes, ["x", "y"]);
        assert_eq!(block.blocks[0].header, ["z"]);
        assert_eq!(block.blocks[0].attributes, ["w"]);
    }
}

/// All Markdown that people read.
fn written() -> impl Iterator<Item = (String, String)> {
    let roots = ["README.md", "CHANGELOG.md"].iter().flat_map(|name| files(name, ".md"));
    roots.chain(files("docs", ".md"))
}

/// The code in fences of these languages.
fn fenced(markdown: &str, languages: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let code: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        if languages.contains(&language) {
            found.push(format!("{}\n", code.join("\n")));
        }
    }
    found
}

/// Each snippet of a guide is a part of a configuration that `tests/examples.rs` checks with both cores, so that no
/// snippet is wrong and no variable is undeclared.
#[test]
fn guides_show_parts_of_checked_examples() {
    let examples = files("examples", ".tf").into_iter().chain(files("examples", ".tfquery.hcl"));
    let examples: Vec<_> = examples.map(|(_, text)| text).collect();
    let pages = ["docs/guides", "docs/index.md", "README.md"].into_iter().flat_map(|page| files(page, ".md"));
    let mut checked = 0;
    for (path, text) in pages.filter(|(path, _)| !AS_ONE_GOES.contains(&path.as_str())) {
        for code in fenced(&text, &["terraform"]).iter().filter(|code| !code.contains("# …")) {
            let is_shown = |example: &String| format!("\n{example}").contains(&format!("\n{code}"));
            assert!(examples.iter().any(is_shown), "{path} shows what is not in examples/:\n{code}");
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} snippets were found");
    println!("{checked} snippets are parts of examples");
}

/// Guides that build up one configuration, and change it step by step.
const AS_ONE_GOES: [&str; 2] = ["docs/guides/aurora-to-neon.md", "docs/guides/go-back.md"];

/// Every guide is linked from the page that a registry shows first.
#[test]
fn every_guide_is_linked() {
    let (_, index) = files("docs/index.md", ".md").remove(0);
    for (path, _) in files("docs/guides", ".md") {
        let target = path.trim_start_matches("docs/");
        assert!(
            index.contains(&format!("({target})")),
            "docs/index.md does not link to {path}: see templates/index.md"
        );
    }
}

#[test]
fn links_lead_somewhere() {
    let pages: BTreeMap<_, _> = written().collect();
    for (path, text) in &pages {
        for target in links(text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let linked = if file.is_empty() { path.clone() } else { resolved(path, file) };
            assert!(checkout().join(&linked).exists(), "{path} links to {target}, which is not there");
            if !anchor.is_empty() {
                let anchors = pages.get(&linked).map(|text| anchors(text)).unwrap_or_default();
                assert!(anchors.contains(anchor), "{path} links to {target}, which has no such heading");
            }
        }
    }
}

/// The targets of links within the checkout.
fn links(markdown: &str) -> Vec<String> {
    let targets = outside_fences(markdown).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()));
    targets.filter(|target| !target.contains("://")).collect()
}

fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = outside_fences(markdown).filter_map(|line| line.strip_prefix('#'));
    let slug = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    let named = outside_fences(markdown).filter_map(|line| line.strip_prefix("<a id=\"")?.split_once('"'));
    headings.map(slug).chain(named.map(|(name, _)| name.to_owned())).collect()
}

fn outside_fences(markdown: &str) -> impl Iterator<Item = &str> {
    let mut in_fence = false;
    markdown.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        in_fence ^= is_fence;
        !in_fence && !is_fence
    })
}

/// A relative link's path in the checkout.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
