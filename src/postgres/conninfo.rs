//! libpq connection strings: keyword/value text and URIs, parsed, printed, compared and redacted.
//!
//! Source: "Connection Strings" in the documentation of libpq.

use std::collections::BTreeMap;
use std::fmt;

/// A text that is never shown: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the server alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The keywords whose values are never shown.
const SECRET_KEYWORDS: &[&str] =
    &["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

/// What a connection string says: libpq keywords with their values, empty ones left out.
///
/// `Display` and `Debug` show secrets as `***`; [`Conninfo::to_secret`] writes the whole text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Conninfo {
    parameters: BTreeMap<String, String>,
}

/// Why a text is no connection string. Never holds a value of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConninfo(String);

impl fmt::Display for InvalidConninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid connection string: {}", self.0)
    }
}

impl std::error::Error for InvalidConninfo {}

fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidConninfo> {
    Err(InvalidConninfo(reason.into()))
}

impl Conninfo {
    /// No keyword at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a URI (`postgresql://…`, `postgres://…`) or keyword/value text (`host=… port=…`).
    pub fn parse(text: &str) -> Result<Self, InvalidConninfo> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let parameters = match rest {
            Some(rest) => parse_uri(rest)?,
            None => parse_keywords(text)?,
        };
        match parameters.values().any(|value| value.contains('\0')) {
            true => invalid("a value holds a NUL character"),
            false => Ok(Self { parameters }),
        }
    }

    /// The value of a libpq keyword, a secret one included: do not show it.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.parameters.get(keyword).map(String::as_str)
    }

    /// Sets a keyword; an empty value removes it, as libpq takes an empty value for none.
    pub fn set(&mut self, keyword: impl Into<String>, value: impl Into<String>) {
        let (keyword, value) = (keyword.into(), value.into());
        if value.is_empty() {
            self.parameters.remove(&keyword);
        } else {
            self.parameters.insert(keyword, value);
        }
    }

    /// The password.
    pub fn password(&self) -> Option<Secret> {
        self.get("password").map(Secret::new)
    }

    /// Every keyword with its value, secrets included, in order of the keyword.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(keyword, value)| (keyword.as_str(), value.as_str()))
    }

    /// The one host to connect to over TCP, and its port.
    ///
    /// Fails for the directory of a Unix socket and for lists of hosts, which this provider does not connect to.
    pub fn tcp_address(&self) -> Result<(&str, u16), InvalidConninfo> {
        let host = match self.get("host").or_else(|| self.get("hostaddr")) {
            None => return invalid("it names no host"),
            Some(host) if host.starts_with(['/', '@']) => {
                return invalid("host is the directory of a Unix socket; only TCP is supported");
            }
            Some(host) if host.contains(',') => return invalid("host is a list; give one host"),
            Some(host) => host,
        };
        let port = self.get("port").unwrap_or("5432");
        match port.parse() {
            Ok(port) if port != 0 => Ok((host, port)),
            _ => invalid("port is not a number from 1 to 65535"),
        }
    }

    /// The keyword/value text, secrets included.
    pub fn to_secret(&self) -> Secret {
        Secret(self.print(|_, value| quote(value)))
    }

    fn print(&self, mut value_text: impl FnMut(&str, &str) -> String) -> String {
        let parts = self.parameters.iter().map(|(keyword, value)| format!("{keyword}={}", value_text(keyword, value)));
        parts.collect::<Vec<_>>().join(" ")
    }

    /// The keywords whose values differ, with libpq's default for an absent port. Names only, no values.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let keywords = self.parameters.keys().chain(other.parameters.keys());
        let mut differing: Vec<_> =
            keywords.filter(|keyword| self.meant(keyword) != other.meant(keyword)).cloned().collect();
        differing.sort();
        differing.dedup();
        differing
    }

    fn meant(&self, keyword: &str) -> Option<&str> {
        self.get(keyword).or(if keyword == "port" { Some("5432") } else { None })
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(
            |keyword, value| {
                if SECRET_KEYWORDS.contains(&keyword) { "***".to_owned() } else { quote(value) }
            },
        ))
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value as keyword/value text needs it: in quotes unless it is plain.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+,%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn insert(parameters: &mut BTreeMap<String, String>, keyword: &str, value: String) {
    if value.is_empty() {
        parameters.remove(keyword);
    } else {
        parameters.insert(keyword.to_owned(), value);
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn parse_keywords(text: &str) -> Result<BTreeMap<String, String>, InvalidConninfo> {
    let mut parameters = BTreeMap::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (keyword, after) = rest.split_at(end);
        // The keyword is not shown: where quotes are missing, it may be a piece of a password.
        let Some(after) = after.trim_start_matches(is_space).strip_prefix('=') else {
            return invalid("a keyword is not followed by \"=\"; a value that holds a space needs single quotes");
        };
        if keyword.is_empty() {
            return invalid("a keyword is missing before \"=\"");
        }
        let (value, after) = parse_value(after.trim_start_matches(is_space))?;
        insert(&mut parameters, keyword, value);
        rest = after.trim_start_matches(is_space);
    }
    Ok(parameters)
}

/// Reads one value, in quotes or up to a space; a backslash makes the next character literal in both.
fn parse_value(text: &str) -> Result<(String, &str), InvalidConninfo> {
    let quoted = text.starts_with('\'');
    let body = if quoted { &text[1..] } else { text };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, chars.as_str())),
            c if !quoted && is_space(c) => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted { invalid("a single quote is not closed") } else { Ok((value, "")) }
}

/// Reads what follows the scheme: `[user[:password]@][host[:port],…][/dbname][?keyword=value&…]`.
fn parse_uri(text: &str) -> Result<BTreeMap<String, String>, InvalidConninfo> {
    let mut parameters = BTreeMap::new();
    let end = text.find(['/', '?']).unwrap_or(text.len());
    // A password may hold a "/" or "?" only percent-encoded, so the authority ends at the first of them.
    let (authority, rest) = text.split_at(end);
    let hosts = match authority.rsplit_once('@') {
        Some((user_part, hosts)) => {
            let (user, password) = user_part.split_once(':').unwrap_or((user_part, ""));
            insert(&mut parameters, "user", decode(user)?);
            insert(&mut parameters, "password", decode(password)?);
            hosts
        }
        None => authority,
    };
    parse_hosts(hosts, &mut parameters)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    insert(&mut parameters, "dbname", decode(path.strip_prefix('/').unwrap_or(path))?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return invalid("a query parameter has no \"=\"");
        };
        let (keyword, value) = (decode(keyword)?, decode(value)?);
        match (keyword.as_str(), value.as_str()) {
            ("ssl", "true") => insert(&mut parameters, "sslmode", "require".to_owned()),
            _ => insert(&mut parameters, &keyword, value),
        }
    }
    Ok(parameters)
}

fn parse_hosts(text: &str, parameters: &mut BTreeMap<String, String>) -> Result<(), InvalidConninfo> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for part in text.split(',') {
        let (host, port) = match part.strip_prefix('[') {
            Some(part) => {
                let Some((host, port)) = part.split_once(']') else {
                    return invalid("the \"[\" of an IPv6 address is not closed");
                };
                match port.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if port.is_empty() => (host, ""),
                    None => {
                        return invalid("an IPv6 address is followed by neither a port nor the end");
                    }
                }
            }
            None => part.split_once(':').unwrap_or((part, "")),
        };
        hosts.push(decode(host)?);
        ports.push(decode(port)?);
    }
    insert(parameters, "host", hosts.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        insert(parameters, "port", ports.join(","));
    }
    Ok(())
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, InvalidConninfo> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| {
            byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
        };
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push(high * 16 + low),
            _ => {
                return invalid("a \"%\" is not followed by two hexadecimal digits; write \"%25\" for the sign itself");
            }
        }
    }
    String::from_utf8(bytes).or_else(|_| invalid("a percent-encoded part is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Checks the keywords read, secrets exposed.
    fn check(text: &str, expected: Expect) {
        let text = match Conninfo::parse(text) {
            Ok(conninfo) => conninfo.to_secret().expose().to_owned(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn keyword_text() {
        check("", expect![""]);
        check("host=h  port = 5433\tuser='a b' ", expect!["host=h port=5433 user='a b'"]);
        check(r"password='it\'s \\ here' dbname=d", expect![[r"dbname=d password='it\'s \\ here'"]]);
        check(r"password=a\ b\'c", expect![[r"password='a b\'c'"]]);
        check("host=h host=i sslmode=''", expect!["host=i"]);
        check(
            "host",
            expect![[
                r#"invalid connection string: a keyword is not followed by "="; a value that holds a space needs single quotes"#
            ]],
        );
        check("=x", expect![[r#"invalid connection string: a keyword is missing before "=""#]]);
        check("a='x", expect!["invalid connection string: a single quote is not closed"]);
    }

    #[test]
    fn uris() {
        check("postgresql://", expect![""]);
        check(
            "postgres://u:p%40ss%2F@h:5433/d%20b?sslmode=require&application_name=x",
            expect!["application_name=x dbname='d b' host=h password=p@ss/ port=5433 sslmode=require user=u"],
        );
        check("postgresql://[2001:db8::1]:6000/d", expect!["dbname=d host=2001:db8::1 port=6000"]);
        check("postgresql://[::1]/d", expect!["dbname=d host=::1"]);
        check("postgresql://a:1,b:2/d", expect!["dbname=d host=a,b port=1,2"]);
        check("postgresql://u@/d?host=%2Ftmp", expect!["dbname=d host=/tmp user=u"]);
        check("postgresql://u:p:q@h", expect!["host=h password=p:q user=u"]);
        check("postgresql://h?ssl=true", expect!["host=h sslmode=require"]);
        check("postgresql://h?x", expect![[r#"invalid connection string: a query parameter has no "=""#]]);
        check(
            "postgresql://u:50%@h",
            expect![[
                r#"invalid connection string: a "%" is not followed by two hexadecimal digits; write "%25" for the sign itself"#
            ]],
        );
        check(
            "postgresql://[::1/d",
            expect![[r#"invalid connection string: the "[" of an IPv6 address is not closed"#]],
        );
        check("postgresql://h/%ff", expect!["invalid connection string: a percent-encoded part is not UTF-8"]);
        check("postgresql://h/a%00b", expect!["invalid connection string: a value holds a NUL character"]);
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for value in ["p", "it's", r"back\slash", r"\'", " lead", "a b", "=", "ü\n", "'", r"\", "%41", "#;"] {
            let mut conninfo = Conninfo::new();
            conninfo.set("password", value);
            conninfo.set("user", value);
            assert_eq!(Conninfo::parse(conninfo.to_secret().expose()), Ok(conninfo));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let conninfo = Conninfo::parse("host=h password=hunter2 sslpassword=hunter3").unwrap();
        assert_eq!(
            format!("{conninfo} {conninfo:?}"),
            "host=h password=*** sslpassword=*** host=h password=*** sslpassword=***"
        );
        assert_eq!(format!("{:?}", conninfo.password()), "Some(***)");
    }

    #[test]
    fn differences_are_named_and_defaults_known() {
        let one = Conninfo::parse("host=h port=5432 password=a").unwrap();
        let other = Conninfo::parse("host=i password=b user=u").unwrap();
        assert_eq!(one.differing(&other), ["host", "password", "user"]);
        assert_eq!(one.differing(&one), [""; 0]);
    }

    #[test]
    fn only_one_tcp_host_is_connected_to() {
        let address = |text: &str| {
            Conninfo::parse(text)
                .unwrap()
                .tcp_address()
                .map(|(host, port)| format!("{host} {port}"))
                .map_err(|error| error.to_string())
        };
        assert_eq!(address("host=h"), Ok("h 5432".to_owned()));
        assert_eq!(
            address("host=/tmp"),
            Err("invalid connection string: host is the directory of a Unix socket; only TCP is supported".to_owned())
        );
        assert!(address("host=a,b").is_err());
        assert!(address("port=1").is_err());
        assert!(address("host=h port=0").is_err());
    }
}
