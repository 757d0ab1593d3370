// SPDX-License-Identifier: MPL-2.0

//! The number of round trips of an apply.

use std::time::Duration;

use super::Sides;
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major::V18;
use crate::common::postgres::{Database, Role, SUPERUSER_PASSWORD};
use crate::common::relay::Relay;

const DISTANCE: Duration = Duration::from_millis(60);

/// The maximum for an apply of a new schema, on both servers together, for any number of tables.
const MOST: usize = 45;

const CONFIG: &str = "resource \"neonrepl_destination_schema\" \"shop\" {\n  publications = [\"far\"]\n  \
    indexes      = \"with_tables\"\n  foreign_keys = \"with_tables\"\n}\n";

fn schema() -> String {
    let table = |number: usize| {
        let refers = if number == 0 { String::new() } else { format!(" REFERENCES app.t{}", number - 1) };
        format!(
            "CREATE TABLE app.t{number} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint{refers}, \
             mood app.mood DEFAULT 'glad', CHECK (id > 0)); CREATE INDEX ON app.t{number} (mood, id);\n"
        )
    };
    let tables: String = (0..20).map(table).collect();
    format!(
        "CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'glad'); {tables}; CREATE PUBLICATION far FOR ALL TABLES"
    )
}

#[tokio::test]
async fn an_apply_takes_few_round_trips() {
    let sides = Sides::new(V18, V18, &schema()).await;
    let relays = [&sides.publisher, &sides.subscriber].map(|side| Relay::start(side.port, DISTANCE));
    let url = |side: &Database, relay: &Relay| side.url_through(&Role::superuser(), relay.port());
    let mut workspace = Workspace::new(Core::OpenTofu);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.env("NEONREPL_PUBLISHER_URL", &url(&sides.publisher, &relays[0]));
    workspace.env("NEONREPL_SUBSCRIBER_URL", &url(&sides.subscriber, &relays[1]));
    workspace.write("main.tf", CONFIG);
    workspace.init().await;
    workspace.apply().await;
    let [publisher, subscriber] = relays.each_ref().map(Relay::round_trips);
    eprintln!("round trips of a plan and an apply: {publisher} to the publisher, {subscriber} to the subscriber");
    assert!(publisher + subscriber <= MOST, "{publisher} and {subscriber}, and not {MOST}");
}
