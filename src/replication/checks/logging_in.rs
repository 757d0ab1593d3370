// SPDX-License-Identifier: MPL-2.0

//! The rights of a role that one server uses to log in to the other and replicate from it, each with the statement that grants it.

use crate::postgres::settings::Login;
use crate::postgres::{Ident, quoted};

/// A requirement on the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replication) enum Right {
    /// It exists.
    Exist,
    /// It may log in.
    LogIn,
    /// It may replicate, which on RDS is a granted role instead of an attribute.
    Replicate {
        /// Whether the server is RDS.
        is_rds: bool,
    },
    /// It may connect to the database.
    Connect,
}

impl Right {
    /// The requirements that a role does not meet; only existence if there is no such role.
    pub(in crate::replication) fn lacking(login: Option<&Login>) -> Vec<Self> {
        let Some(login) = login else { return vec![Self::Exist] };
        let rights = [
            (login.can_login, Self::LogIn),
            (login.replicates, Self::Replicate { is_rds: login.is_rds }),
            (login.connects, Self::Connect),
        ];
        rights.into_iter().filter(|(has, _)| !has).map(|(_, right)| right).collect()
    }

    /// The statement that grants it, and who may run it.
    pub(in crate::replication) fn remedy(self, server: &str, role: &Ident, database: &str) -> String {
        match self {
            Self::Exist => {
                format!("On the {server}, as a superuser: CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…';")
            }
            Self::LogIn => format!("On the {server}, as a superuser: ALTER ROLE {role} LOGIN;"),
            Self::Replicate { is_rds: true } => {
                format!("On the {server}, as a member of rds_superuser: GRANT rds_replication TO {role};")
            }
            Self::Replicate { is_rds: false } => {
                format!("On the {server}, as a superuser: ALTER ROLE {role} REPLICATION;")
            }
            Self::Connect => {
                format!(
                    "On the {server}, as the owner of the database: GRANT CONNECT ON DATABASE {} TO {role};",
                    quoted(database)
                )
            }
        }
    }
}
