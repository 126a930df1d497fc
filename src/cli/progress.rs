//! Progress on standard error: a bar on a terminal, lines now and then elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::talk;

/// Pause between two lines where there is no terminal.
const SAY: Duration = Duration::from_secs(2);

/// What is going on, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// While it goes on: `verifying`.
    pub(crate) doing: &'static str,
    /// What was done to things: `verified`.
    pub(crate) done: &'static str,
    /// What is counted: `events`.
    pub(crate) things: &'static str,
}

/// The progress of one piece of work.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    work: Work,
    said: Instant,
}

impl Bar {
    /// Nothing is shown yet.
    pub(crate) fn new(work: Work) -> Self {
        let template = "{msg}  {pos} of {len}  {wide_bar}  {per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style);
        bar.set_message(format!("{} {}", work.doing, work.things));
        Self { bar, work, said: Instant::now() }
    }

    /// Never gives up.
    pub(crate) fn show(&mut self, done: u64, total: u64) -> bool {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.said.elapsed() >= SAY {
            self.said = Instant::now();
            talk(&format!("{done} of {total} {} {}", self.work.things, self.work.done));
        }
        true
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
