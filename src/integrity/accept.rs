//! An operator accepts that the log went back: the one way in which checkpoints begin anew.

use event_sourcing_actors::ports::StoreError;

use super::{
    BeginError, Integrity,
    note::{Checkpoint, Origin, SignedCheckpoint},
    proofs,
    report::Report,
    tree::TreeHead,
    vault::Vault,
    verify::{Progress, VerifyError, Wanted},
};

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The log is not even sound by itself.
    #[error("the log is not sound by itself: {}", .0.first_bad.as_ref().map(super::FirstBad::sentence).unwrap_or_default())]
    Unsound(Box<Report>),
    /// It could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The folder of the evidence cannot be read or written.
    #[error("the folder of the evidence: {0}")]
    Folder(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BeginError> for AcceptError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Checkpoint(reason) => Self::Verify(VerifyError::Checkpoint(reason)),
            BeginError::Folder(error) => Self::Folder(error),
            BeginError::Store(error) => Self::Store(error),
        }
    }
}

/// What was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What the log was found to be, by itself.
    pub report: Report,
    /// The first checkpoint of the new origin; `None` if the log had not gone back.
    pub checkpoint: Option<SignedCheckpoint>,
    /// The largest position that was ever signed before.
    pub before: u64,
}

impl Integrity {
    /// Accepts the log as it is, once it is sound by itself: checksums, chains, and the stored tree. A log that continues
    /// every checkpoint needs no acceptance; it only takes appends again.
    ///
    /// # Errors
    /// [`AcceptError`]; the store has accepted nothing then. The first checkpoint of the new origin may lie outside already,
    /// where that did not answer in time: do it again.
    pub async fn accept_rollback(&self, progress: Progress<'_>) -> Result<Accepted, AcceptError> {
        let outside = self.vault.with(Vault::outside).await?;
        if outside.altered.is_empty() {
            let wanted = self.wanted(None).await?;
            let report = self.verify(wanted, progress).await?;
            let state = self.store.tree().await?;
            if report.intact
                && outside.newest().is_none_or(|newest| newest.checkpoint.origin.acceptances == state.acceptances)
            {
                if let Some(note) = state.checkpoint.filter(|_| state.is_read_only) {
                    self.store.accept(state.acceptances, note).await?;
                }
                let before = report.checkpoint_position.unwrap_or(0);
                return Ok(Accepted { report, checkpoint: None, before });
            }
        }
        let report = self.verify(Wanted::default(), progress).await?;
        if !report.intact {
            return Err(AcceptError::Unsound(Box::new(report)));
        }
        let state = self.store.tree().await?;
        let root = proofs::root(&*self.store, state.size).await?;
        let root = root.ok_or_else(|| StoreError::Corrupt { reason: "the stored tree is incomplete".to_owned() })?;
        let newest = outside.newest().map(|newest| newest.checkpoint);
        let last = newest.map_or(0, |newest| newest.origin.acceptances).max(state.acceptances);
        let origin = Origin { store_id: self.store.tree_id(), acceptances: last + 1 };
        let checkpoint = Checkpoint { origin, head: TreeHead { size: state.size, root } };
        let signed = self.vault.with(move |vault| {
            let signed = SignedCheckpoint::sign(checkpoint, &vault.signer(origin)?);
            vault.begin_anew(&signed)?;
            Ok(signed)
        });
        let signed = signed.await?;
        self.store.accept(origin.acceptances, signed.note.clone()).await?;
        let before = newest.map_or(0, |newest| newest.head.size);
        Ok(Accepted { report, checkpoint: Some(signed), before })
    }
}
