// SPDX-License-Identifier: MPL-2.0

//! The statements alone: the time of Postgres and of the network, without any core or provider.

use std::time::Instant;

use futures_util::future::join_all;
use tokio_postgres::{Client, NoTls};

use super::common::postgres::{Database, Role};
use super::cycle::{Cycle, Step};

/// As many as the provider opens by default.
const CONNECTIONS: usize = 10;

/// Reads all publications with their tables.
pub(super) const READ: &str = "SELECT p.pubname, pt.schemaname, pt.tablename FROM pg_publication p \
    LEFT JOIN pg_publication_tables pt USING (pubname) ORDER BY 1, 2, 3";

/// Makes the two tables of each publication.
pub(super) async fn create_tables(database: &Database, count: usize) {
    let table = |name: &str, number: usize| format!("CREATE TABLE {name}{number} (id bigint PRIMARY KEY, v text);\n");
    // Many at a time, but not more than a transaction can lock.
    let numbers: Vec<_> = (0..count).collect();
    for numbers in numbers.chunks(1000) {
        let tables = numbers.iter().map(|number| table("a", *number) + &table("b", *number));
        database.sql(&tables.collect::<String>()).await;
    }
}

/// Creates, reads and drops that many publications, with a new connection each time, like separate processes.
pub(super) async fn run(database: &Database, port: u16, count: usize) -> Cycle {
    let create = |number| format!("CREATE PUBLICATION p{number} FOR TABLE public.a{number}, public.b{number}");
    let drop = |number| format!("DROP PUBLICATION p{number}");
    let steps = [
        timed(database, port, Vec::new()).await,
        timed(database, port, (0..count).map(create).collect()).await,
        timed(database, port, vec![READ.to_owned()]).await,
        timed(database, port, (0..count).map(drop).collect()).await,
    ];
    Cycle { steps: steps.map(|seconds| Step { seconds, ..Step::default() }) }
}

/// Runs statements, each a transaction of its own, spread over the connections.
async fn timed(database: &Database, port: u16, statements: Vec<String>) -> f64 {
    let started = Instant::now();
    let shares = CONNECTIONS.min(statements.len());
    join_all((0..shares).map(async |first| {
        let client = connect(database, port).await;
        for statement in statements.iter().skip(first).step_by(shares) {
            client.simple_query(statement).await.expect(statement);
        }
    }))
    .await;
    started.elapsed().as_secs_f64()
}

/// A connection of the superuser's.
pub(super) async fn connect(database: &Database, port: u16) -> Client {
    let config = database.config_through(&Role::superuser(), port);
    let (client, connection) = config.connect(NoTls).await.expect("connecting");
    tokio::spawn(connection);
    client
}
