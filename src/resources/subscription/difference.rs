// SPDX-License-Identifier: MPL-2.0

//! The differences between the current and the wanted connection of a subscription, and the connection to set.

use std::collections::BTreeSet;

use super::Model;
use super::connection;
use crate::config::Context;
use crate::postgres::conninfo_parts::{self, meant};
use crate::postgres::{Conninfo, ServerVersion, SslMode};
use crate::resources::reaching::{self, Connected, Connection, block_changes};
use crate::tf_provider::call::Private;
use crate::tf_provider::diagnostics::Result;

/// The keywords whose difference is drift, even if only a default differs. Others may have been added on purpose.
const COMPARED: &[&str] = &["host", "port", "dbname", "user", "password"];

/// The keywords in which the connection differs from the configuration. An imported connection is only compared with
/// the `publisher` block itself: it stays as it is until the configuration requires something else.
pub(super) fn differing(
    context: &Context,
    private: &Private,
    model: &Model,
    connected: &Connected,
) -> BTreeSet<String> {
    let (Some(there), Ok(wanted)) = (connected.conninfo(), connection::conninfo(context, model, None)) else {
        return BTreeSet::new();
    };
    let given = model.publisher.known().map(Connection::given).unwrap_or_default();
    let is_ours = reaching::sent(private).is_some();
    let sees_password = matches!(connected, Connected::Read(_)) && sees_password(private, model);
    let is_compared = |keyword: &str| match keyword {
        "password" if !sees_password || wanted.get("password").is_none() => false,
        keyword => given.contains(keyword) || is_ours && COMPARED.contains(&keyword),
    };
    conninfo_parts::differing(there, &wanted).into_iter().filter(|keyword| is_compared(keyword)).collect()
}

/// Whether the wanted password is in the provider's configuration or in the state. A write-only one is in
/// neither, and the provider's is not for other roles.
fn sees_password(private: &Private, model: &Model) -> bool {
    let Some(block) = model.publisher.known() else { return true };
    let another_role = block.username.known().is_some();
    block.password_wo.known().is_some()
        || block.password.known().is_some()
        || !another_role && !reaching::was_write_only(private)
}

/// Whether both are the same, including the password.
pub(super) fn is_same(there: &Conninfo, wanted: &Conninfo) -> bool {
    conninfo_parts::differing(there, wanted).is_empty()
}

/// The connection to set for a subscription that has one: the configured keywords, with existing keywords that the
/// configuration does not mention. Keywords that the provider set before can be removed by the configuration.
///
/// # Errors
/// As [`connection::conninfo`].
pub(super) fn to_send(
    context: &Context,
    private: &Private,
    plan: &Model,
    connected: &Connected,
    version: Option<ServerVersion>,
) -> Result<Conninfo> {
    let mut wanted = connection::conninfo(context, plan, version)?;
    if let Connected::Read(there) = connected {
        let block = plan.publisher.known();
        let given = block.map(Connection::given).unwrap_or_default();
        keep(&mut wanted, there, &given, reaching::sent(private).as_ref());
    }
    Ok(wanted)
}

fn keep(wanted: &mut Conninfo, there: &Conninfo, given: &BTreeSet<&str>, ours: Option<&Conninfo>) {
    let is_ours = |keyword: &str, value: &str| ours.and_then(|ours| ours.get(keyword)) == Some(value);
    let same_host = wanted.get("host") == there.get("host");
    for (keyword, value) in there.iter().filter(|(keyword, value)| !given.contains(keyword) && !is_ours(keyword, value))
    {
        let stays = match keyword {
            "host" | "port" | "dbname" | "user" => false,
            "password" => wanted.get("password").is_none() && wanted.get("user") == there.get("user"),
            "hostaddr" => same_host,
            "sslmode" => strength(value) > strength(wanted.get("sslmode").unwrap_or_default()),
            keyword => wanted.get(keyword).is_none(),
        };
        if stays {
            wanted.set(keyword, value);
        }
    }
}

fn strength(mode: &str) -> Option<SslMode> {
    mode.parse().ok()
}

/// The changes of a connection for people, one line for each keyword: old and new, without secrets.
pub(super) fn lines(connected: &Connected, new: &Conninfo) -> Vec<String> {
    let Some(there) = connected.conninfo() else {
        let what = "This role may not read the current connection, and none was sent from here. It is replaced by";
        return vec![format!("{what} {new}.")];
    };
    let line = |keyword: String| match keyword.as_str() {
        // The record of a set connection has no password.
        "password" if !matches!(connected, Connected::Read(_)) => None,
        "password" => Some("password: a new one is sent.".to_owned()),
        keyword => Some(format!("{keyword}: {} becomes {}.", shown(there, keyword), shown(new, keyword))),
    };
    conninfo_parts::differing(there, new).into_iter().filter_map(line).collect()
}

/// The value of a keyword, unless it is a secret.
fn shown(conninfo: &Conninfo, keyword: &str) -> String {
    let Some(value) = meant(conninfo, keyword) else { return "nothing".to_owned() };
    let mut alone = Conninfo::new();
    alone.set(keyword, value);
    let text = alone.to_string();
    text.split_once('=').map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// Whether an update sets the connection again. An imported one is only set if it was found to differ, or if this is
/// requested.
pub(super) fn is_sent(private: &Private, prior: &Model, plan: &Model) -> bool {
    prior.connection_version != plan.connection_version
        || plan.connection_differs.is_unknown()
        || reaching::sent(private).is_some() && block_changes(&prior.publisher, &plan.publisher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn conninfo(text: &str) -> Conninfo {
        Conninfo::parse(text).unwrap()
    }

    fn check_kept(wanted: &str, there: &str, given: &[&str], ours: Option<&str>, expected: Expect) {
        let mut wanted = conninfo(wanted);
        keep(&mut wanted, &conninfo(there), &given.iter().copied().collect(), ours.map(conninfo).as_ref());
        expected.assert_eq(wanted.to_secret().expose());
    }

    #[test]
    fn keywords_that_were_there_stay() {
        let there = "host=old user=u password=old sslmode=verify-full sslrootcert=system keepalives_idle=60";
        check_kept(
            "host=new user=u password=new sslmode=require",
            there,
            &["host"],
            None,
            expect!["host=new keepalives_idle=60 password=new sslmode=verify-full sslrootcert=system user=u"],
        );
        check_kept(
            "host=new user=other sslmode=require",
            there,
            &["host", "sslmode", "keepalives_idle"],
            None,
            expect!["host=new sslmode=require sslrootcert=system user=other"],
        );
        check_kept(
            "host=old user=u",
            "host=old hostaddr=10.0.0.1 user=u password=old",
            &[],
            None,
            expect!["host=old hostaddr=10.0.0.1 password=old user=u"],
        );
    }

    #[test]
    fn keywords_that_were_sent_from_here_go_with_the_configuration() {
        let there = "host=h user=u sslmode=require keepalives_idle=60 application_name=theirs";
        check_kept(
            "host=h user=u sslmode=prefer",
            there,
            &[],
            Some("host=h user=u sslmode=require keepalives_idle=60"),
            expect!["application_name=theirs host=h sslmode=prefer user=u"],
        );
    }

    #[test]
    fn old_and_new_are_said_without_secrets() {
        let there = Connected::Read(conninfo("host=h user=replicator password=a sslmode=verify-full sslpassword=b"));
        let new = conninfo("host=h port=5433 user=postgres password=c sslmode=require");
        expect![[r#"
            password: a new one is sent.
            port: 5432 becomes 5433.
            sslmode: verify-full becomes require.
            sslpassword: *** becomes nothing.
            user: replicator becomes postgres."#]]
        .assert_eq(&lines(&there, &new)[1..].join("\n"));
        assert!(lines(&Connected::Read(new.clone()), &new).is_empty());
        expect![
            "This role may not read the current connection, and none was sent from here. It is replaced by \
             host=h password=*** port=5433 sslmode=require user=postgres."
        ]
        .assert_eq(&lines(&Connected::Unknown, &new).concat());
    }
}
