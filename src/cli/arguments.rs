// SPDX-License-Identifier: MPL-2.0

//! The arguments of the binary.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::postgres::conninfo::Secret;
use crate::postgres::{Ident, QualifiedName};
use crate::replication::comparison;
use crate::tf_provider::timeouts::parse_duration;

/// The name of the binary, however it was started.
const NAME: &str = "terraform-provider-neonrepl";

/// Said below the help of each command.
const AFTER: &str = "Exit status: 0 if all is well (warnings included), 1 if something is wrong, 2 if it could not be asked.\n\
    A URL that is given as an option can be seen by others in the list of processes; a variable cannot.";

/// The commands, for people who start the binary without one.
#[cfg(test)]
pub(super) const NAMES: [&str; 4] = ["preflight", "status", "watch", "compare"];

/// Looks at a logical replication from one Postgres to another: before it begins, and while it runs. Changes nothing.
///
/// Terraform and OpenTofu start the same binary by themselves, without a command.
#[derive(Parser)]
#[command(name = NAME, bin_name = NAME, disable_version_flag = true, styles = styles())]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The command to run.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Says whether replicating will work, what stands in its way, what it will not bring, and how big it is
    #[command(after_help = AFTER)]
    Preflight(Preflight),
    /// Says how far replication is, whether it is well, and if not, why
    #[command(after_help = AFTER)]
    Status(Status),
    /// Shows the copy of each table and the lag as they change, until Ctrl-C or what --until says
    #[command(after_help = AFTER)]
    Watch(Watch),
    /// Says whether tables hold the same rows on both sides, and which rows differ, while applications go on writing
    #[command(after_help = AFTER)]
    Compare(Compare),
}

/// `preflight`
#[derive(Args)]
pub(super) struct Preflight {
    #[command(flatten)]
    pub(super) servers: Servers,
    /// A publication that is going to be subscribed to; may be given several times
    #[arg(long = "publication", value_name = "NAME", value_parser = ident)]
    pub(super) publications: Vec<Ident>,
    /// A table that is going to be published; may be given several times. Without it and without --publication, every
    /// table of the database is looked at
    #[arg(long = "table", value_name = "NAME", value_parser = table)]
    pub(super) tables: Vec<QualifiedName>,
    /// The role that the subscription logs in as on the publisher [default: the user of the publisher's URL]
    #[arg(long, value_name = "NAME", value_parser = ident)]
    pub(super) subscription_role: Option<Ident>,
    /// Also look at whether the roles of both servers can make the switch of a cutover
    #[arg(long)]
    pub(super) cutover: bool,
    /// Also look at whether changes can flow back after a cutover; it includes --cutover
    #[arg(long)]
    pub(super) reverse: bool,
    /// The role that the way back logs in as on the subscriber [default: the user of the subscriber's URL]
    #[arg(long, value_name = "NAME", value_parser = ident, requires = "reverse")]
    pub(super) reverse_role: Option<Ident>,
    /// Print JSON, with the names that data neonrepl_preflight has
    #[arg(long)]
    pub(super) json: bool,
}

/// `status`
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) servers: Servers,
    /// A subscription; may be given several times [default: all of the database]
    #[arg(long = "subscription", value_name = "NAME", value_parser = ident)]
    pub(super) subscriptions: Vec<Ident>,
    /// Print JSON, with the names that data neonrepl_replication_status has
    #[arg(long)]
    pub(super) json: bool,
}

/// `watch`
#[derive(Args)]
pub(super) struct Watch {
    #[command(flatten)]
    pub(super) servers: Servers,
    /// A subscription; may be given several times [default: all of the database]
    #[arg(long = "subscription", value_name = "NAME", value_parser = ident)]
    pub(super) subscriptions: Vec<Ident>,
    /// End once every table is replicated, or once the subscriber also has all that the publisher had written when the
    /// watch began
    #[arg(long, value_name = "STATE")]
    pub(super) until: Option<Until>,
    /// How long to wait for --until, such as 30m or 1h30m; exit status 1 after that [default: forever]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "until")]
    pub(super) timeout: Option<Duration>,
    /// How often to look, such as 500ms or 10s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub(super) interval: Duration,
    /// Print a line of JSON for each look, with the names that data neonrepl_replication_status has
    #[arg(long)]
    pub(super) json: bool,
}

/// `compare`
#[derive(Args)]
pub(super) struct Compare {
    #[command(flatten)]
    pub(super) servers: Servers,
    /// What this publication sends is compared; may be given several times
    #[arg(long = "publication", value_name = "NAME", value_parser = ident, required_unless_present = "tables")]
    pub(super) publications: Vec<Ident>,
    /// Only this table of the publications, or without --publication this table as a whole; may be given several times
    #[arg(long = "table", value_name = "NAME", value_parser = table)]
    pub(super) tables: Vec<QualifiedName>,
    /// How closely
    #[arg(long, value_name = "MODE", default_value = "counts")]
    pub(super) mode: Mode,
    /// With --mode rows: how many differing rows of a table are named at most
    #[arg(long, value_name = "NUMBER", default_value_t = comparison::DIFFERENCES)]
    pub(super) max_differences: usize,
    /// How long it may take, such as 30m or 12h; both sides keep old row versions for that long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "12h")]
    pub(super) timeout: Duration,
    /// Print JSON, with the names that data neonrepl_table_comparison has
    #[arg(long)]
    pub(super) json: bool,
}

/// How closely tables are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// How many rows they have
    Counts,
    /// A sum of the hashes of their rows, too
    Checksums,
    /// Where the sums differ: which rows, by their keys, and in which columns
    Rows,
}

impl From<Mode> for comparison::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Counts => Self::Counts,
            Mode::Checksums => Self::Checksums,
            Mode::Rows => Self::Rows,
        }
    }
}

/// What ends a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Until {
    /// Every published table is replicated, and a worker runs
    Ready,
    /// That, and all that was written before the watch began has arrived
    CaughtUp,
}

/// Where the two databases are.
#[derive(Args)]
pub(super) struct Servers {
    /// The server that is replicated from [env: NEONREPL_PUBLISHER_URL]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(super) publisher_url: Option<Secret>,
    /// The server that is replicated to [env: NEONREPL_SUBSCRIBER_URL]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(super) subscriber_url: Option<Secret>,
    /// The database of the publisher [default: the one that its URL names]
    #[arg(long, value_name = "NAME", value_parser = ident)]
    pub(super) publisher_database: Option<Ident>,
    /// The database of the subscriber [default: the one that its URL names]
    #[arg(long, value_name = "NAME", value_parser = ident)]
    pub(super) database: Option<Ident>,
}

fn styles() -> Styles {
    Styles::styled().header(AnsiColor::Green.on_default().bold()).literal(AnsiColor::Cyan.on_default())
}

fn ident(text: &str) -> Result<Ident, String> {
    Ident::new(text).map_err(|error| error.to_string())
}

fn table(text: &str) -> Result<QualifiedName, String> {
    QualifiedName::parse(text).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write whole numbers with their units, such as 30s, 10m or 1h30m".to_owned())
}

#[allow(clippy::unnecessary_wraps, reason = "clap asks for a result")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// What clap has to say, without any connection string that was written where none belongs.
pub(super) fn said(error: &clap::Error, arguments: &[OsString], is_coloured: bool) -> String {
    let text = if is_coloured { error.render().ansi().to_string() } else { error.render().to_string() };
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    let parts = arguments.flat_map(|argument| {
        let value = argument.split_once('=').map(|(_, value)| value.to_owned());
        value.into_iter().chain([argument.into_owned()])
    });
    let mut secrets: Vec<String> = parts.filter(|part| may_hold_a_password(part)).collect();
    secrets.sort_by_key(|part| std::cmp::Reverse(part.len()));
    secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "***"))
}

fn may_hold_a_password(text: &str) -> bool {
    let is_keyword = text.contains('=') && text.to_lowercase().contains("password");
    text.contains("://") || text.contains('@') || is_keyword
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["neonrepl"], arguments].concat())
    }

    fn refusal(arguments: &[&str]) -> String {
        let error = parse(arguments).err().unwrap();
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        said(&error, &arguments, false)
    }

    #[test]
    fn the_commands_are_as_they_are_named() {
        let mut command = Arguments::command();
        command.build();
        command.clone().debug_assert();
        let names: Vec<_> = command
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .filter(|name| name != "help")
            .collect();
        assert_eq!(names, NAMES);
    }

    #[test]
    fn what_is_given_is_read() {
        let Ok(Arguments { command: Command::Watch(watch) }) =
            parse(&["watch", "--subscription", "a", "--subscription=B", "--until", "caught-up", "--timeout=1m"])
        else {
            panic!("no watch");
        };
        let names: Vec<_> = watch.subscriptions.iter().map(Ident::as_str).collect();
        assert_eq!(names, ["a", "B"]);
        assert_eq!((watch.until, watch.timeout), (Some(Until::CaughtUp), Some(Duration::from_secs(60))));
        assert_eq!(watch.interval, Duration::from_secs(1));
        let Ok(Arguments { command: Command::Preflight(preflight) }) = parse(&["preflight", "--table", "a.\"B\""])
        else {
            panic!("no preflight");
        };
        assert_eq!(preflight.tables[0].to_text(), "a.B");
    }

    #[test]
    fn no_refusal_holds_a_password() {
        let url = "postgresql://u:hidden-pw@h/d";
        let keywords = "host=h password=hidden-pw";
        let wrong: [&[&str]; 7] = [
            &["status", url],
            &["status", keywords],
            &["status", "--json", "--publisher", url],
            &["status", &format!("--json={url}")],
            &["watch", "--until", url],
            &["preflight", "--table", &format!("{url}.a.b")],
            &[url],
        ];
        for arguments in wrong {
            let text = refusal(arguments);
            assert!(text.starts_with("error: ") && !text.contains("hidden-pw"), "{text}");
        }
        assert!(refusal(&["prefligth"]).contains("'preflight'"), "{}", refusal(&["prefligth"]));
    }
}
