//! Sagas as callers see them: start, show, list, wait, retry, cancel.
//!
//! Any process may ask. What is asked is decided and recorded in the instance's stream at once; the process that owns the
//! index works on it.

mod desk;
mod inbox;
pub(crate) mod index;
pub(crate) mod life;
mod list;
mod news;
mod recent;
mod router;
mod timers;
mod worker;

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use desk::{Desk, Telling, Told};
pub use index::{INDEX, ListedSaga};
pub use list::{SagaFilter, SagaPage};

use crate::{
    aggregate::FieldError,
    command_bus::{Idempotency, Principal, RequestContext},
    error::CommandError,
    failpoint,
    freshness::Freshness,
    id::{AggregateId, CommandId},
    ports::StoreError,
    recovery::RecoveryError,
    saga::{Initiator, SAGA_NOT_FOUND, SagaDefinitions, SagaOrder, SagaRecord, StartOrder},
};

/// How often an instance is looked at that another process works on.
const WATCH_REMOTE: Duration = Duration::from_millis(100);
/// The same for one that this process works on, which tells by itself.
const WATCH_LOCAL: Duration = Duration::from_secs(1);

/// The sagas of a runtime. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Sagas {
    desk: Arc<Desk>,
    freshness: Freshness,
}

/// A wish to start an instance.
#[derive(Debug, Clone)]
pub struct StartSaga {
    /// Which saga.
    pub saga_type: String,
    /// What it works on.
    pub data: Value,
    /// How long it may take, instead of the definition's time.
    pub timeout: Option<Duration>,
    /// Who asks, and how the request is recognised.
    pub caller: SagaCaller,
}

/// Who asks something of a saga.
#[derive(Debug, Clone)]
pub struct SagaCaller {
    /// In whose name; a saga sends its commands in the name of whoever started it.
    pub principal: Principal,
    /// Correlation, causation, trace.
    pub context: RequestContext,
    /// Recognises a repeated request.
    pub idempotency: Option<Idempotency>,
    /// When the caller stops waiting; the command deadline bounds it.
    pub deadline: Option<Instant>,
}

impl SagaCaller {
    /// The process itself, with a context of its own.
    #[must_use]
    pub fn system() -> Self {
        let (principal, context) = (Principal::system(), RequestContext::new());
        Self { principal, context, idempotency: None, deadline: None }
    }
}

/// An instance, and the names of its definition's steps.
#[derive(Debug, Clone)]
pub struct SagaReport {
    /// Everything known of it.
    pub record: Arc<SagaRecord>,
    /// Its steps in order, as far as they are known now.
    pub steps: Vec<String>,
    /// Whether this is the recorded answer of an earlier, equal request.
    pub replayed: bool,
}

/// Why a saga cannot be started, shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum SagaCallError {
    /// No saga has this name.
    #[error("unknown saga type {saga_type:?}")]
    UnknownType {
        /// As sent.
        saga_type: String,
        /// Known names close to it, nearest first.
        nearest: Vec<String>,
    },
    /// Something inside its data is wrong.
    #[error("the data of the saga is not valid")]
    Invalid {
        /// What, where; pointers start at the data.
        errors: Vec<FieldError>,
    },
    /// There is no such instance.
    #[error("there is no saga {:?}", .saga_id.as_str())]
    UnknownSaga {
        /// As asked for.
        saga_id: AggregateId,
    },
    /// Its stream could not be changed, or it refuses: a domain's refusal has the code.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its stream cannot be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The store does not answer, or what it keeps in the index is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the sagas of this process are; asks nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaHealth {
    /// Whether this process works on the sagas; else another does, or none yet.
    pub is_working_here: bool,
    /// Instances set aside until an operator acts, as far as this process works on them.
    pub failed: u64,
    /// Instances that something goes wrong with now, some of them: their ids and reasons.
    pub troubled: Vec<(AggregateId, String)>,
}

impl Sagas {
    /// The sagas by name.
    #[must_use]
    pub fn definitions(&self) -> &SagaDefinitions {
        &self.desk.definitions
    }

    /// Starts an instance; it is durable when this returns, and goes on by itself.
    ///
    /// # Errors
    /// [`SagaCallError::UnknownType`], [`SagaCallError::Invalid`], [`SagaCallError::Command`].
    pub async fn start(&self, request: StartSaga) -> Result<SagaReport, SagaCallError> {
        self.start_as(AggregateId::from_uuid(Uuid::now_v7()), request).await
    }

    /// The same, and waits until it goes on no more, by itself, or until an instant.
    ///
    /// # Errors
    /// As [`Self::start`], and [`SagaCallError::Recovery`].
    pub async fn run(&self, request: StartSaga, until: Instant) -> Result<SagaReport, SagaCallError> {
        let id = AggregateId::from_uuid(Uuid::now_v7());
        // Before the start, so that no news of it is missed.
        let watching = Watching::new(&self.desk, &id);
        let started = self.start_as(id.clone(), request).await?;
        if started.record.saga_id == id && !started.replayed {
            return self.follow(started, watching, until).await;
        }
        drop(watching);
        self.wait(&started.record.saga_id, until).await
    }

    async fn start_as(&self, id: AggregateId, request: StartSaga) -> Result<SagaReport, SagaCallError> {
        let StartSaga { saga_type, data, timeout, caller } = request;
        let Some(saga) = self.desk.definitions.newest(&saga_type) else {
            let nearest = self.desk.definitions.nearest(&saga_type);
            return Err(SagaCallError::UnknownType { saga_type, nearest });
        };
        let errors = saga.check(&data);
        if !errors.is_empty() {
            return Err(SagaCallError::Invalid { errors });
        }
        let initiator = Initiator { name: caller.principal.name.clone(), roles: caller.principal.roles.to_vec() };
        let order = StartOrder { saga_type, data, timeout, initiator, trigger: None, key: None };
        failpoint::pass("saga-start-decided");
        let telling = Telling { is_new_stream: true, ..telling(caller) };
        let told = self.desk.tell(&id, SagaOrder::Start(order), telling).await?;
        failpoint::pass("saga-started");
        if told.accepted.aggregate_id != id {
            // An earlier, equal request named it.
            self.desk.bus.write_side.registry.let_go(&id);
        }
        self.taken_up(told).await
    }

    /// An instance as it stands.
    ///
    /// # Errors
    /// [`SagaCallError::UnknownSaga`], [`SagaCallError::Recovery`].
    pub async fn show(&self, id: &AggregateId) -> Result<SagaReport, SagaCallError> {
        let record = self.desk.load(id).await?;
        let record = record.ok_or_else(|| SagaCallError::UnknownSaga { saga_id: id.clone() })?;
        Ok(self.report(record, false))
    }

    /// Waits until an instance goes on no more, by itself, or until an instant; as it stands then.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub async fn wait(&self, id: &AggregateId, until: Instant) -> Result<SagaReport, SagaCallError> {
        let watching = Watching::new(&self.desk, id);
        let known = self.show(id).await?;
        self.follow(known, watching, until).await
    }

    async fn follow(
        &self,
        from: SagaReport,
        mut watching: Watching,
        until: Instant,
    ) -> Result<SagaReport, SagaCallError> {
        let mut record = from.record;
        while record.status.is_open() && Instant::now() < until {
            let pause = if self.desk.may_work() { WATCH_LOCAL } else { WATCH_REMOTE };
            match watching.news(until.min(Instant::now() + pause)).await {
                Some(told) => record = told,
                None => match self.desk.load(&record.saga_id).await {
                    Ok(Some(loaded)) => record = loaded,
                    // What is known was true: a store that stumbles ends no wait.
                    Ok(None) | Err(RecoveryError::Store(_)) => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Ok(self.report(record, from.replayed))
    }

    /// Lets an instance that was set aside go on.
    ///
    /// # Errors
    /// [`SagaCallError::UnknownSaga`]; [`SagaCallError::Command`] with a refusal when it goes on by itself, or is over.
    pub async fn retry(&self, id: &AggregateId, caller: SagaCaller) -> Result<SagaReport, SagaCallError> {
        self.change(id, SagaOrder::Retry, caller).await
    }

    /// Has an instance undo what it did.
    ///
    /// # Errors
    /// [`SagaCallError::UnknownSaga`]; [`SagaCallError::Command`] with a refusal when it is over.
    pub async fn cancel(&self, id: &AggregateId, caller: SagaCaller) -> Result<SagaReport, SagaCallError> {
        self.change(id, SagaOrder::Cancel, caller).await
    }

    async fn change(
        &self,
        id: &AggregateId,
        order: SagaOrder,
        caller: SagaCaller,
    ) -> Result<SagaReport, SagaCallError> {
        let unknown = || SagaCallError::UnknownSaga { saga_id: id.clone() };
        match self.desk.tell(id, order, telling(caller)).await {
            Ok(told) => {
                self.desk.is_well(id);
                self.taken_up(told).await
            }
            Err(CommandError::Rejected { refusal, .. }) if refusal.code == SAGA_NOT_FOUND => Err(unknown()),
            Err(CommandError::TypeMismatch { .. }) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }

    /// Work begins on what was decided, if it is this process's to do.
    async fn taken_up(&self, told: Told) -> Result<SagaReport, SagaCallError> {
        let (id, replayed) = (&told.accepted.aggregate_id, told.accepted.replayed);
        let Some(record) = told.record else {
            let report = self.show(id).await?;
            return Ok(SagaReport { replayed, ..report });
        };
        self.desk.work_on(id, Some(record.clone()));
        Ok(self.report(record, replayed))
    }

    fn report(&self, record: Arc<SagaRecord>, replayed: bool) -> SagaReport {
        let steps = self.desk.definitions.steps_of(&record);
        SagaReport { record, steps, replayed }
    }

    /// How they are.
    #[must_use]
    pub fn health(&self) -> SagaHealth {
        let failed =
            self.desk.definitions.names().map(|name| self.desk.metrics.failed.with_label_values(&[name]).get());
        SagaHealth {
            is_working_here: self.desk.news.tenure().is_some(),
            failed: failed.map(|count| u64::try_from(count).unwrap_or(0)).sum(),
            troubled: self.desk.troubled(10).into_iter().map(|(id, trouble)| (id, trouble.reason)).collect(),
        }
    }
}

/// Hears how far workers of this process bring an instance.
#[derive(Debug)]
struct Watching {
    desk: Arc<Desk>,
    id: AggregateId,
    news: Option<watch::Receiver<Option<Arc<SagaRecord>>>>,
}

impl Watching {
    fn new(desk: &Arc<Desk>, id: &AggregateId) -> Self {
        Self { desk: desk.clone(), id: id.clone(), news: Some(desk.watch(id)) }
    }

    /// The next news; none when there was none in time.
    async fn news(&mut self, until: Instant) -> Option<Arc<SagaRecord>> {
        let news = self.news.as_mut()?;
        timeout_at(until, news.changed()).await.ok()?.ok()?;
        news.borrow_and_update().clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.news = None;
        self.desk.unwatch(&self.id);
    }
}

fn telling(caller: SagaCaller) -> Telling {
    Telling {
        command_id: CommandId::generate(),
        principal: caller.principal,
        context: caller.context,
        idempotency: caller.idempotency,
        is_new_stream: false,
        deadline: caller.deadline,
    }
}
