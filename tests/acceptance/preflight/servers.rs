// SPDX-License-Identifier: MPL-2.0

//! Errors about the servers themselves, with a server for each.

use neonrepl::replication::Place;

use super::looking::{Held, Looking, logged, publications, refused, subscribe, unsubscribe};
use crate::common::postgres::{Database, Major, Role, Server, Stop, settings};
use crate::replication::Pair;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

/// A publisher that lacks something, so that a subscription cannot be created, or is never filled.
async fn publishers(held: &mut Held, server: &mut Server, other: &Server) {
    let pair = Pair { publisher: server.database("from").await, subscriber: other.database("to").await };
    pair.publisher.sql(&format!("{TABLE}; INSERT INTO t VALUES (1); CREATE PUBLICATION t FOR TABLE t")).await;
    pair.subscriber.sql(TABLE).await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    let create = format!("CREATE SUBSCRIPTION s CONNECTION {} PUBLICATION t", looking.connection(&superuser));
    let question = publications(&["t"]);

    held.called(&looking.report(&question).await, "wal_level", Place::Publisher, "wal_level");
    refused(&pair.subscriber, &superuser, &create, "wal_level").await;

    server.restart(settings([("wal_level", "logical"), ("max_replication_slots", "1")]));
    pair.publisher.sql("SELECT pg_create_logical_replication_slot('other', 'pgoutput')").await;
    held.called(&looking.report(&question).await, "replication_slots", Place::Publisher, "max_replication_slots");
    refused(&pair.subscriber, &superuser, &create, "all replication slots are in use").await;
    pair.publisher.sql("SELECT pg_drop_replication_slot('other')").await;
    held.called(&looking.report(&question).await, "replication_slots", Place::Publisher, "max_replication_slots");
    subscribe(&pair, &looking, &superuser, "slots", "t").await;
    logged(other, "all replication slots are in use").await;
    unsubscribe(&pair.subscriber).await;

    server.restart(settings([("max_replication_slots", "10"), ("max_wal_senders", "1")]));
    held.called(&looking.report(&question).await, "wal_senders", Place::Publisher, "max_wal_senders");
    subscribe(&pair, &looking, &superuser, "senders", "t").await;
    logged(other, "number of requested standby connections exceeds").await;
    unsubscribe(&pair.subscriber).await;
    is_standby(held, server, &looking).await;
}

/// The same server as one that waits for another's WAL.
async fn is_standby(held: &mut Held, server: &mut Server, looking: &Looking<'_>) {
    server.stop(Stop::Fast);
    server.write("standby.signal", "");
    server.restart(settings([("hot_standby", "on")]));
    held.called(&looking.report(&publications(&["t"])).await, "standby", Place::Publisher, "");
    let (database, role) = looking.publisher;
    refused(database, role, "CREATE PUBLICATION more", "read-only transaction").await;
}

/// A subscriber whose subscription runs and copies nothing.
async fn subscribers(held: &mut Held, server: &mut Server, other: &Server, origins: &'static str) {
    let pair = Pair { publisher: other.database("from").await, subscriber: server.database("to").await };
    pair.publisher.sql(&format!("{TABLE}; INSERT INTO t VALUES (1); CREATE PUBLICATION t FOR TABLE t")).await;
    pair.subscriber.sql(TABLE).await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    for (check, setting, words, next) in [
        ("replication_workers", "max_logical_replication_workers", "out of logical replication worker slots", origins),
        ("replication_origins", origins, "could not find free replication state", origins),
    ] {
        held.called(&looking.report(&publications(&["t"])).await, check, Place::Subscriber, setting);
        subscribe(&pair, &looking, &superuser, check, "t").await;
        logged(server, words).await;
        unsubscribe(&pair.subscriber).await;
        server.restart(settings([("max_logical_replication_workers", "10"), (next, "1")]));
    }
}

/// A database that is its own subscriber.
async fn same(held: &mut Held, database: &Database, server: &Server) {
    database.sql(&format!("{TABLE}; INSERT INTO t VALUES (1); CREATE PUBLICATION t FOR TABLE t")).await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (database, &superuser), subscriber: (database, &superuser) };
    held.called(&looking.report(&publications(&["t"])).await, "same_database", Place::Both, &database.name);
    database.sql("SELECT pg_create_logical_replication_slot('same', 'pgoutput')").await;
    let connection = looking.connection(&superuser);
    database
        .sql(&format!("CREATE SUBSCRIPTION same CONNECTION {connection} PUBLICATION t WITH (create_slot = false)"))
        .await;
    logged(server, "duplicate key value violates unique constraint \"t_pkey\"").await;
    unsubscribe(database).await;
}

async fn errors_are_real(major: Major) {
    let mut held = Held::default();
    let origins = if major < Major::V18 { "max_replication_slots" } else { "max_active_replication_origins" };
    let mut publisher = Server::start(major, settings([("wal_level", "replica")]));
    let mut subscriber = Server::start(major, settings([]));
    same(&mut held, &subscriber.database("same").await, &subscriber).await;
    publishers(&mut held, &mut publisher, &subscriber).await;
    publisher.stop(Stop::Immediate);
    let publisher = crate::replication::subscribers(major);
    subscriber.restart(settings([("max_logical_replication_workers", "1")]));
    subscribers(&mut held, &mut subscriber, publisher, origins).await;
    held.count(&format!("servers on {}", major.number()));
}

#[tokio::test]
async fn errors_about_servers_are_real_on_14() {
    errors_are_real(Major::V14).await;
}

#[tokio::test]
async fn errors_about_servers_are_real_on_18() {
    errors_are_real(Major::V18).await;
}
