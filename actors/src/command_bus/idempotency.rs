//! Sixth link: a request whose key is being served in this process waits for that answer. Across processes and
//! across time the store recognises keys, in the append itself.

use std::sync::Arc;

use dashmap::{DashMap, mapref::entry::Entry};
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{CommandRequest, CommandResult, Idempotency as Key, Middleware, Next};
use crate::{answer::recorded_under, error::CommandError};

/// Keys belong to their principal.
type Owner = (Arc<str>, Arc<str>);

/// Requests with a key that are running in this process; bounded by admission, which comes before.
#[derive(Debug, Default)]
pub(crate) struct Idempotency {
    running: Arc<DashMap<Owner, Running>>,
}

#[derive(Debug, Clone)]
struct Running {
    fingerprint: [u8; 32],
    answer: watch::Receiver<Option<CommandResult>>,
}

/// The first request with a key; when it ends, however it ends, the key is free again.
struct Leader {
    owner: Owner,
    running: Arc<DashMap<Owner, Running>>,
    answer: watch::Sender<Option<CommandResult>>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.running.remove(&self.owner);
    }
}

enum Role {
    Leads(Leader),
    Follows(Running),
}

impl Idempotency {
    fn role(&self, owner: Owner, key: &Key) -> Role {
        match self.running.entry(owner.clone()) {
            Entry::Occupied(entry) => Role::Follows(entry.get().clone()),
            Entry::Vacant(entry) => {
                let (sender, answer) = watch::channel(None);
                entry.insert(Running { fingerprint: key.fingerprint, answer });
                Role::Leads(Leader { owner, running: self.running.clone(), answer: sender })
            }
        }
    }

    async fn serve(&self, request: CommandRequest, key: Key, next: Next<'_>) -> CommandResult {
        let owner = (request.principal.name.clone(), key.key.clone());
        loop {
            match self.role(owner.clone(), &key) {
                Role::Leads(leader) => {
                    let (store, command_id) = (next.write_side.recovery.store.clone(), request.command_id);
                    let mut result = next.run(request).await;
                    if is_unrecorded(&result) {
                        // The answer of an earlier request goes before any fault of this one.
                        result = match recorded_under(&*store, &owner.0, &key).await {
                            Ok(None) => result,
                            Ok(Some(Err(CommandError::StoreUnavailable { .. }))) | Err(_) => {
                                Err(CommandError::OutcomeUnknown { command_id })
                            }
                            Ok(Some(recorded)) => recorded,
                        };
                    }
                    leader.answer.send_replace(Some(result.clone()));
                    return result;
                }
                Role::Follows(running) if running.fingerprint != key.fingerprint => {
                    return Err(CommandError::KeyReused);
                }
                Role::Follows(mut running) => {
                    let answer = running.answer.wait_for(Option::is_some);
                    let answer = timeout_at(request.deadline, answer).await.map(|answer| answer.map(|it| it.clone()));
                    match answer {
                        // The leader had less time than we have. What it stored is recognised by the key.
                        Ok(Ok(answer)) if is_out_of_time(&answer) && Instant::now() < request.deadline => {
                            let _ = running.answer.changed().await; // until it has gone
                        }
                        Ok(Ok(answer)) => return repeated(answer),
                        // The leader's caller went away without an answer: lead now.
                        Ok(Err(_)) => {}
                        Err(_) => return Err(CommandError::KeyInProgress),
                    }
                }
            }
        }
    }
}

/// Whether this is an answer that no key stands for, so that the append did not look for the key either.
fn is_unrecorded(result: &CommandResult) -> bool {
    matches!(
        result,
        Err(CommandError::Internal { .. }
            | CommandError::TypeMismatch { .. }
            | CommandError::ReservedStream { .. }
            | CommandError::SubjectErased { .. }
            | CommandError::UnknownEventType { .. }
            | CommandError::Invalid { .. })
    )
}

/// Whether the leader's own deadline is all that this answer tells of.
fn is_out_of_time(answer: &Option<CommandResult>) -> bool {
    matches!(answer, Some(Err(CommandError::DeadlineExceeded | CommandError::OutcomeUnknown { .. })))
}

/// The leader's answer, marked as a repetition.
fn repeated(answer: Option<CommandResult>) -> CommandResult {
    match answer.unwrap_or(Err(CommandError::Interrupted)) {
        Ok(accepted) => Ok(super::CommandAccepted { replayed: true, ..accepted }),
        Err(CommandError::Rejected { refusal, .. }) => Err(CommandError::Rejected { refusal, replayed: true }),
        Err(CommandError::PreconditionFailed { current_version, .. }) => {
            Err(CommandError::PreconditionFailed { current_version, replayed: true })
        }
        Err(error) => Err(error),
    }
}

impl Middleware for Idempotency {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        match request.idempotency.clone().filter(|_| !request.dry_run) {
            Some(key) => Box::pin(self.serve(request, key, next)),
            None => next.run(request),
        }
    }
}
