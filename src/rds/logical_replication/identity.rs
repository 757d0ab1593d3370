// SPDX-License-Identifier: MPL-2.0

//! Decides whether the server that answers over SQL is the cluster's writer: the settings of another server prove
//! nothing. Decisions are pure; only names are looked up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Probe, Record, ServerSettings};
use crate::rds::api::{Cluster, Instance};

/// How long to look up a name. After that it counts as unknown.
const LOOKUP: Duration = Duration::from_secs(5);

/// The facts that identify a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The host that was connected to: a name or an address.
    pub host: String,
    /// The port that was connected to.
    pub port: u16,
    /// `aurora_db_instance_identifier()`; absent outside Aurora.
    pub instance: Option<String>,
    /// `inet_server_addr()` and `inet_server_port()`: the server's own address, even behind a tunnel.
    pub own_address: Option<SocketAddr>,
}

/// The server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answerer {
    /// The writer of the cluster, or the instance.
    Writer,
    /// Another member of the cluster, by its identifier. It may become the writer soon, or may have been the writer.
    Reader(String),
    /// A server outside the cluster; the text says which.
    Stranger(String),
    /// Unknown. A restart of the server at a reboot of the writer would identify it.
    Unknown,
}

/// Identifies the server that answers. Looks up names only if nothing else identifies it.
pub(super) async fn answerer(
    probe: &dyn Probe,
    settings: &ServerSettings,
    cluster: &Cluster,
    instances: &[Instance],
    record: &Record,
) -> Answerer {
    let endpoints = Endpoints::of(cluster, instances);
    let told = by_function(&settings.server, cluster)
        .or_else(|| endpoints.by_name(&settings.server))
        .or_else(|| by_start(settings.started_at, record));
    if let Some(told) = told {
        return told;
    }
    let (host, endpoint) = (lookup(probe, &settings.server.host).await, endpoints.writer());
    let endpoint_addresses = match endpoint {
        Some((name, _)) => lookup(probe, name).await,
        None => Vec::new(),
    };
    match endpoint.is_some_and(|(_, port)| is_at(&settings.server, &host, &endpoint_addresses, port)) {
        true => Answerer::Writer,
        false => Answerer::Unknown,
    }
}

async fn lookup(probe: &dyn Probe, host: &str) -> Vec<IpAddr> {
    tokio::time::timeout(LOOKUP, probe.addresses(host)).await.unwrap_or_default()
}

/// By Aurora's own function.
fn by_function(server: &ServerIdentity, cluster: &Cluster) -> Option<Answerer> {
    let instance = server.instance.as_ref()?;
    Some(match cluster.member(instance) {
        Some(member) if member.is_writer => Answerer::Writer,
        Some(_) => Answerer::Reader(instance.clone()),
        None => Answerer::Stranger(format!("DB instance {instance}")),
    })
}

/// By its start time, which followed a requested reboot, now or earlier.
fn by_start(started_at: Option<i64>, record: &Record) -> Option<Answerer> {
    let started_at = started_at?;
    let is_proven = record.proven_start == Some(started_at);
    let is_restarted = record.start_before_reboot.is_some_and(|before| started_at > before);
    (is_proven || is_restarted).then_some(Answerer::Writer)
}

/// Whether it has the address and port of the writer's endpoint: those of the connection, or the server's own at the
/// other end of a tunnel. A loopback address proves nothing, because every server has one.
fn is_at(server: &ServerIdentity, host: &[IpAddr], endpoint: &[IpAddr], port: u16) -> bool {
    let is_reached_there = server.port == port && host.iter().any(|address| endpoint.contains(address));
    let is_itself_there = server
        .own_address
        .is_some_and(|own| !own.ip().is_loopback() && own.port() == port && endpoint.contains(&own.ip()));
    is_reached_there || is_itself_there
}

/// The names under which the cluster can be reached.
struct Endpoints<'a> {
    cluster: &'a Cluster,
    instances: &'a [Instance],
}

impl<'a> Endpoints<'a> {
    fn of(cluster: &'a Cluster, instances: &'a [Instance]) -> Self {
        Self { cluster, instances }
    }

    /// The endpoint that follows the writer.
    fn writer(&self) -> Option<(&'a str, u16)> {
        Some((self.cluster.endpoint.as_deref()?, self.cluster.port?))
    }

    fn by_name(&self, server: &ServerIdentity) -> Option<Answerer> {
        let is_it = |endpoint: Option<(&str, u16)>| {
            endpoint.is_some_and(|(name, port)| port == server.port && is_same_name(name, &server.host))
        };
        let named = self.instances.iter().find(|one| is_it(one.endpoint.as_deref().zip(one.port)));
        let is_writer = |one: &Instance| self.cluster.member(&one.identifier).is_some_and(|member| member.is_writer);
        match named {
            _ if is_it(self.writer()) => Some(Answerer::Writer),
            Some(one) if is_writer(one) => Some(Answerer::Writer),
            Some(one) => Some(Answerer::Reader(one.identifier.clone())),
            None => self.is_another_endpoint(&server.host).then(|| Answerer::Stranger(server.host.clone())),
        }
    }

    /// Whether the name is another endpoint of RDS. A proxy and a custom endpoint may lead to any instance.
    fn is_another_endpoint(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_of_rds = host.ends_with(".rds.amazonaws.com") || host.ends_with(".rds.amazonaws.com.cn");
        let kind = host.split('.').nth(1).unwrap_or_default();
        let may_be_any =
            kind.starts_with("proxy-") || kind.starts_with("cluster-custom-") || host.contains(".endpoint.proxy-");
        let own = self.cluster.endpoint.iter().chain(self.instances.iter().filter_map(|one| one.endpoint.as_ref()));
        let is_own = own.into_iter().any(|name| is_same_name(name, &host));
        is_of_rds && !may_be_any && !is_own && self.cluster.endpoint.is_some()
    }
}

fn is_same_name(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

impl Answerer {
    /// Why the answer does not count, as the end of a sentence after "the provider's publisher connection"; none if it
    /// counts.
    #[must_use]
    pub fn objection(&self, cluster: &Cluster) -> Option<String> {
        let (deployment, name) = (cluster.deployment, &cluster.identifier);
        Some(match self {
            Self::Writer => return None,
            Self::Reader(instance) => format!("leads to {instance}, a reader of the {deployment} {name}"),
            Self::Stranger(who) => format!("leads to {who}, and not to the {deployment} {name}"),
            Self::Unknown => format!("is not known to lead to the {deployment} {name}"),
        })
    }
}

/// How to connect so that the server can be identified.
#[must_use]
pub fn remedy(cluster: &Cluster) -> String {
    match (&cluster.endpoint, cluster.port) {
        (Some(endpoint), Some(port)) => {
            format!("Let the provider's publisher block connect to {endpoint}, port {port}")
        }
        _ => "Let the provider's publisher block connect to its endpoint".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::rds::api::{Deployment, Member};
    use crate::rds::logical_replication::ProbeError;

    const WRITER: &str = "shop.cluster-abc.us-east-2.rds.amazonaws.com";

    /// A probe that only knows a few names.
    struct Names;

    impl Probe for Names {
        fn settings(&self) -> BoxFuture<'_, Result<ServerSettings, ProbeError>> {
            unreachable!("it is not asked")
        }

        fn addresses(&self, host: &str) -> BoxFuture<'_, Vec<IpAddr>> {
            let address = match host {
                WRITER | "alias.example" => Some([10, 0, 0, 5]),
                "localhost" => Some([127, 0, 0, 1]),
                _ => None,
            };
            Box::pin(std::future::ready(address.into_iter().map(IpAddr::from).collect()))
        }
    }

    fn shop() -> (Cluster, Vec<Instance>) {
        let member = |name: &str, is_writer| Member { instance: name.to_owned(), is_writer, ..Member::default() };
        let instance = |name: &str| Instance {
            identifier: name.to_owned(),
            endpoint: Some(format!("{name}.abc.us-east-2.rds.amazonaws.com")),
            port: Some(5432),
            ..Instance::default()
        };
        let cluster = Cluster {
            identifier: "shop".to_owned(),
            endpoint: Some(WRITER.to_owned()),
            port: Some(5432),
            members: vec![member("shop-1", true), member("shop-2", false)],
            ..Cluster::default()
        };
        (cluster, vec![instance("shop-1"), instance("shop-2")])
    }

    async fn asked(server: ServerIdentity, started_at: i64, record: &Record) -> Answerer {
        let (cluster, instances) = shop();
        let settings = ServerSettings { server, started_at: Some(started_at), ..ServerSettings::default() };
        answerer(&Names, &settings, &cluster, &instances, record).await
    }

    fn at(host: &str, port: u16) -> ServerIdentity {
        ServerIdentity { host: host.to_owned(), port, ..ServerIdentity::default() }
    }

    fn reader() -> Answerer {
        Answerer::Reader("shop-2".to_owned())
    }

    #[tokio::test]
    async fn aurora_says_itself_who_it_is() {
        for (instance, expected) in [
            ("shop-1", Answerer::Writer),
            ("shop-2", reader()),
            ("other-1", Answerer::Stranger("DB instance other-1".to_owned())),
        ] {
            // The name may be a tunnel, or may have moved.
            for host in ["localhost", WRITER] {
                let server = ServerIdentity { instance: Some(instance.to_owned()), ..at(host, 5432) };
                assert_eq!(asked(server, 1, &Record::default()).await, expected, "{instance} by {host}");
            }
        }
    }

    #[tokio::test]
    async fn elsewhere_its_endpoints_tell() {
        let stranger = |host: &str| Answerer::Stranger(host.to_owned());
        for (host, port, expected) in [
            (WRITER, 5432, Answerer::Writer),
            ("SHOP.cluster-ABC.us-east-2.rds.amazonaws.com.", 5432, Answerer::Writer),
            (WRITER, 5433, Answerer::Unknown),
            ("shop-1.abc.us-east-2.rds.amazonaws.com", 5432, Answerer::Writer),
            ("shop-2.abc.us-east-2.rds.amazonaws.com", 5432, reader()),
            ("alias.example", 5432, Answerer::Writer),
            ("alias.example", 5433, Answerer::Unknown),
            ("localhost", 5432, Answerer::Unknown),
            ("nowhere.example", 5432, Answerer::Unknown),
            ("other.abc.us-east-2.rds.amazonaws.com", 5432, stranger("other.abc.us-east-2.rds.amazonaws.com")),
            ("any.cluster-custom-abc.us-east-2.rds.amazonaws.com", 5432, Answerer::Unknown),
            ("p.proxy-abc.us-east-2.rds.amazonaws.com", 5432, Answerer::Unknown),
            ("e.endpoint.proxy-abc.us-east-2.rds.amazonaws.com", 5432, Answerer::Unknown),
        ] {
            assert_eq!(asked(at(host, port), 1, &Record::default()).await, expected, "{host}:{port}");
        }
    }

    #[tokio::test]
    async fn behind_a_tunnel_its_own_address_or_its_restart_tells() {
        let with_address =
            |address: &str| ServerIdentity { own_address: Some(address.parse().unwrap()), ..at("localhost", 15432) };
        for (address, expected) in [
            ("10.0.0.5:5432", Answerer::Writer),
            ("10.0.0.5:5433", Answerer::Unknown),
            ("10.0.0.6:5432", Answerer::Unknown),
            ("127.0.0.1:5432", Answerer::Unknown),
        ] {
            assert_eq!(asked(with_address(address), 1, &Record::default()).await, expected, "{address}");
        }
        // Every server has this address, wherever the endpoint leads.
        let loopback = [IpAddr::from([127, 0, 0, 1])];
        assert!(!is_at(&with_address("127.0.0.1:5432"), &[], &loopback, 5432));
        let rebooting = Record { start_before_reboot: Some(7), ..Record::default() };
        let proven = Record { proven_start: Some(7), ..Record::default() };
        for (record, started_at, expected) in [
            (&rebooting, 7, Answerer::Unknown),
            (&rebooting, 8, Answerer::Writer),
            (&proven, 7, Answerer::Writer),
            (&proven, 8, Answerer::Unknown),
        ] {
            assert_eq!(asked(at("localhost", 15432), started_at, record).await, expected, "{started_at}");
        }
    }

    #[test]
    fn an_objection_says_where_it_leads() {
        let (cluster, _) = shop();
        let objection = |who: Answerer, cluster: &Cluster| who.objection(cluster);
        assert_eq!(objection(Answerer::Writer, &cluster), None);
        assert_eq!(objection(reader(), &cluster).unwrap(), "leads to shop-2, a reader of the DB cluster shop");
        let instance = Cluster { deployment: Deployment::RdsInstance, ..cluster };
        assert_eq!(
            objection(Answerer::Stranger("other".to_owned()), &instance).unwrap(),
            "leads to other, and not to the DB instance shop"
        );
        assert_eq!(objection(Answerer::Unknown, &instance).unwrap(), "is not known to lead to the DB instance shop");
        assert!(remedy(&instance).ends_with("connect to shop.cluster-abc.us-east-2.rds.amazonaws.com, port 5432"));
    }
}
