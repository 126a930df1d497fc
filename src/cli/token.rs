//! `token create|list|revoke`: API keys; and `audit`: what was done and refused at the door.

use std::num::NonZeroU32;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use event_sourcing_cqrs::{
    auth::{NewToken, Role, is_name, key::ApiKey},
    wire,
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Context,
    exit::Failure,
    input,
    output::{Format, Output, line, talk},
    table::table,
    target::Target,
    text::{harmless, pairs},
};

/// Words about API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a key; it is printed this once and kept nowhere
    Create(Create),
    /// List keys, newest first
    List(List),
    /// Revoke a key for ever; every server knows within 5 s
    Revoke(One),
}

/// Make a key.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it may do: reader, writer, operator, auditor or admin; may be given several times
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<Role>,
    /// The principal, as events and the audit will name it; several keys may share one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// When it ends: in 90d, 12h or 30m, or at 2030-01-01T00:00:00Z; never, if absent
    #[arg(long, value_name = "WHEN", value_parser = end)]
    expires: Option<End>,
    /// Store nothing: print the line that goes into auth.keys of the settings, too
    #[arg(long, conflicts_with = "expires", requires = "name")]
    for_settings: bool,
}

/// List keys or lines.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Entries at most, 1 to 1000
    #[arg(long, value_name = "ENTRIES", default_value = "100", value_parser = input::limit)]
    limit: NonZeroU32,
    /// Only those before this one: `next_cursor` of the page before
    #[arg(long, value_name = "ID")]
    cursor: Option<Uuid>,
}

/// One key.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// As `token list` tells it; not the key itself
    #[arg(value_name = "TOKEN_ID", value_parser = id)]
    token_id: Uuid,
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    In(TimeDelta),
    At(DateTime<Utc>),
}

/// What must be an id may be a key by mistake: it is not repeated.
fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "must be the id that `token list` tells, a UUID".to_owned())
}

fn end(text: &str) -> Result<End, String> {
    let problem =
        || format!("must be a time such as 90d, 12h or 30m, or an instant such as 2030-01-01T00:00:00Z, not {text:?}");
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(End::At(at.to_utc()));
    }
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(problem)?;
    let count: i64 = digits.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or_else(problem)?;
    match unit {
        "d" => TimeDelta::try_days(count),
        "h" => TimeDelta::try_hours(count),
        "m" => TimeDelta::try_minutes(count),
        _ => None,
    }
    .map(End::In)
    .ok_or_else(problem)
}

impl Token {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        if let Self::Create(word @ Create { for_settings: true, .. }) = self {
            return for_settings(context.output, &word);
        }
        let target = Target::open(&context).await?;
        let output = context.output;
        let result = match self {
            Self::Create(word) => create(&target, output, word).await,
            Self::List(word) => list(&target, output, &word).await,
            Self::Revoke(word) => match target.revoke_token(word.token_id).await {
                Ok(token) => {
                    talk("revoked; every server knows within 5 s");
                    output.document(&token, || shown(&token))
                }
                Err(failure) => Err(failure),
            },
        };
        target.close().await;
        result
    }
}

async fn create(target: &Target, output: Output, word: Create) -> Result<(), Failure> {
    let expires_at = word.expires.map(|end| match end {
        End::In(time) => chrono::Local::now().to_utc() + time,
        End::At(at) => at,
    });
    let new = NewToken { name: word.name, roles: word.role, expires_at };
    let created = target.create_token(new).await?;
    // The key alone on standard output, so that a script can take it from there.
    output.document(&created, || created.key.clone())?;
    if output.format == Format::Human {
        talk(&format!("this is the only time the key is shown\n{}", shown(&created.token)));
    }
    Ok(())
}

#[derive(Serialize)]
struct ForSettings {
    key: String,
    line: String,
}

fn for_settings(output: Output, word: &Create) -> Result<(), Failure> {
    let name = word.name.as_deref().filter(|name| is_name(name));
    let name = name.ok_or_else(|| Failure::usage("--name must be 1 to 100 letters, digits and . _ @ -"))?;
    let key = ApiKey::generate();
    let line = format!("{name}:{}:{}", roles(&word.role, "+"), key.digest().to_hex());
    let document = ForSettings { key: key.expose().to_owned(), line };
    output.document(&document, || format!("{}\n{}", document.key, document.line))?;
    if output.format == Format::Human {
        talk("the first line is the key, shown this once; the second goes into auth.keys");
    }
    Ok(())
}

async fn list(target: &Target, output: Output, word: &List) -> Result<(), Failure> {
    let page = target.tokens(word.cursor, word.limit).await?;
    match output.format {
        Format::Json => output.document(&page, String::new),
        Format::Ndjson => page.items.iter().try_for_each(|one| output.text(&line(one)?)),
        Format::Human if page.items.is_empty() => {
            talk("no keys");
            Ok(())
        }
        Format::Human => {
            let row = |one: &wire::Token| {
                let state = match (one.revoked_at, one.expires_at) {
                    (Some(at), _) => format!("revoked {}", instant(at)),
                    (None, Some(at)) => format!("until {}", instant(at)),
                    (None, None) => "for ever".to_owned(),
                };
                let (id, made) = (one.token_id.to_string(), instant(one.created_at));
                vec![id, one.name.clone(), roles(&one.roles, ","), made, state]
            };
            let rows: Vec<_> = page.items.iter().map(row).collect();
            output.text(&table(&["TOKEN", "NAME", "ROLES", "CREATED AT", "COUNTS"], &rows))?;
            more(page.next_cursor);
            Ok(())
        }
    }
}

fn more(cursor: Option<Uuid>) {
    if let Some(cursor) = cursor {
        talk(&format!("there are more: --cursor {cursor}"));
    }
}

fn roles(roles: &[Role], between: &str) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(between)
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn shown(token: &wire::Token) -> String {
    let mut rows = vec![
        ("token", token.token_id.to_string()),
        ("name", harmless(&token.name)),
        ("roles", roles(&token.roles, ", ")),
        ("expires", token.expires_at.map_or("never".to_owned(), instant)),
    ];
    rows.extend(token.revoked_at.map(|at| ("revoked at", instant(at))));
    pairs(&rows)
}

/// What was done and refused at the door, newest first.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    list: List,
}

impl Audit {
    /// Lists it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open(&context).await?;
        let page = target.audit(self.list.cursor, self.list.limit).await;
        target.close().await;
        let (page, output) = (page?, context.output);
        match output.format {
            Format::Json => output.document(&page, String::new),
            Format::Ndjson => page.items.iter().try_for_each(|one| output.text(&line(one)?)),
            Format::Human if page.items.is_empty() => {
                talk("nothing was done or refused yet");
                Ok(())
            }
            Format::Human => {
                let row = |one: &wire::AuditRecord| {
                    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                    let status = one.status.map_or("-".to_owned(), |status| status.to_string());
                    let (at, outcome) = (instant(one.at), one.outcome.as_str().to_owned());
                    let who = (or_dash(&one.principal), or_dash(&one.peer));
                    vec![at, who.0, who.1, one.act.clone(), one.target.clone(), outcome, status, one.count.to_string()]
                };
                let rows: Vec<_> = page.items.iter().map(row).collect();
                let titles = ["AT", "PRINCIPAL", "FROM", "ACT", "TARGET", "OUTCOME", "STATUS", "TIMES"];
                output.text(&table(&titles, &rows))?;
                more(page.next_cursor);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_times_or_instants() {
        assert_eq!(end("90d"), Ok(End::In(TimeDelta::days(90))));
        assert_eq!(end("30m"), Ok(End::In(TimeDelta::minutes(30))));
        assert!(matches!(end("2030-01-01T00:00:00+02:00"), Ok(End::At(_))));
        for wrong in ["", "d", "0d", "-1h", "1w", "1é", "2030-01-01", "soon", "99999999999d"] {
            assert!(end(wrong).is_err(), "{wrong}");
        }
    }
}
