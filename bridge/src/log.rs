//! The daemon's own log, which never waits for whoever reads it.
//!
//! journald may hang with its socket full. Whoever logs then must not stand still: it may be the one worker that ends a
//! lease. So each event is rendered where it happens and handed to a [`Journal`], whose thread alone waits; a line more or
//! less decides nothing. Spans are not rendered: Convoke has none.

use std::fmt;
use std::panic::PanicHookInfo;
use std::time::Duration;

use libsystemd::logging::connected_to_journal;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use units::systemd::journal::{Entry, Journal, Priority};

/// How long the last lines of a process may take to reach journald, which takes a line in far less than a millisecond. The
/// next daemon waits for this one's end, and nobody keeps the lease meanwhile.
const LAST_LINES: Duration = Duration::from_millis(200);
const IDENTIFIER: &str = "convoked";

/// Logs to `journal` if systemd connected this process with journald, to standard error otherwise.
pub fn begin(filter: EnvFilter, journal: Option<&Journal>) {
    let registry = tracing_subscriber::registry().with(filter);
    let connected = connected_to_journal();
    if connected {
        unblock_stderr();
    }
    match journal.filter(|_| connected) {
        Some(journal) => {
            tell_panics(journal.clone());
            registry.with(ToJournal(journal.clone())).init();
        }
        // What cannot be written is not to be complained about there.
        None => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            registry.with(layer.log_internal_errors(false)).init();
        }
    }
}

/// Waits for the last lines of a process that ends, but not for long.
pub fn end(journal: Option<&Journal>) {
    if let Some(journal) = journal {
        journal.flush(LAST_LINES);
    }
}

/// What the runtime writes there when a process aborts must not keep it from that. Here it is a stream to journald that
/// nobody else has.
fn unblock_stderr() {
    let stderr = std::io::stderr();
    // Should it fail, nothing is worse than it was.
    let _ = fcntl_getfl(&stderr).and_then(|flags| fcntl_setfl(&stderr, flags | OFlags::NONBLOCK));
}

/// A panic is logged as all else. The abort that follows it is not held up by a journald that hangs: a process that is
/// half dead keeps the next one from its lease.
fn tell_panics(journal: Journal) {
    std::panic::set_hook(Box::new(move |panic| {
        journal.tell(panic_entry(panic));
        journal.flush(LAST_LINES);
    }));
}

fn panic_entry(panic: &PanicHookInfo<'_>) -> Entry {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let mut fields = vec![("SYSLOG_IDENTIFIER".to_owned(), IDENTIFIER.to_owned())];
    if let Some(place) = panic.location() {
        fields.push(("CODE_FILE".to_owned(), place.file().to_owned()));
        fields.push(("CODE_LINE".to_owned(), place.line().to_string()));
    }
    Entry { priority: Priority::Critical, message: format!("thread {name} {panic}"), fields }
}

/// Hands events to the journal's thread.
struct ToJournal(Journal);

impl<S: Subscriber> Layer<S> for ToJournal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.0.tell(entry(event));
    }
}

/// An event as an entry, with the fields that `tracing-journald` gives it: `F_` and its name in upper case, so that what
/// people ask `journalctl` for is as everywhere.
fn entry(event: &Event<'_>) -> Entry {
    let about = event.metadata();
    let priority = match *about.level() {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Notice,
        Level::DEBUG => Priority::Info,
        Level::TRACE => Priority::Debug,
    };
    let mut fields = vec![
        ("SYSLOG_IDENTIFIER".to_owned(), IDENTIFIER.to_owned()),
        ("TARGET".to_owned(), about.target().to_owned()),
    ];
    fields.extend(about.file().map(|file| ("CODE_FILE".to_owned(), file.to_owned())));
    fields.extend(about.line().map(|line| ("CODE_LINE".to_owned(), line.to_string())));
    let mut rendered = Rendered(Entry { priority, message: String::new(), fields });
    event.record(&mut rendered);
    rendered.0
}

struct Rendered(Entry);

impl Rendered {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.0.message = value,
            name => self.0.fields.push((field_name(name), value)),
        }
    }
}

impl Visit for Rendered {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

/// journald takes upper case, digits and underscores.
fn field_name(name: &str) -> String {
    let plain = name.trim_start_matches(['.', '_']).chars().filter_map(|c| match c {
        '.' | '_' => Some('_'),
        c => c.is_ascii_alphanumeric().then(|| c.to_ascii_uppercase()),
    });
    "F_".chars().chain(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// What journald gets of all that `work` logs.
    fn logged(work: impl FnOnce()) -> Vec<Entry> {
        let (sent, seen) = mpsc::channel();
        let journal =
            Journal::start_with(move |entry| sent.send(entry.clone()).map_err(std::io::Error::other));
        let journal = journal.expect("a thread");
        let subscriber = tracing_subscriber::registry().with(ToJournal(journal.clone()));
        tracing::subscriber::with_default(subscriber, work);
        assert!(journal.flush(Duration::from_secs(10)));
        seen.try_iter().collect()
    }

    fn field<'a>(entry: &'a Entry, name: &str) -> Option<&'a str> {
        entry.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_event_has_the_fields_that_people_ask_for() {
        let found = logged(|| {
            let error = std::io::Error::other("no room");
            let (token, how) = (Some(7), "up");
            tracing::warn!(unit = "db.service", node = 3, ?token, %error, the.path = "/run", "held {how}");
        });
        let [entry] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(entry.message, "held up");
        assert_eq!(u8::from(entry.priority), 4);
        for (name, value) in [
            ("SYSLOG_IDENTIFIER", "convoked"),
            ("TARGET", module_path!()),
            ("CODE_FILE", file!()),
            ("F_UNIT", "db.service"),
            ("F_NODE", "3"),
            ("F_TOKEN", "Some(7)"),
            ("F_ERROR", "no room"),
            ("F_THE_PATH", "/run"),
        ] {
            assert_eq!(field(entry, name), Some(value), "{name} of {entry:?}");
        }
        assert!(field(entry, "CODE_LINE").is_some_and(|line| line.parse::<u32>().is_ok()), "{entry:?}");
    }

    #[test]
    fn each_level_has_a_priority() {
        let found = logged(|| {
            tracing::error!("a");
            tracing::warn!("b");
            tracing::info!("c");
            tracing::debug!("d");
            tracing::trace!("e");
        });
        let found: Vec<u8> = found.iter().map(|entry| u8::from(entry.priority)).collect();
        assert_eq!(found, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn names_are_such_that_journald_takes_them() {
        for (name, field) in [("unit", "F_UNIT"), ("_log.file", "F_LOG_FILE"), ("r#type", "F_RTYPE")] {
            assert_eq!(field_name(name), field);
        }
    }

    #[test]
    fn logging_does_not_wait_for_a_journald_that_hangs() {
        let (ours, _journald) = UnixDatagram::pair().expect("sockets");
        let journal = Journal::start_with(move |entry| ours.send(entry.message.as_bytes()).map(drop));
        let journal = journal.expect("a thread");
        let subscriber = tracing_subscriber::registry().with(ToJournal(journal.clone()));
        let begun = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for i in 0..10_000 {
                tracing::info!(i, "a line");
            }
        });
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let begun = Instant::now();
        end(Some(&journal));
        assert!(begun.elapsed() >= LAST_LINES, "it has not even tried");
        assert!(begun.elapsed() < LAST_LINES + Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
