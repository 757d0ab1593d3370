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
                    "Whether the parameter group is made, edited and attached here. With `false`, for a group that another \
                     provider owns, the {server} is only rebooted and verified. Default: `true`."
                ),
            )
            .default(true),
        )
        .attribute(Attribute::optional_computed(
            "parameter_group_name",
            text.clone(),
            &format!(
                "The {group}. Default: `<{whole}>-logical-replication` where the {whole} has a default group, else the custom \
                 group that it has. After an upgrade to another major version, another group takes its place, with that version appended to the name where the name is taken."
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
                    "Whether the {server} is asked over the provider's publisher connection what it runs with, and rebooted once \
                     more if that is not logical. Its answer counts only where that connection is known to lead to it; one \
                     that leads to another server is an error. A destroy then needs the connection as well. Default: `true`."
                ),
            )
            .default(true),
        )
        .attribute(
            Attribute::optional(
                "skip_destroy",
                flag.clone(),
                &format!("Whether destroying only forgets, and leaves the {whole} as it is. Default: `false`."),
            )
            .default(false),
        )
        .attribute(
            Attribute::optional(
                "reboot_on_destroy",
                flag.clone(),
                "Whether destroying also reboots, so that the old parameters take effect. Default: `false`.",
            )
            .default(false),
        )
        .attribute(Attribute::optional("tags", Type::map(Type::String), "Tags of a parameter group that is made here."))
        .attribute(Attribute::computed("id", text.clone(), "The identifier, by which it is imported.").stable())
        .attribute(
            Attribute::computed("parameter_group_family", text.clone(), &format!("The family, such as `{family}`.")).stable(),
        )
        .attribute(Attribute::computed(
            "parameter_group_created",
            flag.clone(),
            "Whether the parameter group was made here; only then is it ever deleted.",
        ))
        .attribute(Attribute::computed(
            "previous_parameter_group_name",
            text.clone(),
            "The parameter group that was attached before, and is again when this is destroyed, if it is of the family that is \
             needed then.",
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
            &format!("The {server}'s `wal_level`, as it reports it; null where it was not asked, or is not known to have answered."),
        ))
        .block(timeouts_block("60m", "60m", "60m"))
}

fn parameters<P: Product>() -> Attribute {
    let description = format!(
        "{}, such as `max_replication_slots`. Only these, and `rds.logical_replication`, are ever touched. Values are compared \
         as the server means them: `on` is `1`, and `5min` is `300000` where the parameter is in milliseconds. A formula, such \
         as `{{DBInstanceVCPU*2}}`, is kept as it is.",
        P::WORDS.parameters
    );
    Attribute::optional("parameters", Type::map(Type::String), &description).validator(|value| {
        match value.get(PARAMETER) {
            Some(_) => Err(format!("{PARAMETER} is always set to 1. Leave it out.")),
            None => Ok(()),
        }
    })
}
