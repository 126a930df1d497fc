//! The log of the process: one line an event on standard error, text on a terminal and JSON elsewhere.
//!
//! The level can be changed while the process runs. It governs this project's own crates; libraries never say more than
//! warnings, since some of them put statements or bodies into their finer levels. What is logged here are names, ids,
//! positions and times, never payloads. Values of others (ids, messages of errors) cannot forge lines or steer a
//! terminal: the text format of `tracing-subscriber` writes `%value` as it comes, so control characters are escaped here.

use std::{
    fmt::{self, Write},
    io::IsTerminal,
};

use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    field::RecordFields,
    filter::Targets,
    fmt::{
        FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::settings::{Log, LogFormat, LogLevel, UnknownLogLevel};

/// Beginning of the names of this project's crates.
const OWN: &str = "event_sourcing";

/// Why the log cannot be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The process has a log already; there is one a process.
    #[error("the process already has a log")]
    AlreadyStarted(#[source] tracing_subscriber::util::TryInitError),
    /// The log is gone.
    #[error("the level of the log cannot be changed")]
    NotReloadable(#[source] reload::Error),
}

/// Changes the level of a running log. Clones change the same log.
#[derive(Debug, Clone)]
pub struct LogControl {
    handle: reload::Handle<Targets, Registry>,
}

impl LogControl {
    /// The level in force.
    ///
    /// # Errors
    /// [`TelemetryError::NotReloadable`] when the log is gone.
    pub fn level(&self) -> Result<LogLevel, TelemetryError> {
        let is_told =
            |targets: &Targets, level| filter(level).into_level().is_none_or(|l| targets.would_enable(OWN, &l));
        let told = |targets: &Targets| LogLevel::ALL.into_iter().rev().find(|level| is_told(targets, *level));
        let level = self.handle.with_current(told).map_err(TelemetryError::NotReloadable)?;
        Ok(level.unwrap_or(LogLevel::Off))
    }

    /// Sets the level for what is logged from now on.
    ///
    /// # Errors
    /// [`TelemetryError::NotReloadable`] when the log is gone.
    pub fn set_level(&self, level: LogLevel) -> Result<(), TelemetryError> {
        self.handle.reload(targets(level)).map_err(TelemetryError::NotReloadable)
    }
}

/// Why a level is not changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// There is no such level.
    #[error(transparent)]
    Unknown(#[from] UnknownLogLevel),
    /// The log is gone.
    #[error(transparent)]
    Log(#[from] TelemetryError),
}

impl LogControl {
    /// Sets the level of this name for what is logged from now on; answers the names of the one before and this one.
    ///
    /// # Errors
    /// [`LevelError`].
    pub fn change(&self, level: &str) -> Result<(&'static str, &'static str), LevelError> {
        let wanted: LogLevel = level.to_owned().try_into()?;
        let before = self.level()?;
        self.set_level(wanted)?;
        Ok((before.as_str(), wanted.as_str()))
    }
}

/// Starts the log of the process on standard error. For the binary: an embedder keeps its own log.
///
/// # Errors
/// [`TelemetryError::AlreadyStarted`] when something else set a global subscriber before.
pub fn init(log: &Log) -> Result<LogControl, TelemetryError> {
    let is_terminal = std::io::stderr().is_terminal();
    let (subscriber, control) = subscriber(log, is_terminal, std::io::stderr);
    subscriber.try_init().map_err(TelemetryError::AlreadyStarted)?;
    Ok(control)
}

/// The same log on another writer, not started: for tests and for embedders who start it themselves.
///
/// Colours are used for text on a terminal, unless the variable `NO_COLOR` is set.
pub fn subscriber<W>(log: &Log, is_terminal: bool, writer: W) -> (impl Subscriber + Send + Sync + use<W>, LogControl)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (targets, handle) = reload::Layer::new(targets(log.level));
    let is_text = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = if is_text {
        let layer = layer.fmt_fields(EscapedFields(DefaultFields::new()));
        if is_terminal { layer.boxed() } else { layer.with_ansi(false).boxed() }
    } else {
        layer.json().flatten_event(true).with_span_list(false).boxed()
    };
    (tracing_subscriber::registry().with(targets).with(layer), LogControl { handle })
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn targets(level: LogLevel) -> Targets {
    let own = filter(level);
    Targets::new().with_default(own.min(LevelFilter::from_level(Level::WARN))).with_target(OWN, own)
}

/// Fields and messages as usual, with control characters escaped.
#[derive(Debug)]
struct EscapedFields(DefaultFields);

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        self.0.format_fields(Writer::new(&mut Escaping(&mut writer)), fields)
    }
}

struct Escaping<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                // Line separators and marks that turn the direction of writing are no control characters.
                '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(self.0, "{}", character.escape_unicode())?;
                }
                _ if character.is_control() => write!(self.0, "{}", character.escape_default())?,
                _ => self.0.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{debug, error, info, info_span, trace, warn};

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `act` runs.
    fn logged(log: &Log, is_terminal: bool, act: impl FnOnce(&LogControl)) -> String {
        let written = Written::default();
        let sink = written.clone();
        let (subscriber, control) = subscriber(log, is_terminal, move || sink.clone());
        tracing::subscriber::with_default(subscriber, || act(&control));
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    fn text(level: LogLevel) -> Log {
        Log { level, format: LogFormat::Text }
    }

    const FORGED: &str = "acc\r\n2026-01-01 ERROR forged\u{1b}[31m\u{9b}1m\u{2028}\u{202e}\u{7}\t end";

    #[derive(Debug, thiserror::Error)]
    #[error("outer {0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn values_cannot_forge_lines_or_steer_the_terminal() {
        for is_terminal in [false, true] {
            let lines = logged(&text(LogLevel::Info), is_terminal, |_| {
                let _span = info_span!("hop", id = %FORGED).entered();
                let failure = Outer(FORGED, io::Error::other(FORGED));
                info!(id = %FORGED, id_2 = ?FORGED, id_3 = FORGED, "message {FORGED}");
                error!(failure = &failure as &dyn std::error::Error, "failed");
            });
            assert_eq!(lines.lines().count(), 2, "{lines}");
            let is_harmless = |c: char| c == '\n' || (c == '\u{1b}' && is_terminal) || !c.is_control();
            assert!(lines.chars().all(is_harmless), "{lines:?}");
            assert!(!lines.contains("\u{1b}[31m2026") && !lines.contains("forged\u{1b}"), "{lines:?}");
            assert!(!lines.contains(['\u{2028}', '\u{202e}', '\u{9b}']), "{lines:?}");
            assert!(lines.contains("acc\\r\\n2026-01-01 ERROR forged\\u{1b}[31m"), "{lines}");
        }
    }

    #[test]
    fn without_the_escaping_a_value_forges_a_line() {
        let written = Written::default();
        let sink = written.clone();
        let plain = tracing_subscriber::fmt().with_ansi(false).with_writer(move || sink.clone()).finish();
        tracing::subscriber::with_default(plain, || info!(id = %FORGED, "one"));
        let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count(), 2, "if this is one, EscapedFields can go: {lines}");
    }

    #[test]
    fn json_is_one_object_a_line_with_its_fields_and_spans() {
        let log = Log { level: LogLevel::Info, format: LogFormat::Auto };
        let lines = logged(&log, false, |_| {
            let _span = info_span!("command", command.name = "CreateAccount").entered();
            info!(event.position = 7, id = %FORGED, "stored");
        });
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&line["message"], &line["event.position"]), (&"stored".into(), &7.into()));
        assert_eq!(line["span"]["command.name"], "CreateAccount");
        assert_eq!(line["id"], FORGED);
    }

    #[test]
    fn auto_is_text_on_a_terminal_and_json_elsewhere() {
        let log = Log::default();
        assert!(logged(&log, false, |_| info!("x")).starts_with('{'));
        assert!(!logged(&log, true, |_| info!("x")).starts_with('{'));
        let json = Log { format: LogFormat::Json, ..log };
        assert!(logged(&json, true, |_| info!("x")).starts_with('{'));
    }

    #[test]
    fn text_that_is_no_terminal_has_no_colours() {
        assert!(!logged(&text(LogLevel::Info), false, |_| info!("x")).contains('\u{1b}'));
    }

    #[test]
    fn level_can_be_changed_while_the_log_runs() {
        let lines = logged(&text(LogLevel::Warn), false, |control| {
            assert_eq!(control.level().unwrap(), LogLevel::Warn);
            info!("first");
            control.clone().set_level(LogLevel::Debug).unwrap();
            assert_eq!(control.level().unwrap(), LogLevel::Debug);
            debug!("second");
            trace!("third");
            control.set_level(LogLevel::Off).unwrap();
            assert_eq!(control.level().unwrap(), LogLevel::Off);
            error!("fourth");
        });
        assert!(lines.contains("second") && lines.lines().count() == 1, "{lines}");
    }

    #[test]
    fn libraries_say_no_more_than_warnings_and_no_more_than_asked_for() {
        let all = logged(&text(LogLevel::Trace), false, |_| {
            info!(target: "sqlx::query", "statement");
            warn!(target: "sqlx::query", "slow");
            trace!(target: "event_sourcing_actors::journal", "own");
        });
        assert!(!all.contains("statement") && all.contains("slow") && all.contains("own"), "{all}");
        let errors = logged(&text(LogLevel::Error), false, |_| warn!(target: "sqlx::query", "slow"));
        assert_eq!(errors, "");
    }
}
