// SPDX-License-Identifier: MPL-2.0

//! The log: tracing's events as the JSON lines of Terraform's own logger, on stderr, where the parent picks them up.
//!
//! `TF_LOG_PROVIDER`, otherwise `TF_LOG`, sets the level: `trace`, `debug`, `info`, `warn`, `error`; `off` or nothing
//! for none. Other crates may only warn (and inform, at `trace`), because their traces may have passwords.

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry, Scope};

/// The parent splits lines of 64 KiB, and then treats them as plain text.
const LONGEST_LINE: usize = 64 * 1024 - 1;
/// Longer texts are truncated: even with every byte escaped, a message of this length fits on a line.
const LONGEST_TEXT: usize = 8 * 1024;

/// Sends this process's events to stderr at the level of the environment. Without a level, an event costs almost
/// nothing.
pub fn install() {
    let variable = |name| std::env::var(name).ok();
    let level = level(variable("TF_LOG_PROVIDER"), variable("TF_LOG"));
    if level == LevelFilter::OFF {
        return;
    }
    let lines = JsonLines {
        level,
        write: |line: &[u8]| {
            // If stderr is gone, nobody can be told.
            let _ = std::io::stderr().write_all(line);
        },
    };
    // A second call changes nothing.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(lines));
}

/// The level to log. As in Terraform itself, an unknown word means everything, and so does `json`.
fn level(provider: Option<String>, all: Option<String>) -> LevelFilter {
    let given = |text: &String| !text.is_empty();
    let Some(text) = provider.filter(given).or(all.filter(given)) else {
        return LevelFilter::OFF;
    };
    match text.to_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// Whether `target` is this crate's.
fn is_ours(target: &str) -> bool {
    let crate_name = module_path!().split("::").next();
    target.split("::").next() == crate_name
}

/// Writes each event as one line with one call of `write`.
struct JsonLines<W> {
    level: LevelFilter,
    write: W,
}

impl<W> JsonLines<W> {
    /// The least severe level that events of `target` are written at.
    fn level_of(&self, target: &str) -> LevelFilter {
        let others = match self.level {
            LevelFilter::TRACE => LevelFilter::INFO,
            _ => LevelFilter::WARN,
        };
        if is_ours(target) { self.level } else { self.level.min(others) }
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level_of(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        // The event's own fields come last, so that they override a span's of the same name.
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.0.extend(outer.0.clone());
            }
        }
        event.record(&mut fields);
        (self.write)(&line(event.metadata(), fields.0, SystemTime::now()));
    }
}

/// The fields of an event or a span.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let name = match field.name() {
            "message" => "@message",
            name => name,
        };
        let cut = &value[..value.floor_char_boundary(LONGEST_TEXT)];
        self.0.insert(name.to_owned(), cut.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// One line, with its line feed. Omits fields that do not fit.
fn line(metadata: &Metadata<'_>, fields: Map<String, Value>, now: SystemTime) -> Vec<u8> {
    let mut all = fields;
    all.entry("@message").or_insert_with(|| "".into());
    all.insert("@level".to_owned(), level_name(metadata.level()).into());
    all.insert("@timestamp".to_owned(), timestamp(now).into());
    all.insert("@module".to_owned(), metadata.target().into());
    // Other crates' paths would be those of the build machine.
    if let (true, Some(file), Some(line)) = (is_ours(metadata.target()), metadata.file(), metadata.line()) {
        all.insert("@caller".to_owned(), format!("{file}:{line}").into());
    }
    let mut bytes = encode(&all);
    if bytes.len() > LONGEST_LINE {
        all.retain(|name, _| name.starts_with('@'));
        bytes = encode(&all);
    }
    bytes
}

fn encode(fields: &Map<String, Value>) -> Vec<u8> {
    // Writing values to memory cannot fail.
    let mut bytes = serde_json::to_vec(fields).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// RFC 3339 in UTC with exactly six decimals, as the parent parses it.
fn timestamp(now: SystemTime) -> String {
    let mut time = prost_types::Timestamp::from(now);
    let micros = time.nanos / 1000;
    time.nanos = 0;
    let seconds = time.to_string();
    format!("{}.{micros:06}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    fn check_level(provider: Option<&str>, all: Option<&str>, expected: LevelFilter) {
        let level = level(provider.map(str::to_owned), all.map(str::to_owned));
        assert_eq!(level, expected, "{provider:?} {all:?}");
    }

    #[test]
    fn the_environment_says_how_much() {
        check_level(None, None, LevelFilter::OFF);
        check_level(None, Some("DEBUG"), LevelFilter::DEBUG);
        check_level(Some("warn"), Some("TRACE"), LevelFilter::WARN);
        check_level(Some(""), Some("error"), LevelFilter::ERROR);
        check_level(Some("off"), Some("info"), LevelFilter::OFF);
        check_level(Some("Info"), None, LevelFilter::INFO);
        check_level(None, Some("JSON"), LevelFilter::TRACE);
        check_level(None, Some("1"), LevelFilter::TRACE);
    }

    /// The lines that `act` logs at `level`, without their time and place.
    fn logged(level: LevelFilter, act: impl FnOnce()) -> Vec<Value> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let write = {
            let written = Arc::clone(&written);
            move |line: &[u8]| written.lock().unwrap().push(line.to_vec())
        };
        let subscriber = Registry::default().with(JsonLines { level, write });
        tracing::subscriber::with_default(subscriber, act);
        let lines = std::mem::take(&mut *written.lock().unwrap());
        let lines = lines.iter().map(|line| {
            assert!(line.len() <= LONGEST_LINE, "{}", line.len());
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let mut fields: Map<String, Value> = serde_json::from_slice(line).unwrap();
            fields.remove("@timestamp").unwrap();
            fields.remove("@caller");
            fields.into()
        });
        lines.collect()
    }

    const MODULE: &str = module_path!();

    #[test]
    fn fields_keep_their_types() {
        let lines = logged(LevelFilter::INFO, || {
            tracing::info!(count = 3, done = true, share = 0.5, name = "a\nb", path = ?Some(1), "moved {}", "rows");
        });
        let expected = serde_json::json!({
            "@level": "info", "@message": "moved rows", "@module": MODULE,
            "count": 3, "done": true, "share": 0.5, "name": "a\nb", "path": "Some(1)",
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn the_fields_of_spans_are_on_the_line() {
        let lines = logged(LevelFilter::DEBUG, || {
            let _outer = tracing::info_span!("call", rpc = "Read", kind = "outer").entered();
            let inner = tracing::info_span!("part", kind = "inner", rows = tracing::field::Empty);
            inner.record("rows", 7);
            let _inner = inner.entered();
            tracing::debug!("done");
        });
        let expected = serde_json::json!({
            "@level": "debug", "@message": "done", "@module": MODULE,
            "rpc": "Read", "kind": "inner", "rows": 7,
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn an_event_without_message_has_an_empty_one() {
        let lines = logged(LevelFilter::TRACE, || tracing::trace!(a = 1));
        assert_eq!(lines[0]["@message"], "");
    }

    fn log_at_every_level_as_another_crate() {
        tracing::error!(target: "tokio_postgres::connection", "error");
        tracing::warn!(target: "tokio_postgres::connection", "warn");
        tracing::info!(target: "tokio_postgres::connection", "info");
        tracing::debug!(target: "tokio_postgres::connection", "debug");
        tracing::trace!(target: "tokio_postgres::connection", "trace");
    }

    fn check_others(level: LevelFilter, expected: &[&str]) {
        let lines = logged(level, log_at_every_level_as_another_crate);
        let levels: Vec<&str> = lines.iter().filter_map(|line| line["@level"].as_str()).collect();
        assert_eq!(levels, expected);
    }

    #[test]
    fn other_crates_say_little() {
        check_others(LevelFilter::TRACE, &["error", "warn", "info"]);
        check_others(LevelFilter::DEBUG, &["error", "warn"]);
        check_others(LevelFilter::WARN, &["error", "warn"]);
        check_others(LevelFilter::ERROR, &["error"]);
    }

    #[test]
    fn a_crate_with_a_longer_name_is_another() {
        assert!(is_ours(MODULE));
        assert!(is_ours("neonrepl"));
        assert!(!is_ours("neonreplica::log"));
    }

    #[test]
    fn long_texts_are_cut() {
        let lines = logged(LevelFilter::INFO, || {
            tracing::info!("{}", "é".repeat(70_000));
        });
        assert_eq!(lines[0]["@message"].as_str().unwrap().len(), LONGEST_TEXT);
    }

    #[test]
    fn fields_that_do_not_fit_are_left_out() {
        let lines = logged(LevelFilter::INFO, || {
            let hostile = "\u{1}".repeat(70_000);
            tracing::info!(a = hostile, b = hostile, "{hostile}");
        });
        assert_eq!(lines[0]["@message"].as_str().unwrap().len(), LONGEST_TEXT);
        assert_eq!(lines[0].get("a"), None);
    }

    #[test]
    fn timestamps_always_have_six_decimals() {
        let check = |nanos, expected| {
            let time = SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, nanos);
            assert_eq!(timestamp(time), expected);
        };
        check(0, "2026-09-21T14:13:20.000000Z");
        check(999, "2026-09-21T14:13:20.000000Z");
        check(120_000_000, "2026-09-21T14:13:20.120000Z");
        check(123_456_789, "2026-09-21T14:13:20.123456Z");
    }
}
