// SPDX-License-Identifier: MPL-2.0

//! Facts from host names: Neon's pooler and region, Aurora's reader endpoint. Pure text rules; no name is resolved.

/// The direct host of the compute, if `host` is Neon's connection pooler; none for any other host.
///
/// The pooler of endpoint `ep-x` is `ep-x-pooler`, in the first label. Logical replication needs the direct host.
#[must_use]
pub fn direct_host_of_pooler(host: &str) -> Option<String> {
    let (label, rest) = first_label(host);
    let direct = label.strip_suffix("-pooler").filter(|direct| !direct.is_empty())?;
    Some(match rest {
        Some(rest) => format!("{direct}.{rest}"),
        None => direct.to_owned(),
    })
}

/// Whether the host is an Aurora cluster's reader endpoint, `NAME.cluster-ro-HASH.REGION.rds.amazonaws.com`: logical
/// replication needs the writer's.
#[must_use]
pub fn is_aurora_reader_endpoint(host: &str) -> bool {
    aurora_reader_label(host).is_some()
}

/// The writer endpoint of the cluster whose reader endpoint `host` is.
#[must_use]
pub fn aurora_writer_of_reader(host: &str) -> Option<String> {
    aurora_reader_label(host).map(|_| host.replacen(".cluster-ro-", ".cluster-", 1))
}

fn aurora_reader_label(host: &str) -> Option<&str> {
    let (_, rest) = first_label(host);
    first_label(rest?).0.strip_prefix("cluster-ro-")
}

/// Whether the host is one of Neon's.
#[must_use]
pub fn is_neon(host: &str) -> bool {
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".neon.tech")
}

/// The region id of a Neon host, as in `aws-us-east-2` of `ep-x.us-east-2.aws.neon.tech`; none for any other host.
///
/// Newer regions have several cells, and their hosts one more label: `ep-x.c-2.us-east-2.aws.neon.tech`.
#[must_use]
pub fn region_of_host(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = host.strip_suffix(".neon.tech")?.split('.').collect();
    let (region, cloud) = match labels.as_slice() {
        [_, region, cloud] => (*region, *cloud),
        [_, cell, region, cloud] if is_cell(cell) => (*region, *cloud),
        _ => return None,
    };
    let is_known_cloud = matches!(cloud, "aws" | "azure" | "gcp");
    (is_known_cloud && !region.is_empty()).then(|| format!("{cloud}-{region}"))
}

fn is_cell(label: &str) -> bool {
    label.strip_prefix("c-").is_some_and(|number| number.parse::<u32>().is_ok())
}

fn first_label(host: &str) -> (&str, Option<&str>) {
    match host.split_once('.') {
        Some((label, rest)) => (label, Some(rest)),
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poolers_are_known_by_their_first_label() {
        for (host, direct) in [
            ("ep-cool-x-123-pooler.us-east-2.aws.neon.tech", Some("ep-cool-x-123.us-east-2.aws.neon.tech")),
            ("ep-x-pooler.c-2.us-east-2.aws.neon.tech", Some("ep-x.c-2.us-east-2.aws.neon.tech")),
            ("ep-x-pooler", Some("ep-x")),
            ("ep-x.us-east-2.aws.neon.tech", None),
            ("ep-pooler-x.us-east-2.aws.neon.tech", None),
            ("db.my-pooler.example", None),
            ("-pooler.example", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(direct_host_of_pooler(host).as_deref(), direct, "{host}");
        }
    }

    #[test]
    fn reader_endpoints_are_known_by_their_second_label() {
        for (host, writer) in [
            ("shop.cluster-ro-abc.us-east-2.rds.amazonaws.com", Some("shop.cluster-abc.us-east-2.rds.amazonaws.com")),
            ("shop.cluster-abc.us-east-2.rds.amazonaws.com", None),
            ("shop-1.abc.us-east-2.rds.amazonaws.com", None),
            ("cluster-ro-abc.example", None),
            ("localhost", None),
        ] {
            assert_eq!(aurora_writer_of_reader(host).as_deref(), writer, "{host}");
            assert_eq!(is_aurora_reader_endpoint(host), writer.is_some(), "{host}");
        }
    }

    #[test]
    fn neon_is_known_by_its_domain() {
        for host in ["ep-x.us-east-2.aws.neon.tech", "EP-X.C-2.US-EAST-2.AWS.NEON.TECH.", "ep-x.new.kind.neon.tech"] {
            assert!(is_neon(host), "{host}");
        }
        for host in ["neon.tech", "ep-x.us-east-2.aws.neon.tech.example", "xneon.tech", "127.0.0.1"] {
            assert!(!is_neon(host), "{host}");
        }
    }

    #[test]
    fn regions_stand_in_the_host() {
        for (host, region) in [
            ("ep-x.us-east-2.aws.neon.tech", Some("aws-us-east-2")),
            ("ep-x-pooler.us-east-2.aws.neon.tech", Some("aws-us-east-2")),
            ("EP-X.US-EAST-2.AWS.NEON.TECH.", Some("aws-us-east-2")),
            ("ep-x.c-2.us-east-2.aws.neon.tech", Some("aws-us-east-2")),
            ("ep-x.eastus2.azure.neon.tech", Some("azure-eastus2")),
            ("ep-x.d-2.us-east-2.aws.neon.tech", None),
            ("ep-x.c-2.c-3.us-east-2.aws.neon.tech", None),
            ("us-east-2.aws.neon.tech", None),
            ("ep-x.us-east-2.moon.neon.tech", None),
            ("shop.cluster-abc.us-east-2.rds.amazonaws.com", None),
            ("neon.tech", None),
        ] {
            assert_eq!(region_of_host(host).as_deref(), region, "{host}");
        }
    }
}
