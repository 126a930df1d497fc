//! How a word ends: one exit code per thing the caller can do about it.

use std::{fmt, io, process::ExitCode};

use event_sourcing_actors::{FieldError, RecoveryError, error::CommandError, ports::StoreError, runtime::StartError};
use event_sourcing_cqrs::{
    app::{AppError, MasterKeyError},
    auth::AuthError,
    settings::SettingsError,
    store::OpenError,
    telemetry::TelemetryError,
};

#[cfg(any(feature = "http", test))]
use event_sourcing_cqrs::wire::{Problem, ProblemMember};

use super::text::harmless;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All well.
    Ok = 0,
    /// Failed, or refused by the domain.
    Failed = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// What is stored was altered.
    Integrity = 4,
    /// Somebody else was faster, or the thing is another than expected.
    Conflict = 5,
    /// Not reachable, overloaded, or no answer in time.
    Unavailable = 6,
    /// Not allowed.
    Denied = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes.
        Self::from(exit as u8)
    }
}

/// Why a word did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// What the user is told, one line each; nothing when silence is right.
    lines: Vec<String>,
}

impl Failure {
    /// One sentence.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, lines: vec![message.into()] }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// Everything that had to be said was said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, lines: Vec::new() }
    }

    /// Adds a line.
    #[must_use]
    pub(crate) fn and(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// What helps where a disk is full, which databases tell in words of their own.
    fn and_space(self) -> Self {
        let is_full = self
            .lines
            .iter()
            .any(|line| ["disk is full", "No space left", "disk full"].iter().any(|words| line.contains(words)));
        if is_full {
            self.and("free some space on the disk of the database; nothing that was confirmed is lost")
        } else {
            self
        }
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        for (number, line) in self.lines.iter().enumerate() {
            let lead = if number == 0 { "error: " } else { "  " };
            super::output::talk(&format!("{lead}{}", harmless(line)));
        }
        self.exit.into()
    }

    /// What a server's refusal means.
    #[cfg(any(feature = "http", test))]
    pub(crate) fn from_problem(status: u16, problem: &Problem) -> Self {
        let exit = match (status, problem.code.as_str()) {
            (_, "integrity-violation" | "read-only") => Exit::Integrity,
            (404, _) => Exit::NotFound,
            (409 | 412, _) => Exit::Conflict,
            (401 | 403, _) => Exit::Denied,
            (408 | 429 | 502 | 503 | 504, _) => Exit::Unavailable,
            _ => Exit::Failed,
        };
        let said = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
        let said = if said.is_empty() { format!("the server answered {status}") } else { said.clone() };
        let name = problem.rejection.as_deref().unwrap_or(&problem.code);
        let failure = Self::new(exit, if name.is_empty() { said } else { format!("{said} ({name})") });
        // One fault is the sentence already.
        let faults = if problem.errors.len() > 1 { problem.errors.as_slice() } else { &[] };
        let lines = faults.iter().map(|ProblemMember { pointer, detail }| format!("{pointer}: {detail}"));
        lines.fold(failure, Failure::and)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("; "))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever read our output has seen enough (`| head`): that is their right, and no failure.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Ok);
        }
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let exit = match &error {
            #[cfg(feature = "redis")]
            AppError::Cache(_) => Exit::Usage,
            AppError::Settings(_)
            | AppError::Database(_)
            | AppError::MissingFeature { .. }
            | AppError::UnknownAggregateType { .. }
            | AppError::UnknownProjection(_)
            | AppError::UnknownQueryType(_)
            | AppError::UnknownCommandType { .. }
            | AppError::Auth(AuthError::KeySet(_))
            | AppError::Declaration(_)
            | AppError::QueryType(_)
            | AppError::Saga(_) => Exit::Usage,
            AppError::Open(error) if error.is_retryable() => Exit::Unavailable,
            AppError::Open(OpenError::OlderSchema { .. }) => {
                return Self::usage(error.to_string()).and("run: event-sourcing-cqrs migrate");
            }
            AppError::Open(OpenError::UnfinishedRestore { .. }) => Exit::Conflict,
            AppError::Open(_) => Exit::Usage,
            AppError::Missing { .. } => {
                return Self::not_found(error.to_string())
                    .and("`serve` and `migrate` make it; --database-url or DATABASE_URL names another");
            }
            AppError::MasterKeys(MasterKeyError::Store(StoreError::Unavailable { .. })) => Exit::Unavailable,
            AppError::MasterKeys(_) | AppError::Start(StartError::ForeignMasterKey { .. }) => Exit::Usage,
            AppError::Auth(AuthError::Store(error)) => return error.clone().into(),
            AppError::Store(StoreError::Unavailable { .. }) => Exit::Unavailable,
            AppError::Store(StoreError::Corrupt { .. } | StoreError::ReadOnly { .. }) => Exit::Integrity,
            AppError::Store(StoreError::Closed { .. }) => Exit::Conflict,
            AppError::Integrity { .. } => Exit::Usage,
            AppError::Store(StoreError::Refused { .. } | StoreError::DurabilityLost { .. }) | AppError::Start(_) => {
                Exit::Failed
            }
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Unavailable { .. } => Exit::Unavailable,
            StoreError::Corrupt { .. } | StoreError::ReadOnly { .. } => Exit::Integrity,
            StoreError::Closed { .. } => Exit::Conflict,
            StoreError::Refused { .. } | StoreError::DurabilityLost { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string()).and_space()
    }
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Self {
        let exit = match error {
            RecoveryError::Store(error) => return error.into(),
            RecoveryError::Integrity { .. } => Exit::Integrity,
            RecoveryError::Codec { .. } | RecoveryError::Panic { .. } | RecoveryError::LoadPanic { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// Wrong input, with the sentences of the HTTP door.
pub(crate) fn invalid(errors: Vec<FieldError>) -> Failure {
    let place =
        |error: &FieldError| if error.pointer.is_empty() { "the body".to_owned() } else { error.pointer.clone() };
    let first = errors
        .first()
        .map_or_else(|| "the input is not valid".to_owned(), |error| format!("{} {}", place(error), error.detail));
    if errors.len() <= 1 {
        return Failure::new(Exit::Failed, format!("{first} (validation-failed)"));
    }
    let failure = Failure::new(Exit::Failed, format!("{first}; and {} more (validation-failed)", errors.len() - 1));
    errors.into_iter().fold(failure, |all, one| all.and(format!("{}: {}", one.pointer, one.detail)))
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let exit = match &error {
            CommandError::Rejected { .. }
            | CommandError::Invalid { .. }
            | CommandError::UnknownCommandType { .. }
            | CommandError::UnknownEventType { .. }
            | CommandError::KeyReused
            | CommandError::Internal { .. } => Exit::Failed,
            CommandError::PreconditionFailed { .. }
            | CommandError::Conflict { .. }
            | CommandError::TypeMismatch { .. }
            | CommandError::ReservedStream { .. }
            | CommandError::SubjectErased { .. }
            | CommandError::PersonalOnBranch { .. }
            | CommandError::EventIdReused { .. }
            | CommandError::BranchClosed { .. }
            | CommandError::KeyInProgress => Exit::Conflict,
            CommandError::Unauthenticated | CommandError::Forbidden { .. } => Exit::Denied,
            CommandError::ReadOnly { .. } => Exit::Integrity,
            CommandError::Overloaded { .. }
            | CommandError::Draining
            | CommandError::StoreUnavailable { .. }
            | CommandError::Parked { .. }
            | CommandError::DeadlineExceeded
            | CommandError::OutcomeUnknown { .. }
            | CommandError::Interrupted => Exit::Unavailable,
        };
        let failure = Self::new(exit, error.to_string());
        match error {
            CommandError::Rejected { refusal, .. } => {
                Self::new(exit, format!("{} ({})", refusal.message, refusal.code))
            }
            CommandError::Invalid { errors } => invalid(errors),
            CommandError::UnknownCommandType { nearest, .. } | CommandError::UnknownEventType { nearest, .. } => {
                match nearest.first() {
                    Some(_) => failure.and(format!("did you mean {}?", nearest.join(" or "))),
                    None => failure,
                }
            }
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_server_end_like_the_same_answers_of_the_store() {
        let problem = |code: &str| Problem { code: code.to_owned(), ..Problem::default() };
        let exit = |status, code| Failure::from_problem(status, &problem(code)).exit;
        let conflict = CommandError::PreconditionFailed { current_version: Default::default(), replayed: false };
        assert_eq!(exit(412, "precondition-failed"), Failure::from(conflict).exit);
        assert_eq!(exit(422, "idempotency-key-reused"), Failure::from(CommandError::KeyReused).exit);
        assert_eq!(exit(409, "idempotency-in-progress"), Failure::from(CommandError::KeyInProgress).exit);
        let read_only = CommandError::ReadOnly { reason: String::new() };
        assert_eq!(exit(503, "read-only"), Failure::from(read_only).exit);
        assert_eq!(exit(503, "draining"), Failure::from(CommandError::Draining).exit);
        assert_eq!(exit(401, "unauthenticated"), Failure::from(CommandError::Unauthenticated).exit);
        assert_eq!(exit(422, "validation-failed"), Failure::from(CommandError::Invalid { errors: vec![] }).exit);
        assert_eq!(exit(404, "unknown-aggregate"), Exit::NotFound);
    }

    #[test]
    fn reader_that_has_seen_enough_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.lines.len()), (Exit::Ok, 0));
    }
}
