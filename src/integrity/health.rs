//! How the evidence stands, in a word and a sentence.

use super::Integrity;

/// Unsealed events that are older are worth a look.
const UNSEALED_SECONDS_MAX: f64 = 10.0;
/// What an operator does about a log that is not what was signed.
const ADVICE: &str = "the log takes no appends; run `event-sourcing-cqrs verify` to see what is wrong and restore the log, \
     or, if an older backup was restored on purpose, accept it with `event-sourcing-cqrs verify --accept-rollback`";

/// In a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All is sealed and as signed.
    Sound,
    /// Somebody should look.
    Doubtful,
    /// The log takes no appends.
    Violated,
}

/// How the evidence stands.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegrityHealth {
    /// In a word.
    pub standing: Standing,
    /// Why it is not sound, and what to do.
    pub detail: Option<String>,
    /// Every event up to here is sealed.
    pub sealed_position: u64,
}

impl Integrity {
    /// How the evidence stands by the last round; asks nobody.
    #[must_use]
    pub fn health(&self) -> IntegrityHealth {
        let now = self.clock.now().timestamp_micros();
        let seen = self.lock();
        let is_read_only = seen.round.state.as_ref().is_some_and(|state| state.is_read_only);
        let patience = UNSEALED_SECONDS_MAX.max(2.0 * self.interval.as_secs_f64());
        let is_late = seen.since.is_some_and(|since| since.elapsed().as_secs_f64() > patience);
        let age = seen.round.unsealed_since.map_or(0.0, |since| now.saturating_sub(since) as f64 / 1e6);
        let (standing, detail) = if let Some(reason) = &seen.violation {
            (Standing::Violated, Some(format!("{reason}; {ADVICE}")))
        } else if is_read_only {
            (Standing::Violated, Some(ADVICE.to_owned()))
        } else if let Some(trouble) = seen.trouble.as_ref().filter(|_| is_late) {
            (Standing::Doubtful, Some(format!("nothing can be sealed: {trouble}")))
        } else if is_late {
            (Standing::Doubtful, Some("sealing takes long: the last round has not ended yet".to_owned()))
        } else if age > UNSEALED_SECONDS_MAX {
            (Standing::Doubtful, Some(format!("the oldest unsealed event is {age:.0} s old")))
        } else if let Some(trouble) = seen.round.troubles.first() {
            (Standing::Doubtful, Some(format!("a checkpoint could not be kept everywhere: {trouble}")))
        } else {
            (Standing::Sound, None)
        };
        IntegrityHealth { standing, detail, sealed_position: seen.round.sealed }
    }

    /// Whether this process lets the tree grow at the moment.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.lock().round.is_owner
    }
}
