// SPDX-License-Identifier: MPL-2.0

//! A table that is so large that its buckets are split before rows are fetched.

use std::collections::BTreeSet;

use neonrepl::replication::comparison::Mode;

use super::{Compare, caught_up, differences};
use crate::common::postgres::Major::{V14, V18};
use crate::replication::Pair;
use crate::status::{subscribe, unsubscribe};

/// Ten of a bucket.
const ROWS: usize = 40_000;

#[tokio::test]
async fn each_damage_of_a_large_table_is_found() {
    for (from, to) in [(V14, V18), (V18, V14)] {
        let pair = Pair::new(from, to, "large").await;
        for side in [&pair.publisher, &pair.subscriber] {
            side.sql("CREATE TABLE large (id int PRIMARY KEY, note text)").await;
        }
        pair.publisher
            .sql(&format!("INSERT INTO large SELECT n, md5(n::text) FROM generate_series(1, {ROWS}) n"))
            .await;
        subscribe(&pair, "TABLE large", "").await;
        caught_up(&pair, &["large"]).await;
        let compare = Compare::of(&pair);
        assert!(compare.one(Mode::Rows, "large").await.equal);
        let damage = "UPDATE large SET note = 'damaged' WHERE id % 1000 = 1 AND id < 30000; \
            DELETE FROM large WHERE id % 1000 = 2 AND id < 30000; INSERT INTO large SELECT -n, 'extra' FROM generate_series(1, 30) n";
        pair.subscriber.sql(damage).await;
        let mut expected = BTreeSet::new();
        for at in 0..30 {
            let (changed, missing, extra) = (at * 1000 + 1, at * 1000 + 2, at + 1);
            expected.insert(format!("changed: id={changed} (column note)"));
            expected.insert(format!("missing on the subscriber: id={missing}"));
            expected.insert(format!("only on the subscriber: id=-{extra}"));
        }
        let found = compare.one(Mode::Rows, "large").await;
        assert_eq!(differences(&found), expected, "{from:?} to {to:?}");
        assert!(found.exact && found.further_differences == 0, "{}", found.further_differences);
        // More than are named: it says so, and counts none twice.
        pair.subscriber.sql("UPDATE large SET note = 'damaged' WHERE id % 20 = 5").await;
        let all = 90 + u64::try_from(ROWS / 20).unwrap();
        let found = compare.one(Mode::Rows, "large").await;
        assert_eq!(found.differences.len(), 100);
        assert!((1000..=all - 100).contains(&found.further_differences), "{}", found.further_differences);
        unsubscribe(&pair).await;
    }
}
