//! Verification of one stream: its chain, and of each event the proof that it is in the tree of the last checkpoint.

use event_sourcing_actors::ports::StoreError;

use super::{
    check::{Checked, Checker, leaf},
    note::SignedCheckpoint,
    port::{StoredRow, TreeStore},
    proofs,
    report::{FirstBadEvent, StreamReport},
    tiles::{Tiles, needed},
    tree,
};

/// Rows read at once.
const ROWS_MAX: u32 = 256;

/// Verifies a stream; `None` if it has no events.
///
/// That its last events were cut off is found by verifying the whole log only: a stream alone has no end on record.
///
/// # Errors
/// [`StoreError`].
pub async fn verify_stream(
    store: &dyn TreeStore,
    stream: &str,
    checkpoint: Option<&SignedCheckpoint>,
) -> Result<Option<StreamReport>, StoreError> {
    let mut report = StreamReport {
        aggregate_id: stream.to_owned(),
        intact: true,
        first_bad: None,
        version: 0,
        proven_events: 0,
        unsealed_events: 0,
        checkpoint_position: checkpoint.map(|signed| signed.checkpoint.head.size),
    };
    let mut chain = Checker::of_stream();
    let mut known = Tiles::default();
    let mut from = i64::MIN;
    loop {
        let rows = store.stream_rows(stream.as_bytes(), from, ROWS_MAX).await?;
        for row in rows.iter() {
            report.version = row.sequence.cast_unsigned();
            let reason = match chain.check_in_stream(&row) {
                Checked::Fault(fault) => Some(fault.reason),
                _ => proven(store, &row, checkpoint, &mut known, &mut report).await?,
            };
            if let Some(reason) = reason {
                let sequence = chain.next_in_stream().min(row.sequence.max(0).cast_unsigned());
                let position = u64::try_from(row.position).ok();
                report.first_bad = Some(FirstBadEvent { sequence, position, reason: reason.to_owned() });
                report.intact = false;
                return Ok(Some(report));
            }
            from = row.sequence.saturating_add(1);
        }
        if rows.len() < ROWS_MAX as usize {
            return Ok((report.version > 0).then_some(report));
        }
    }
}

/// Why an event is not proven to be in the tree, if it should be.
async fn proven(
    store: &dyn TreeStore,
    row: &StoredRow<'_>,
    checkpoint: Option<&SignedCheckpoint>,
    known: &mut Tiles,
    report: &mut StreamReport,
) -> Result<Option<&'static str>, StoreError> {
    let Some(head) = checkpoint.map(|signed| signed.checkpoint.head) else {
        report.unsealed_events += 1;
        return Ok(None);
    };
    let (Some(leaf), Ok(position @ 1..)) = (leaf(row), u64::try_from(row.position)) else {
        return Ok(Some("it has no place in the log"));
    };
    if position > head.size {
        report.unsealed_events += 1;
        return Ok(None);
    }
    let spans = tree::inclusion(position - 1, head.size);
    if needed(&spans).iter().any(|id| known.get(*id).is_none()) {
        *known = proofs::tiles_of(store, &spans).await?;
    }
    let is_included =
        known.proof(&spans).is_some_and(|proof| tree::is_included(&leaf, position - 1, head.size, &proof, &head.root));
    if !is_included {
        return Ok(Some("it is not the event that was sealed"));
    }
    report.proven_events += 1;
    Ok(None)
}
