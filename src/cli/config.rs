//! `config show|check`.

use clap::Subcommand;
use event_sourcing_cqrs::{app::App, settings::Explained};
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    exit::Failure,
    output::{Format, line, talk},
    text::harmless,
};

/// Words about settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Config {
    /// Print every effective value with its source; passwords are masked
    Show,
    /// Say whether a server would start with these settings
    Check,
}

#[derive(Debug, Serialize)]
struct Items {
    items: Vec<Explained>,
    next_cursor: Option<u64>,
}

impl Config {
    /// Does it.
    pub(crate) fn run(self, context: Context) -> Result<(), Failure> {
        if context.url.is_some() {
            return Err(Failure::usage("config is about the settings of this machine; it does not work with --url"));
        }
        // Settings themselves were checked when they were read.
        App::builder().settings(context.settings.clone()).check()?;
        match self {
            Self::Show => show(&context),
            Self::Check => check(&context),
        }
    }
}

fn show(context: &Context) -> Result<(), Failure> {
    let items = context.settings.explain();
    if context.output.format == Format::Ndjson {
        return items.iter().try_for_each(|item| context.output.text(&line(item)?));
    }
    let document = Items { items, next_cursor: None };
    context.output.document(&document, || table(&document.items))
}

fn table(items: &[Explained]) -> String {
    let rows: Vec<(&str, String, &str)> =
        items.iter().map(|item| (item.key.as_str(), shown(&item.value), item.source.as_str())).collect();
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let keys = width(&mut rows.iter().map(|(key, ..)| key.len()));
    let values = width(&mut rows.iter().map(|(_, value, _)| value.chars().count()));
    let lines = rows.iter().map(|(key, value, source)| {
        format!("{key:<keys$}  {value:<values$}  {}", harmless(source)).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => harmless(text),
        other => other.to_string(),
    }
}

fn check(context: &Context) -> Result<(), Failure> {
    let warnings = context.settings.warnings();
    if context.output.format == Format::Human {
        warnings.iter().for_each(|warning| talk(&format!("warning: {}", harmless(warning))));
    }
    context.output.document(&json!({ "valid": true, "warnings": warnings }), || "the settings are valid".to_owned())
}
