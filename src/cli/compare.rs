//! `compare`: whether tables hold the same rows on both sides.

use super::arguments::Compare as Asked;
use super::screen::Screen;
use super::servers::Environment;
use super::{Failure, Heard, Outcome, json};
use crate::postgres::Limits;
use crate::replication::Operation;
use crate::replication::comparison::{Question, compare};
use crate::report;

/// Compares once.
pub(super) async fn run(
    asked: &Asked,
    environment: &Environment<'_>,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let pair = asked.servers.pair(environment)?;
    let question = Question {
        publications: asked.publications.iter().cloned().collect(),
        tables: asked.tables.iter().cloned().collect(),
        mode: asked.mode.into(),
        max_differences: asked.max_differences,
    };
    let heard = Heard::default();
    let operation = Operation::new("comparing tables", Limits::within(asked.timeout), &heard);
    let compared = Box::pin(compare(&operation, &pair, &question, &mut |_| {})).await;
    heard.tell(screen);
    let compared = compared?;
    if asked.json {
        screen.print(&json::comparison(&compared));
    } else {
        screen.print(&report::comparison(&compared, &screen.style));
    }
    Ok(Outcome::of(compared.is_equal()))
}
