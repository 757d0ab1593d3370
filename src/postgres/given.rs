// SPDX-License-Identifier: MPL-2.0

//! The names of the values that a server is reached with, as the person gave them: an error with these names shows where to look.

/// The names of the values that a server is reached with, such as `publisher.host of the provider block`. By default:
/// the host, the port and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Of the host name or address.
    pub host: String,
    /// Of the port.
    pub port: String,
    /// Of the database.
    pub database: String,
    /// Of the role.
    pub username: String,
    /// Of the password.
    pub password: String,
    /// Of `sslmode`.
    pub sslmode: String,
    /// Of `sslrootcert`.
    pub sslrootcert: String,
    /// Of how long connecting may take.
    pub connect_timeout: String,
    /// Of how many connections are made.
    pub max_connections: String,
}

impl Given {
    /// The names that this function gives to libpq's keywords and to `max_connections`.
    pub fn named(name: impl Fn(&'static str) -> String) -> Self {
        Self {
            host: name("host"),
            port: name("port"),
            database: name("dbname"),
            username: name("user"),
            password: name("password"),
            sslmode: name("sslmode"),
            sslrootcert: name("sslrootcert"),
            connect_timeout: name("connect_timeout"),
            max_connections: name("max_connections"),
        }
    }

    /// Two of the names joined, with their common end only once: `publisher.host and publisher.port of the provider
    /// block`.
    pub fn both(one: &str, other: &str) -> String {
        let place = |name: &str| [" of ", " in "].iter().filter_map(|word| name.find(word)).min();
        match (place(one), place(other)) {
            (Some(at), Some(of)) if one[at..] == other[of..] => format!("{} and {other}", &one[..at]),
            _ => format!("{one} and {other}"),
        }
    }

    /// The name of the value of this keyword.
    pub fn of(&self, keyword: &str) -> &str {
        match keyword {
            "port" => &self.port,
            "dbname" => &self.database,
            "user" => &self.username,
            "password" => &self.password,
            "sslmode" => &self.sslmode,
            "sslrootcert" => &self.sslrootcert,
            "connect_timeout" => &self.connect_timeout,
            "max_connections" => &self.max_connections,
            _ => &self.host,
        }
    }
}

impl Default for Given {
    fn default() -> Self {
        Self::named(|keyword| match keyword {
            "dbname" => "the name of the database".to_owned(),
            "user" => "the name of the role".to_owned(),
            "host" | "port" | "password" => format!("the {keyword}"),
            keyword => keyword.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_names_share_is_said_once() {
        let both = |one, other| Given::both(one, other);
        assert_eq!(both("a.host of the block", "a.port of the block"), "a.host and a.port of the block");
        assert_eq!(
            both("password in the URL of X", "username in the URL of X"),
            "password and username in the URL of X"
        );
        assert_eq!(both("host in the URL of X", "a.port of the block"), "host in the URL of X and a.port of the block");
        assert_eq!(both("the host", "the port"), "the host and the port");
    }
}
