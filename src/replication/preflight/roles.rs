// SPDX-License-Identifier: MPL-2.0

//! Whether the roles have the rights that replication requires.

use std::collections::BTreeMap;

use super::facts::{Facts, Side};
use crate::postgres::publication::Lack;
use crate::postgres::version::RUN_AS_OWNER;
use crate::postgres::{Ident, QualifiedName, quoted};
use crate::replication::checks::Right;
use crate::replication::{Finding, Place, Severity, names};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found = login(&facts.publisher, facts.login_on(Place::Publisher));
    if facts.own.is_empty() {
        found.extend(creates_subscription(&facts.subscriber));
    }
    found.extend(publishes(facts));
    if facts.question.reverse {
        found.extend(login(&facts.subscriber, facts.login_on(Place::Subscriber)));
        if facts.publisher.subscriptions.is_empty() {
            found.extend(creates_subscription(&facts.publisher));
        }
    }
    found
}

pub(super) fn error(check: &'static str, side: &Side, role: &Ident) -> Finding {
    Finding::new(Severity::Error, check, side.place).about(role.as_str())
}

/// The role that a subscription logs in as, on the server that it reads from.
fn login(side: &Side, name: &Ident) -> Vec<Finding> {
    let Some(role) = side.roles.known.get(name) else {
        // The server did not show any roles.
        if side.roles.known.is_empty() {
            return Vec::new();
        }
        let says = format!("There is no role {name}, as which the subscription should log in.");
        return vec![error("role_missing", side, name).says(says).mended_by(remedy(side, name, Right::Exist))];
    };
    let rights = [
        (role.can_log_in, "role_login", "may not log in".to_owned(), Right::LogIn),
        (
            role.may_replicate(),
            "role_replication",
            "may not replicate, so a subscription that logs in as it cannot start".to_owned(),
            Right::Replicate { is_rds: side.server.is_rds() },
        ),
        (role.connects, "role_connect", format!("may not connect to database {:?}", side.database), Right::Connect),
    ];
    let lacking = rights.into_iter().filter(|(has, ..)| !has);
    lacking
        .map(|(_, check, lacks, right)| {
            error(check, side, name).says(format!("Role {name} {lacks}.")).mended_by(remedy(side, name, right))
        })
        .collect()
}

fn remedy(side: &Side, name: &Ident, right: Right) -> String {
    right.remedy(side.place.as_str(), name, &side.database)
}

/// The statement that lets a role replicate and create slots.
pub(super) fn replication(side: &Side, name: &Ident) -> String {
    remedy(side, name, Right::Replicate { is_rds: side.server.is_rds() })
}

/// Whether the role of the connection may create a subscription there.
fn creates_subscription(side: &Side) -> Vec<Finding> {
    let (name, server) = (&side.roles.own, side.place.as_str());
    let Some(role) = side.roles.known.get(name).filter(|role| !role.is_superuser) else { return Vec::new() };
    let mut found = Vec::new();
    if !role.creates_subscriptions {
        let found_here = error("create_subscription", side, name);
        found.push(if side.version.has(RUN_AS_OWNER) {
            let mend = format!("On the {server}: GRANT pg_create_subscription TO {name};");
            found_here.says(format!("Role {name} may not create subscriptions.")).mended_by(mend)
        } else {
            let says = format!(
                "Role {name} is not a superuser, and before Postgres 16 only a superuser may create \
                     subscriptions."
            );
            let mend = format!(
                "Connect to the {server} as a superuser, as rds_superuser on RDS, or use Postgres 16 or later there."
            );
            found_here.says(says).mended_by(mend)
        });
    }
    if !role.creates && side.version.has(RUN_AS_OWNER) {
        found.push(lacks_create(side, name, "which creating a subscription needs"));
    }
    found
}

pub(super) fn lacks_create(side: &Side, name: &Ident, why: &str) -> Finding {
    let says = format!("Role {name} may not create objects in database {:?}, {why}.", side.database);
    let mend =
        format!("On the {}: GRANT CREATE ON DATABASE {} TO {name};", side.place.as_str(), quoted(&side.database));
    error("create_on_database", side, name).says(says).mended_by(mend)
}

/// Whether the role of the connection may publish the tables that are not published yet.
fn publishes(facts: &Facts) -> Vec<Finding> {
    let (side, name) = (&facts.publisher, &facts.publisher.roles.own);
    facts.lacks.iter().flat_map(|lack| lacks(side, name, lack)).collect()
}

fn lacks(side: &Side, name: &Ident, lack: &Lack) -> Vec<Finding> {
    match lack {
        Lack::Create => vec![lacks_create(side, name, "which creating a publication needs")],
        Lack::Publication(owner) => {
            let says = format!("Role {name} may not add tables to a publication that role {owner} owns.");
            let mend = format!("On the publisher: GRANT {owner} TO {name};");
            vec![error("publication_owner", side, owner).says(says).mended_by(mend)]
        }
        Lack::Tables(tables) => {
            let mut owners: BTreeMap<&Ident, Vec<&QualifiedName>> = BTreeMap::new();
            for (table, owner) in tables {
                owners.entry(owner).or_default().push(table);
            }
            owners.into_iter().map(|(owner, tables)| not_owned(name, owner, &tables)).collect()
        }
        // A standby has a finding of its own, and the question asks neither for all tables nor for another owner.
        Lack::ReadOnly | Lack::Superuser(_) | Lack::NoOwner(_) | Lack::SetOwner(_) => Vec::new(),
    }
}

fn not_owned(name: &Ident, owner: &Ident, tables: &[&QualifiedName]) -> Finding {
    let listed = names::list(tables.iter().map(|table| table.to_text()));
    let says = format!("Role {name} may not publish tables that role {owner} owns: {listed}.");
    let alter =
        tables.first().map(|table| format!(" or, for each: ALTER TABLE {table} OWNER TO {name};")).unwrap_or_default();
    Finding::new(Severity::Error, "table_owner", Place::Publisher)
        .about(owner.as_str())
        .says(says)
        .mended_by(format!("On the publisher: GRANT {owner} TO {name};{alter}"))
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, ident, shown};
    use super::*;
    use crate::postgres::ServerVersion;
    use crate::postgres::server_facts::Role;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    fn role(side: &mut Side) -> &mut Role {
        side.roles.known.get_mut(&ident("me")).unwrap()
    }

    #[test]
    fn each_missing_right_comes_with_its_statement() {
        let lacks = |facts: &mut Facts| *role(&mut facts.publisher) = Role { creates: true, ..Role::default() };
        check(
            lacks,
            &expect![[r#"
                role_login: error on publisher, me: Role "me" may not log in. On the publisher, as a superuser: ALTER ROLE "me" LOGIN;
                role_replication: error on publisher, me: Role "me" may not replicate, so a subscription that logs in as it cannot start. On the publisher, as a superuser: ALTER ROLE "me" REPLICATION;
                role_connect: error on publisher, me: Role "me" may not connect to database "shop". On the publisher, as the owner of the database: GRANT CONNECT ON DATABASE "shop" TO "me";
            "#]],
        );
        check(
            |facts| facts.question.subscription_role = Some(ident("re\"pl")),
            &expect![[r#"
                role_missing: error on publisher, re"pl: There is no role "re""pl", as which the subscription should log in. On the publisher, as a superuser: CREATE ROLE "re""pl" LOGIN REPLICATION PASSWORD '…';
            "#]],
        );
        let rds = |facts: &mut Facts| {
            role(&mut facts.publisher).has_replication = false;
            facts.publisher.server.settings.insert("rds.logical_replication".to_owned(), "on".to_owned());
        };
        check(
            rds,
            &expect![[r#"
                role_replication: error on publisher, me: Role "me" may not replicate, so a subscription that logs in as it cannot start. On the publisher, as a member of rds_superuser: GRANT rds_replication TO "me";
            "#]],
        );
    }

    #[test]
    fn who_makes_a_subscription_depends_on_the_version() {
        let lacks = |facts: &mut Facts| {
            let role = role(&mut facts.subscriber);
            (role.creates, role.creates_subscriptions) = (false, false);
        };
        check(
            lacks,
            &expect![[r#"
            create_subscription: error on subscriber, me: Role "me" may not create subscriptions. On the subscriber: GRANT pg_create_subscription TO "me";
            create_on_database: error on subscriber, me: Role "me" may not create objects in database "shop", which creating a subscription needs. On the subscriber: GRANT CREATE ON DATABASE "shop" TO "me";
        "#]],
        );
        let older = |facts: &mut Facts| {
            lacks(facts);
            facts.subscriber.version = ServerVersion::major_only(15);
        };
        check(
            older,
            &expect![[r#"
                create_subscription: error on subscriber, me: Role "me" is not a superuser, and before Postgres 16 only a superuser may create subscriptions. Connect to the subscriber as a superuser, as rds_superuser on RDS, or use Postgres 16 or later there.
            "#]],
        );
        let runs = |facts: &mut Facts| {
            lacks(facts);
            facts.own.insert(ident("running"), std::collections::BTreeSet::new());
        };
        check(runs, &expect![[""]]);
    }

    #[test]
    fn tables_that_others_own_are_named_by_their_owner() {
        let others = |facts: &mut Facts| {
            let tables = [("orders", "app"), ("users", "app"), ("log", "audit")];
            let tables = tables.map(|(table, owner)| (example::table(table), ident(owner)));
            facts.lacks = vec![Lack::Create, Lack::Tables(tables.into()), Lack::Publication(ident("app"))];
        };
        check(
            others,
            &expect![[r#"
                create_on_database: error on publisher, me: Role "me" may not create objects in database "shop", which creating a publication needs. On the publisher: GRANT CREATE ON DATABASE "shop" TO "me";
                table_owner: error on publisher, app: Role "me" may not publish tables that role "app" owns: public.orders, public.users. On the publisher: GRANT "app" TO "me"; or, for each: ALTER TABLE "public"."orders" OWNER TO "me";
                table_owner: error on publisher, audit: Role "me" may not publish tables that role "audit" owns: public.log. On the publisher: GRANT "audit" TO "me"; or, for each: ALTER TABLE "public"."log" OWNER TO "me";
                publication_owner: error on publisher, app: Role "me" may not add tables to a publication that role "app" owns. On the publisher: GRANT "app" TO "me";
            "#]],
        );
    }
}
