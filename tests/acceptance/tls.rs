// SPDX-License-Identifier: MPL-2.0

//! `sslmode` against servers with and without certificates.

use neonrepl::postgres::{Conninfo, Secret, Server, ServerConfig, SslMode, Transport};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::catalog::config;
use crate::common::cli::{Core, Workspace};
use crate::common::iam::pem;
use crate::common::postgres::{self as servers, Major, Role, SUPERUSER, SUPERUSER_PASSWORD, Settings, settings};

/// An authority, and a certificate with its key, signed for a name.
pub(crate) struct Issued {
    pub(crate) root: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// The authority's empty revocation list.
    none_revoked: String,
    /// The same list with this certificate.
    revoked: String,
}

pub(crate) fn issue(name: &str) -> Issued {
    issue_until(&[name], 4000)
}

/// The same for several names, valid until the end of a year.
fn issue_until(names: &[&str], year: i32) -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority for {}", names[0]));
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, names[0]);
    params.not_after = date_time_ymd(year, 12, 31);
    params.serial_number = Some(SerialNumber::from(SERIAL));
    let certificate = params.signed_by(&key, &root).unwrap();
    Issued {
        none_revoked: revoking(&root, None),
        revoked: revoking(&root, Some(SERIAL)),
        root: pem("CERTIFICATE", root.der()),
        certificate: pem("CERTIFICATE", certificate.der()),
        key: pem("PRIVATE KEY", &key.serialize_der()),
    }
}

const SERIAL: u64 = 4711;

fn revoking(issuer: &CertifiedIssuer<'_, KeyPair>, serial: Option<u64>) -> String {
    let revoked = serial.map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    pem("X509 CRL", list.signed_by(issuer).unwrap().der())
}

/// The transport options of a connection string with these keywords.
fn transport(keywords: &str) -> Transport {
    Transport::read(&Conninfo::parse(keywords).unwrap()).unwrap()
}

/// A server whose certificate is for this name, and how to reach its database.
async fn encrypted(certificate: &Issued, hba: &str) -> (servers::Server, ServerConfig) {
    let mut server = servers::Server::start(Major::V18, Settings::new());
    server.write("server.crt", &certificate.certificate);
    server.write("server.key", &certificate.key);
    server.write("clients.crt", &certificate.root);
    let database = server.database("tls").await;
    server.write("pg_hba.conf", hba);
    server.restart(settings([("ssl", "on"), ("ssl_ca_file", "clients.crt")]));
    let config = config(&database, &Role::superuser());
    (server, config)
}

const ANY: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
const ENCRYPTED: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
const PLAIN: &str = "hostnossl all all 127.0.0.1/32 scram-sha-256\n";
const CERTIFICATE: &str = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n";

/// The result of connecting: empty, or the text of the error after "cannot connect: ".
async fn connecting(config: &ServerConfig, change: impl FnOnce(&mut ServerConfig)) -> String {
    let mut config = config.clone();
    change(&mut config);
    match Server::new(config).database(None).version().await {
        Ok(_) => String::new(),
        Err(error) => error.to_string().split_once("cannot connect: ").unwrap().1.to_owned(),
    }
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    let (right, other) = (issue("127.0.0.1"), issue("127.0.0.1"));
    let (_server, config) = encrypted(&right, ANY).await;
    let mode = async |mode: SslMode, root: Option<&str>| {
        connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (mode, root.map(str::to_owned));
        })
        .await
    };
    for weak in [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require] {
        assert_eq!(mode(weak, None).await, "");
    }
    for strong in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        assert_eq!(mode(strong, Some(&right.root)).await, "");
        // A certificate given as its own authority, as for self-signed ones.
        assert_eq!(mode(strong, Some(&right.certificate)).await, "");
        let refused = mode(strong, Some(&other.root)).await;
        assert!(refused.contains("invalid peer certificate"), "{refused}");
    }
}

#[tokio::test]
async fn only_verify_full_looks_at_the_host_name() {
    let certificate = issue("db.example");
    let (_server, config) = encrypted(&certificate, ANY).await;
    let mode = async |mode: SslMode| {
        connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (mode, Some(certificate.root.clone()));
        })
        .await
    };
    assert_eq!(mode(SslMode::VerifyCa).await, "");
    let refused = mode(SslMode::VerifyFull).await;
    assert!(refused.contains("certificate not valid for name \"127.0.0.1\""), "{refused}");
}

#[tokio::test]
async fn allow_and_prefer_try_the_other_way() {
    let certificate = issue("127.0.0.1");
    for (hba, refused) in [(ENCRYPTED, SslMode::Disable), (PLAIN, SslMode::Require)] {
        let (_server, config) = encrypted(&certificate, hba).await;
        for mode in [SslMode::Allow, SslMode::Prefer] {
            assert_eq!(connecting(&config, |config| config.sslmode = mode).await, "");
        }
        let error = connecting(&config, |config| config.sslmode = refused).await;
        assert!(error.starts_with("no pg_hba.conf entry for host"), "{error}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let certificate = issue("127.0.0.1");
    let (_server, config) = encrypted(&certificate, CERTIFICATE).await;
    let error = connecting(&config, |config| config.sslmode = SslMode::Require).await;
    assert!(error.contains("requires a valid client certificate"), "{error}");
    let presented = connecting(&config, |config| {
        config.sslmode = SslMode::Require;
        config.sslcert = Some(certificate.certificate.clone());
        config.sslkey = Some(Secret::new(&certificate.key));
    });
    assert_eq!(presented.await, "");
}

/// `require` succeeds only with SCRAM that is bound to the server's certificate.
#[tokio::test]
async fn channel_binding_is_used_or_refused() {
    let certificate = issue("127.0.0.1");
    let methods = "hostssl all md5 127.0.0.1/32 md5\nhostssl all clear 127.0.0.1/32 password\n\
                   hostssl all trusted 127.0.0.1/32 trust\n";
    let (server, config) = encrypted(&certificate, &format!("{methods}{ANY}")).await;
    let superuser = server.open(&config.database);
    superuser.sql("SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'pw-md5-3f'").await;
    superuser.sql("CREATE ROLE clear LOGIN PASSWORD 'pw-clear-3f'; CREATE ROLE trusted LOGIN PASSWORD 'x'").await;
    let with = async |keywords: &str, mode: SslMode, role: Option<(&str, &str)>| {
        connecting(&config, |config| {
            (config.transport, config.sslmode) = (transport(keywords), mode);
            if let Some((name, password)) = role {
                (config.username, config.password) = (name.to_owned(), Some(Secret::new(password)));
            }
        })
        .await
    };
    for binding in ["channel_binding=require", "channel_binding=prefer", "channel_binding=disable", ""] {
        assert_eq!(with(binding, SslMode::Require, None).await, "", "{binding}");
    }
    assert_eq!(with("channel_binding=prefer", SslMode::Disable, None).await, "");
    let unbound = [
        (SslMode::Disable, None),
        (SslMode::Require, Some(("md5", "pw-md5-3f"))),
        (SslMode::Require, Some(("clear", "pw-clear-3f"))),
        (SslMode::Require, Some(("trusted", "x"))),
    ];
    for (mode, role) in unbound {
        let refused = with("channel_binding=require", mode, role).await;
        assert!(refused.contains("did not use channel binding"), "{mode} {role:?}: {refused}");
        assert_eq!(with("channel_binding=prefer", mode, role).await, "", "{mode} {role:?}");
    }
}

#[tokio::test]
async fn revoked_and_expired_certificates_are_refused() {
    let certificate = issue("127.0.0.1");
    let (_server, config) = encrypted(&certificate, ANY).await;
    let with = async |mode: SslMode, list: &str| {
        let mut keywords = Conninfo::new();
        keywords.set("sslcrl", list);
        connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (mode, Some(certificate.root.clone()));
            config.transport = Transport::read(&keywords).unwrap();
        })
        .await
    };
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        assert_eq!(with(mode, &certificate.none_revoked).await, "");
        let refused = with(mode, &certificate.revoked).await;
        assert!(refused.contains("Revoked"), "{refused}");
    }
    let old = issue_until(&["127.0.0.1"], 2020);
    let (_server, config) = encrypted(&old, ANY).await;
    for root in [&old.root, &old.certificate] {
        let expired = connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (SslMode::VerifyFull, Some(root.clone()));
        });
        assert!(expired.await.contains("expired"));
    }
}

#[tokio::test]
async fn authorities_are_needed_where_the_name_is_not_looked_at() {
    let certificate = issue("127.0.0.1");
    let (_server, config) = encrypted(&certificate, ANY).await;
    let without = connecting(&config, |config| config.sslmode = SslMode::VerifyCa).await;
    assert!(without.contains("\"verify-ca\" needs sslrootcert"), "{without}");
    for mode in [SslMode::Require, SslMode::VerifyCa] {
        let system = connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (mode, Some("system".to_owned()));
        });
        assert!(system.await.contains("needs sslmode = \"verify-full\""));
    }
}

/// A host of Neon's.
const NEON: &str = "ep-cool-darkness-123456.eu-central-1.aws.neon.tech";

/// Reads from both servers.
const LOOKS: &str = "data \"neonrepl_publications\" \"there\" {}\n\ndata \"neonrepl_subscriptions\" \"here\" {}\n";

/// The system's authorities are those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, if these are set.
#[tokio::test]
async fn authorities_of_the_system_verify_both_servers() {
    let certificate = issue_until(&["127.0.0.1", NEON], 4000);
    let (server, config) = encrypted(&certificate, ANY).await;
    let databases = [&config.database, &server.database("tls").await.name];
    let block = |side: &str, database: &str, lines: &str| {
        format!(
            "  {side} {{\n    host = \"127.0.0.1\"\n    port = {}\n    database = {database:?}\n    username = \"{SUPERUSER}\"\n    \
             password = var.password\n    {lines}\n  }}\n",
            server.port()
        )
    };
    let blocks = |lines: &str| {
        format!("{}{}", block("publisher", databases[0], lines), block("subscriber", databases[1], lines))
    };
    let url = |database: &str| {
        format!("postgresql://{SUPERUSER}:{SUPERUSER_PASSWORD}@{NEON}:{}/{database}?hostaddr=127.0.0.1", server.port())
    };
    let (unknown, same_name) = (issue(NEON), issue("127.0.0.1"));
    let right = ("right", Some(&certificate));
    let mut tries = 0;
    for (core, lines) in [
        (Core::Terraform, Some("sslmode = \"verify-full\"\n    sslrootcert = \"system\"")),
        (Core::OpenTofu, Some("sslrootcert = \"system\"")),
        // Verifies both by itself.
        (Core::OpenTofu, None),
    ] {
        let mut workspace = Workspace::new(core);
        workspace.secret(SUPERUSER_PASSWORD).env("TF_VAR_password", SUPERUSER_PASSWORD);
        let provider = lines.map(|lines| {
            format!(
                "variable \"password\" {{\n  sensitive = true\n}}\n\nprovider \"neonrepl\" {{\n{}}}\n",
                blocks(lines)
            )
        });
        workspace.write("main.tf", &format!("{}\n{LOOKS}", provider.unwrap_or_default()));
        if lines.is_none() {
            let [publisher, subscriber] = databases.map(|database| url(database));
            workspace.env("NEONREPL_PUBLISHER_URL", &publisher).env("NEONREPL_SUBSCRIBER_URL", &subscriber);
        }
        workspace.init().await;
        for (variable, (file, issued), said) in [
            ("SSL_CERT_FILE", right, None),
            ("SSL_CERT_DIR", right, None),
            ("SSL_CERT_FILE", ("unknown", Some(&unknown)), Some("UnknownIssuer")),
            ("SSL_CERT_DIR", ("unknown", Some(&unknown)), Some("UnknownIssuer")),
            ("SSL_CERT_FILE", ("same-name", Some(&same_name)), Some("BadSignature")),
            ("SSL_CERT_FILE", ("none", None), Some("correct SSL_CERT_FILE")),
        ] {
            // In a directory, a file's name is the hash of its certificate.
            let file = format!("{variable}-{file}/0a1b2c3d.0");
            if let Some(issued) = issued {
                workspace.write(&file, &issued.root);
            }
            let path = workspace.path().join(&file);
            let (set, unset) = match variable {
                "SSL_CERT_FILE" => (path.clone(), "SSL_CERT_DIR"),
                _ => (path.parent().unwrap().to_owned(), "SSL_CERT_FILE"),
            };
            workspace.env(variable, &set.display().to_string()).unset(unset);
            let plan = workspace.plan().await;
            let Some(said) = said else {
                assert_eq!(plan.code, Some(0), "{variable} {lines:?} {}", plan.text());
                tries += 1;
                continue;
            };
            assert_eq!(plan.code, Some(1), "{variable} {lines:?} {}", plan.text());
            assert!(plan.flat().contains(said), "{said}: {}", plan.text());
            for side in ["publisher", "subscriber"].iter().filter(|_| issued.is_some()) {
                assert!(plan.flat().contains(&format!("{side}.sslrootcert")), "{side}: {}", plan.text());
            }
            tries += 1;
        }
    }
    println!("both servers verified with the system's authorities: {tries} tries");
}

/// The keywords that change how a connection is made, seen from the server.
#[tokio::test]
async fn keywords_of_the_connection_have_their_effect() {
    let certificate = issue("db.example");
    let (server, config) = encrypted(&certificate, ANY).await;
    let superuser = server.open(&config.database);
    for (name, keywords, seen) in [
        ("plain", "", "TLSv1.3"),
        ("older", "ssl_max_protocol_version=TLSv1.2", "TLSv1.2"),
        ("newer", "ssl_min_protocol_version=TLSv1.3", "TLSv1.3"),
        ("direct", "sslnegotiation=direct sslsni=0 load_balance_hosts=random keepalives_idle=60", "TLSv1.3"),
        ("writer", "target_session_attrs=read-write tcp_user_timeout=30000", "TLSv1.3"),
    ] {
        // The name is for the certificate, the address for the socket.
        let mut config = config.clone();
        (config.host, config.application_name) = ("db.example".to_owned(), format!("{name} keywords"));
        (config.sslmode, config.sslrootcert) = (SslMode::VerifyFull, Some(certificate.root.clone()));
        config.transport = transport(&format!("hostaddr=127.0.0.1 {keywords}"));
        let database = Server::new(config).database(None);
        database.version().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let sees = format!(
            "SELECT s.version FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
             WHERE a.application_name = '{name} keywords'"
        );
        assert_eq!(superuser.rows(&sees).await, [seen], "{name}");
    }
    let with = async |keywords: &str| connecting(&config, |config| config.transport = transport(keywords)).await;
    let reader = with("target_session_attrs=read-only").await;
    assert!(reader.contains("database is not read only"), "{reader}");
    // The server reads the options, and refuses unknown ones.
    assert_eq!(with("options='-c geqo=off'").await, "");
    let options = with("options='-c no_such_setting=1'").await;
    assert!(options.contains("no_such_setting"), "{options}");
}
