//! Keys and audit beside a log in memory: they live and end with the process, as the log does.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::StoreError;
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::{
    port::{ACTIVE_TOKENS_MAX, AccessStore, AuditRecord, TokenRecord},
    retention::first_id,
};

/// Lines of the audit that are kept: memory is no place for more.
const LINES_MAX: usize = 100_000;

/// Keys and audit in memory.
#[derive(Debug, Default)]
pub struct MemoryAccess {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tokens: BTreeMap<Uuid, TokenRecord>,
    /// In the order of their ids.
    lines: VecDeque<AuditRecord>,
    /// What may leave.
    pruned_before: Option<DateTime<Utc>>,
}

impl MemoryAccess {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change is whole when the lock is let go, so a panic elsewhere harms nothing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, token: TokenRecord) -> Result<bool, StoreError> {
        let mut kept = self.lock();
        if kept.tokens.values().any(|known| known.id == token.id || known.digest == token.digest) {
            return Err(StoreError::Refused { reason: "there is such a key already".to_owned() });
        }
        let active = kept.tokens.values().filter(|known| known.is_active(token.created_at)).count();
        if active >= ACTIVE_TOKENS_MAX as usize {
            return Ok(false);
        }
        kept.tokens.insert(token.id, token);
        Ok(true)
    }

    fn append(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError> {
        let mut kept = self.lock();
        let is_known = |line: &AuditRecord| kept.lines.binary_search_by_key(&line.id, |known| known.id).is_ok();
        if lines.iter().any(is_known) {
            return Err(StoreError::Refused { reason: "there is such a line already".to_owned() });
        }
        for mut line in lines {
            line.target = line.target.replace('\0', "\u{fffd}");
            let place = kept.lines.partition_point(|known| known.id < line.id);
            kept.lines.insert(place, line);
        }
        while kept.lines.len() > LINES_MAX {
            kept.lines.pop_front();
        }
        Ok(())
    }
}

impl Kept {
    fn is_older(before: DateTime<Utc>) -> impl Fn(&AuditRecord) -> bool {
        move |line| line.id < first_id(before) && line.at < before
    }
}

impl AccessStore for MemoryAccess {
    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move { self.add(token) }.boxed()
    }

    fn tokens(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        async move {
            let kept = self.lock();
            let all = kept.tokens.values().rev().filter(|token| before.is_none_or(|before| token.id < before));
            Ok(all.take(limit.get() as usize).cloned().collect())
        }
        .boxed()
    }

    fn active_tokens(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        async move { Ok(self.lock().tokens.values().filter(|token| token.is_active(now)).cloned().collect()) }.boxed()
    }

    fn revoke_token(&self, id: Uuid, at: DateTime<Utc>) -> BoxFuture<'_, Result<Option<TokenRecord>, StoreError>> {
        async move {
            let mut kept = self.lock();
            Ok(kept.tokens.get_mut(&id).map(|token| {
                token.revoked_at.get_or_insert(at);
                token.clone()
            }))
        }
        .boxed()
    }

    fn record(&self, lines: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.append(lines) }.boxed()
    }

    fn announce_pruning(&self, before: DateTime<Utc>, line: AuditRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            {
                let mut kept = self.lock();
                let is_announced = kept.pruned_before.is_some_and(|known| known >= before);
                if is_announced || !kept.lines.iter().any(Kept::is_older(before)) {
                    return Ok(false);
                }
                kept.pruned_before = Some(before);
            }
            self.append(vec![line]).map(|()| true)
        }
        .boxed()
    }

    fn prune_audit(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            let mut kept = self.lock();
            if kept.pruned_before.is_none_or(|known| known < before) {
                let reason = "only what was announced leaves the audit".to_owned();
                return Err(StoreError::Refused { reason });
            }
            let (is_older, mut left) = (Kept::is_older(before), limit.get());
            let lines = kept.lines.len();
            kept.lines.retain(|line| {
                let leaves = left > 0 && is_older(line);
                left -= u32::from(leaves);
                !leaves
            });
            Ok((lines - kept.lines.len()) as u64)
        }
        .boxed()
    }

    fn audit(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        async move {
            let kept = self.lock();
            let all = kept.lines.iter().rev().filter(|line| before.is_none_or(|before| line.id < before));
            Ok(all.take(limit.get() as usize).cloned().collect())
        }
        .boxed()
    }
}
