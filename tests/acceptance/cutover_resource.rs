// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_cutover` through real cores: prepared, switched there and back, together with the subscription that it
//! stops and starts.

mod broken;
mod terms;

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace, does_not_say, says};
use crate::common::postgres::{Major, Role, Server, Settings, quote};
use crate::common::tools;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

const CUTOVER: &str = "neonrepl_cutover.shop";
const SUBSCRIPTION: &str = "neonrepl_subscription.shop";

/// Two databases on servers of their own, and a workspace for them.
#[allow(dead_code, reason = "the servers live as long as it does")]
struct Stage {
    from: Server,
    to: Server,
    pair: Pair,
    workspace: Workspace,
    name: String,
}

impl Stage {
    async fn new(core: Core, from: Major, to: Major, prefix: &str) -> Self {
        let (from, to) = (Server::start(from, Settings::new()), Server::start(to, Settings::new()));
        let pair = Pair::on(&from, &to, prefix).await;
        pair.publisher.sql("CREATE TABLE tickets (id serial PRIMARY KEY, what text)").await;
        pair.subscriber.sql("CREATE TABLE tickets (id serial PRIMARY KEY, what text)").await;
        let workspace = pair.workspace(core).await;
        let name = pair.subscriber.name.clone();
        Self { from, to, pair, workspace, name }
    }

    /// A publication, a subscription to it, and further blocks.
    fn write(&self, of_subscription: &str, rest: &str) {
        let name = &self.name;
        let configuration = format!(
            "resource \"neonrepl_publication\" \"shop\" {{
  name   = \"shop\"
  tables = [\"orders\", \"tickets\"]
}}

resource \"neonrepl_subscription\" \"shop\" {{
  name                  = \"{name}\"
  publications          = [neonrepl_publication.shop.name]
  refresh_triggers      = {{ shop = neonrepl_publication.shop.fingerprint }}
  wait_for_initial_sync = true
{of_subscription}
}}
{rest}"
        );
        self.workspace.write("main.tf", &configuration);
    }

    /// The same with a cutover, and an output that follows it.
    fn cutover(&self, active: &str, arguments: &str) {
        self.write("", &cutover(active, arguments));
    }

    /// Writes one more row on the active side, which must arrive on the other one.
    async fn write_and_follow(&self, active: &str, id: i32) {
        let (here, there) = match active {
            "publisher" => (&self.pair.publisher, &self.pair.subscriber),
            _ => (&self.pair.subscriber, &self.pair.publisher),
        };
        here.sql(&format!("INSERT INTO orders VALUES ({id}, {id}, 'eu')")).await;
        let arrived = format!("SELECT count(*) FROM orders WHERE id = {id}");
        wait_until(&format!("row {id} to arrive"), DEADLINE * 3, async || there.rows(&arrived).await == ["1"]).await;
    }

    /// A write to the inactive side is refused with this text.
    async fn expect_closed(&self, side: &str, said: &str) {
        let database = if side == "publisher" { &self.pair.publisher } else { &self.pair.subscriber };
        let error = database.try_sql("INSERT INTO orders VALUES (-1, 1, 'eu')").await.expect_err("a refusal");
        let error = error.as_db_error().expect("an answer");
        assert_eq!(error.code().code(), "25006", "{error:?}");
        assert!(error.message().contains(said), "{said:?} is not in {error:?}");
    }

    async fn subscription(&self) -> Vec<String> {
        let mine = "SELECT subenabled, subslotname FROM pg_subscription WHERE subdbid = \
            (SELECT oid FROM pg_database WHERE datname = current_database())";
        self.pair.subscriber.rows(mine).await
    }

    async fn of_cutover(&self) -> Value {
        self.workspace.attributes(CUTOVER).await
    }

    /// All objects that a cutover creates, on both sides.
    async fn remains(&self) -> Vec<String> {
        let made = "SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE 'fence%' \
            UNION ALL SELECT 'trigger on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'neonrepl%' \
            UNION ALL SELECT 'subscription ' || subname FROM pg_subscription WHERE subname LIKE 'neonrepl%' AND subdbid = \
                (SELECT oid FROM pg_database WHERE datname = current_database()) \
            UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname LIKE 'neonrepl%' \
            UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database() \
                AND slot_name LIKE 'neonrepl%' ORDER BY 1";
        [self.pair.publisher.rows(made).await, self.pair.subscriber.rows(made).await].concat()
    }
}

fn cutover(active: &str, arguments: &str) -> String {
    format!(
        "
resource \"neonrepl_cutover\" \"shop\" {{
  subscriptions = [neonrepl_subscription.shop.name]
  active        = \"{active}\"
{arguments}
}}

output \"database\" {{
  value = \"${{neonrepl_cutover.shop.host}}:${{neonrepl_cutover.shop.port}}/${{neonrepl_cutover.shop.database}}\"
}}
"
    )
}

const REVERSE: &str = "  reverse {}";

/// The plan of the output that follows the active side.
fn output(plan: &Value) -> &Value {
    &plan["output_changes"]["database"]["after"]
}

fn place(database: &crate::common::postgres::Database) -> String {
    format!("127.0.0.1:{}/{}", database.port, database.name)
}

async fn life(core: Core, from: Major, to: Major) {
    let stage = Stage::new(core, from, to, "cutover").await;
    stage.pair.publisher.sql("INSERT INTO orders SELECT n, n, 'eu' FROM generate_series(1, 5) n").await;
    stage.pair.publisher.sql("INSERT INTO tickets (what) VALUES ('one'), ('two')").await;
    prepare(&stage).await;
    switch(&stage).await;
    beside(&stage).await;
    back_and_forth(&stage).await;
    taken_over(&stage).await;
    leave(&stage).await;
}

async fn prepare(stage: &Stage) {
    stage.cutover("publisher", REVERSE);
    let plan = stage.workspace.plan().await;
    says(&plan, &["is made by the same apply", "Writers notice nothing"]);
    stage.workspace.apply().await;
    assert_eq!(stage.pair.subscriber.rows("SELECT count(*) FROM orders").await, ["5"]);
    let state = stage.of_cutover().await;
    assert_eq!(state["id"], format!("{}/{}", stage.name, stage.name));
    assert_eq!(state["fenced_tables"], json!(["public.orders", "public.tickets"]));
    assert_eq!((&state["prepared"], &state["position"]), (&json!(true), &Value::Null));
    assert_eq!(state["port"], stage.pair.publisher.port);
    assert!(state["reverse_subscription"].is_string(), "{state}");
    stage.workspace.expect_empty_plan().await;
    stage.expect_closed("subscriber", "").await;
    stage.write_and_follow("publisher", 6).await;
}

async fn switch(stage: &Stage) {
    stage.cutover("subscriber", &format!("{REVERSE}\n  message = \"ask the team of the shop\""));
    let plan = stage.workspace.plan().await;
    says(&plan, &["moves writes from the publisher", "to the subscriber", "1. ", "Writers wait", "25006"]);
    let planned = stage.workspace.plan_json().await;
    assert_eq!(output(&planned), &json!(place(&stage.pair.subscriber)), "others' plans show where to go");
    stage.workspace.apply().await;
    stage.expect_closed("publisher", "ask the team of the shop").await;
    stage.write_and_follow("subscriber", 7).await;
    stage.pair.subscriber.sql("INSERT INTO tickets (what) VALUES ('three')").await;
    assert_eq!(stage.pair.subscriber.rows("SELECT max(id) FROM tickets").await, ["3"], "the sequence goes on");
    let state = stage.of_cutover().await;
    assert_eq!((&state["active"], &state["port"]), (&json!("subscriber"), &json!(stage.pair.subscriber.port)));
    assert!(state["position"].is_string() && state["cut_over_at"].is_string(), "{state}");
    assert!(state["write_pause_ms"].is_number() && state["sequences_copied"] == 1, "{state}");
    assert_eq!(stage.subscription().await, ["f|"], "the forward subscription is stopped, without a slot");
    status(stage).await;
    // A wait for the subscription does not last for ever.
    let name = &stage.name;
    let waits = format!(
        "data \"neonrepl_replication_status\" \"shop\" {{\n  subscription = \"{name}\"\n  wait_until = \"caught_up\"\n}}\n"
    );
    stage.workspace.write("status.tf", &waits);
    stage.workspace.expect_empty_plan().await;
    stage.workspace.write("status.tf", "");
}

/// The binary's status: a subscription that a cutover has stopped is healthy, and the way back is shown.
async fn status(stage: &Stage) {
    let mut command = tokio::process::Command::new(tools::provider());
    command.args(["status", "--json"]).env("NEONREPL_PUBLISHER_URL", stage.pair.publisher.url());
    let told = command.env("NEONREPL_SUBSCRIBER_URL", stage.pair.subscriber.url()).output().await.expect("a command");
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let (forward, back) = (&told["subscriptions"][0], &told["subscriptions"][1]);
    assert_eq!((&forward["stopped_by_cutover"], &forward["ready"]), (&json!(true), &json!(true)), "{told}");
    assert_eq!((&back["reverse"], &back["worker_running"]), (&json!(true), &json!(true)), "{told}");
    assert_eq!((&forward["causes"], &back["causes"]), (&json!([]), &json!([])), "{told}");
    assert!(back["lag_bytes"].is_number(), "{told}");
}

/// The subscription while the cutover holds it.
async fn beside(stage: &Stage) {
    let cutover = cutover("subscriber", &format!("{REVERSE}\n  message = \"ask the team of the shop\""));
    for (change, attribute) in [("  enabled = false", "enabled"), ("  slot_name = \"other\"", "slot_name")] {
        stage.write(change, &cutover);
        let plan = stage.workspace.plan().await;
        assert_eq!(plan.code, Some(1), "{}", plan.text());
        says(&plan, &[&format!("{attribute} cannot be changed while the subscriber is active")]);
    }
    stage.write("  binary = true", &cutover);
    stage.workspace.apply().await;
    assert_eq!(stage.subscription().await, ["f|"], "another change does not start it");
    stage.workspace.expect_empty_plan().await;
    let replaced = stage.workspace.run(&["plan", "-no-color", &format!("-replace={SUBSCRIPTION}")]).await;
    assert_eq!(replaced.code, Some(1), "{}", replaced.text());
    says(&replaced, &["cannot be replaced while the subscriber is active"]);
    let state = stage.workspace.attributes(SUBSCRIPTION).await;
    assert_eq!((&state["enabled"], &state["slot_name"]), (&json!(true), &json!(stage.name)));
}

async fn back_and_forth(stage: &Stage) {
    let mut row = 10;
    for active in ["publisher", "subscriber"] {
        stage.cutover(active, REVERSE);
        stage.workspace.apply().await;
        let other = if active == "publisher" { "subscriber" } else { "publisher" };
        stage.expect_closed(other, "writes have moved to 127.0.0.1").await;
        row += 1;
        stage.write_and_follow(active, row).await;
        stage.workspace.expect_empty_plan().await;
        let expected = if active == "publisher" { format!("t|{}", stage.name) } else { "f|".to_owned() };
        assert_eq!(stage.subscription().await, [expected]);
    }
    let all = "SELECT count(*), count(DISTINCT id), sum(total) FROM orders";
    assert_eq!(stage.pair.publisher.rows(all).await, stage.pair.subscriber.rows(all).await);
}

/// Imported in every way, whichever side is active.
async fn taken_over(stage: &Stage) {
    let forget = ["state", "rm", CUTOVER];
    stage.workspace.expect(&forget, 0).await;
    stage.workspace.import(CUTOVER, &format!("{}/{}", stage.name, stage.name)).await;
    stage.workspace.expect_empty_plan().await;
    stage.workspace.expect(&forget, 0).await;
    stage.write("", "");
    let import = format!("import {{\n  to = {CUTOVER}\n  identity = {{ name = \"{}\" }}\n}}\n", stage.name);
    stage.workspace.write("import.tf", &import);
    stage.workspace.expect(&["plan", "-no-color", "-generate-config-out=generated.tf"], 0).await;
    let applied = stage.workspace.apply().await;
    says(&applied, &["1 imported, 0 added, 0 changed, 0 destroyed"]);
    stage.workspace.write("import.tf", "");
    stage.workspace.write("generated.tf", "");
    stage.cutover("subscriber", REVERSE);
    stage.workspace.apply().await;
    stage.workspace.expect_empty_plan().await;
}

/// A destroy leaves the inactive side closed, and says how to open it.
async fn leave(stage: &Stage) {
    let plan = stage.workspace.run(&["plan", "-destroy", "-no-color"]).await;
    says(&plan, &["the subscriber stays active", "The publisher stays closed to writes", "no longer flow back"]);
    let destroyed = stage.workspace.destroy().await;
    says(&destroyed, &["the publisher stays closed to writes", "To open it, run on 127.0.0.1"]);
    stage.expect_closed("publisher", "").await;
    stage.pair.subscriber.sql("INSERT INTO orders VALUES (99, 1, 'eu')").await;
    let said = destroyed.flat();
    let statements = said.split("as the owner of its tables: ").nth(1).expect("the statements");
    let end = statements.rfind(';').expect("an end");
    for statement in statements[..=end].split_inclusive("; ").filter(|text| text.trim_end().ends_with(';')) {
        if stage.pair.publisher.try_sql(statement).await.is_err() {
            break;
        }
    }
    wait_until("the publisher to be open", DEADLINE, async || {
        stage.pair.publisher.try_sql("INSERT INTO orders VALUES (100, 1, 'eu')").await.is_ok()
    })
    .await;
    assert_eq!(stage.remains().await, [""; 0]);
}

#[tokio::test]
async fn a_cutover_goes_there_and_back_with_terraform_from_15_to_18() {
    life(Core::Terraform, Major::V15, Major::V18).await;
}

#[tokio::test]
async fn a_cutover_goes_there_and_back_with_opentofu_from_18_to_15() {
    life(Core::OpenTofu, Major::V18, Major::V15).await;
}

/// Checks that the plan is refused with these texts.
async fn expect_refused(stage: &Stage, texts: &[&str]) {
    let plan = stage.workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    says(&plan, texts);
}

#[tokio::test]
async fn what_would_lose_something_is_refused_in_the_plan() {
    let stage = Stage::new(Core::OpenTofu, Major::V18, Major::V15, "cutover_refused").await;
    stage.cutover("subscriber", "");
    stage.workspace.apply().await;
    assert_eq!(stage.of_cutover().await["reverse_subscription"], Value::Null);
    stage.expect_closed("publisher", "writes have moved to").await;
    stage.workspace.expect_empty_plan().await;

    stage.cutover("publisher", "");
    expect_refused(&stage, &["no subscription brings them back to the publisher"]).await;
    stage.cutover("subscriber", REVERSE);
    expect_refused(&stage, &["the way back cannot be created while the subscriber is active"]).await;
    let other =
        "resource \"neonrepl_cutover\" \"shop\" {\n  active = \"subscriber\"\n  subscriptions = [\"nosuch\"]\n}\n";
    stage.write("", other);
    expect_refused(&stage, &["it cannot be replaced while the subscriber is active"]).await;
    let another = other.replace("\"shop\"", "\"other\"");
    stage.write("", &format!("{}{another}", cutover("subscriber", "")));
    expect_refused(&stage, &["there is no subscription \"nosuch\"", &format!("It has \"{}\"", stage.name)]).await;

    // If only the cutover is removed, the subscription stays stopped, and nothing can bring writes back.
    left_behind(&stage).await;
    stage.cutover("subscriber", REVERSE);
    expect_refused(&stage, &["the way back cannot be created while the subscriber is active"]).await;
    stage.cutover("subscriber", "  open_on_destroy = true");
    stage.workspace.apply().await;
    let destroyed = stage.workspace.destroy().await;
    does_not_say(&destroyed, &["stays closed"]);
    stage.pair.publisher.sql("INSERT INTO orders VALUES (100, 1, 'eu')").await;
    assert_eq!(stage.remains().await, [""; 0]);
}

/// The subscription, once the cutover that has stopped it is gone.
async fn left_behind(stage: &Stage) {
    stage.write("", "");
    let taken = stage.workspace.apply().await;
    says(&taken, &["the publisher stays closed to writes", "1 destroyed"]);
    let plan = stage.workspace.plan().await;
    assert_eq!(plan.code, Some(0), "{}", plan.text());
    says(&plan, &["it cannot be used any more", "Remove its block from the configuration"]);
    stage.write("  binary = true", "");
    stage.workspace.apply().await;
    assert_eq!(stage.subscription().await, ["f|"], "another change does not start it");
    stage.write("  enabled = false", "");
    expect_refused(stage, &["enabled cannot be changed while the subscriber is active", "Remove its block"]).await;
    let replace = format!("-replace={SUBSCRIPTION}");
    stage.write("  binary = true", "");
    let replaced = stage.workspace.run(&["plan", "-no-color", &replace]).await;
    assert_eq!(replaced.code, Some(1), "{}", replaced.text());
    says(&replaced, &["cannot be replaced while the subscriber is active"]);
}

/// A table that an open transaction has written to.
async fn held(stage: &Stage) -> tokio_postgres::Client {
    let holder = stage.pair.publisher.connect_as(&Role::superuser()).await.expect("a connection");
    holder.batch_execute("BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE").await.expect("a lock");
    holder
}

#[tokio::test]
async fn a_switch_that_fails_leaves_everything_as_it_was() {
    let stage = Stage::new(Core::Terraform, Major::V15, Major::V18, "cutover_failed").await;
    let short = format!("{REVERSE}\n  timeouts {{\n    create = \"8s\"\n    update = \"8s\"\n  }}");
    // At create: the preparation is kept, and the apply continues after `untaint`.
    stage.write("", "");
    stage.workspace.apply().await;
    let holder = held(&stage).await;
    stage.cutover("subscriber", &short);
    let failed = stage.workspace.apply_error().await;
    says(&failed, &["public.orders", "terraform untaint"]);
    stage.pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    stage.workspace.expect(&["untaint", "-no-color", CUTOVER], 0).await;
    holder.batch_execute("COMMIT").await.expect("an end");
    stage.cutover("publisher", &short);
    stage.workspace.apply().await;
    stage.workspace.expect_empty_plan().await;

    // At update: the state has the actual values, and nothing is tainted.
    let holder = held(&stage).await;
    stage.cutover("subscriber", &short);
    let failed = stage.workspace.apply_error().await;
    does_not_say(&failed, &["untaint"]);
    assert_eq!(stage.of_cutover().await["active"], "publisher");
    stage.pair.publisher.sql("INSERT INTO orders VALUES (2, 2, 'eu')").await;
    assert_eq!(stage.subscription().await, [format!("t|{}", stage.name)]);

    // A killed core leaves nothing else behind.
    let applying = stage.workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until("the switch to wait", DEADLINE * 3, async || stage.pair.publisher.rows(waits).await != ["0"]).await;
    applying.kill_all().await;
    stage.workspace.unlock();
    stage.pair.publisher.sql("INSERT INTO orders VALUES (3, 3, 'eu')").await;
    let plan = stage.workspace.plan().await;
    says(&plan, &["moves writes from the publisher", "0 to add, 1 to change, 0 to destroy"]);

    // The blocking session is ended if configured.
    stage.cutover("subscriber", &format!("{REVERSE}\n  end_blockers_after = \"1s\""));
    stage.workspace.apply().await;
    assert!(holder.batch_execute("COMMIT").await.is_err(), "the session was ended");
    stage.expect_closed("publisher", "").await;
    stage.write_and_follow("subscriber", 4).await;
    stage.workspace.expect_empty_plan().await;
    between(&stage).await;
    drift(&stage).await;
    let destroyed = stage.workspace.destroy().await;
    says(&destroyed, &["the publisher stays closed to writes"]);
}

/// A switch that was interrupted between its commit and the opening of the other side: both are closed.
async fn between(stage: &Stage) {
    let armed = "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace \
        WHERE nspname = 'neonrepl' AND proname LIKE 'fence%'";
    let armed: String = stage.pair.publisher.value(armed).await;
    stage.pair.subscriber.sql(&armed).await;
    stage.expect_closed("subscriber", "").await;
    let plan = stage.workspace.plan().await;
    says(&plan, &["neither side takes writes", "1 to change"]);
    stage.workspace.apply().await;
    stage.write_and_follow("subscriber", 5).await;
    stage.workspace.expect_empty_plan().await;
}

/// Objects that somebody drops or opens by hand are restored.
async fn drift(stage: &Stage) {
    let drops = "SELECT 'DROP TRIGGER ' || quote_ident(tgname) || ' ON ' || tgrelid::regclass FROM pg_trigger \
        WHERE tgname LIKE 'neonrepl%' ORDER BY 1 LIMIT 1";
    let drop: String = stage.pair.publisher.value(drops).await;
    stage.pair.publisher.sql(&drop).await;
    let plan = stage.workspace.plan().await;
    says(&plan, &["prepared", "1 to change"]);
    stage.workspace.apply().await;
    stage.expect_closed("publisher", "").await;
    stage.workspace.expect_empty_plan().await;

    let fence = "SELECT 'neonrepl.' || quote_ident(proname) FROM pg_proc WHERE proname LIKE 'fence%'";
    let fence: String = stage.pair.publisher.value(fence).await;
    let body =
        "RETURNS trigger LANGUAGE plpgsql AS $$/* terraform-provider-neonrepl: fence */ BEGIN RETURN NULL; END$$";
    stage.pair.publisher.sql(&format!("CREATE OR REPLACE FUNCTION {fence}() {body}")).await;
    let plan = stage.workspace.plan().await;
    says(&plan, &["1 to change"]);
    stage.workspace.apply().await;
    stage.expect_closed("publisher", "").await;
    stage.workspace.expect_empty_plan().await;

    stage.cutover("subscriber", &format!("{REVERSE}\n  message = \"see the wiki\""));
    stage.workspace.apply().await;
    stage.expect_closed("publisher", "see the wiki").await;
    stage.workspace.expect_empty_plan().await;
}

/// The roles and rights in the docs are enough, and a password is only where Postgres stores it.
#[tokio::test]
async fn named_rights_are_enough_and_the_password_is_nowhere() {
    let (from, to) = (Server::start(Major::V18, Settings::new()), Server::start(Major::V16, Settings::new()));
    let pair = Pair::on(&from, &to, "cutover_rights").await;
    let ours = from.role("terraform", "REPLICATION").await;
    let theirs = to.role("terraform", "REPLICATION").await;
    let replicator = to.role("replicator", "REPLICATION").await;
    let name = pair.subscriber.name.clone();
    for (database, role, system) in [(&pair.publisher, &ours, &from), (&pair.subscriber, &theirs, &to)] {
        let owner = system.role("shop_owner", "").await;
        let (owner, role) = (quote(&owner.name), quote(&role.name));
        let tables = ["orders", "customers", "invoices"].map(|table| format!("ALTER TABLE {table} OWNER TO {owner};"));
        database.sql(&tables.concat()).await;
        let of_database = quote(&database.name);
        database
            .sql(&format!(
                "ALTER DATABASE {of_database} OWNER TO {owner}; GRANT {owner} TO {role} WITH SET TRUE, INHERIT TRUE; \
                 GRANT pg_create_subscription TO {role}; GRANT USAGE ON SCHEMA public TO {role}"
            ))
            .await;
    }
    // Nothing is copied on the way back, so that its role needs no right to the tables.
    let reader = quote(&replicator.name);
    let mut workspace =
        pair.workspace_with(Core::Terraform, &pair.publisher.url_as(&ours), &pair.subscriber.url_as(&theirs)).await;
    for secret in [&ours.password, &theirs.password, &replicator.password] {
        workspace.secret(secret);
    }
    workspace.env("TF_LOG", "trace").env("TF_VAR_password", &replicator.password);
    let stage = Stage { from, to, name, pair, workspace };
    let reverse = format!(
        "  connection_version = 1\n  reverse {{\n    username    = {:?}\n    password_wo = var.password\n  }}",
        replicator.name
    );
    let variable = "variable \"password\" {\n  type      = string\n  ephemeral = true\n}\n";
    let write = |active: &str, reverse: &str| {
        let configuration = format!(
            "{variable}
resource \"neonrepl_publication\" \"shop\" {{
  name   = \"shop\"
  tables = [\"orders\"]
}}

resource \"neonrepl_subscription\" \"shop\" {{
  name         = \"{}\"
  publications = [neonrepl_publication.shop.name]
  wait_for_initial_sync = true
}}
{}",
            stage.name,
            cutover(active, reverse)
        );
        stage.workspace.write("main.tf", &configuration);
    };
    write("publisher", &reverse);
    stage.workspace.apply().await;
    stage.workspace.expect_empty_plan().await;
    let sent = "SELECT subconninfo FROM pg_subscription WHERE subdbid = \
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!(stage.pair.publisher.value::<String>(sent).await.contains(&replicator.password));
    for active in ["subscriber", "publisher", "subscriber"] {
        write(active, &reverse);
        stage.workspace.apply().await;
        stage.workspace.expect_empty_plan().await;
    }
    // A change of the version sets the new password.
    stage.pair.subscriber.sql(&format!("ALTER ROLE {reader} PASSWORD 'pw-rotated-8Kx'")).await;
    let mut stage = stage;
    stage.workspace.secret("pw-rotated-8Kx").env("TF_VAR_password", "pw-rotated-8Kx");
    let text = std::fs::read_to_string(stage.workspace.path().join("main.tf")).expect("the configuration");
    stage.workspace.write("main.tf", &text.replace("connection_version = 1", "connection_version = 2"));
    stage.workspace.apply().await;
    assert!(stage.pair.publisher.value::<String>(sent).await.contains("pw-rotated-8Kx"));
    stage.write_and_follow("subscriber", 21).await;
    stage.workspace.expect_empty_plan().await;
    stage.workspace.env("TF_LOG", "");
    stage.workspace.destroy().await;
}
