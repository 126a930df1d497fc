//! Branches of a running server.

use std::num::NonZeroU32;

use event_sourcing_actors::{AggregateId, BranchId, Position, branches::ForkAt};
use event_sourcing_cqrs::wire;
use hyper::Method;
use serde_json::json;

use super::{Ask, Remote, keyed, refused};
use crate::cli::{
    branch::{Merged, NewBranch},
    exit::Failure,
};

impl Remote {
    pub(crate) async fn create_branch(&self, new: &NewBranch) -> Result<wire::Branch, Failure> {
        let body = match &new.at {
            ForkAt::Sequence(id, sequence) => {
                json!({ "name": new.name, "aggregate_id": id, "from_sequence": sequence })
            }
            ForkAt::Time(instant) => json!({ "name": new.name, "at_time": instant.to_rfc3339() }),
            ForkAt::Position(position) => json!({ "name": new.name, "at_position": position }),
        };
        let headers = keyed(new.key.as_deref()).into_iter().collect();
        let ask = Ask { path: "/api/v1/branches".to_owned(), body: Some(body.to_string()), headers, ..Ask::default() };
        self.answer(ask).await
    }

    pub(crate) async fn branches(&self, limit: NonZeroU32) -> Result<wire::Page<wire::Branch, BranchId>, Failure> {
        self.get(format!("/api/v1/branches?limit={limit}")).await
    }

    pub(crate) async fn branch(&self, id: BranchId) -> Result<wire::Branch, Failure> {
        self.get(format!("/api/v1/branches/{id}")).await
    }

    pub(crate) async fn branch_diff(
        &self,
        id: BranchId,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::BranchChanges, AggregateId>, Failure> {
        self.get(format!("/api/v1/branches/{id}/diff?limit={limit}")).await
    }

    pub(crate) async fn merge_branch(&self, id: BranchId, dry_run: bool) -> Result<Merged, Failure> {
        let body = json!({ "dry_run": dry_run }).to_string();
        let ask = Ask { path: format!("/api/v1/branches/{id}/merge"), body: Some(body), ..Ask::default() };
        let (status, body) = self.exchange(ask).await?;
        let not_understood = |_| refused(status, &body);
        let problem: wire::Problem = match status {
            200 => {
                let report = serde_json::from_slice(&body).map_err(not_understood)?;
                return Ok(Merged { report, refusal: None });
            }
            409 => serde_json::from_slice(&body).map_err(not_understood)?,
            _ => return Err(refused(status, &body)),
        };
        // Without commands it is another conflict.
        match serde_json::from_slice(&body) {
            Ok(report) if problem.code == "merge-conflict" => Ok(Merged { report, refusal: Some(problem.detail) }),
            _ => Err(refused(status, &body)),
        }
    }

    pub(crate) async fn delete_branch(&self, id: BranchId) -> Result<(), Failure> {
        let ask = Ask { path: format!("/api/v1/branches/{id}"), method: Some(Method::DELETE), ..Ask::default() };
        let (status, body) = self.exchange(ask).await?;
        if status == 204 { Ok(()) } else { Err(refused(status, &body)) }
    }

    /// Position of a branch's last event: it is read from the fork on, since no answer has it alone.
    pub(super) async fn head_of_branch(&self, id: BranchId) -> Result<Position, Failure> {
        let mut head = self.branch(id).await?.fork_position;
        loop {
            let page: wire::LogPage = self.get(format!("/api/v1/events?after={head}&limit=1000")).await?;
            if page.next_cursor <= head {
                return Ok(head);
            }
            head = page.next_cursor;
        }
    }
}
