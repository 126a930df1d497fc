//! `bench`: a server under load, from outside.
//!
//! With `--rate` the load is open: request *n* is due at a fixed instant, and its latency counts from then, whether or not
//! a connection was free (so a server that stalls cannot hide it by slowing its clients down). Without, it is closed: each
//! connection sends its next request when the answer to the last one is there.

mod connection;
mod load;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::Args;

use self::{
    load::{Load, Pace},
    report::{Comparison, Results},
};
use super::{
    Context,
    exit::{Exit, Failure},
    healthcheck::own,
    output::talk,
};

/// Send commands and queries to a server and tell how it took them.
///
/// Makes accounts of its own and deposits into them; the events stay in the log, so take a server that is for it.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Requests a second; without it each connection sends its next request when the last one was answered
    #[arg(long, value_name = "PER SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Connections
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = super::seconds)]
    duration: Duration,
    /// Seconds before them that do not count
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = super::seconds)]
    warm_up: Duration,
    /// Percent of the requests that are queries; the others are commands
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    queries: u32,
    /// Aggregates to spread the load over
    #[arg(long, value_name = "AGGREGATES", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    aggregates: u32,
    /// Exit code 1 when the 99th percentile of all requests is above
    #[arg(long, value_name = "MILLISECONDS")]
    fail_above_p99_ms: Option<f64>,
    /// Compare with what an earlier run has printed with --format json
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

impl Bench {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let before = self.compare.as_deref().map(Results::read).transpose()?;
        let url = match &context.url {
            Some(url) => url.clone(),
            None => own(&context.settings.http.bind_address)?,
        };
        let load = Load {
            url: url.clone(),
            timeout: context.timeout,
            token: context.token.clone(),
            pace: self.rate.map_or(Pace::Closed, Pace::Open),
            connections: self.concurrency,
            warm_up: self.warm_up,
            duration: self.duration,
            queries_percent: self.queries,
            aggregates: self.aggregates,
        };
        let mut results = load.run().await?;
        results.comparison = before.map(|before| Comparison::of(&before, &results));
        context.output.document(&results, || results.human())?;
        if let Some(most) = self.fail_above_p99_ms {
            let p99 = results.all.latency_ms.p99;
            if p99 > most {
                return Err(Failure::new(Exit::Failed, format!("the 99th percentile is {p99:.3} ms, above {most} ms")));
            }
        }
        if results.all.requests == 0 {
            return Err(Failure::new(Exit::Failed, "no request was answered in the time that counts"));
        }
        talk(&format!("the accounts of this run begin with {}", results.prefix));
        Ok(())
    }
}
