// SPDX-License-Identifier: MPL-2.0

//! RDS's own model of the operations that the stand-in answers: their elements, the required ones, and the declared
//! errors.
//!
//! [`cut_down`] makes `shapes.json` from `rds-service.json`, botocore's model of the API.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::form::Form;
use super::xml::Element;

/// All operations that the stand-in answers.
pub const OPERATIONS: [&str; 24] = [
    "AddTagsToResource",
    "CopyDBClusterParameterGroup",
    "CopyDBParameterGroup",
    "CreateDBClusterParameterGroup",
    "CreateDBParameterGroup",
    "DeleteDBClusterParameterGroup",
    "DeleteDBParameterGroup",
    "DescribeBlueGreenDeployments",
    "DescribeDBClusterParameterGroups",
    "DescribeDBClusterParameters",
    "DescribeDBClusters",
    "DescribeDBEngineVersions",
    "DescribeDBInstances",
    "DescribeDBParameterGroups",
    "DescribeDBParameters",
    "ListTagsForResource",
    "ModifyDBCluster",
    "ModifyDBClusterParameterGroup",
    "ModifyDBInstance",
    "ModifyDBParameterGroup",
    "RebootDBInstance",
    "RemoveTagsFromResource",
    "ResetDBClusterParameterGroup",
    "ResetDBParameterGroup",
];

/// The errors of any operation, which the model omits.
///
/// Source: "Common Errors", Amazon RDS API Reference, and the endpoint's errors about credentials.
const COMMON_ERRORS: [(&str, u16); 18] = [
    ("AccessDenied", 403),
    ("ExpiredToken", 403),
    ("IncompleteSignature", 400),
    ("InternalFailure", 500),
    ("InvalidAction", 400),
    ("InvalidClientTokenId", 403),
    ("InvalidParameterCombination", 400),
    ("InvalidParameterValue", 400),
    ("MissingAuthenticationToken", 403),
    ("MissingParameter", 400),
    ("OptInRequired", 403),
    ("RequestExpired", 400),
    ("RequestLimitExceeded", 503),
    ("ServiceUnavailable", 503),
    ("SignatureDoesNotMatch", 403),
    ("Throttling", 400),
    ("ThrottlingException", 400),
    ("ValidationError", 400),
];

/// The stored shapes.
pub fn carried() -> &'static Value {
    static CARRIED: OnceLock<Value> = OnceLock::new();
    CARRIED.get_or_init(|| serde_json::from_str(include_str!("shapes.json")).expect("shapes.json"))
}

/// The stored part of the whole model: [`OPERATIONS`], and the shapes that they need.
pub fn cut_down(model: &Value) -> Value {
    let mut shapes = BTreeMap::new();
    let operations = OPERATIONS.map(|name| {
        let operation = &model["operations"][name];
        let mut shape_of = |side: &str| {
            let shape = operation[side]["shape"].as_str();
            shape.inspect(|shape| collect(model, shape, &mut shapes)).map_or(Value::Null, Value::from)
        };
        let (input, output) = (shape_of("input"), shape_of("output"));
        let errors = operation["errors"].as_array().into_iter().flatten().map(|error| {
            let declared = &model["shapes"][text(&error["shape"])]["error"];
            (text(&declared["code"]).to_owned(), declared["httpStatusCode"].clone())
        });
        (name.to_owned(), json!({ "input": input, "output": output, "errors": errors.collect::<Map<_, _>>() }))
    });
    json!({ "operations": Map::from_iter(operations), "shapes": shapes })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A structure is its members, a list its item, and a scalar its type, or the values of its enumeration.
fn collect(model: &Value, name: &str, shapes: &mut BTreeMap<String, Value>) {
    if shapes.contains_key(name) {
        return;
    }
    let shape = &model["shapes"][name];
    shapes.insert(name.to_owned(), Value::Null);
    let mut member = |of: &Value| {
        let of = text(&of["shape"]);
        collect(model, of, shapes);
        of.to_owned()
    };
    let cut = match text(&shape["type"]) {
        "structure" => {
            let members = shape["members"].as_object().into_iter().flatten();
            let members: Map<_, _> = members.map(|(name, of)| (name.clone(), Value::from(member(of)))).collect();
            json!({ "members": members, "required": shape.get("required").unwrap_or(&json!([])) })
        }
        "list" => {
            let item = shape["member"]["locationName"].as_str().unwrap_or("member");
            json!({ "item": item, "of": member(&shape["member"]) })
        }
        kind => json!({ "type": kind, "values": shape.get("enum") }),
    };
    shapes.insert(name.to_owned(), cut);
}

fn operation(action: &str) -> &'static Value {
    &carried()["operations"][action]
}

/// Whether the operation has a result.
pub(super) fn has_result(action: &str) -> bool {
    operation(action)["output"].is_string()
}

/// The name of a required element that a request lacks.
pub(super) fn missing(action: &str, form: &Form) -> Option<String> {
    let input = &carried()["shapes"][text(&operation(action)["input"])];
    let required = input["required"].as_array().into_iter().flatten().map(text);
    let is_given = |name: &str| form.0.keys().any(|key| key == name || key.starts_with(&format!("{name}.")));
    required.filter(|name| !is_given(name)).map(str::to_owned).next()
}

/// The problems of a result.
pub(super) fn problems_of_result(action: &str, result: &[Element]) -> Vec<String> {
    let mut problems = Vec::new();
    match operation(action)["output"].as_str() {
        Some(output) => check_structure(action, output, result, &mut problems),
        None if !result.is_empty() => problems.push(format!("{action} answers with nothing")),
        None => {}
    }
    problems
}

/// The problem of an error: its code is neither common nor declared, or has another HTTP status.
pub(super) fn problem_of_error(action: &str, code: &str, status: u16) -> Option<String> {
    let declared = operation(action)["errors"][code].as_u64();
    let common = COMMON_ERRORS.iter().find(|(common, _)| *common == code).map(|(_, status)| u64::from(*status));
    match declared.or(common) {
        None => Some(format!("{action} does not declare the error {code}")),
        Some(expected) if expected != u64::from(status) => {
            Some(format!("{action} answers {code} with HTTP status {expected}, not {status}"))
        }
        Some(_) => None,
    }
}

fn check(place: &str, name: &str, element: &Element, problems: &mut Vec<String>) {
    let shape = &carried()["shapes"][name];
    match element {
        Element::Node(_, children) if shape["members"].is_object() => check_structure(place, name, children, problems),
        Element::Node(_, items) if shape["item"].is_string() => {
            for item in items {
                if item.name() != text(&shape["item"]) {
                    problems.push(format!("{place} has items {}, not {}", text(&shape["item"]), item.name()));
                }
                check(place, text(&shape["of"]), item, problems);
            }
        }
        Element::Text(_, value) if shape["type"].is_string() => {
            if !is_of(shape, value) {
                problems.push(format!("{place} is no {}: {value}", text(&shape["type"])));
            }
        }
        _ => problems.push(format!("{place} has another structure than {name}")),
    }
}

fn check_structure(place: &str, name: &str, children: &[Element], problems: &mut Vec<String>) {
    let shape = &carried()["shapes"][name];
    for child in children {
        match shape["members"][child.name()].as_str() {
            Some(of) => check(&format!("{place}.{}", child.name()), of, child, problems),
            None => problems.push(format!("{place} has no element {}", child.name())),
        }
    }
    for required in shape["required"].as_array().into_iter().flatten().map(text) {
        if !children.iter().any(|child| child.name() == required) {
            problems.push(format!("{place} lacks {required}"));
        }
    }
}

fn is_of(shape: &Value, value: &str) -> bool {
    let is_listed = |values: &Vec<Value>| values.iter().any(|one| one == value);
    match text(&shape["type"]) {
        "boolean" => matches!(value, "true" | "false"),
        "integer" | "long" => value.parse::<i64>().is_ok(),
        "double" => value.parse::<f64>().is_ok(),
        _ => shape["values"].as_array().is_none_or(is_listed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml::{node, text};
    use super::*;

    #[test]
    fn an_answer_that_rds_would_not_give_is_found_out() {
        let instance = |fields| vec![node("DBInstances", vec![node("DBInstance", fields)])];
        let problems = |fields| problems_of_result("DescribeDBInstances", &instance(fields)).concat();
        assert_eq!(problems(vec![text("DBInstanceIdentifier", "a"), text("PubliclyAccessible", true)]), "");
        assert!(problems(vec![text("DbInstanceIdentifier", "a")]).contains("has no element DbInstanceIdentifier"));
        assert!(problems(vec![text("PubliclyAccessible", "yes")]).contains("is no boolean: yes"));
        assert!(problems(vec![node("DBInstanceStatus", vec![])]).contains("another structure than String"));
        let wrong_item = [node("DBInstances", vec![node("member", vec![])])];
        assert!(problems_of_result("DescribeDBInstances", &wrong_item).concat().contains("has items DBInstance"));
        assert!(!problems_of_result("DeleteDBClusterParameterGroup", &[text("A", "b")]).is_empty());
    }

    #[test]
    fn errors_are_those_that_the_operation_declares() {
        assert_eq!(problem_of_error("RebootDBInstance", "DBInstanceNotFound", 404), None);
        assert_eq!(problem_of_error("RebootDBInstance", "Throttling", 400), None);
        assert!(problem_of_error("RebootDBInstance", "DBInstanceNotFound", 400).is_some());
        assert!(problem_of_error("RebootDBInstance", "DBClusterNotFoundFault", 404).is_some());
    }
}
