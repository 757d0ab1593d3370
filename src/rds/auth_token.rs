// SPDX-License-Identifier: MPL-2.0

//! IAM database authentication: tokens that RDS accepts as a password. They are signed here, without calling RDS.
//!
//! Source: "Connecting to your DB instance using IAM authentication" in the user guides of RDS and Aurora.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use aws_sdk_rds::config::Region;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::{AwsConfig, Error, Kind, Result};

/// How long RDS accepts a token, unless the credentials that signed it expire sooner.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a token is used for new connections: RDS checks it only when a connection begins.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// The longest name of a host, in bytes (RFC 1035).
const LONGEST_HOST: usize = 253;

/// A login: role and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The host name of the instance, the cluster or the proxy in RDS.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database role.
    pub username: String,
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthToken {
    /// The text, which is a secret while it lasts.
    pub text: String,
    /// When RDS stops accepting it.
    pub expires_at: SystemTime,
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Signs tokens for one login. Looks for credentials only for the first token.
#[derive(Debug)]
pub struct AuthTokens {
    login: Login,
    aws: AwsConfig,
    sdk: OnceCell<SdkConfig>,
    latest: Mutex<Option<(Instant, AuthToken)>>,
}

impl AuthTokens {
    /// Tokens for this login, in the region of the configuration, otherwise of the host name.
    pub fn new(aws: AwsConfig, login: Login) -> Self {
        let region = aws.region.clone().or_else(|| region_of_host(&login.host).map(str::to_owned));
        Self { login, aws: AwsConfig { region, ..aws }, sdk: OnceCell::new(), latest: Mutex::default() }
    }

    /// A token for a new connection: the last one for ten minutes, then a new one.
    ///
    /// # Errors
    /// When there is no region or there are no credentials to sign with.
    pub async fn current(&self) -> Result<AuthToken> {
        let mut latest = self.latest.lock().await;
        if let Some((made, token)) = &*latest
            && made.elapsed() < FRESH
        {
            return Ok(token.clone());
        }
        let token = self.sign().await?;
        *latest = Some((Instant::now(), token.clone()));
        Ok(token)
    }

    /// A new token.
    ///
    /// # Errors
    /// As [`AuthTokens::current`].
    pub async fn sign(&self) -> Result<AuthToken> {
        let Login { host, port, username } = &self.login;
        let doing = format!("making an RDS IAM token for \"{username}\" on {host}:{port}");
        check_host(host)
            .and_then(|()| check_username(username))
            .map_err(|why| Error::new(Kind::Rejected, &doing, why))?;
        // Finding credentials is a large future and rare: on the heap it does not make every future around it large.
        let sdk = Box::pin(self.sdk.get_or_try_init(|| self.aws.sdk_config())).await;
        let sdk = sdk.map_err(|error| renamed(error, &doing))?;
        let config = Config::builder()
            .hostname(authority(host))
            .port(u64::from(*port))
            .username(utf8_percent_encode(username, RESERVED).to_string())
            .region(sdk.region().cloned().unwrap_or_else(|| Region::from_static("")))
            .expires_in(LIFETIME.as_secs())
            .build()
            .map_err(|error| Error::new(Kind::Rejected, &doing, error.to_string()))?;
        let expires_at = SystemTime::now() + LIFETIME;
        let signed = Box::pin(AuthTokenGenerator::new(config).auth_token(sdk)).await;
        let token = signed.map_err(|error| unsigned(&doing, &*error))?;
        Ok(AuthToken { text: token.as_str().to_owned(), expires_at })
    }
}

/// The region in the name of an RDS host, such as `us-east-2` in `shop.abc.us-east-2.rds.amazonaws.com`.
pub fn region_of_host(host: &str) -> Option<&str> {
    let host = host.trim_end_matches('.');
    let (names, region) = match host.strip_suffix(".rds.amazonaws.com") {
        Some(rest) => rest.rsplit_once('.')?,
        // In China the region comes after the service.
        None => host.strip_suffix(".amazonaws.com.cn")?.rsplit_once(".rds.")?,
    };
    let is_region = region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (!names.is_empty() && is_region && region.contains('-')).then_some(region)
}

/// Refuses a host name that RDS cannot have; the SDK would panic for some of them.
///
/// # Errors
/// A sentence for people.
pub fn check_host(host: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_name = host.len() <= LONGEST_HOST
        && host.chars().all(is_plain)
        && last.starts_with(|c: char| c.is_ascii_alphabetic())
        && !host.to_ascii_lowercase().contains("xn--");
    if is_name || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{host:?} is not the name of an RDS endpoint"))
}

/// A role's name has at most 63 bytes.
fn check_username(username: &str) -> Result<(), String> {
    match username.len() {
        1..=63 => Ok(()),
        _ => Err("no role has such a name".to_owned()),
    }
}

fn renamed(error: Error, doing: &str) -> Error {
    Error { doing: doing.to_owned(), ..error }
}

fn unsigned(doing: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.dedup();
    Error::new(Kind::Denied, doing, texts.join(": ")).hint("Check the credentials of the aws block")
}

/// The host in the form of a URL.
fn authority(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_ascii_lowercase() }
}

/// All characters that AWS percent-encodes when it signs a URL.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(host: &str, region: Option<&str>) -> AuthTokens {
        let aws = AwsConfig {
            region: region.map(str::to_owned),
            access_key: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_key: Some("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            token: Some("session/token+=".to_owned()),
            ..AwsConfig::default()
        };
        AuthTokens::new(aws, Login { host: host.to_owned(), port: 5432, username: "o'neil & co".to_owned() })
    }

    #[tokio::test]
    async fn a_token_is_the_signed_url_that_rds_expects() {
        let token = tokens("Shop.abc.us-east-2.rds.amazonaws.com", None).sign().await.unwrap();
        let (head, query) = token.text.split_once("/?").unwrap();
        assert_eq!(head, "shop.abc.us-east-2.rds.amazonaws.com:5432");
        assert!(query.starts_with("Action=connect&DBUser=o%27neil%20%26%20co&"), "{query}");
        for part in [
            "&X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "&X-Amz-Expires=900",
            "%2Fus-east-2%2Frds-db%2Faws4_request",
            "&X-Amz-SignedHeaders=host",
            "&X-Amz-Security-Token=session%2Ftoken%2B%3D",
            "&X-Amz-Signature=",
        ] {
            assert!(query.contains(part), "no {part} in {query}");
        }
        assert!(!token.text.contains("bPxRfiCY") && !format!("{token:?}").contains("Signature"));
        let left = token.expires_at.duration_since(SystemTime::now()).unwrap();
        assert!(left > LIFETIME - Duration::from_secs(60) && left <= LIFETIME, "{left:?}");
    }

    #[tokio::test]
    async fn the_region_of_the_aws_block_wins() {
        let token = tokens("shop.abc.us-east-2.rds.amazonaws.com", Some("eu-west-1")).sign().await.unwrap();
        assert!(token.text.contains("%2Feu-west-1%2Frds-db"), "{}", token.text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_serves_new_connections_for_ten_minutes() {
        let tokens = tokens("127.0.0.1", Some("us-east-2"));
        let first = tokens.current().await.unwrap();
        tokio::time::advance(FRESH - Duration::from_secs(1)).await;
        assert_eq!(tokens.current().await.unwrap(), first);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_ne!(tokens.current().await.unwrap().expires_at, first.expires_at);
    }

    #[tokio::test]
    async fn what_cannot_be_a_host_or_a_role_is_refused() {
        for host in ["", " ", "a b", "a/b", "a@b", "a:1", "1.2.3.4.5", "a.999", "a.0x1", "xn--.com", "é.com", "%41.com"]
        {
            let error = tokens(host, Some("us-east-2")).sign().await.unwrap_err();
            assert!(error.message.ends_with("is not the name of an RDS endpoint"), "{error}");
        }
        for host in ["a", "A-1.b_2.com.", "127.0.0.1", "::1", "2001:db8::1"] {
            assert!(tokens(host, Some("us-east-2")).sign().await.is_ok(), "{host}");
        }
        let login = Login { host: "a".to_owned(), port: 1, username: "u".repeat(64) };
        let nobody = AuthTokens::new(tokens("a", Some("us-east-2")).aws, login).sign().await.unwrap_err();
        assert_eq!(nobody.message, "no role has such a name");
    }

    #[test]
    fn the_region_is_in_the_name_of_the_host() {
        for (host, region) in [
            ("shop.abc.us-east-2.rds.amazonaws.com", Some("us-east-2")),
            ("shop.cluster-abc.us-gov-west-1.rds.amazonaws.com.", Some("us-gov-west-1")),
            ("shop.proxy-abc.eu-west-1.rds.amazonaws.com", Some("eu-west-1")),
            ("shop.abc.rds.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("us-east-2.rds.amazonaws.com", None),
            ("shop.example", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(region_of_host(host), region, "{host}");
        }
    }
}
