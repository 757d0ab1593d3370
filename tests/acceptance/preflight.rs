// SPDX-License-Identifier: MPL-2.0

//! The preflight, compared with reality: each reported error is tried and fails, and a pair without errors is
//! replicated.

mod backwards;
mod cutover;
mod everything;
mod looking;
mod servers;
mod tables;
mod warnings;

use neonrepl::replication::preflight::Question;

use self::looking::{Looking, all_tables, publications, tables};
use crate::common::cli::Core;
use crate::common::postgres::{Database, Major, Role, quote};
use crate::replication::Pair;

/// Creates a publication and a subscription to it, and waits for the replicated rows.
async fn replicates(pair: &Pair, looking: &Looking<'_>, login: &Role) {
    let (publisher, subscriber) = (&looking.publisher, &looking.subscriber);
    let run = async |(database, role): &(&Database, &Role), sql: &str| {
        let client = database.connect_as(role).await.unwrap();
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    };
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'); INSERT INTO customers VALUES (1, 'a')").await;
    run(publisher, "CREATE PUBLICATION shop FOR TABLE orders, customers").await;
    let (name, connection) = (quote(&pair.subscriber.name), looking.connection(login));
    run(subscriber, &format!("CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION shop")).await;
    pair.publisher
        .sql("UPDATE orders SET total = 2; DELETE FROM customers; INSERT INTO customers VALUES (2, 'b')")
        .await;
    pair.wait_for_rows("SELECT total::int FROM orders", &["2"]).await;
    pair.wait_for_rows("SELECT name FROM customers", &["b"]).await;
}

async fn sound(from: Major, to: Major) {
    let pair = Pair::new(from, to, "preflight").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    for question in [all_tables(), tables(&["orders", "customers"]), Question { reverse: true, ..tables(&["orders"]) }]
    {
        looking.sound(&question).await;
    }
    replicates(&pair, &looking, &superuser).await;
    // A running replication gets no findings for its rows, its slot and its workers.
    let running = looking.sound(&publications(&["shop"])).await;
    assert!(!running.findings.iter().any(|finding| finding.object == *pair.subscriber.name), "{running:?}");
    assert_eq!((running.size.tables, running.size.largest.len()), (2, 2));
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {}", pair.subscriber.name)).await;
}

#[tokio::test]
async fn what_is_called_sound_replicates_from_14_to_18() {
    sound(Major::V14, Major::V18).await;
}

#[tokio::test]
async fn what_is_called_sound_replicates_from_18_to_14() {
    sound(Major::V18, Major::V14).await;
}

/// Two plain roles that own the tables, and a third that only reads them.
#[tokio::test]
async fn what_is_called_sound_replicates_with_plain_roles() {
    let (from, to) = (Major::V14, Major::V18);
    let pair = Pair::new(from, to, "preflight_plain").await;
    let owner = crate::common::postgres::shared(from).role("preflight pub", "").await;
    let login = crate::common::postgres::shared(from).role("preflight login", "REPLICATION").await;
    let other = pair.role_of_subscriber(to, "preflight sub", "IN ROLE pg_create_subscription").await;
    for (database, role) in [(&pair.publisher, &owner), (&pair.subscriber, &other)] {
        let (name, role) = (quote(&database.name), quote(&role.name));
        database.sql(&format!("GRANT CREATE ON DATABASE {name} TO {role}")).await;
        for table in ["orders", "customers", "invoices"] {
            database.sql(&format!("ALTER TABLE {table} OWNER TO {role}")).await;
        }
    }
    pair.publisher.sql(&format!("GRANT SELECT ON orders, customers TO {}", quote(&login.name))).await;
    let looking = Looking { publisher: (&pair.publisher, &owner), subscriber: (&pair.subscriber, &other) };
    let role = Some(neonrepl::postgres::Ident::new(&login.name).unwrap());
    let report = looking.sound(&Question { subscription_role: role, ..tables(&["orders", "customers"]) }).await;
    // The report says what such a role cannot see.
    assert!(report.findings.iter().any(|finding| finding.check == "hidden_transactions"), "{report:?}");
    replicates(&pair, &looking, &login).await;
    let client = pair.subscriber.connect_as(&other).await.unwrap();
    client.batch_execute(&format!("DROP SUBSCRIPTION {}", quote(&pair.subscriber.name))).await.unwrap();
}

/// The data source in a precondition, which stops an apply, and in a check block, which warns.
async fn guards_an_apply(core: Core) {
    let pair = Pair::new(Major::V18, Major::V14, "preflight_guard").await;
    pair.publisher.sql("CREATE TABLE lonely (id int PRIMARY KEY)").await;
    let workspace = pair.workspace(core).await;
    let name = &pair.subscriber.name;
    workspace.write(
        "main.tf",
        &format!(
            "data \"neonrepl_preflight\" \"shop\" {{\n  tables = [\"orders\", \"lonely\"]\n}}\n\n\
             resource \"neonrepl_publication\" \"shop\" {{\n  name   = \"{name}\"\n  tables = data.neonrepl_preflight.shop.tables\n  \
             lifecycle {{\n    precondition {{\n      condition     = data.neonrepl_preflight.shop.ok\n      error_message = \
             data.neonrepl_preflight.shop.report\n    }}\n  }}\n}}\n\n\
             check \"findings\" {{\n  data \"neonrepl_preflight\" \"all\" {{\n    reverse = true\n  }}\n  assert {{\n    condition     = \
             length(data.neonrepl_preflight.all.findings) == 0\n    error_message = join(\", \", [for f in \
             data.neonrepl_preflight.all.findings : \"${{f.side}} ${{f.check}} ${{f.object}}\"])\n  }}\n}}\n"
        ),
    );
    let failed = workspace.apply_error().await;
    for said in ["Resource precondition failed", "public.lonely", "table_on_subscriber", "Not ready to replicate"] {
        assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
    }
    assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
    pair.subscriber.sql("CREATE TABLE lonely (id int PRIMARY KEY)").await;
    workspace.apply().await;
    pair.subscriber.sql("ALTER TABLE lonely ADD extra int").await;
    let warned = workspace.apply().await;
    assert!(warned.flat().contains("publisher way_back public.lonely"), "{}", warned.text());
    workspace.destroy().await;
}

#[tokio::test]
async fn a_precondition_stops_terraform_and_a_check_warns() {
    guards_an_apply(Core::Terraform).await;
}

#[tokio::test]
async fn a_precondition_stops_opentofu_and_a_check_warns() {
    guards_an_apply(Core::OpenTofu).await;
}
