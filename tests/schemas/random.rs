// SPDX-License-Identifier: MPL-2.0

//! Random schemas.

use crate::common::postgres::{self as servers, Database, Major};
use crate::maker::{Made, Maker};
use crate::printed::{Later, differences};

/// Creates the schema; the error has the statement that the server refuses, and all before it.
pub(crate) async fn run(database: &Database, made: &Made) -> Result<(), String> {
    for (at, statement) in made.extensions.iter().chain(&made.statements).enumerate() {
        if let Err(error) = database.try_sql(statement).await {
            let cause = error.as_db_error().map(|cause| format!("{} {:?}", cause.message(), cause.detail()));
            let before = made.statements[..at.min(made.statements.len())].join(";\n");
            return Err(format!("{}\n{statement}\nafter\n{before}", cause.unwrap_or_default()));
        }
    }
    Ok(())
}

pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The server accepts every random schema, and the same seed gives the same schema.
#[tokio::test]
async fn the_same_schema_twice_is_the_same() {
    let (first, count) = (number("SEED", 1), number("COUNT", 8));
    let mut failures = Vec::new();
    for major in [Major::V14, Major::V16, Major::V18] {
        let mut written = (0, 0);
        for seed in first..first + count {
            let made = Maker::make(seed, major.number());
            let one = servers::shared(major).database("twice").await;
            if let Err(error) = run(&one, &made).await {
                failures.push(format!("{major:?} seed {seed}: {error}"));
                continue;
            }
            one.sql(&made.publication).await;
            for write in &made.writes {
                written.0 += usize::from(one.try_sql(write).await.is_ok());
            }
            written.1 += made.writes.len();
            if seed < first + 4 {
                let other = servers::shared(major).database("twice").await;
                run(&other, &made).await.unwrap();
                let mut found = differences((&one, major), (&other, major), Later::default()).await;
                found.retain(|line| !(line.starts_with("+ ") && line.contains("unneeded")));
                assert_eq!(found, [""; 0], "seed {seed}");
            }
        }
        eprintln!("{major:?}: {} of {} writes", written.0, written.1);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
