// SPDX-License-Identifier: MPL-2.0

//! Cluster parameter groups, their parameters and their tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::clusters::notice_group;
use super::form::Form;
use super::parameters::{self, Parameter};
use super::server::{Answer, Fault};
use super::state::{Group, State};
use super::xml::{Element, list, node, text};
use super::{Shared, clusters::page};

/// The API's names for one kind of group.
pub(super) struct Kind {
    group: &'static str,
    groups: &'static str,
    name: &'static str,
    arn: &'static str,
    source: &'static str,
    target: &'static str,
    target_description: &'static str,
    is_of_clusters: bool,
}

/// Groups of Aurora clusters.
pub(super) const CLUSTER: Kind = Kind {
    group: "DBClusterParameterGroup",
    groups: "DBClusterParameterGroups",
    name: "DBClusterParameterGroupName",
    arn: "DBClusterParameterGroupArn",
    source: "SourceDBClusterParameterGroupIdentifier",
    target: "TargetDBClusterParameterGroupIdentifier",
    target_description: "TargetDBClusterParameterGroupDescription",
    is_of_clusters: true,
};

/// Groups of DB instances.
pub(super) const INSTANCE: Kind = Kind {
    group: "DBParameterGroup",
    groups: "DBParameterGroups",
    name: "DBParameterGroupName",
    arn: "DBParameterGroupArn",
    source: "SourceDBParameterGroupIdentifier",
    target: "TargetDBParameterGroupIdentifier",
    target_description: "TargetDBParameterGroupDescription",
    is_of_clusters: false,
};

const FAMILIES: [&str; 9] = [
    "aurora-postgresql13",
    "aurora-postgresql14",
    "aurora-postgresql15",
    "aurora-postgresql16",
    "aurora-postgresql17",
    "aurora-postgresql18",
    "postgres16",
    "postgres17",
    "postgres18",
];

/// AWS's own group of each family.
pub(super) fn defaults() -> BTreeMap<String, Group> {
    let group = |family: &str| {
        let name = format!("default.{family}");
        let group = Group::new(&name, family, &format!("Default parameter group for {family}"));
        (name, group)
    };
    FAMILIES.into_iter().map(group).collect()
}

fn not_found(name: &str) -> Fault {
    Fault::new(404, "DBParameterGroupNotFound", format!("DBClusterParameterGroup not found: {name}"))
}

fn group<'a>(state: &'a mut State, kind: &Kind, form: &Form) -> Result<&'a mut Group, Fault> {
    let name = form.identifier(kind.name).unwrap_or_default();
    let group = state.groups.get_mut(&name).filter(|group| group.is_of_clusters() == kind.is_of_clusters);
    group.ok_or_else(|| not_found(&name))
}

/// The group, if users may change it.
fn custom<'a>(state: &'a mut State, kind: &Kind, form: &Form, verb: &str) -> Result<&'a mut Group, Fault> {
    let group = group(state, kind, form)?;
    match group.is_default() {
        true => Err(Fault::invalid(
            "InvalidDBParameterGroupState",
            format!("Default DBClusterParameterGroup cannot be {verb}: {}", group.name),
        )),
        false => Ok(group),
    }
}

fn describe(kind: &Kind, group: &Group) -> Element {
    node(
        kind.group,
        vec![
            text(kind.name, &group.name),
            text("DBParameterGroupFamily", &group.family),
            text("Description", &group.description),
            text(kind.arn, group.arn()),
        ],
    )
}

pub(super) fn describe_groups(shared: &Shared, kind: &Kind, form: &Form) -> Answer {
    let mut state = shared.state();
    if form.get(kind.name).is_some() {
        let group = group(&mut state, kind, form)?;
        return Ok(vec![node(kind.groups, vec![describe(kind, group)])]);
    }
    let groups: Vec<&Group> =
        state.groups.values().filter(|group| group.is_of_clusters() == kind.is_of_clusters).collect();
    let (groups, marker) = page(&groups, form, shared.page_size);
    Ok(vec![list(kind.groups, groups, |group| describe(kind, group))].into_iter().chain(marker).collect())
}

pub(super) fn describe_parameters(shared: &Shared, kind: &Kind, form: &Form) -> Answer {
    let mut state = shared.state();
    let group = group(&mut state, kind, form)?;
    let wanted = form.get("Source");
    let source = |parameter: &Parameter| match group.values.contains_key(parameter.name) {
        true => "user",
        false => parameter.source,
    };
    let all: Vec<Parameter> =
        parameters::all().filter(|parameter| wanted.is_none_or(|wanted| source(parameter) == wanted)).collect();
    let (parameters, marker) = page(&all, form, shared.page_size);
    let elements = list("Parameters", parameters, |parameter| {
        let set = group.values.get(parameter.name).map(String::as_str);
        describe_parameter(parameter, set.or(parameter.value), source(parameter))
    });
    Ok(vec![elements].into_iter().chain(marker).collect())
}

fn describe_parameter(parameter: &Parameter, value: Option<&str>, source: &str) -> Element {
    let method = if parameter.is_static() { "pending-reboot" } else { "immediate" };
    let mut fields = vec![text("ParameterName", parameter.name)];
    fields.extend(value.map(|value| text("ParameterValue", value)));
    fields.extend([
        text("Description", parameter.description),
        text("Source", source),
        text("ApplyType", parameter.apply_type),
        text("DataType", parameter.data_type),
    ]);
    fields.extend(parameter.allowed.map(|allowed| text("AllowedValues", allowed)));
    fields.extend([
        text("IsModifiable", parameter.is_modifiable),
        text("ApplyMethod", method),
        node("SupportedEngineModes", vec![text("member", "provisioned")]),
    ]);
    node("Parameter", fields)
}

pub(super) fn create(shared: &Shared, kind: &Kind, form: &Form) -> Answer {
    let family = form.get("DBParameterGroupFamily").unwrap_or_default();
    if !FAMILIES.contains(&family) || family.starts_with("aurora") != kind.is_of_clusters {
        let what = format!("ParameterGroupFamily {family} is not a valid parameter group family");
        return Err(Fault::invalid("InvalidParameterValue", what));
    }
    let name = form.identifier(kind.name).unwrap_or_default();
    let mut group = Group::new(&name, family, form.get("Description").unwrap_or_default());
    group.tags = form.tags();
    insert(&mut shared.state(), kind, group)
}

pub(super) fn copy(shared: &Shared, kind: &Kind, form: &Form) -> Answer {
    let mut state = shared.state();
    let source = form.identifier(kind.source).unwrap_or_default();
    let mut group = state.groups.get(&source).cloned().ok_or_else(|| not_found(&source))?;
    if group.is_default() {
        let what = format!("The parameter group {source} is a default parameter group and cannot be copied.");
        return Err(Fault::invalid("InvalidParameterValue", what));
    }
    group.name = form.identifier(kind.target).unwrap_or_default();
    group.description = form.get(kind.target_description).unwrap_or_default().to_owned();
    group.tags = form.tags();
    insert(&mut state, kind, group)
}

fn insert(state: &mut State, kind: &Kind, group: Group) -> Answer {
    let name = &group.name;
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !is_plain || !begins || name.ends_with('-') || name.contains("--") || name.len() > 255 {
        let what = "The parameter DBClusterParameterGroupName is not a valid identifier. Identifiers must begin with a \
                    letter; must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or \
                    contain two consecutive hyphens.";
        return Err(Fault::invalid("InvalidParameterValue", what));
    }
    if state.groups.contains_key(name) {
        return Err(Fault::invalid("DBParameterGroupAlreadyExists", format!("Parameter group {name} already exists")));
    }
    let answer = describe(kind, &group);
    state.groups.insert(name.clone(), group);
    Ok(vec![answer])
}

pub(super) fn modify(shared: &Arc<Shared>, kind: &Kind, form: &Form) -> Answer {
    change(shared, kind, form, |group, parameter, item| {
        let value = item.get("ParameterValue").unwrap_or_default();
        if !parameter.takes(value) {
            let allowed = parameter.allowed.unwrap_or_default();
            let what =
                format!("Invalid parameter value: {value} for: {} allowed values are: {allowed}", parameter.name);
            return Err(Fault::invalid("InvalidParameterValue", what));
        }
        group.values.insert(parameter.name.to_owned(), value.to_owned());
        Ok(())
    })
}

pub(super) fn reset(shared: &Arc<Shared>, kind: &Kind, form: &Form) -> Answer {
    if form.get("ResetAllParameters") == Some("true") {
        let mut state = shared.state();
        let group = custom(&mut state, kind, form, "modified")?;
        group.values.clear();
        let name = group.name.clone();
        notice_group(shared, &state, &name, true);
        return Ok(vec![text(kind.name, name)]);
    }
    change(shared, kind, form, |group, parameter, _| {
        group.values.remove(parameter.name);
        Ok(())
    })
}

/// Checks every parameter of the call before the first one is changed.
fn change(
    shared: &Arc<Shared>,
    kind: &Kind,
    form: &Form,
    set: impl Fn(&mut Group, &Parameter, &Form) -> Result<(), Fault>,
) -> Answer {
    let mut state = shared.state();
    let items = form.items("Parameters.Parameter");
    let group = custom(&mut state, kind, form, "modified")?;
    if items.is_empty() || items.len() > 20 {
        let what = format!("The number of parameters, {}, is not between 1 and 20", items.len());
        return Err(Fault::invalid("InvalidParameterValue", what));
    }
    let mut changed = group.clone();
    let mut is_static = false;
    for item in &items {
        let parameter = modifiable(item)?;
        is_static |= parameter.is_static();
        set(&mut changed, &parameter, item)?;
    }
    *group = changed;
    let name = group.name.clone();
    notice_group(shared, &state, &name, is_static);
    Ok(vec![text(kind.name, name)])
}

fn modifiable(item: &Form) -> Result<Parameter, Fault> {
    let name = item.get("ParameterName").unwrap_or_default();
    let unknown = || Fault::invalid("InvalidParameterValue", format!("Could not find parameter with name: {name}"));
    let parameter = parameters::named(name).ok_or_else(unknown)?;
    if !parameter.is_modifiable {
        return Err(Fault::invalid("InvalidParameterValue", format!("The parameter {name} cannot be modified.")));
    }
    match (item.get("ApplyMethod"), parameter.is_static()) {
        (Some("immediate"), true) => {
            Err(Fault::invalid("InvalidParameterCombination", "cannot use immediate apply method for static parameter"))
        }
        (Some("immediate" | "pending-reboot"), _) => Ok(parameter),
        (method, _) => {
            let what = format!("Invalid apply method: {}", method.unwrap_or_default());
            Err(Fault::invalid("InvalidParameterValue", what))
        }
    }
}

pub(super) fn delete(shared: &Shared, kind: &Kind, form: &Form) -> Answer {
    let mut state = shared.state();
    let name = custom(&mut state, kind, form, "deleted")?.name.clone();
    if state.is_in_use(&name) {
        let what = format!(
            "One or more database clusters are still members of this parameter group {name}, so the group cannot be deleted"
        );
        return Err(Fault::invalid("InvalidDBParameterGroupState", what));
    }
    state.groups.remove(&name);
    Ok(Vec::new())
}

fn tagged<'a>(state: &'a mut State, form: &Form) -> Result<&'a mut Group, Fault> {
    let arn = form.get("ResourceName").unwrap_or_default();
    let name = arn.rsplit(':').next().unwrap_or(arn).to_ascii_lowercase();
    state.groups.get_mut(&name).ok_or_else(|| not_found(&name))
}

pub(super) fn list_tags(shared: &Shared, form: &Form) -> Answer {
    let mut state = shared.state();
    let group = tagged(&mut state, form)?;
    let tag = |(key, value): (&String, &String)| node("Tag", vec![text("Key", key), text("Value", value)]);
    Ok(vec![list("TagList", &group.tags, tag)])
}

pub(super) fn add_tags(shared: &Shared, form: &Form) -> Answer {
    tagged(&mut shared.state(), form)?.tags.extend(form.tags());
    Ok(Vec::new())
}

pub(super) fn remove_tags(shared: &Shared, form: &Form) -> Answer {
    let keys = form.values("TagKeys.member");
    tagged(&mut shared.state(), form)?.tags.retain(|key, _| !keys.contains(key));
    Ok(Vec::new())
}
