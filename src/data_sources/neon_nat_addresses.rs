// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_neon_nat_addresses`: where Neon's connections to a publisher come from.

use crate::config::Context;
use crate::neon::endpoint::region_of_host;
use crate::neon::nat_addresses::{self, AS_OF, Region};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The data source.
pub(super) struct NeonNatAddresses;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The given region, or the one found in the host.
        region: Attr<String>,
        /// A Neon host, to find its region.
        host: Attr<String>,
        /// The addresses.
        addresses: Attr<Vec<String>>,
        /// The same as CIDR blocks.
        cidrs: Attr<Vec<String>>,
        /// The date of the table.
        as_of: Attr<String>,
        /// Whether the region takes no new projects.
        deprecated: Attr<bool>,
    }
}

impl DataSource for NeonNatAddresses {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_neon_nat_addresses";

    fn schema() -> Schema {
        Schema::new(
            "The addresses of Neon's NAT gateways in a region: where its connections to a publisher come from, for \
             the rules of a security group. The table is part of the provider and has a date; no server is \
             contacted.",
        )
        .attribute(Attribute::optional_computed(
            "region",
            Type::String,
            "A Neon region id, such as `aws-us-east-2`. Give this or `host`.",
        ))
        .attribute(Attribute::optional(
            "host",
            Type::String,
            "A Neon host in the region, such as `ep-cool-name-123456.us-east-2.aws.neon.tech`.",
        ))
        .attribute(Attribute::computed("addresses", Type::list(Type::String), "The IPv4 addresses."))
        .attribute(Attribute::computed("cidrs", Type::list(Type::String), "The same as CIDR blocks, each a `/32`."))
        .attribute(Attribute::computed("as_of", Type::String, "The date of the table, as `YYYY-MM-DD`."))
        .attribute(Attribute::computed(
            "deprecated",
            Type::Bool,
            "Whether Neon no longer creates projects in the region.",
        ))
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        match (&config.region, &config.host) {
            (Attr::Known(_), Attr::Known(_)) => diagnostics.error(
                Error::new("region and host exclude each other").detail("Leave one of the two out.").attribute("host"),
            ),
            (Attr::Null, Attr::Null) => diagnostics.error(
                Error::new("region or host must be set")
                    .detail("Give a Neon region id, or a Neon host.")
                    .attribute("region"),
            ),
            _ => drop(diagnostics.take(lookup(config))),
        }
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let region = lookup(&config)?.ok_or_else(|| Error::new("region or host must be set"))?;
        if let Some(reason) = region.deprecated {
            call.warn(Error::new(format!("Neon region {} is deprecated: {reason}", region.id)).attribute("region"));
        }
        Ok(Model {
            region: region.id.into(),
            host: config.host,
            addresses: region.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
            cidrs: region.cidrs().collect::<Vec<_>>().into(),
            as_of: AS_OF.into(),
            deprecated: region.deprecated.is_some().into(),
        })
    }
}

/// The region in question; `None` if it is not known yet.
fn lookup(config: &Model) -> Result<Option<&'static Region>> {
    if let Some(id) = config.region.known() {
        let region = nat_addresses::region(id).ok_or_else(|| unknown_region(id).attribute("region"))?;
        return Ok(Some(region));
    }
    let Some(host) = config.host.known() else { return Ok(None) };
    let id = region_of_host(host).ok_or_else(|| {
        Error::new(format!("{host:?} is not a Neon host"))
            .detail("A Neon host ends in REGION.CLOUD.neon.tech. Give the region instead.")
            .attribute("host")
    })?;
    nat_addresses::region(&id).ok_or_else(|| unknown_region(&id).attribute("host")).map(Some)
}

fn unknown_region(id: &str) -> Error {
    Error::new(nat_addresses::unknown_region(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region_of(change: impl FnOnce(&mut Model)) -> String {
        let mut config = Model::default();
        change(&mut config);
        match lookup(&config) {
            Ok(region) => region.map_or("none", |region| region.id).to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_region_is_found_by_its_id_or_in_a_host() {
        assert_eq!(region_of(|m| m.region = "aws-eu-west-2".into()), "aws-eu-west-2");
        assert_eq!(region_of(|m| m.host = "ep-x.us-east-2.aws.neon.tech".into()), "aws-us-east-2");
        assert_eq!(region_of(|m| m.host = Attr::Unknown), "none");
    }

    #[test]
    fn an_unknown_region_is_answered_with_those_that_are_known() {
        let text = region_of(|m| m.region = "us-east-2".into());
        assert!(text.starts_with("region: "), "{text}");
        assert!(nat_addresses::REGIONS.iter().all(|region| text.contains(region.id)), "{text}");
        assert!(region_of(|m| m.host = "db.example".into()).starts_with("host: "));
    }
}
