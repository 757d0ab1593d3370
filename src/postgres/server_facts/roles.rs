// SPDX-License-Identifier: MPL-2.0

//! The rights and settings of the relevant roles.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::Ident;

/// The requested roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// The role of the connection.
    pub own: Ident,
    /// The existing ones, including the connection's.
    pub known: BTreeMap<Ident, Role>,
}

/// The rights of a role in the connected database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct Role {
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// Whether it may log in.
    pub can_log_in: bool,
    /// Whether it has the attribute REPLICATION.
    pub has_replication: bool,
    /// Whether it is a member of `rds_replication`, which replaces that attribute on RDS.
    pub has_rds_replication: bool,
    /// Whether it may create subscriptions as a member of `pg_create_subscription`, or of the superuser substitute of
    /// RDS or Neon.
    pub creates_subscriptions: bool,
    /// Whether it may see the activity of other roles' sessions.
    pub reads_all_stats: bool,
    /// Whether it may create objects in the database.
    pub creates: bool,
    /// Whether it may connect to the database.
    pub connects: bool,
}

impl Role {
    /// Whether it may open a replication connection.
    pub fn may_replicate(&self) -> bool {
        self.is_superuser || self.has_replication || self.has_rds_replication
    }
}

/// The rights of these roles and of the connection's. Omits roles that do not exist.
///
/// # Errors
/// When a query fails.
pub async fn roles(db: &Database, names: &[&Ident]) -> Result<Roles> {
    let doing = "reading what roles may do";
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let is_member = "EXISTS (SELECT 1 FROM pg_roles g WHERE pg_has_role(r.oid, g.oid, 'USAGE') AND g.rolname IN";
    let sql = format!(
        "SELECT r.rolname::text, r.rolname = current_user, r.rolsuper, r.rolcanlogin, r.rolreplication, \
         {is_member} ('rds_replication')), {is_member} ('pg_create_subscription', 'rds_superuser', 'neon_superuser')), \
         {is_member} ('pg_read_all_stats')), has_database_privilege(r.oid, d.oid, 'CREATE'), \
         has_database_privilege(r.oid, d.oid, 'CONNECT') FROM pg_roles r JOIN pg_database d ON d.datname = current_database() \
         WHERE r.rolname = current_user OR r.rolname = ANY ($1)"
    );
    let rows = db
        .query_all(doing, &sql, &[(&names, Type::TEXT_ARRAY)], |row| {
            let is_own: bool = row.try_get(1)?;
            let role = Role {
                is_superuser: row.try_get(2)?,
                can_log_in: row.try_get(3)?,
                has_replication: row.try_get(4)?,
                has_rds_replication: row.try_get(5)?,
                creates_subscriptions: row.try_get(6)?,
                reads_all_stats: row.try_get(7)?,
                creates: row.try_get(8)?,
                connects: row.try_get(9)?,
            };
            Ok((is_own, Ident::from_catalog(row.try_get(0)?), role))
        })
        .await?;
    let own = rows.iter().find(|(is_own, ..)| *is_own).map(|(_, name, _)| name.clone());
    let own = own.unwrap_or_else(|| Ident::from_catalog(&db.config().username));
    Ok(Roles { own, known: rows.into_iter().map(|(_, name, role)| (name, role)).collect() })
}

/// A role's own setting. Its sessions begin with it, whatever the database's setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleSetting {
    /// The role.
    pub role: Ident,
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it applies only in the connected database.
    pub in_database: bool,
}

/// The roles' own settings of these names in the connected database, except of the roles with which RDS and Neon run
/// their servers.
///
/// # Errors
/// When a query fails.
pub async fn role_settings(db: &Database, names: &[&str]) -> Result<Vec<RoleSetting>> {
    let doing = "reading the settings of roles";
    let sql = "SELECT r.rolname::text, split_part(c.text, '=', 1), substr(c.text, strpos(c.text, '=') + 1), s.setdatabase <> 0 \
         FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN LATERAL unnest(s.setconfig) AS c (text) \
         WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())) \
         AND split_part(c.text, '=', 1) = ANY ($1) AND r.rolname NOT IN ('rdsadmin', 'cloud_admin') ORDER BY 1, 2, 4";
    let names = names.to_vec();
    db.query_all(doing, sql, &[(&names, Type::TEXT_ARRAY)], |row| {
        Ok(RoleSetting {
            role: Ident::from_catalog(row.try_get(0)?),
            name: row.try_get(1)?,
            value: row.try_get(2)?,
            in_database: row.try_get(3)?,
        })
    })
    .await
}
