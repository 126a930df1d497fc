//! `query send|list`.

use std::{num::NonZeroU32, time::Duration};

use clap::{Args, Subcommand};
use event_sourcing_actors::Position;
use event_sourcing_cqrs::wire;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Context,
    exit::Failure,
    input,
    known::{self, Kind},
    output::{Format, Output, line, talk},
    table::{self, Object, plain},
    target::{Target, Wanted},
    text::{harmless, pairs},
};

/// Longest `--wait`, in seconds; the server has a bound of its own.
const WAIT_SECONDS_MAX: u64 = 3_600;

/// Words about queries.
#[derive(Debug, Subcommand)]
pub(crate) enum Query {
    /// Ask a read model
    Send(Send),
    /// List the query types, what each takes and answers
    List,
}

/// Ask a read model.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Such as `GetAccountBalance`
    query_type: String,
    /// A filter, `key=text` or `key:=JSON`; may be repeated
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = filter, conflicts_with = "data")]
    filters: Vec<(String, Box<RawValue>)>,
    /// All filters as a JSON object; `@file` reads a file, `-` standard input [default: {}]
    #[arg(long, value_name = "JSON", conflicts_with_all = ["limit", "cursor"])]
    data: Option<String>,
    /// Rows of a list at most, 1 to 1000
    #[arg(long, value_name = "ROWS", value_parser = input::limit)]
    limit: Option<NonZeroU32>,
    /// Where a list goes on: `next_cursor` of the page before
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// The projection, where several have this query type
    #[arg(long, value_name = "NAME")]
    projection: Option<String>,
    /// Wait until the read model has applied this position
    #[arg(long, value_name = "POSITION")]
    min_position: Option<u64>,
    /// The row as it was at this position of the log; for queries of one row that one stream makes
    #[arg(long, value_name = "POSITION", conflicts_with_all = ["min_position", "wait", "lenient"])]
    as_of_position: Option<u64>,
    /// Seconds to wait for `--min-position`
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=WAIT_SECONDS_MAX))]
    wait: Option<u64>,
    /// Take what there is, marked as stale, when it does not come in time
    #[arg(long)]
    lenient: bool,
}

impl Query {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let Self::Send(word) = self else { return known::list(&context, Kind::Query).await };
        let wanted = word.wanted()?;
        let target = Target::open_following(&context).await?;
        let answered = target.query(&wanted).await;
        target.close().await;
        match answered {
            Ok(answered) => print(context.output, &answered),
            Err(failure) => Err(known::helped(&context, Kind::Query, &wanted.query_type, failure).await),
        }
    }
}

impl Send {
    /// Reads the filters, which may take its time, before anything is opened.
    fn wanted(self) -> Result<Wanted, Failure> {
        let filters = match self.data {
            Some(data) => {
                let data = input::data(Some(&data))?;
                if !data.get().starts_with('{') {
                    return Err(Failure::usage("--data must be a JSON object"));
                }
                data
            }
            None => {
                let limit = self.limit.and_then(|limit| Some(("limit".to_owned(), to_raw_value(&limit).ok()?)));
                let cursor = self.cursor.and_then(|cursor| Some(("cursor".to_owned(), to_raw_value(&cursor).ok()?)));
                joined(self.filters.into_iter().chain(limit).chain(cursor))?
            }
        };
        Ok(Wanted {
            query_type: self.query_type,
            projection: self.projection,
            filters,
            min_position: self.min_position.map(Position),
            as_of: self.as_of_position.map(Position),
            wait: self.wait.map(Duration::from_secs),
            is_lenient: self.lenient,
        })
    }
}

/// `key=text` or `key:=JSON`.
fn filter(text: &str) -> Result<(String, Box<RawValue>), String> {
    let wrong = || format!("must be key=text, or key:=JSON as in limit:=10, not {text:?}");
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let (key, value) = match key.strip_suffix(':') {
        Some(key) => (key, RawValue::from_string(value.to_owned())),
        None => (key, to_raw_value(value)),
    };
    let value = value.map_err(|error| format!("{text:?} has no JSON after :=, {error}"))?;
    if key.is_empty() { Err(wrong()) } else { Ok((key.to_owned(), value)) }
}

/// Members as an object, byte for byte.
fn joined(members: impl Iterator<Item = (String, Box<RawValue>)>) -> Result<Box<RawValue>, Failure> {
    let mut seen: Vec<String> = Vec::new();
    let mut object = String::from("{");
    for (key, value) in members {
        if seen.contains(&key) {
            return Err(Failure::usage(format!("the filter {key:?} is given twice")));
        }
        let comma = if seen.is_empty() { "" } else { "," };
        object.push_str(&format!("{comma}{}:{}", serde_json::Value::from(key.as_str()), value.get()));
        seen.push(key);
    }
    object.push('}');
    Ok(RawValue::from_string(object).map_err(std::io::Error::from)?)
}

/// A list among a query's answers.
#[derive(serde::Deserialize)]
struct List {
    items: Vec<Object>,
    next_cursor: Option<String>,
}

fn print(output: Output, answered: &wire::Answered) -> Result<(), Failure> {
    let list: Option<List> = serde_json::from_str(answered.data.get()).ok();
    match (output.format, &list) {
        (Format::Json, _) | (Format::Ndjson, None) => return output.document(answered, String::new),
        (Format::Ndjson, Some(_)) => print_lines(output, answered)?,
        (Format::Human, Some(list)) if list.items.is_empty() => talk("no rows"),
        (Format::Human, Some(list)) => output.text(&table::objects(&list.items))?,
        (Format::Human, None) => output.text(&row(answered))?,
    }
    let wire::Answered { projection, position, head_position, .. } = answered;
    let lag = if answered.stale { format!("; stale, the log is at {head_position}") } else { String::new() };
    talk(&harmless(&format!("{projection} at position {position}{lag}")));
    if let Some(cursor) = list.and_then(|list| list.next_cursor) {
        talk(&harmless(&format!("there are more: --cursor {cursor}")));
    }
    Ok(())
}

fn print_lines(output: Output, answered: &wire::Answered) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Items {
        items: Vec<Box<RawValue>>,
    }
    let items: Items = serde_json::from_str(answered.data.get()).map_err(std::io::Error::from)?;
    items.items.iter().try_for_each(|item| output.text(&line(item)?))
}

fn row(answered: &wire::Answered) -> String {
    match serde_json::from_str::<Object>(answered.data.get()) {
        Ok(Object(members)) => {
            let members: Vec<(&str, String)> =
                members.iter().map(|(name, value)| (name.as_str(), plain(value))).collect();
            pairs(&members)
        }
        Err(_) => harmless(answered.data.get()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_text_unless_they_say_json() {
        let read = |texts: &[&str]| joined(texts.iter().map(|text| filter(text).unwrap())).unwrap().get().to_owned();
        assert_eq!(read(&[]), "{}");
        assert_eq!(
            read(&["account_id=1", "a=b=c", "limit:=10", "n:=1.50"]),
            r#"{"account_id":"1","a":"b=c","limit":10,"n":1.50}"#
        );
        for wrong in ["account_id", "=1", ":=1", "limit:=", "limit:=x"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
        let twice = ["a=1", "a=2"].map(|text| filter(text).unwrap());
        assert!(joined(twice.into_iter()).is_err());
    }
}
