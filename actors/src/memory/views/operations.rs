//! Operations in memory: news of them, their end with their process, and how long they stay.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Contents;
use crate::ports::{Operation, OperationStatus, OperationUpdate, OperationsKept};

impl Contents {
    pub(super) fn update(&mut self, update: OperationUpdate, now: DateTime<Utc>) {
        let running = self.operations.get_mut(&update.id).filter(|it| it.status == OperationStatus::Running);
        if let Some(operation) = running {
            let OperationUpdate { id: _, status, done, total, result, error } = update;
            *operation = Operation { status, done, total, result, error, updated_at: now, ..operation.clone() };
        }
    }

    pub(super) fn end_silent(&mut self, kind: &str, silence: Duration, reason: &str, now: DateTime<Utc>) -> Vec<Uuid> {
        let since = before(now, silence);
        let is_silent =
            |it: &Operation| it.kind == kind && it.status == OperationStatus::Running && it.updated_at <= since;
        let silent = self.operations.values_mut().filter(|operation| is_silent(operation));
        let ended = silent.map(|operation| {
            (operation.status, operation.updated_at) = (OperationStatus::Failed, now);
            operation.error = Some(reason.to_owned());
            operation.id
        });
        ended.collect()
    }

    pub(super) fn prune_operations(&mut self, kept: OperationsKept, limit: NonZeroU32, now: DateTime<Utc>) -> u64 {
        let since = before(now, kept.age);
        let over = self.operations.len().saturating_sub(kept.newest_max as usize);
        let old = self.operations.values().enumerate().filter(|(place, operation)| {
            operation.status != OperationStatus::Running && (*place < over || operation.updated_at < since)
        });
        let old: Vec<Uuid> = old.map(|(_, operation)| operation.id).take(limit.get() as usize).collect();
        old.iter().for_each(|id| drop(self.operations.remove(id)));
        old.len() as u64
    }
}

/// So long before.
fn before(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    chrono::Duration::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or(DateTime::UNIX_EPOCH)
}
