// SPDX-License-Identifier: MPL-2.0

//! libpq connection strings: keyword/value text and URIs, parsed, printed, compared and redacted.
//!
//! Source: "Connection Strings" in the documentation of libpq.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::percent_decode_str;

use super::keywords;

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

/// The contents of a connection string: libpq keywords with their values, without empty ones.
///
/// `Display` and `Debug` show secrets as `***`; [`Conninfo::to_secret`] writes the whole text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Conninfo {
    parameters: BTreeMap<String, String>,
}

/// Why a text is not a connection string, or which of its keywords is wrong. Never contains a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConninfo {
    keyword: Option<&'static str>,
    reason: String,
}

impl InvalidConninfo {
    /// A keyword whose value is wrong; the reason names the keyword but contains no value.
    pub fn of(keyword: &'static str, reason: impl Into<String>) -> Self {
        Self { keyword: Some(keyword), reason: reason.into() }
    }

    /// The keyword whose value is wrong, if that is the error.
    pub fn keyword(&self) -> Option<&'static str> {
        self.keyword
    }
}

impl fmt::Display for InvalidConninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keyword {
            Some(_) => f.write_str(&self.reason),
            None => write!(f, "invalid connection string: {}", self.reason),
        }
    }
}

impl std::error::Error for InvalidConninfo {}

fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidConninfo> {
    Err(InvalidConninfo { keyword: None, reason: reason.into() })
}

/// A keyword as read, with its value.
struct Pair {
    keyword: String,
    value: String,
    /// Whether quotes mark the end of the value.
    is_quoted: bool,
}

impl Pair {
    fn new(keyword: &str, value: impl Into<String>) -> Self {
        Self { keyword: keyword.to_owned(), value: value.into(), is_quoted: false }
    }
}

impl Conninfo {
    /// An empty connection string.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a URI (`postgresql://…`, `postgres://…`) or keyword/value text (`host=… port=…`).
    ///
    /// # Errors
    /// When it is neither, when it has a keyword that no libpq from 14 to 18 knows, or when a "/", "?" or "@" in a
    /// password may have been read as its end.
    pub fn parse(text: &str) -> Result<Self, InvalidConninfo> {
        let pairs = parse_pairs(text)?;
        check_known(&pairs)?;
        if pairs.iter().any(|pair| pair.value.contains('\0')) {
            return invalid("a value holds a NUL character");
        }
        Ok(Self::of_pairs(pairs))
    }

    /// Reads a connection string from a catalog, including unknown keywords of other libpq versions.
    pub(super) fn from_catalog(text: &str) -> Option<Self> {
        parse_pairs(text).ok().map(Self::of_pairs)
    }

    fn of_pairs(pairs: Vec<Pair>) -> Self {
        let mut conninfo = Self::new();
        pairs.into_iter().for_each(|pair| conninfo.set(pair.keyword, pair.value));
        conninfo
    }

    /// The value of a libpq keyword, which may be secret: do not show it.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.parameters.get(keyword).map(String::as_str)
    }

    /// Sets a keyword; an empty value removes it, because libpq treats an empty value as none.
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
    /// # Errors
    /// For the directory of a Unix socket and for lists of hosts, which this provider does not connect to, and for
    /// everything that [`Conninfo::host`] refuses.
    pub fn tcp_address(&self) -> Result<(&str, u16), InvalidConninfo> {
        let Some(host) = self.host()? else { return invalid("it names no host") };
        let port = self.get("port").unwrap_or("5432");
        match port.parse() {
            Ok(port) if port != 0 => Ok((host, port)),
            _ => Err(InvalidConninfo::of("port", "port is not a number from 1 to 65535")),
        }
    }

    /// The one host to connect to over TCP, or its address if only that is given.
    ///
    /// # Errors
    /// When it is not a host name or an address, but something else, such as a URL; the message does not repeat it.
    pub fn host(&self) -> Result<Option<&str>, InvalidConninfo> {
        let wrong = |reason: &str| Err(InvalidConninfo::of("host", reason));
        match self.get("host").or_else(|| self.get("hostaddr")) {
            Some(host) if host.contains("://") => wrong("host is a URL; give that as url"),
            Some(host) if host.starts_with(['/', '@']) => {
                wrong("host is the directory of a Unix socket; only TCP is supported")
            }
            Some(host) if host.contains(',') => wrong("host is a list; give one host"),
            Some(host) if host.starts_with('[') || holds_port(host) => wrong(
                "host holds more than a name or an address; an address stands without brackets, and a port in port",
            ),
            Some(host) if !host.chars().all(is_of_host) => wrong("host is not a host name or an address"),
            host => Ok(host),
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
                if keywords::is_secret(keyword) { "***".to_owned() } else { quote(value) }
            },
        ))
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value for keyword/value text: quoted unless it is plain.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+,%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn holds_port(host: &str) -> bool {
    host.contains(':') && !host.contains("::") && host.matches(':').count() == 1
}

/// Host names may use any script, but no character that ends a part of a URL.
fn is_of_host(c: char) -> bool {
    c.is_alphanumeric() || "-_.:%".contains(c)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn parse_pairs(text: &str) -> Result<Vec<Pair>, InvalidConninfo> {
    let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
    match rest {
        Some(rest) => parse_uri(rest),
        // A URI of another scheme would be read as one long keyword.
        None if text.split(['=', '\'']).next().is_some_and(|start| start.contains("://")) => {
            invalid("a URL of a Postgres server begins with postgresql:// or postgres://")
        }
        None => parse_keywords(text),
    }
}

/// Refuses a keyword that does not exist. The error does not name it if it may be a piece of the secret before it.
fn check_known(pairs: &[Pair]) -> Result<(), InvalidConninfo> {
    let Some(at) = pairs.iter().position(|pair| !keywords::exists(&pair.keyword)) else { return Ok(()) };
    match at.checked_sub(1).map(|before| &pairs[before]) {
        Some(before) if !before.is_quoted && keywords::is_secret(&before.keyword) => invalid(format!(
            "what follows {} is not a keyword of libpq; a value that holds a space needs single quotes, and in a URL \"&\" is \
             written %26",
            before.keyword
        )),
        _ => invalid(keywords::unknown(&pairs[at].keyword)),
    }
}

fn parse_keywords(text: &str) -> Result<Vec<Pair>, InvalidConninfo> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (keyword, after) = rest.split_at(end);
        // The keyword is not shown: if quotes are missing, it may be a piece of a password.
        let Some(after) = after.trim_start_matches(is_space).strip_prefix('=') else {
            return invalid("a keyword is not followed by \"=\"; a value that holds a space needs single quotes");
        };
        if keyword.is_empty() {
            return invalid("a keyword is missing before \"=\"");
        }
        let text = after.trim_start_matches(is_space);
        let (value, after) = parse_value(text)?;
        pairs.push(Pair { is_quoted: text.starts_with('\''), ..Pair::new(keyword, value) });
        rest = after.trim_start_matches(is_space);
    }
    Ok(pairs)
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
fn parse_uri(text: &str) -> Result<Vec<Pair>, InvalidConninfo> {
    let mut pairs = Vec::new();
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (authority, rest) = text.split_at(end);
    // If a password contains one of them, its rest would be read as a database name, and the "@" after it would be
    // here.
    if rest.contains('@') {
        return invalid(
            "it has an \"@\" after a \"/\" or a \"?\", so that where the password ends is not clear; in the user, the password, \
             the database and the values, write %2F for \"/\", %3F for \"?\" and %40 for \"@\"",
        );
    }
    let hosts = match authority.rsplit_once('@') {
        Some((user_part, hosts)) => {
            let (user, password) = user_part.split_once(':').unwrap_or((user_part, ""));
            pairs.push(Pair::new("user", decode(user)?));
            pairs.push(Pair { is_quoted: true, ..Pair::new("password", decode(password)?) });
            hosts
        }
        None => authority,
    };
    parse_hosts(hosts, &mut pairs)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    pairs.push(Pair::new("dbname", decode(path.strip_prefix('/').unwrap_or(path))?));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return invalid("a query parameter has no \"=\"; in a value, \"&\" is written %26");
        };
        let (keyword, value) = (decode(keyword)?, decode(value)?);
        pairs.push(match (keyword.as_str(), value.as_str()) {
            ("ssl", "true") => Pair::new("sslmode", "require"),
            _ => Pair::new(&keyword, value),
        });
    }
    Ok(pairs)
}

fn parse_hosts(text: &str, pairs: &mut Vec<Pair>) -> Result<(), InvalidConninfo> {
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
    pairs.push(Pair::new("host", hosts.join(",")));
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(Pair::new("port", ports.join(",")));
    }
    Ok(())
}

/// Decodes percent-encoding. The crate accepts broken encodings, so this checks them.
fn decode(text: &str) -> Result<String, InvalidConninfo> {
    let is_code = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_code) {
        return invalid("a \"%\" is not followed by two hexadecimal digits; write \"%25\" for the sign itself");
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).or_else(|_| invalid("a percent-encoded part is not UTF-8"))
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
        check("user='x", expect!["invalid connection string: a single quote is not closed"]);
        check(
            "host=h user=u sslmod=verify-full",
            expect!["invalid connection string: sslmod is not a keyword of libpq (did you mean sslmode?)"],
        );
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
        check(
            "postgresql://h?x",
            expect![[r#"invalid connection string: a query parameter has no "="; in a value, "&" is written %26"#]],
        );
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
    fn a_piece_of_a_password_comes_out_nowhere() {
        for text in [
            "postgresql://u:hun/ter2@h/d",
            "postgresql://u:hun?ter2@h/d",
            "postgresql://u:hun/ter2@h:6000/d?sslmode=require",
            "postgresql://u:hun?ter2=x&hunter@h/d",
            "postgresql://u:hun@h/ter2@h/d",
            "postgresql://h/d?user=u&password=hun&ter=2",
            "postgresql://h/d?user=u&password=hun&ter",
            "postgres:/u:hunter@h/d?sslmode=require",
            "jdbc:postgresql://u:hunter@h/d?sslmode=require",
            "POSTGRESQL://u:hunter@h/d?sslmode=require",
            "postgresql://u:hunter%@h/d",
            "host=h password=hun ter=2",
            "host=h password=hun ter2 port=1",
            "host=h password=hun terHunter=2",
        ] {
            let Err(error) = Conninfo::parse(text) else { panic!("{text} is read") };
            let error = error.to_string();
            assert!(!error.contains("hun") && !error.contains("ter2") && !error.contains("Hunter"), "{text}: {error}");
            assert!(!error.split([' ', '=', '&']).any(|word| word == "ter"), "{text}: {error}");
            let remedies = ["%2F", "%25", "%26", "single quotes", "postgresql://"];
            assert!(remedies.iter().any(|remedy| error.contains(remedy)), "{error}");
        }
        // These passwords end in the right place.
        for text in ["postgresql://u:hun@ter#2@h/d", "postgresql://u:hun:ter[2@h/d", "postgresql://me@corp:x@h/d"] {
            let conninfo = Conninfo::parse(text).unwrap();
            assert_eq!((conninfo.get("host"), conninfo.get("dbname")), (Some("h"), Some("d")), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_not_repeated() {
        for host in ["postgresql://u:hunter2@h/d", "u:hunter2@h", "h/hunter2", "h:6000", "[::1]", "a b", "h?x"] {
            let mut conninfo = Conninfo::new();
            conninfo.set("host", host);
            let error = conninfo.host().unwrap_err();
            assert!(error.keyword() == Some("host") && !error.to_string().contains("hunter2"), "{host}: {error}");
        }
        for host in ["db.example", "DB_1.example", "::1", "fe80::1%eth0", "127.0.0.1", "b\u{fc}ro.example"] {
            let mut conninfo = Conninfo::new();
            conninfo.set("host", host);
            assert_eq!(conninfo.host(), Ok(Some(host)));
        }
    }

    #[test]
    fn a_catalog_may_know_more_keywords() {
        assert!(Conninfo::parse("host=h new_in_libpq_19=1").is_err());
        let found = Conninfo::from_catalog("host=h new_in_libpq_19=1").unwrap();
        assert_eq!(found.get("new_in_libpq_19"), Some("1"));
        assert_eq!(found.to_string(), "host=h new_in_libpq_19=***");
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
            Err("host is the directory of a Unix socket; only TCP is supported".to_owned())
        );
        assert!(address("host=a,b").is_err());
        assert!(address("port=1").is_err());
        assert!(address("host=h port=0").is_err());
    }
}
