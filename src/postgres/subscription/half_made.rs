// SPDX-License-Identifier: MPL-2.0

//! The comment of a subscription that is being created says so, with the token of its creator.
//!
//! It is created disabled, in one transaction with that comment, before anything exists on the publisher for it. The
//! transaction that enables it removes the comment. So a subscription with the comment has neither copied nor applied
//! anything, and anyone may remove it. If the answer to a statement is lost, the comment shows who created it.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Subscription;
use super::changes::{How, change_owner, diff, disable, enable, set};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, Literal, Statement};
use crate::postgres::version::{ServerVersion, Unsupported};

/// A random token that only one attempt to create a subscription knows: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new token.
    pub fn random() -> Self {
        let half = || RandomState::new().build_hasher().finish();
        Self(format!("{:016x}{:016x}", half(), half()))
    }

    /// Reads a token from the beginning of a text, and returns the rest.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (digits, rest) = text.split_at_checked(32)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| (Self(digits.to_owned()), rest))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The owner of a subscription that is being created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The token of the attempt that began it. Its slot may have it too.
    pub token: Token,
    /// The token of the current holder: that attempt, or one that removes it because nobody worked on it any more.
    pub holder: Token,
}

impl Claim {
    /// The claim of a new attempt.
    pub fn begin() -> Self {
        let token = Token::random();
        Self { holder: token.clone(), token }
    }

    /// The claim with a new holder, so that the previous one cannot continue.
    #[must_use]
    pub fn taken_over(&self) -> Self {
        Self { token: self.token.clone(), holder: Token::random() }
    }

    /// The beginning of the comment.
    fn comment(&self) -> String {
        format!("{COMMENT}{}{HOLDER}{}", self.token, self.holder)
    }

    fn of_comment(comment: &str) -> Option<Self> {
        let (token, rest) = Token::read(comment.strip_prefix(COMMENT)?)?;
        let (holder, _) = Token::read(rest.strip_prefix(HOLDER)?)?;
        Some(Self { token, holder })
    }
}

/// The beginning of the comment, and the text between its two tokens.
const COMMENT: &str = "terraform-provider-neonrepl is making this subscription, token ";
const HOLDER: &str = ", in the hands of ";

/// The state of a subscription that is not completely created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfMade {
    /// Its owner.
    pub claim: Claim,
    /// Whether the holder's session still exists, so that the holder probably still works on it.
    pub is_attended: bool,
    /// Whether it is enabled, which only a person can have done.
    pub enabled: bool,
}

/// The statements that begin to create a subscription: afterwards it exists with its tables, disabled, with the name of
/// a slot that may not exist yet. All run in one transaction, which creates nothing on any other server.
///
/// # Errors
/// When the server's version lacks a feature of `desired`.
pub fn begin(
    desired: &Subscription,
    how: &How,
    claim: &Claim,
    version: ServerVersion,
) -> std::result::Result<Vec<Statement>, Unsupported> {
    let bare = Subscription { enabled: false, owner: None, ..desired.clone() };
    let mut statements = diff(None, Some(&bare), &How { create_slot: false, ..how.clone() }, version)?;
    statements.push(mark(&desired.name, claim));
    Ok(statements)
}

/// The statements that finish the work of [`begin`], in one transaction. They fail with 42704 if the subscription no
/// longer belongs to this attempt.
pub fn finish(desired: &Subscription, claim: &Claim) -> Vec<Statement> {
    let name = &desired.name;
    // The first statement locks it, so that nobody can replace it before the transaction ends.
    let first = if desired.enabled { enable(name) } else { disable(name) };
    let unmark = Statement::new(format!("COMMENT ON SUBSCRIPTION {name} IS NULL"));
    let owner = desired.owner.as_ref().map(|owner| change_owner(name, owner));
    [first, check(name, claim), unmark].into_iter().chain(owner).collect()
}

/// The statements that remove the subscription that [`begin`] created, and nothing on the publisher. They fail with
/// 42704 if it no longer belongs to this attempt.
pub fn take_away(name: &Ident, claim: &Claim) -> Vec<Statement> {
    let detach = set(name, ["slot_name = NONE".to_owned()]);
    vec![detach, check(name, claim), Statement::new(format!("DROP SUBSCRIPTION {name}"))]
}

/// The statements that take over an abandoned subscription. They fail with 42704 if it has another holder by now.
pub fn take_over(name: &Ident, from: &Claim, to: &Claim) -> Vec<Statement> {
    vec![disable(name), check(name, from), mark(name, to)]
}

/// The comment contains the server process that runs this statement, which only the server knows.
fn mark(name: &Ident, claim: &Claim) -> Statement {
    let text = "One that no session makes any more is taken away by the next apply.";
    let body = format!(
        "BEGIN EXECUTE format('COMMENT ON SUBSCRIPTION %I IS %L', {}, {} || (SELECT format(', session %s since %s. ', pid, \
         extract(epoch FROM backend_start)) FROM pg_stat_get_activity(pg_backend_pid())) || {}); END",
        Literal(name.as_str()),
        Literal(&claim.comment()),
        Literal(text)
    );
    Statement::new(format!("DO {}", Literal(&body)))
}

/// Fails if the subscription of this name does not belong to this attempt.
fn check(name: &Ident, claim: &Claim) -> Statement {
    let body = format!(
        "BEGIN IF NOT EXISTS (SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
         WHERE d.datname = current_database() AND s.subname = {} \
         AND starts_with(obj_description(s.oid, 'pg_subscription'), {})) THEN \
         RAISE EXCEPTION USING ERRCODE = 'undefined_object', \
         MESSAGE = 'the subscription is not the one that this apply made'; END IF; END",
        Literal(name.as_str()),
        Literal(&claim.comment())
    );
    Statement::new(format!("DO {}", Literal(&body)))
}

/// The state of the subscription of this name; `None` if it does not exist or is completely created.
///
/// # Errors
/// When a query fails.
pub async fn half_made(subscriber: &Database, name: &Ident) -> Result<Option<HalfMade>> {
    let doing = format!("reading whether subscription {name} is made wholly");
    let sql = "SELECT c.said, s.subenabled, EXISTS (SELECT 1 FROM \
        pg_stat_get_activity(coalesce(substring(c.said FROM 'session ([0-9]+) since')::int, 0)) a \
        WHERE a.backend_start IS NULL OR starts_with(substring(c.said FROM 'since (.*)'), extract(epoch FROM a.backend_start)::text)) \
        FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid, \
        LATERAL (SELECT obj_description(s.oid, 'pg_subscription')) c(said) \
        WHERE d.datname = current_database() AND s.subname = $1 AND starts_with(c.said, $2)";
    let rows = subscriber.query(&doing, sql, &[(&name.as_str(), Type::TEXT), (&COMMENT, Type::TEXT)]).await?;
    let failed = |error| subscriber.error(&doing, Cause::Statement(error));
    rows.first().map(read).transpose().map(Option::flatten).map_err(failed)
}

fn read(row: &Row) -> std::result::Result<Option<HalfMade>, tokio_postgres::Error> {
    let claim = Claim::of_comment(row.try_get(0)?);
    let (enabled, is_attended) = (row.try_get(1)?, row.try_get(2)?);
    Ok(claim.map(|claim| HalfMade { claim, is_attended, enabled }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::Conninfo;
    use expect_test::{Expect, expect};

    fn claim() -> Claim {
        let token = |digit: &str| Token(digit.repeat(32));
        Claim { token: token("a"), holder: token("b") }
    }

    fn subscription() -> Subscription {
        let mut connection = Conninfo::new();
        connection.set("host", "h");
        connection.set("password", "it's");
        Subscription::new(Ident::new("s'\"").unwrap(), connection, [Ident::new("p").unwrap()])
    }

    fn check_text(statements: &[Statement], expected: Expect) {
        expected.assert_eq(&statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        assert!(statements.iter().all(|statement| statement.scope() == crate::postgres::sql::Scope::Transaction));
    }

    #[test]
    fn a_claim_is_nobody_elses_and_is_read_off_the_comment() {
        assert_ne!(Token::random(), Token::random());
        let claim = Claim::begin();
        assert_eq!(claim.token, claim.holder);
        let over = claim.taken_over();
        assert!(over.token == claim.token && over.holder != claim.holder);
        assert_eq!(Claim::of_comment(&format!("{}, session 1 since 2.3. More", over.comment())), Some(over));
        for other in ["a person's comment", COMMENT, &format!("{COMMENT}12"), &format!("{COMMENT}{}", claim.token)] {
            assert_eq!(Claim::of_comment(other), None);
        }
    }

    #[test]
    fn it_begins_disabled_and_marked_and_touches_no_other_server() {
        let begun = begin(&subscription(), &How::default(), &claim(), ServerVersion::major_only(14)).unwrap();
        check_text(
            &begun,
            expect![[r#"
            CREATE SUBSCRIPTION "s'""" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (create_slot = false, enabled = false)
            DO 'BEGIN EXECUTE format(''COMMENT ON SUBSCRIPTION %I IS %L'', ''s''''"'', ''terraform-provider-neonrepl is making this subscription, token aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, in the hands of bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'' || (SELECT format('', session %s since %s. '', pid, extract(epoch FROM backend_start)) FROM pg_stat_get_activity(pg_backend_pid())) || ''One that no session makes any more is taken away by the next apply.''); END'"#]],
        );
        let bare = How { connect: false, ..How::default() };
        let begun = begin(&subscription(), &bare, &claim(), ServerVersion::major_only(14)).unwrap();
        check_text(
            &begun[..1],
            expect![[
                r#"CREATE SUBSCRIPTION "s'""" CONNECTION 'host=h password=***' PUBLICATION "p" WITH (connect = false)"#
            ]],
        );
    }

    #[test]
    fn it_ends_running_for_its_owner_and_unmarked() {
        let desired = Subscription { owner: Some(Ident::new("keeper").unwrap()), ..subscription() };
        check_text(
            &finish(&desired, &claim()),
            expect![[r#"
            ALTER SUBSCRIPTION "s'""" ENABLE
            DO 'BEGIN IF NOT EXISTS (SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = ''s''''"'' AND starts_with(obj_description(s.oid, ''pg_subscription''), ''terraform-provider-neonrepl is making this subscription, token aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, in the hands of bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'')) THEN RAISE EXCEPTION USING ERRCODE = ''undefined_object'', MESSAGE = ''the subscription is not the one that this apply made''; END IF; END'
            COMMENT ON SUBSCRIPTION "s'""" IS NULL
            ALTER SUBSCRIPTION "s'""" OWNER TO "keeper""#]],
        );
        let disabled = Subscription { enabled: false, ..subscription() };
        check_text(&finish(&disabled, &claim())[..1], expect![[r#"ALTER SUBSCRIPTION "s'""" DISABLE"#]]);
    }

    #[test]
    fn it_is_taken_away_without_its_publisher() {
        check_text(
            &take_away(&subscription().name, &claim()),
            expect![[r#"
            ALTER SUBSCRIPTION "s'""" SET (slot_name = NONE)
            DO 'BEGIN IF NOT EXISTS (SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = ''s''''"'' AND starts_with(obj_description(s.oid, ''pg_subscription''), ''terraform-provider-neonrepl is making this subscription, token aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, in the hands of bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'')) THEN RAISE EXCEPTION USING ERRCODE = ''undefined_object'', MESSAGE = ''the subscription is not the one that this apply made''; END IF; END'
            DROP SUBSCRIPTION "s'""""#]],
        );
    }
}
