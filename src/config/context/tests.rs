use super::*;

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
    let text = message(resolve(Side::Publisher, &with_iam(|block| block.host = "a b".into()), None));
    assert!(
        text.starts_with("publisher.host: publisher: aws_iam_auth needs an RDS endpoint, and \"a b\" is not"),
        "{text}"
    );
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
