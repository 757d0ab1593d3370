// SPDX-License-Identifier: MPL-2.0

//! The server's own log after it refuses a statement of ours.

use neonrepl::postgres::Conninfo;
use neonrepl::postgres::subscription::{self, How, Subscription};

use crate::catalog::{connect, ident};
use crate::common::postgres::{self as servers, Major, Role};
use crate::common::wait::wait_until;

/// A superuser's sessions omit the statement, and the password with it. The reason is still there.
#[tokio::test]
async fn a_refused_subscription_leaves_no_password_in_the_log() {
    let password = "pw-refused-subscription-5t";
    for major in [Major::V14, Major::V18] {
        let server = servers::shared(major);
        let test = server.database("refused").await;
        let db = connect(&test, &Role::superuser());
        let publisher = Conninfo::parse(&format!("host=127.0.0.1 port=1 dbname=d user=u password={password}")).unwrap();
        let name = ident(&format!("refused_{}", test.name));
        let desired = Subscription::new(name.clone(), publisher, [ident("p")]);
        let statements =
            subscription::diff(None, Some(&desired), &How::default(), db.version().await.unwrap()).unwrap();
        let refused = db.run("creating a subscription", &statements).await.unwrap_err();
        assert!(refused.to_string().contains("could not connect to the publisher"), "{refused}");
        let since = async || server.log().contains("could not connect to the publisher");
        wait_until("the reason in the log", std::time::Duration::from_secs(60), since).await;
        // Later lines of the log come after those of the refusal.
        test.try_sql("SELECT no_such_column_of_refused").await.unwrap_err();
        let later = async || server.log().contains("STATEMENT:  SELECT no_such_column_of_refused");
        wait_until("a later statement in the log", std::time::Duration::from_secs(60), later).await;
        assert!(!server.log().contains(password), "the password is in the log of {major:?}");
    }
}
