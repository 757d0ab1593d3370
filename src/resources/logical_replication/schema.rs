// SPDX-License-Identifier: MPL-2.0

//! The schema of both resources, each attribute written once.

use super::{Product, Words};
use crate::rds::logical_replication::PARAMETER;
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::timeouts_block;

/// The schema of the product's resource.
pub(super) fn schema<P: Product>() -> Schema {
    let Words { resource, whole, server, group, family, endpoint, .. } = P::WORDS;
    let (text, flag) = (Type::String, Type::Bool);
    let mut schema = Schema::new(resource)
        .attribute(
            Attribute::required(
                P::IDENTIFIER,
                text.clone(),
                &format!("The DB {whole}'s identifier. A change makes a new resource."),
            )
            .replaces(),
        )
        .attribute(
            Attribute::optional(
                "manage_parameter_group",
                flag.clone(),
                &format!(
                    "Whether this resource creates, edits and attaches the parameter group. Set `false` if another \
                     provider owns the group: the {server} is then only rebooted and verified. Default: `true`."
                ),
            )
            .default(true),
        )
        .attribute(Attribute::optional_computed(
            "parameter_group_name",
            text.clone(),
            &format!(
                "The {group}. Default: `<{whole}>-logical-replication` if the {whole} has a default group, \
                 otherwise its custom group. After an upgrade to another major version a new group takes its place; \
                 if the name is taken, the version is appended to it."
            ),
        ))
        .attribute(parameters::<P>())
        .attribute(P::reboot());
    if P::HAS_READERS {
        schema =
            schema.attribute(Attribute::computed("writer_instance_identifier", text.clone(), "The writer instance."));
    }
    schema
        .attribute(
            Attribute::optional(
                "verify",
                flag.clone(),
                &format!(
                    "Whether the {server} is asked for its `wal_level` over the provider's publisher connection, \
                     and rebooted once more if that is not `logical`. The answer counts only if the connection is \
                     known to lead to the {server}; a connection to another server is an error. A destroy needs the \
                     connection as well. Default: `true`."
                ),
            )
            .default(true),
        )
        .attribute(
            Attribute::optional(
                "skip_destroy",
                flag.clone(),
                &format!(
                    "Whether a destroy only removes the resource from the state, and leaves the {whole} as it \
                     is. Default: `false`."
                ),
            )
            .default(false),
        )
        .attribute(
            Attribute::optional(
                "reboot_on_destroy",
                flag.clone(),
                "Whether a destroy also reboots, so that the old parameters take effect. Default: `false`.",
            )
            .default(false),
        )
        .attribute(Attribute::optional(
            "tags",
            Type::map(Type::String),
            "Tags of the parameter group, if this \
             resource creates it.",
        ))
        .attribute(Attribute::computed("id", text.clone(), "The identifier, by which it is imported.").stable())
        .attribute(
            Attribute::computed("parameter_group_family", text.clone(), &format!("The family, such as `{family}`."))
                .stable(),
        )
        .attribute(Attribute::computed(
            "parameter_group_created",
            flag.clone(),
            "Whether this resource created the parameter group. Only then is it deleted on destroy.",
        ))
        .attribute(Attribute::computed(
            "previous_parameter_group_name",
            text.clone(),
            "The parameter group that was attached before. A destroy attaches it again, if it is of the family that \
             the engine needs by then.",
        ))
        .attribute(Attribute::computed("endpoint", text.clone(), endpoint).stable())
        .attribute(Attribute::computed("port", Type::Number, "Its port.").stable())
        .attribute(Attribute::computed("engine_version", text.clone(), "The engine's version."))
        .attribute(Attribute::computed(
            "pending_reboot",
            flag,
            &format!("Whether the {server} still has to be rebooted before its parameters take effect."),
        ))
        .attribute(Attribute::computed(
            "wal_level",
            text,
            &format!(
                "The {server}'s `wal_level`, as it reports it. Null if it was not asked, or if it is not known \
                 which server answered."
            ),
        ))
        .block(timeouts_block("60m", "60m", "60m"))
}

fn parameters<P: Product>() -> Attribute {
    let description = format!(
        "{}, such as `max_replication_slots`. Only these and `rds.logical_replication` are changed. Values are \
         compared by their meaning: `on` is `1`, and `5min` is `300000` where the parameter is in milliseconds. A \
         formula, such as `{{DBInstanceVCPU*2}}`, is kept as it is.",
        P::WORDS.parameters
    );
    Attribute::optional("parameters", Type::map(Type::String), &description).validator(|value| {
        match value.get(PARAMETER) {
            Some(_) => Err(format!("{PARAMETER} is always set to 1. Leave it out.")),
            None => Ok(()),
        }
    })
}
