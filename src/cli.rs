//! The command line: `serve` and the words to look after a server.
//!
//! Words work on the configured store through [`App`](event_sourcing_cqrs::app::App), or with `--url` on a running
//! server over HTTP; both answer the same. Data goes to standard output, talk to standard error.

mod backup;
#[cfg(feature = "http")]
mod bench;
mod branch;
mod command;
mod completions;
mod config;
mod doctor;
mod erase;
mod events;
mod exit;
mod export;
mod file;
mod healthcheck;
mod import;
mod input;
mod integrity;
mod keys;
mod known;
mod local;
mod migrate;
mod openapi;
mod operation;
mod output;
mod progress;
mod projection;
mod query;
#[cfg(feature = "http")]
mod remote;
mod replay;
mod saga;
#[cfg(feature = "http")]
mod secret;
mod serve;
mod status;
mod table;
mod target;
mod text;
mod token;
mod verify;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{
    Args, CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use event_sourcing_actors::BranchId;
use event_sourcing_cqrs::{
    settings::{Flags, LogFormat, LogLevel, Settings, Source, process_environment},
    telemetry::{self, LogControl, Tracing},
};
use uuid::Uuid;

#[cfg(feature = "http")]
use self::secret::Secret;
use self::{
    exit::{Exit, Failure},
    output::{Format, Output},
};

/// The variable that holds a key or token.
#[cfg(feature = "http")]
const TOKEN_VARIABLE: &str = "ES_TOKEN";

/// An event-sourced application server.
///
/// Without a word it serves. Words work on the configured store, also beside a running server, or with --url on that
/// server. Settings: defaults < YAML files < environment < flags; `config show` tells each with its source.
///
/// Exit codes: 0 ok, 1 failed or refused, 2 usage or configuration, 3 not found, 4 integrity violation,
/// 5 conflict, 6 unavailable or timed out, 7 not allowed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    word: Option<Word>,
}

/// What every word understands.
#[derive(Clone, Args)]
pub(crate) struct Globals {
    /// Folder of the YAML files [env: CONFIG_DIR; default: ./config]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Settings")]
    config_dir: Option<PathBuf>,
    /// `sqlite://file.db`, `memory:` or `postgres://…` [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL", help_heading = "Settings")]
    database_url: Option<String>,
    /// `redis://…` or `rediss://…` [env: REDIS_URL]
    #[arg(long, global = true, value_name = "URL", help_heading = "Settings")]
    redis_url: Option<String>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace` [env: LOG_LEVEL]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Settings")]
    log_level: Option<String>,
    /// Events of a stream between two snapshots [env: SNAPSHOT_FREQUENCY]
    #[arg(long, global = true, value_name = "EVENTS", help_heading = "Settings")]
    snapshot_frequency: Option<String>,
    /// IP address or host name, and port, to serve on [env: BIND_ADDRESS]
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Settings")]
    bind_address: Option<String>,
    /// Talk to the server at this address instead of opening the store
    #[arg(long, global = true, value_name = "URL", help_heading = "Words")]
    url: Option<String>,
    /// Key or token for --url, or @file with it; better by the variable, since other processes see command lines
    /// [env: ES_TOKEN]
    #[cfg(feature = "http")]
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Words")]
    token: Option<String>,
    /// Work on this branch: goes with command, events, query, saga, replay and diff
    #[arg(long, global = true, value_name = "BRANCH", help_heading = "Words")]
    branch: Option<Uuid>,
    /// How data is written
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Words")]
    format: Format,
    /// Seconds to wait for a store or a server that does not answer
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = seconds,
          help_heading = "Words")]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Serve HTTP (also without any word)
    Serve,
    /// Bring the schema of the database up to date
    Migrate,
    /// Tell where the store or the server stands
    Status,
    /// Read and append events
    #[command(subcommand)]
    Events(events::Events),
    /// Send commands
    #[command(subcommand)]
    Command(command::Command),
    /// Ask read models
    #[command(subcommand)]
    Query(query::Query),
    /// Look after read models
    #[command(subcommand)]
    Projection(projection::Projection),
    /// Follow long work
    #[command(subcommand)]
    Operation(operation::Operation),
    /// Start and look after long-running transactions
    #[command(subcommand)]
    Saga(saga::Saga),
    /// Erase one person's data
    Erase(erase::Erase),
    /// Make and look after alternative timelines
    #[command(subcommand)]
    Branch(branch::Branch),
    /// Fold an aggregate's events into its state, also as it was at a point of the past
    Replay(replay::Replay),
    /// Tell what changed in an aggregate's state between two of its events
    Diff(replay::Diff),
    /// Say whether the log is what was recorded: exit code 4 when it is not
    Verify(verify::Verify),
    /// Write the log as CloudEvents, one a line
    Export(export::Export),
    /// Append events from such lines
    Import(import::Import),
    /// Back the log up, also while servers write to it
    Backup(backup::Backup),
    /// Put a backup into an empty store
    Restore(backup::Restore),
    /// Back the keys of personal data up, apart from the log, and put them back
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Measure a server under load
    #[cfg(feature = "http")]
    Bench(bench::Bench),
    /// Find what is wrong with settings, store and server, and tell how to mend it; changes nothing
    Doctor,
    /// Look after checkpoints and keys
    #[command(subcommand)]
    Integrity(integrity::Integrity),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Token(token::Token),
    /// Tell what was done and refused at the door
    Audit(token::Audit),
    /// Look at the settings
    #[command(subcommand)]
    Config(config::Config),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Print a script that completes words and flags in a shell
    Completions(completions::Completions),
    /// Write manual pages into a folder
    Manual(completions::Manual),
    /// Ask the server whether it is ready: exit code 0 or 1 within 3 s
    Healthcheck,
}

impl Word {
    /// Whether it talks to a server also where none is named.
    #[cfg(feature = "http")]
    fn is_of_a_server(&self) -> bool {
        matches!(self, Self::Bench(_))
    }

    /// Whether it can be said of a branch.
    fn takes_branch(&self) -> bool {
        matches!(
            self,
            Self::Events(_) | Self::Command(_) | Self::Query(_) | Self::Saga(_) | Self::Replay(_) | Self::Diff(_)
        )
    }
}

/// What a word works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The settings in force.
    pub(crate) settings: Settings,
    /// The server to talk to.
    pub(crate) url: Option<String>,
    /// What it is told about who asks.
    #[cfg(feature = "http")]
    pub(crate) token: Option<Secret>,
    /// The branch to work on.
    pub(crate) branch: Option<BranchId>,
    /// How long to wait.
    pub(crate) timeout: Duration,
    /// Where data goes.
    pub(crate) output: Output,
    /// The log of this process.
    #[cfg(feature = "http")]
    pub(crate) log: LogControl,
    /// Where spans go; only the server has any.
    #[cfg(feature = "http")]
    pub(crate) tracing: Tracing,
}

/// Reads the command line, does what it says, and tells how it went.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            suggest(&mut error, std::env::args().skip(1));
            help_with_types(&mut error, std::env::args().skip(1));
            // Help and version go to standard output, which may be a closed pipe; nothing is left to be done then.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => failure.report(),
    }
}

/// The words that there are below one (`query`, `command`), where the one that was said is not among them nor like any.
fn suggest(error: &mut clap::Error, said: impl Iterator<Item = String>) {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let is_like = |like: &ContextValue| !matches!(like, ContextValue::Strings(like) if like.is_empty());
    if error.get(ContextKind::SuggestedSubcommand).is_some_and(is_like) {
        return;
    }
    let root = Cli::command();
    let below = said.take_while(|word| word != unknown).find_map(|word| root.find_subcommand(word));
    let Some(word) = below else { return };
    let names: Vec<_> = word.get_subcommands().map(|one| format!("{} {}", word.get_name(), one.get_name())).collect();
    let tip = format!("there is: {}", names.join(", "));
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
}

/// What types there are, where a word needs one and has none.
fn help_with_types(error: &mut clap::Error, said: impl Iterator<Item = String>) {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let tips = known::tips_of_word(&said.collect::<Vec<_>>()).into_iter().map(Into::into).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { globals, word } = cli;
    let word = word.unwrap_or(Word::Serve);
    let settings = match load(&globals) {
        Err(failure) if matches!(word, Word::Doctor) => {
            return doctor::without_settings(Output::new(globals.format), &failure);
        }
        loaded => loaded?,
    };
    let is_server = matches!(word, Word::Serve);
    // A word is over before anybody would look at its spans.
    let tracing = if is_server { Tracing::from_environment() } else { Tracing::default() };
    let log = start_log(&settings, is_server, &tracing)?;
    let output = Output::new(globals.format);
    let branch = globals.branch.map(BranchId);
    if branch.is_some() && !word.takes_branch() {
        return Err(Failure::usage("--branch goes with command, events, query, saga, replay and diff"));
    }
    #[cfg(not(feature = "http"))]
    drop(log);
    let context = Context {
        settings,
        // A benchmark without an address has a server all the same: the one of these settings.
        #[cfg(feature = "http")]
        token: if globals.url.is_some() || word.is_of_a_server() { secret(globals.token)? } else { None },
        url: globals.url,
        branch,
        timeout: globals.timeout,
        output,
        #[cfg(feature = "http")]
        log,
        #[cfg(feature = "http")]
        tracing,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work(word, context));
    // A read of standard input that nobody waits for any more cannot be cancelled: do not wait for it.
    runtime.shutdown_background();
    result
}

/// The key or token of the flag, else of the variable. Read here and not by the parser, whose errors repeat what is wrong.
#[cfg(feature = "http")]
fn secret(flag: Option<String>) -> Result<Option<Secret>, Failure> {
    let variable = || std::env::var(TOKEN_VARIABLE).ok().filter(|text| !text.is_empty());
    let (name, text) = match (flag, variable()) {
        (Some(text), _) => ("--token", text),
        (None, Some(text)) => (TOKEN_VARIABLE, text),
        (None, None) => return Ok(None),
    };
    text.parse().map(Some).map_err(|problem: String| Failure::usage(format!("{name}: {problem}")))
}

async fn work(word: Word, context: Context) -> Result<(), Failure> {
    match word {
        Word::Serve => serve::run(context).await,
        Word::Migrate => migrate::run(context).await,
        Word::Status => status::run(context).await,
        Word::Events(word) => word.run(context).await,
        Word::Command(word) => word.run(context).await,
        Word::Query(word) => word.run(context).await,
        Word::Projection(word) => word.run(context).await,
        Word::Operation(word) => word.run(context).await,
        Word::Saga(word) => word.run(context).await,
        Word::Erase(word) => word.run(context).await,
        Word::Branch(word) => word.run(context).await,
        Word::Replay(word) => word.run(context).await,
        Word::Verify(word) => Box::pin(word.run(context)).await,
        Word::Integrity(word) => word.run(context).await,
        Word::Diff(word) => word.run(context).await,
        Word::Token(word) => word.run(context).await,
        Word::Audit(word) => word.run(context).await,
        Word::Config(word) => word.run(context),
        Word::Openapi => openapi::run(context).await,
        Word::Export(word) => word.run(context).await,
        Word::Import(word) => Box::pin(word.run(context)).await,
        Word::Backup(word) => Box::pin(word.run(context)).await,
        Word::Restore(word) => Box::pin(word.run(context)).await,
        Word::Keys(word) => Box::pin(word.run(context)).await,
        #[cfg(feature = "http")]
        Word::Bench(word) => Box::pin(word.run(context)).await,
        Word::Doctor => Box::pin(doctor::run(context)).await,
        Word::Completions(word) => word.run(Cli::command(), context.output),
        Word::Manual(word) => word.run(Cli::command()),
        Word::Healthcheck => healthcheck::run(context).await,
    }
}

fn load(globals: &Globals) -> Result<Settings, Failure> {
    let flags = Flags {
        database_url: globals.database_url.clone(),
        redis_url: globals.redis_url.clone(),
        log_level: globals.log_level.clone(),
        snapshot_frequency: globals.snapshot_frequency.clone(),
        bind_address: globals.bind_address.clone(),
    };
    let source = Source { config_dir: globals.config_dir.clone(), environment: process_environment()?, flags };
    Ok(Settings::load(source)?)
}

/// The server logs as set. Words say on standard error what concerns their user, so their log is quiet and plain unless
/// it is asked for by whoever runs them: a file says how the server is to log.
fn start_log(settings: &Settings, is_server: bool, tracing: &Tracing) -> Result<LogControl, Failure> {
    let mut log = settings.log.clone();
    if !is_server {
        let is_of_server = |source: &str| source == "default" || source.starts_with("file ");
        if settings.explain().iter().any(|one| one.key == "log.level" && is_of_server(&one.source)) {
            log.level = LogLevel::Warn;
        }
        if log.format == LogFormat::Auto {
            log.format = LogFormat::Text;
        }
    }
    let control = telemetry::init(&log, tracing)?;
    if let Some(warning) = tracing.warning() {
        tracing::warn!("{warning}");
    }
    Ok(control)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let problem = || format!("must be a number of seconds from 0.001 to 86400, not {text:?}");
    let seconds: f64 = text.parse().map_err(|_| problem())?;
    if (0.001..=86_400.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn word_that_is_unknown_below_another_gets_the_known_ones() {
        let told = |words: &[&str]| {
            let mut error = Cli::try_parse_from([&["es"], words].concat()).err().unwrap();
            suggest(&mut error, words.iter().map(|word| (*word).to_owned()));
            error.to_string()
        };
        assert!(
            told(&["--timeout", "3", "query", "run", "GetOrder"]).contains("tip: there is: query send, query list\n")
        );
        let branches = told(&["branch", "xyz"]);
        assert!(branches.contains("branch create, branch list") && branches.contains("branch delete"), "{branches}");
        // What is like it is told already, and what there is at the top is in the help.
        assert!(!told(&["saga", "lis"]).contains("there is:"));
        assert!(!told(&["xyz"]).contains("there is:"));
    }

    #[test]
    fn timeouts_are_positive_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "soon", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
