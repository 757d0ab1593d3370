// SPDX-License-Identifier: MPL-2.0

//! What a person does with an example: apply it, plan again, import, and destroy.

use serde_json::{Value, json};

use super::stage::{Side, Stage, by_token, files, place, write};
use crate::common::cli::{Core, Workspace};
use crate::moved;

/// The provider that the objects of one guide come from.
const PEER: &str = "cyrilgdn/postgresql";

/// A directory of `examples/` that is applied to the stage.
pub(super) struct Example {
    pub(super) directory: &'static str,
    /// What is run before, each in a database of a side.
    before: &'static [(Side, &'static str, &'static str)],
    /// What is added to the configuration, so that a provider block is used.
    more: &'static str,
}

impl Example {
    pub(super) const fn new(directory: &'static str, before: &'static [(Side, &'static str, &'static str)]) -> Self {
        Self { directory, before, more: "" }
    }

    pub(super) const fn with(self, more: &'static str) -> Self {
        Self { more, ..self }
    }

    /// Actions and lists are Terraform's alone, and `for_each` of providers is OpenTofu's.
    pub(super) fn runs_with(&self, core: Core) -> bool {
        match core {
            Core::Terraform => self.directory != "several-pairs",
            Core::OpenTofu => !self.directory.starts_with("actions/") && !self.directory.starts_with("list-resources/"),
        }
    }
}

/// Tries an example from its first apply to its destroy, after which nothing is left of it.
pub(super) async fn walk(stage: &Stage, core: Core, example: &Example) {
    eprintln!("{} with {}", example.directory, core.name());
    let files: Vec<_> =
        files(&place(example.directory)).into_iter().map(|(name, text)| (name, stage.addressed(&text))).collect();
    stage.set(files.iter().any(|(_, text)| text.contains("resource \"neonrepl_destination_schema\""))).await;
    for (side, database, statement) in example.before {
        stage.database(*side, database).sql(&stage.fill(statement)).await;
    }
    let before = stage.objects().await;
    let mut workspace = stage.workspace(core);
    if files.iter().any(|(_, text)| by_token(text)) {
        // A URL with a password would be mixed with the block.
        workspace.unset("NEONREPL_PUBLISHER_URL");
    }
    workspace.write("more.tf", example.more);
    if files.iter().any(|(_, text)| text.contains(&format!("source = \"{PEER}\""))) {
        workspace.stand_in_for(PEER, "1.26.0");
        workspace.write("terraform.tfstate", &state_of_peer(core));
    }
    match files.iter().find(|(name, _)| name.ends_with(".tfquery.hcl")) {
        Some(list) => take_over(&workspace, list).await,
        None => apply(&workspace, &files).await,
    }
    import(&workspace, &files).await;
    if files.iter().any(|(_, text)| text.contains("-invoke=")) {
        invoke(&workspace, &files).await;
    }
    workspace.destroy().await;
    let left: Vec<_> = stage.objects().await.into_iter().filter(|object| !before.contains(object)).collect();
    assert_eq!(left, [""; 0], "{} has left this", example.directory);
    stage.clear().await;
}

/// Applies all but the ways to import and to move, and plans again, which finds nothing to do.
pub(super) async fn apply(workspace: &Workspace, files: &[(String, String)]) {
    let is_applied = |name: &str| name.ends_with(".tf") && !name.starts_with("import-") && name != "moved.tf";
    let applied: Vec<_> = files.iter().filter(|(name, _)| is_applied(name)).cloned().collect();
    write(workspace, &applied);
    workspace.init().await;
    workspace.apply().await;
    workspace.expect_empty_plan().await;
}

/// Imports what was applied, in each way that the example shows, as if the state had been lost.
pub(super) async fn import(workspace: &Workspace, files: &[(String, String)]) {
    for (name, text) in files {
        if name.starts_with("import-") {
            let (_, address) = text.split_once("to = ").expect("what is imported");
            forget(workspace, address.lines().next().expect("an address")).await;
            workspace.write("import.tf", text);
            workspace.apply().await;
            workspace.remove("import.tf");
            workspace.expect_empty_plan().await;
        } else if name == "import.sh" {
            // The first command is for an object of the example; the others show how names are encoded.
            let command = text.lines().find_map(|line| line.strip_prefix("terraform import ")).expect("a command");
            let (address, id) = command.split_once(' ').expect("an address and an id");
            forget(workspace, address).await;
            workspace.import(address, id).await;
            // No catalog holds what only a configuration says.
            workspace.apply().await;
            workspace.expect_empty_plan().await;
        }
    }
}

async fn forget(workspace: &Workspace, address: &str) {
    workspace.expect(&["state", "rm", address], 0).await;
}

/// Runs the command of the example's first line.
pub(super) async fn invoke(workspace: &Workspace, files: &[(String, String)]) {
    let (_, text) = &files[0];
    let (_, command) = text.split_once("terraform ").expect("a command");
    let command = command.lines().next().expect("a line");
    let mut arguments: Vec<_> = command.split(' ').collect();
    arguments.extend(["-auto-approve", "-no-color"]);
    workspace.expect(&arguments, 0).await;
    workspace.expect_empty_plan().await;
}

/// Runs the command of the list's first line, and applies what it has written.
async fn take_over(workspace: &Workspace, (name, text): &(String, String)) {
    workspace.write(name, text);
    workspace.init().await;
    let (_, option) = text.split_once("terraform query ").expect("a command");
    let option = option.split(' ').next().expect("an option");
    let listed = workspace.expect(&["query", "-no-color", option], 0).await;
    assert!(listed.text().contains("list.neonrepl_"), "nothing was listed: {}", listed.text());
    workspace.apply().await;
    workspace.expect_empty_plan().await;
}

/// What the other provider has in its state.
fn state_of_peer(core: Core) -> String {
    let resource =
        |kind: &str, database: &str, attributes: Value| moved::resource(core, kind, database, "shop", attributes);
    let publication = json!({ "owner": "postgres", "tables": ["public.users", "public.orders"],
        "publish_param": ["insert", "update", "delete"] });
    let subscription = json!({ "conninfo": "replaced", "publications": ["shop"], "slot_name": "shop" });
    moved::state(&[
        resource("publication", "shop", publication),
        resource("replication_slot", "shop", json!({ "plugin": "pgoutput" })),
        resource("subscription", "neondb", subscription),
    ])
}
