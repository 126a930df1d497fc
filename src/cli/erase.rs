//! `erase SUBJECT`: take one person's data out of everything but the log, where it is no longer readable.

use clap::Args;
use event_sourcing_actors::AggregateId;

use super::{Context, exit::Failure, operation::finish, target::Target};

/// Erase one person's data.
///
/// The person's key is destroyed first, so that nothing personal in the log can be read any more, in no backup made from
/// then on. Then read models, snapshots and caches are swept, and the database overwrites what was removed. This cannot
/// be undone.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The person: the id of the aggregate whose events hold the data
    subject: AggregateId,
    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

impl Erase {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open_following(&context).await?;
        let result = match target.erase(&self.subject).await {
            Ok(begun) => finish(&target, context.output, begun, !self.no_wait).await,
            Err(failure) => Err(failure),
        };
        target.close().await;
        result
    }
}
