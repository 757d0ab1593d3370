// SPDX-License-Identifier: MPL-2.0

use super::*;
use crate::postgres::{Secret, SslMode};

fn block(change: impl FnOnce(&mut ServerBlock)) -> Attr<ServerBlock> {
    let mut block = ServerBlock::default();
    change(&mut block);
    Attr::Known(block)
}

fn resolve(side: Side, block: &Attr<ServerBlock>, url: Option<&str>) -> Result<Endpoint> {
    Endpoint::resolve(side, block, &Attr::Null, |_| url.map(str::to_owned))
}

fn config(endpoint: Result<Endpoint>) -> ServerConfig {
    match endpoint {
        Ok(Endpoint::Ready(ready)) => ready.server.config().clone(),
        Ok(Endpoint::Missing(what)) => panic!("missing: {what}"),
        Ok(Endpoint::Waiting(path)) => panic!("waiting for {path}"),
        Err(error) => panic!("{error}"),
    }
}

fn message(endpoint: Result<Endpoint>) -> String {
    match endpoint {
        Ok(Endpoint::Ready(_)) => "ready".to_owned(),
        Ok(Endpoint::Missing(what)) => what,
        Ok(Endpoint::Waiting(path)) => format!("waiting for {path}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_part_wins_over_the_url_and_the_url_over_the_environment() {
    let block = block(|block| {
        block.url = "postgresql://u:p@db.example:6000/shop".into();
        block.username = "other".into();
    });
    let config = config(resolve(Side::Publisher, &block, Some("postgresql://x:y@z/w")));
    assert_eq!((config.host.as_str(), config.port), ("db.example", 6000));
    assert_eq!((config.username.as_str(), config.database.as_str()), ("other", "shop"));
    assert_eq!(config.password, Some(Secret::new("p")));
}

#[test]
fn the_environment_is_enough() {
    let config = config(resolve(Side::Subscriber, &Attr::Null, Some("postgresql://u:p@127.0.0.1:6000/shop")));
    assert_eq!(config.database, "shop");
    assert_eq!(config.sslmode.as_str(), "prefer");
}

#[test]
fn tls_is_required_away_from_home() {
    let config = config(resolve(Side::Subscriber, &Attr::Null, Some("postgresql://u@db.example/shop")));
    assert_eq!(config.sslmode.as_str(), "require");
}

/// The mode and the root that follow from a URL of this host and these keywords.
fn security(host: &str, keywords: &str) -> (SslMode, Option<String>) {
    let config = config(resolve(Side::Publisher, &Attr::Null, Some(&format!("postgresql://u@{host}/shop?{keywords}"))));
    (config.sslmode, config.sslrootcert)
}

#[test]
fn what_a_host_can_prove_is_verified_by_default() {
    let system = Some("system".to_owned());
    let neon = "ep-x.us-east-2.aws.neon.tech";
    assert_eq!(security(neon, ""), (SslMode::VerifyFull, system.clone()));
    assert_eq!(security(neon, "channel_binding=require"), (SslMode::VerifyFull, system.clone()));
    assert_eq!(security(neon, "sslmode=require"), (SslMode::Require, None));
    assert_eq!(security(neon, "sslrootcert=/ca"), (SslMode::VerifyFull, Some("/ca".to_owned())));
    assert_eq!(security("db.example", ""), (SslMode::Require, None));
    assert_eq!(security("db.example", "sslrootcert=system"), (SslMode::VerifyFull, system.clone()));
    assert_eq!(security("db.example", "sslmode=verify-full"), (SslMode::VerifyFull, system));
    assert_eq!(security("127.0.0.1", ""), (SslMode::Prefer, None));
    assert_eq!(security("127.0.0.1", "sslrootcert=/ca"), (SslMode::Require, Some("/ca".to_owned())));
}

#[test]
fn authorities_and_modes_that_do_not_go_together_are_refused() {
    let text = |change: fn(&mut ServerBlock)| message(resolve(Side::Publisher, &block(change), None));
    // Without host, role and database: the error comes as early as possible.
    let no_root = text(|block| block.sslmode = "verify-ca".into());
    assert!(
        no_root.starts_with("publisher.sslmode: publisher: sslmode = \"verify-ca\" needs sslrootcert"),
        "{no_root}"
    );
    let weak = text(|block| {
        block.url = "postgresql://u:p@h/d?sslmode=require".into();
        block.sslrootcert = "system".into();
    });
    assert!(weak.starts_with("publisher.sslrootcert: publisher: sslrootcert = \"system\" needs"), "{weak}");
    let later = text(|block| {
        block.sslmode = "verify-ca".into();
        block.sslrootcert = Attr::Unknown;
    });
    assert_eq!(later, "waiting for publisher.sslrootcert");
    let half = text(|block| block.sslkey = "hunter2".into());
    assert_eq!(half.split(". ").next(), Some("publisher.sslkey: publisher: sslkey and sslcert must be set together"));
}

#[test]
fn keywords_of_the_url_work_or_are_refused_by_name() {
    let text = |query: &str| {
        let url = format!("postgresql://u:hunter2@db.example/d?{query}");
        message(resolve(Side::Publisher, &block(|block| block.url = url.as_str().into()), None))
    };
    for (query, says) in [
        (
            "sslmod=verify-full",
            "publisher.url: publisher: invalid connection string: sslmod is not a keyword of libpq (did you mean sslmode?)",
        ),
        ("require_auth=scram-sha-256", "publisher.url: publisher: require_auth cannot be used here."),
        ("sslmode=disable&channel_binding=require", "publisher.url: publisher: channel_binding = require needs TLS"),
        ("service=hunter2", "publisher.url: publisher: service cannot be used here."),
        ("connect_timeout=soon", "publisher.url: publisher: connect_timeout is not a whole number"),
    ] {
        let text = text(query);
        assert!(text.starts_with(says) && !text.contains("hunter2"), "{text}");
    }
    let all = "channel_binding=require&application_name=me&keepalives_idle=60&gssencmode=prefer&sslcompression=0&connect_timeout=0";
    assert_eq!(text(all), "ready");
    let config = config(resolve(Side::Publisher, &Attr::Null, Some(&format!("postgresql://u@db.example/d?{all}"))));
    assert_eq!((config.application_name.as_str(), config.connect_timeout), ("me", Duration::MAX));
    assert_eq!(config.transport.channel_binding(), Some("require"));
    assert_eq!(config.conninfo().get("channel_binding"), Some("require"));
}

#[test]
fn a_url_in_the_environment_is_named() {
    let text = message(resolve(Side::Publisher, &Attr::Null, Some("postgresql://u:hun/ter2@h/d")));
    assert!(text.starts_with("publisher: publisher: invalid connection string: "), "{text}");
    assert!(text.contains("write %2F for \"/\"") && text.contains("NEONREPL_PUBLISHER_URL"), "{text}");
    assert!(!text.contains("hun") && !text.contains("ter2"), "{text}");
    // An unknown URL has precedence over the environment's.
    let later = block(|block| block.url = Attr::Unknown);
    assert_eq!(message(resolve(Side::Publisher, &later, Some("nonsense"))), "waiting for publisher.url");
}

#[test]
fn a_url_in_the_place_of_a_host_is_not_repeated() {
    let block = block(|block| block.host = "postgresql://u:hunter2@ep-x-pooler.us-east-2.aws.neon.tech/d".into());
    let text = message(resolve(Side::Subscriber, &block, None));
    assert!(text.starts_with("subscriber.host: subscriber: host is a URL"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_is_missing_is_said() {
    assert!(message(resolve(Side::Publisher, &Attr::Null, None)).contains("Give the host"));
    let block = block(|block| block.host = "h".into());
    assert!(message(resolve(Side::Publisher, &block, None)).contains("NEONREPL_PUBLISHER_URL"));
}

#[test]
fn an_unknown_value_is_waited_for() {
    let block = block(|block| block.url = Attr::Unknown);
    assert_eq!(message(resolve(Side::Subscriber, &block, None)), "waiting for subscriber.url");
}

#[test]
fn poolers_and_readers_are_refused_with_the_direct_host() {
    let pooler = block(|block| block.host = "ep-x-pooler.us-east-2.aws.neon.tech".into());
    let text = message(resolve(Side::Subscriber, &pooler, None));
    assert!(text.starts_with("subscriber.host: "), "{text}");
    assert!(text.contains("ep-x.us-east-2.aws.neon.tech"), "{text}");
    let reader = block(|block| {
        block.url = "postgresql://u:hunter2@shop.cluster-ro-x.us-east-2.rds.amazonaws.com/shop".into();
    });
    let text = message(resolve(Side::Publisher, &reader, None));
    assert!(text.contains("shop.cluster-x.us-east-2.rds.amazonaws.com"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(message(resolve(Side::Subscriber, &reader, None)), "ready");
}

#[test]
fn a_wrong_url_is_not_repeated() {
    let block = block(|block| block.url = "postgresql://u:hunter2@h:port/d".into());
    let text = message(resolve(Side::Publisher, &block, None));
    assert!(!text.contains("hunter2"), "{text}");
}

fn with_iam(change: impl FnOnce(&mut ServerBlock)) -> Attr<ServerBlock> {
    block(|block| {
        block.host = "shop.abc.us-east-2.rds.amazonaws.com".into();
        block.username = "app".into();
        block.database = "shop".into();
        block.aws_iam_auth = true.into();
        change(block);
    })
}

#[test]
fn a_token_goes_over_tls() {
    for host in ["shop.abc.us-east-2.rds.amazonaws.com", "127.0.0.1"] {
        let block = with_iam(|block| block.host = host.into());
        let config = config(resolve(Side::Publisher, &block, None));
        assert_eq!((config.sslmode.as_str(), config.password), ("require", None));
    }
    let strict = with_iam(|block| block.sslmode = "verify-full".into());
    assert_eq!(config(resolve(Side::Publisher, &strict, None)).sslmode.as_str(), "verify-full");
    for mode in ["disable", "allow", "prefer"] {
        let weak = with_iam(|block| block.sslmode = mode.into());
        let text = message(resolve(Side::Subscriber, &weak, None));
        assert!(text.starts_with("subscriber.sslmode: subscriber: aws_iam_auth needs TLS"), "{text}");
    }
    let text = message(resolve(Side::Publisher, &with_iam(|_| {}), Some("postgresql://h/d?sslmode=prefer")));
    assert!(text.starts_with("publisher.url: "), "{text}");
}

#[test]
fn a_token_is_for_an_rds_endpoint() {
    let text = |host: &str| message(resolve(Side::Publisher, &with_iam(|block| block.host = host.into()), None));
    let refused = text("10.1");
    assert!(
        refused.starts_with("publisher.host: publisher: aws_iam_auth needs an RDS endpoint, and \"10.1\" is not"),
        "{refused}"
    );
    assert_eq!(text("a b"), "publisher.host: publisher: host is not a host name or an address");
}

#[test]
fn a_token_is_the_only_password() {
    let both = with_iam(|block| block.password = "hunter2".into());
    let text = message(resolve(Side::Publisher, &both, None));
    assert!(text.starts_with("publisher.password: publisher: a password and aws_iam_auth exclude"), "{text}");
    let text = message(resolve(Side::Publisher, &with_iam(|_| {}), Some("postgresql://u:hunter2@h/d")));
    assert!(text.starts_with("publisher.aws_iam_auth: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let no_iam = with_iam(|block| {
        block.password = "hunter2".into();
        block.aws_iam_auth = false.into();
    });
    assert_eq!(message(resolve(Side::Publisher, &no_iam, None)), "ready");
}

#[test]
fn tokens_wait_for_the_aws_block() {
    let aws = Attr::Known(AwsBlock { secret_key: Attr::Unknown, ..AwsBlock::default() });
    let waits = Endpoint::resolve(Side::Publisher, &with_iam(|_| {}), &aws, |_| None);
    assert_eq!(message(waits), "waiting for aws.secret_key");
    let without = with_iam(|block| block.aws_iam_auth = Attr::Null);
    assert_eq!(message(Endpoint::resolve(Side::Publisher, &without, &aws, |_| None)), "ready");
}
