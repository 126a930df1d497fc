//! What a run has measured: percentiles, errors by code, and the difference to an earlier run.

use std::{collections::BTreeMap, path::Path};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    super::{exit::Failure, file::cannot, table::table},
    load::{Load, Pace, Tally},
};

/// Everything a run has measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Results {
    pub url: String,
    pub server: Value,
    /// `open` or `closed`.
    pub load: String,
    /// Requests a second that an open load was to have.
    pub rate_wanted: Option<u32>,
    pub connections: u32,
    pub aggregates: u32,
    pub queries_percent: u32,
    pub duration_s: f64,
    pub warm_up_s: f64,
    /// Whether latencies count from when a request was due, so that waiting for a connection is in them.
    pub latency_from_due: bool,
    pub prefix: String,
    pub all: Figures,
    pub commands: Figures,
    pub queries: Figures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// Figures of one kind of request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figures {
    pub requests: u64,
    pub rate_per_s: f64,
    pub errors: u64,
    pub errors_by_code: BTreeMap<String, u64>,
    pub latency_ms: Percentiles,
}

/// Of all requests, those refused too.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Percentiles {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// This run in percent of an earlier one, less 100: -10 is a tenth less.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Comparison {
    pub rate_percent: Option<f64>,
    pub p50_percent: Option<f64>,
    pub p99_percent: Option<f64>,
    /// Settings of the load in which the two runs differ, so that their figures say little.
    pub differing: Vec<String>,
}

fn percentiles(latency: &Histogram<u64>) -> Percentiles {
    if latency.is_empty() {
        return Percentiles::default();
    }
    let ms = |micros: u64| micros as f64 / 1e3;
    let at = |quantile| ms(latency.value_at_quantile(quantile));
    Percentiles {
        min: ms(latency.min()),
        mean: (latency.mean()).round() / 1e3,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: ms(latency.max()),
    }
}

fn figures(tally: &Tally, seconds: f64) -> Figures {
    let requests = tally.latency.len();
    Figures {
        requests,
        rate_per_s: (requests as f64 / seconds * 10.0).round() / 10.0,
        errors: tally.errors.values().sum(),
        errors_by_code: tally.errors.clone(),
        latency_ms: percentiles(&tally.latency),
    }
}

impl Results {
    pub fn new(load: &Load, prefix: &str, server: &Value, commands: &Tally, queries: &Tally) -> Self {
        let seconds = load.duration.as_secs_f64();
        let mut all = commands.clone();
        all.add(queries);
        let rate_wanted = match load.pace {
            Pace::Open(rate) => Some(rate),
            Pace::Closed => None,
        };
        Self {
            url: load.url.clone(),
            server: server.clone(),
            load: if rate_wanted.is_some() { "open" } else { "closed" }.to_owned(),
            rate_wanted,
            connections: load.connections,
            aggregates: load.aggregates,
            queries_percent: load.queries_percent,
            duration_s: seconds,
            warm_up_s: load.warm_up.as_secs_f64(),
            latency_from_due: rate_wanted.is_some(),
            prefix: prefix.to_owned(),
            all: figures(&all, seconds),
            commands: figures(commands, seconds),
            queries: figures(queries, seconds),
            comparison: None,
        }
    }

    /// What an earlier run has printed.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| cannot("read", path, &error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::usage(format!("{} is not what bench prints with --format json: {error}", path.display()))
        })
    }

    pub fn human(&self) -> String {
        let row = |name: &str, figures: &Figures| {
            let Percentiles { p50, p90, p99, p99_9, max, .. } = figures.latency_ms;
            let mut cells = vec![name.to_owned(), figures.requests.to_string(), format!("{:.0}", figures.rate_per_s)];
            cells.push(figures.errors.to_string());
            cells.extend([p50, p90, p99, p99_9, max].map(|ms| format!("{ms:.2}")));
            cells
        };
        let mut rows = vec![row("all", &self.all)];
        if self.queries_percent > 0 {
            rows.extend([row("commands", &self.commands), row("queries", &self.queries)]);
        }
        let titles = ["", "REQUESTS", "PER S", "ERRORS", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS"];
        let mut text = table(&titles, &rows);
        text.push('\n');
        for (code, count) in &self.all.errors_by_code {
            text.push_str(&format!("error {}: {count}\n", super::super::text::harmless(code)));
        }
        match self.rate_wanted {
            Some(rate) => {
                text.push_str(&format!("open load of {rate} requests/s; latencies count from when a request was due\n"))
            }
            None => text.push_str(&format!("closed load of {} connections\n", self.connections)),
        }
        if let Some(comparison) = &self.comparison {
            text.push_str(&comparison.human());
        }
        text
    }
}

impl Comparison {
    pub fn of(before: &Results, now: &Results) -> Self {
        let change = |before: f64, now: f64| (before > 0.0).then(|| ((now / before - 1.0) * 1e3).round() / 10.0);
        let (then, latest) = (before.all.latency_ms, now.all.latency_ms);
        let settings = [
            ("load", before.load == now.load && before.rate_wanted == now.rate_wanted),
            ("connections", before.connections == now.connections),
            ("aggregates", before.aggregates == now.aggregates),
            ("queries_percent", before.queries_percent == now.queries_percent),
        ];
        Self {
            rate_percent: change(before.all.rate_per_s, now.all.rate_per_s),
            p50_percent: change(then.p50, latest.p50),
            p99_percent: change(then.p99, latest.p99),
            differing: settings.iter().filter(|(_, same)| !same).map(|(name, _)| (*name).to_owned()).collect(),
        }
    }

    fn human(&self) -> String {
        let shown = |change: Option<f64>| change.map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %"));
        let mut text = format!(
            "against the run before: rate {}, p50 {}, p99 {}\n",
            shown(self.rate_percent),
            shown(self.p50_percent),
            shown(self.p99_percent)
        );
        if !self.differing.is_empty() {
            text.push_str(&format!("but the two differ in {}\n", self.differing.join(", ")));
        }
        text
    }
}
