//! Branches of the configured store.

use std::num::NonZeroU32;

use event_sourcing_actors::{
    AggregateId, BranchId,
    branches::{BranchError, Branches, ForkAt, NewFork},
    command_bus::Principal,
    ports::BranchKey,
};
use event_sourcing_cqrs::wire;

use super::{Local, fingerprint};
use crate::cli::{
    branch::{Merged, NewBranch},
    exit::{Exit, Failure, invalid},
};

impl Local {
    fn branches_handle(&self) -> &Branches {
        self.app().runtime().branches()
    }

    pub(crate) async fn create_branch(&self, new: &NewBranch) -> Result<wire::Branch, Failure> {
        let place = match &new.at {
            ForkAt::Sequence(id, sequence) => format!("{sequence} {}", id.as_str()),
            ForkAt::Time(instant) => instant.to_rfc3339(),
            ForkAt::Position(position) => position.to_string(),
        };
        let key = new.key.as_deref().map(|key| BranchKey {
            principal: Principal::unguarded().name.clone(),
            key: key.into(),
            fingerprint: fingerprint(&["branch", &new.name, &place]),
        });
        let fork = NewFork { name: new.name.clone(), at: new.at.clone(), key };
        let (branch, _) = self.bounded(self.branches_handle().create(fork)).await?;
        Ok(branch.into())
    }

    pub(crate) async fn branches(&self, limit: NonZeroU32) -> Result<wire::Page<wire::Branch, BranchId>, Failure> {
        let branches = self.bounded(self.branches_handle().list(None, limit)).await?;
        let items = branches.into_iter().map(wire::Branch::from).collect();
        Ok(wire::Page::new(items, limit.get(), |last: &wire::Branch| last.branch_id))
    }

    pub(crate) async fn branch(&self, id: BranchId) -> Result<wire::Branch, Failure> {
        Ok(self.bounded(self.branches_handle().show(id)).await?.into())
    }

    // Not bounded by --timeout: long histories take their time.
    pub(crate) async fn branch_diff(
        &self,
        id: BranchId,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::BranchChanges, AggregateId>, Failure> {
        let found = self.branches_handle().diff(id, None, limit).await?;
        let items = found.into_iter().map(wire::BranchChanges::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(wire::Page::new(items, limit.get(), |last| last.aggregate_id.clone()))
    }

    pub(crate) async fn merge_branch(&self, id: BranchId, dry_run: bool) -> Result<Merged, Failure> {
        match self.branches_handle().merge(id, dry_run).await {
            Ok(merging) => Ok(Merged { report: merging.report, refusal: None }),
            Err(error @ BranchError::Refused { .. }) => {
                let refusal = Some(error.to_string());
                let BranchError::Refused { report } = error else { return Err(error.into()) };
                Ok(Merged { report, refusal })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn delete_branch(&self, id: BranchId) -> Result<(), Failure> {
        self.bounded(self.branches_handle().delete(id)).await
    }
}

impl From<BranchError> for Failure {
    fn from(error: BranchError) -> Self {
        let detail = error.to_string();
        let named = |exit, code: &str| Self::new(exit, format!("{detail} ({code})"));
        match error {
            BranchError::Unknown { .. } => named(Exit::NotFound, "unknown-branch"),
            BranchError::UnknownAggregate { .. } => named(Exit::NotFound, "unknown-aggregate"),
            BranchError::Unsupported => Self::not_found(detail),
            BranchError::Full => named(Exit::Conflict, "too-many-branches"),
            BranchError::Refused { .. } | BranchError::Contended => named(Exit::Conflict, "merge-conflict"),
            BranchError::TooLarge { .. } => named(Exit::Failed, "merge-too-large"),
            BranchError::KeyReused | BranchError::Start(_) | BranchError::Internal { .. } => {
                Self::new(Exit::Failed, detail)
            }
            BranchError::Invalid { errors } => invalid(errors),
            BranchError::Crowded | BranchError::Draining => Self::new(Exit::Unavailable, detail),
            BranchError::Store(error) => error.into(),
            BranchError::Recovery(error) => error.into(),
        }
    }
}
