// SPDX-License-Identifier: MPL-2.0

//! The stand-in answers like RDS: its answers have the shapes of RDS's own model.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::aurora::shapes;
use crate::common::tools;

/// botocore's model of the API, if available: `NEONREPL_RDS_MODEL`, or next to the checkout.
fn model() -> Option<Value> {
    let beside = || tools::checkout().join("../shared/reference/rds-service.json");
    let path = std::env::var_os("NEONREPL_RDS_MODEL").map_or_else(beside, PathBuf::from);
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("the model"))
}

/// `UPDATE_GOLDEN=1` reduces the model again.
#[test]
fn the_shapes_are_those_of_the_model() {
    let Some(model) = model() else {
        eprintln!("skipped: rds-service.json is not there, see NEONREPL_RDS_MODEL");
        return;
    };
    let cut = shapes::cut_down(&model);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = tools::checkout().join("tests/common/aurora/shapes.json");
        fs::write(path, printed(&cut)).expect("writing the shapes");
        return;
    }
    assert!(*shapes::carried() == cut, "shapes.json is out of date: run this test with UPDATE_GOLDEN=1");
}

/// One operation or shape on each line, so that a difference can be read.
fn printed(cut: &Value) -> String {
    let section = |(name, entries): (&String, &Value)| {
        let entries = entries.as_object().into_iter().flatten().map(|(name, entry)| format!("{name:?}: {entry}"));
        format!("{name:?}: {{\n{}\n}}", entries.collect::<Vec<_>>().join(",\n"))
    };
    let sections = cut.as_object().into_iter().flatten().map(section);
    format!("{{\n{}\n}}\n", sections.collect::<Vec<_>>().join(",\n"))
}
