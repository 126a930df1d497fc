//! `doctor`: what is wrong with settings, store and server, and how to mend it. Changes nothing.

mod database;
mod machine;
mod running;

use event_sourcing_cqrs::app::App;
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    local::Local,
    output::{Format, Output, line},
    target::Part,
    text::harmless,
};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// All well.
    Pass,
    /// Somebody should look.
    Warn,
    /// Something does not work, or will not.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    status: Status,
    /// What was found, in a sentence.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Check {
    fn pass(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, status: Status::Pass, message: message.into(), next: None }
    }

    fn warn(name: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, message: message.into(), next: Some(next.into()) }
    }

    fn fail(name: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, message: message.into(), next: Some(next.into()) }
    }
}

#[derive(Debug, Serialize)]
struct Findings {
    status: Status,
    checks: Vec<Check>,
}

/// Looks at everything that can be looked at.
pub(crate) async fn run(context: Context) -> Result<(), Failure> {
    if context.url.is_some() {
        return Err(Failure::usage(
            "doctor looks at this machine and the configured store; `status --url` asks a server",
        ));
    }
    let mut checks = vec![settings(&context)];
    checks.extend(machine::checks(&context));
    checks.push(machine::port(&context).await);
    let (found, may_open) = database::checks(&context).await;
    checks.extend(found);
    if may_open {
        match Local::open(&context, Part::Looks).await {
            Ok(local) => {
                checks.extend(running::checks(&context, &local).await);
                local.close().await;
            }
            Err(failure) => checks.push(Check::fail("app", failure.to_string(), "mend what the sentence says")),
        }
    }
    told(context.output, checks)
}

/// There are no settings to look any further with.
pub(crate) fn without_settings(output: Output, failure: &Failure) -> Result<(), Failure> {
    let next = "correct it; `event-sourcing-cqrs config check` says whether it is right";
    told(output, vec![Check::fail("settings", failure.to_string(), next)])
}

fn settings(context: &Context) -> Check {
    let explained = context.settings.explain();
    let from = |lead: &str| explained.iter().filter(|one| one.source.starts_with(lead)).count();
    let (files, environment, flags) = (from("file"), from("environment"), from("flag"));
    if let Err(error) = App::builder().settings(context.settings.clone()).check() {
        return Check::fail(
            "settings",
            error.to_string(),
            "correct it; `config show` tells each value with its source",
        );
    }
    let said = format!(
        "valid: {files} values from files, {environment} from the environment, {flags} from flags, the rest defaults"
    );
    Check::pass("settings", said)
}

fn told(output: Output, checks: Vec<Check>) -> Result<(), Failure> {
    let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Pass);
    let findings = Findings { status, checks };
    match output.format {
        Format::Ndjson => findings.checks.iter().try_for_each(|check| output.text(&line(check)?))?,
        Format::Human | Format::Json => output.document(&findings, || human(&findings))?,
    }
    // What there is to say was said.
    if status == Status::Fail { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
}

fn human(findings: &Findings) -> String {
    let width = findings.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Check { name, status, message, next } in &findings.checks {
        let status = match status {
            Status::Pass => "pass",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        text.push_str(&format!("{status}  {name:<width$}  {}\n", harmless(message)));
        if let Some(next) = next {
            text.push_str(&format!("      {:<width$}  -> {}\n", "", harmless(next)));
        }
    }
    text
}
