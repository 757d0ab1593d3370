// SPDX-License-Identifier: MPL-2.0

//! The usual remedy for a statement's error if the server gives no hint: complete statements, where to
//! run them, and who may.

use tokio_postgres::error::SqlState;

use super::Place;
use crate::postgres::sql::Ident;

/// The remedies by SQLSTATE and a part of the message that is the same in every version. Servers with translated
/// messages get no remedy. In it, `{role}` is the role that connects, `{database}` the database, `{address}` the
/// server, and `{name}` the name that follows the part in the message.
const REMEDIES: &[(SqlState, &str, &str)] = &[
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied for database",
        "On {address}, as the owner of the database or a superuser: GRANT CREATE ON DATABASE {database} TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied for schema",
        "On {address}, in database {database}, as the owner of the schema or a superuser: GRANT USAGE ON SCHEMA \
         {name} TO {role}; or, to create something in it: GRANT USAGE, CREATE ON SCHEMA {name} TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied for table",
        "On {address}, in database {database}, as the owner of the table or a superuser: GRANT SELECT ON TABLE {name} TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied to create subscription",
        "On {address}, as a superuser or a role that may grant it: GRANT pg_create_subscription TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be superuser to create subscriptions",
        "Before Postgres 16 only a superuser may create subscriptions: on {address}, as a superuser: ALTER ROLE {role} SUPERUSER; \
         or connect as one.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "password_required=false is superuser-only",
        "Leave password_required out, or connect as a superuser.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied to change owner of subscription",
        "Before Postgres 16 the owner of a subscription must be a superuser. Leave owner out, or name one.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be owner of table",
        "The role that creates a publication must own its tables. On {address}, in database {database}, as their \
         owner or a superuser: ALTER TABLE {name} OWNER TO {role}; or connect as their owner.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be owner of publication",
        "On {address}, in database {database}, as its owner or a superuser: ALTER PUBLICATION {name} OWNER TO {role}; or connect \
         as its owner.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be owner of subscription",
        "On {address}, in database {database}, as its owner or a superuser: ALTER SUBSCRIPTION {name} OWNER TO {role}; or connect \
         as its owner.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be able to SET ROLE",
        "On {address}, as a superuser or a role with ADMIN on it: GRANT {name} TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be member of role",
        "On {address}, as a superuser or a role with ADMIN on it: GRANT {name} TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "FOR ALL TABLES publication",
        "List the tables, which needs their ownership only, or connect as a superuser.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be superuser to add or set schemas",
        "List the tables, which needs their ownership only, or connect as a superuser.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "FOR TABLES IN SCHEMA publication",
        "List the tables, which needs their ownership only, or connect as a superuser.",
    ),
    (SqlState::INSUFFICIENT_PRIVILEGE, "replication slots", REPLICATION),
    (SqlState::INSUFFICIENT_PRIVILEGE, "start WAL sender", REPLICATION),
    (SqlState::INSUFFICIENT_PRIVILEGE, "replication role to start walsender", REPLICATION),
    (SqlState::CONNECTION_FAILURE, "start WAL sender", REPLICATION_OF_CONNECTION),
    (SqlState::CONNECTION_FAILURE, "replication role to start walsender", REPLICATION_OF_CONNECTION),
    (
        SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
        "password is required",
        "The subscription's owner is not a superuser, so its connection needs a password: give one in the \
         subscription's publisher block.",
    ),
    (
        SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
        "does not request a password",
        "Let the publisher ask for it (scram-sha-256 in its pg_hba.conf), or let a superuser own the subscription with \
         password_required = false.",
    ),
    (SqlState::PROTOCOL_VIOLATION, "wal_level", WAL_LEVEL),
    (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "wal_level", WAL_LEVEL),
    (
        SqlState::PROTOCOL_VIOLATION,
        "all replication slots are in use",
        "Raise max_replication_slots on the publisher, or drop slots that nothing reads from.",
    ),
    (
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        "all replication slots are in use",
        "Raise max_replication_slots on {address} and restart it, or drop slots that nothing reads from.",
    ),
    (
        SqlState::PROTOCOL_VIOLATION,
        "already exists",
        "If nothing reads from the slot, drop it on the publisher. To go on from it, subscribe with create_slot = \
         false.",
    ),
    (
        SqlState::CONNECTION_FAILURE,
        "could not drop replication slot",
        "On {address}, in database {database}: ALTER SUBSCRIPTION … DISABLE; ALTER SUBSCRIPTION … SET (slot_name = \
         NONE); then drop it: that does not contact the publisher.",
    ),
    (
        SqlState::UNDEFINED_OBJECT,
        "role \"",
        "Create the role on {address} first, or name one that exists. If this configuration creates it, refer to \
         its name, so that it comes first.",
    ),
    (
        SqlState::UNDEFINED_TABLE,
        "relation \"",
        "Create the table in database {database} on {address} first, and give its schema; upper case in a name is \
         not folded.",
    ),
    (
        SqlState::INVALID_SCHEMA_NAME,
        "schema \"",
        "Create the schema in database {database} on {address} first; upper case in a name is not folded.",
    ),
    (SqlState::LOCK_NOT_AVAILABLE, "", "Another session held a lock for too long; see pg_locks and pg_stat_activity."),
    (SqlState::READ_ONLY_SQL_TRANSACTION, "", READ_ONLY),
    (SqlState::QUERY_CANCELED, "", "It was cancelled on the server, by a time limit or by another session."),
];

const REPLICATION: &str = "On {address}, as a superuser: ALTER ROLE {role} REPLICATION; or, on Aurora and RDS, as the master \
     user: GRANT rds_replication TO {role};";

const REPLICATION_OF_CONNECTION: &str =
    "The role that the subscription's connection logs in as needs REPLICATION on the publisher.";

/// The statements that let a role replicate (one is enough), with the server to run it on.
pub fn grant_of_replication(role: &Ident, address: &str) -> String {
    REPLICATION.replace("{role}", &role.to_string()).replace("{address}", address)
}

const WAL_LEVEL: &str = "The publisher must run with wal_level = logical; on Aurora that is rds.logical_replication = 1 and a reboot of the writer.";

/// The remedy for a read-only server.
pub(super) const READ_ONLY: &str = "The server is read-only, as a standby or a reader is: connect to the primary, \
     which for an Aurora cluster is the writer endpoint.";

/// The remedy for an error.
pub(super) fn remedy(code: &SqlState, message: &str, place: &Place) -> Option<String> {
    let fits = |(of, part, _): &&(SqlState, &str, &str)| of == code && message.contains(part);
    let (_, part, remedy) = REMEDIES.iter().find(fits)?;
    let quoted = |name: &str| Ident::from_catalog(name).to_string();
    let name = message.split_once(part).map(|(_, rest)| quoted(rest.trim().trim_matches('"'))).unwrap_or_default();
    let filled = remedy.replace("{role}", &quoted(&place.role)).replace("{database}", &quoted(&place.database));
    Some(filled.replace("{address}", &place.address).replace("{name}", &name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn check(code: SqlState, message: &str, expected: &str) {
        let [address, database, role] = ["db.example:5432", "shop", "me"].map(str::to_owned);
        let place = Place { address, database, role, given: Arc::default() };
        assert_eq!(remedy(&code, message, &place).as_deref(), Some(expected));
    }

    #[test]
    fn a_right_that_is_missing_is_given_by_a_whole_statement() {
        let denied = || SqlState::INSUFFICIENT_PRIVILEGE;
        check(
            denied(),
            "permission denied for database shop",
            "On db.example:5432, as the owner of the database or a superuser: GRANT CREATE ON DATABASE \"shop\" TO \"me\";",
        );
        check(
            denied(),
            "must be able to SET ROLE \"app owner\"",
            "On db.example:5432, as a superuser or a role with ADMIN on it: GRANT \"app owner\" TO \"me\";",
        );
        check(
            denied(),
            "must be owner of subscription s",
            "On db.example:5432, in database \"shop\", as its owner or a superuser: ALTER SUBSCRIPTION \"s\" OWNER TO \"me\"; or \
             connect as its owner.",
        );
        check(
            denied(),
            "permission denied to use replication slots",
            "On db.example:5432, as a superuser: ALTER ROLE \"me\" REPLICATION; or, on Aurora and RDS, as the master user: GRANT \
             rds_replication TO \"me\";",
        );
    }
}
