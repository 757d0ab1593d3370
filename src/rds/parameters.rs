// SPDX-License-Identifier: MPL-2.0

//! Decides which cluster parameters change, and how. Pure.
//!
//! Values are compared by their meaning to the server (`on` is `1`, `020` is `20`, `5min` is `300000` milliseconds).
//! Only named parameters are changed: other settings in the group stay.

mod value;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::api::{ApplyMethod, ApplyType, Deployment, PARAMETERS_PER_CALL, Parameter, ParameterSetting, Source};
use super::{Error, Kind};
use value::{is_allowed, spelled};

pub use value::{same_value, truth};

/// The parameters of one group, by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// One parameter that gets another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterChange {
    /// The parameter's name.
    pub name: String,
    /// Its current value; absent if the engine decides.
    pub from: Option<String>,
    /// Its new value; absent means a reset to the family's default.
    pub to: Option<String>,
    /// When it takes effect.
    pub apply_method: ApplyMethod,
    /// The source of the current value, to restore it later.
    pub from_source: Source,
}

impl ParameterChange {
    /// Whether it takes effect only with a reboot.
    #[must_use]
    pub fn needs_reboot(&self) -> bool {
        self.apply_method == ApplyMethod::PendingReboot
    }

    /// The change in the form of the API.
    #[must_use]
    pub fn setting(&self) -> ParameterSetting {
        ParameterSetting { name: self.name.clone(), value: self.to.clone(), apply_method: self.apply_method }
    }
}

impl fmt::Display for ParameterChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.as_deref().unwrap_or("(engine default)");
        match &self.to {
            Some(to) => write!(f, "{}: {from} -> {to}", self.name),
            None => write!(f, "{}: {from} -> (default)", self.name),
        }
    }
}

/// A parameter's previous value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its value; absent if the engine decided.
    pub value: Option<String>,
    /// The source of the value. Only a user's own value is written back; others are reset.
    pub source: Source,
}

/// The changes that give the named parameters the desired values. Omits names that the group lacks: [`refusals`]
/// reports them.
#[must_use]
pub fn changes(current: &Parameters, desired: &BTreeMap<String, String>) -> Vec<ParameterChange> {
    let named = desired.iter().filter_map(|(name, value)| Some((current.get(name)?, value)));
    named
        .filter(|(parameter, value)| !same_value(parameter, parameter.value.as_deref(), Some(value)))
        .map(|(parameter, value)| change(parameter, Some(spelled(parameter, value))))
        .collect()
}

/// The changes that restore previous values.
#[must_use]
pub fn restoring(current: &Parameters, previous: &BTreeMap<String, Previous>) -> Vec<ParameterChange> {
    let named = previous.iter().filter_map(|(name, previous)| Some((current.get(name)?, previous)));
    named
        .filter_map(|(parameter, previous)| match previous.source {
            Source::User if same_value(parameter, parameter.value.as_deref(), previous.value.as_deref()) => None,
            Source::User => Some(change(parameter, previous.value.clone())),
            _ if parameter.source != Source::User => None,
            _ => Some(change(parameter, None)),
        })
        .collect()
}

fn change(parameter: &Parameter, to: Option<String>) -> ParameterChange {
    ParameterChange {
        name: parameter.name.clone(),
        from: parameter.value.clone(),
        to,
        apply_method: match parameter.apply_type {
            ApplyType::Static => ApplyMethod::PendingReboot,
            ApplyType::Dynamic => ApplyMethod::Immediate,
        },
        from_source: parameter.source,
    }
}

/// The settings in portions for one call each.
#[must_use]
pub fn portions(settings: &[ParameterSetting]) -> Vec<&[ParameterSetting]> {
    settings.chunks(PARAMETERS_PER_CALL).collect()
}

/// An error for each desired parameter that the family does not have, that cannot be modified, or whose value is not
/// allowed.
#[must_use]
pub fn refusals(
    deployment: Deployment,
    current: &Parameters,
    family: &str,
    desired: &BTreeMap<String, String>,
) -> Vec<Error> {
    let unknown = || format!("the family {family} has no {} of that name", deployment.parameter());
    desired.iter().filter_map(|(name, value)| refusal(current.get(name), unknown, name, value)).collect()
}

fn refusal(parameter: Option<&Parameter>, unknown: impl Fn() -> String, name: &str, value: &str) -> Option<Error> {
    let what = match parameter {
        None => unknown(),
        Some(parameter) if !parameter.is_modifiable => "it cannot be modified".to_owned(),
        Some(parameter) if !is_allowed(parameter, value) => format!(
            "\"{value}\" is not among the allowed values {}",
            parameter.allowed_values.as_deref().unwrap_or_default()
        ),
        Some(_) => return None,
    };
    Some(Error::new(Kind::Refused, format!("checking parameters[\"{name}\"]"), what).about_parameter(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, value: Option<&str>, data_type: &str, allowed: &str) -> Parameter {
        Parameter {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            source: Source::System,
            apply_type: ApplyType::Static,
            data_type: data_type.to_owned(),
            allowed_values: Some(allowed.to_owned()).filter(|allowed| !allowed.is_empty()),
            is_modifiable: true,
            description: String::new(),
        }
    }

    fn group() -> Parameters {
        let mut fixed = parameter("rds.extensions", Some("a,b"), "list", "");
        fixed.is_modifiable = false;
        let mut timeout = parameter("wal_sender_timeout", Some("30000"), "integer", "0-3600000");
        timeout.apply_type = ApplyType::Dynamic;
        [
            parameter("rds.logical_replication", Some("0"), "boolean", "0,1"),
            parameter("max_replication_slots", Some("20"), "integer", "5-262143"),
            parameter("max_slot_wal_keep_size", None, "integer", "-1-2147483647"),
            parameter("session_replication_role", None, "string", "origin,replica,local"),
            parameter("shared_preload_libraries", None, "list", "pg_stat_statements,pg_cron"),
            parameter("autovacuum_vacuum_scale_factor", Some("0.1"), "float", "0-100"),
            timeout,
            fixed,
        ]
        .into_iter()
        .map(|parameter| (parameter.name.clone(), parameter))
        .collect()
    }

    fn desired(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn check(pairs: &[(&str, &str)], expected: &[&str]) {
        let changes = changes(&group(), &desired(pairs));
        assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn equal_values_change_nothing() {
        for value in ["0", "off", "false", "OFF", "no"] {
            check(&[("rds.logical_replication", value)], &[]);
        }
        check(&[("max_replication_slots", "020")], &[]);
        check(&[("autovacuum_vacuum_scale_factor", "0.10")], &[]);
    }

    #[test]
    fn switches_are_spelled_as_the_api_wants_them() {
        for value in ["1", "on", "true"] {
            check(&[("rds.logical_replication", value)], &["rds.logical_replication: 0 -> 1"]);
        }
    }

    #[test]
    fn only_named_parameters_change() {
        check(&[("max_slot_wal_keep_size", "1024")], &["max_slot_wal_keep_size: (engine default) -> 1024"]);
    }

    #[test]
    fn the_apply_type_decides_on_the_apply_method() {
        let both = changes(&group(), &desired(&[("max_replication_slots", "30"), ("wal_sender_timeout", "0")]));
        assert_eq!(both[0].apply_method, ApplyMethod::PendingReboot);
        assert_eq!(both[1].apply_method, ApplyMethod::Immediate);
        assert!(both[0].needs_reboot() && !both[1].needs_reboot());
    }

    #[test]
    fn twenty_go_in_one_call() {
        let setting = ParameterSetting { name: "a".to_owned(), value: None, apply_method: ApplyMethod::Immediate };
        let sizes = |n: usize| portions(&vec![setting.clone(); n]).iter().map(|p| p.len()).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0_usize; 0]);
        assert_eq!(sizes(20), [20]);
        assert_eq!(sizes(41), [20, 20, 1]);
    }

    fn complaint(name: &str, value: &str) -> Option<String> {
        refusals(Deployment::AuroraCluster, &group(), "aurora-postgresql16", &desired(&[(name, value)]))
            .pop()
            .map(|error| error.to_string())
    }

    #[test]
    fn allowed_values_pass() {
        for (name, value) in [
            ("rds.logical_replication", "on"),
            ("max_replication_slots", "5"),
            ("max_replication_slots", "262143"),
            ("max_replication_slots", "{DBInstanceVCPU*2}"),
            ("max_slot_wal_keep_size", "-1"),
            ("session_replication_role", "replica"),
            ("shared_preload_libraries", "pg_cron,pg_stat_statements"),
            ("autovacuum_vacuum_scale_factor", "0.05"),
        ] {
            assert_eq!(complaint(name, value), None, "{name} = {value}");
        }
    }

    #[test]
    fn other_values_are_named() {
        for (name, value, expected) in [
            ("no.such", "1", "the family aurora-postgresql16 has no cluster parameter of that name"),
            ("rds.extensions", "a", "it cannot be modified"),
            ("rds.logical_replication", "banana", "\"banana\" is not among the allowed values 0,1"),
            ("max_replication_slots", "4", "\"4\" is not among the allowed values 5-262143"),
            ("max_replication_slots", "many", "\"many\" is not among the allowed values 5-262143"),
            ("max_slot_wal_keep_size", "-2", "\"-2\" is not among the allowed values -1-2147483647"),
            ("session_replication_role", "x", "\"x\" is not among the allowed values origin,replica,local"),
            (
                "shared_preload_libraries",
                "pg_cron,x",
                "\"pg_cron,x\" is not among the allowed values pg_stat_statements,pg_cron",
            ),
        ] {
            assert_eq!(complaint(name, value), Some(format!("checking parameters[\"{name}\"]: {expected}")));
        }
    }

    #[test]
    fn a_problem_carries_its_parameter() {
        let found = refusals(Deployment::RdsInstance, &group(), "f", &desired(&[("no.such", "1")]));
        assert_eq!(found[0].parameter.as_deref(), Some("no.such"));
    }

    #[test]
    fn previous_values_come_back() {
        let mut current = group();
        for name in ["rds.logical_replication", "max_replication_slots"] {
            let one = current.get_mut(name).unwrap();
            one.value = Some("1".to_owned());
            one.source = Source::User;
        }
        let previous = BTreeMap::from([
            ("rds.logical_replication".to_owned(), Previous { value: Some("0".to_owned()), source: Source::System }),
            ("max_replication_slots".to_owned(), Previous { value: Some("30".to_owned()), source: Source::User }),
        ]);
        let texts =
            |current: &Parameters| restoring(current, &previous).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&current), ["max_replication_slots: 1 -> 30", "rds.logical_replication: 1 -> (default)"]);
        current.get_mut("rds.logical_replication").unwrap().source = Source::System;
        current.get_mut("max_replication_slots").unwrap().value = Some("30".to_owned());
        assert_eq!(texts(&current), [""; 0]);
    }
}
