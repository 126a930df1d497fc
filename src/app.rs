//! The in-process door: [`App::builder`], then [`App::execute`] and [`App::query`]; the crate's page has an example.
//!
//! An app is a store, a runtime over it, read models and a cache, and the settings of all. Several live side by side in
//! one process.

mod access;
mod cache;
mod error;
mod evidence;
mod listen;
mod master_keys;
mod presence;
mod read_side;
mod registered;
mod storage;
mod tombstones;

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Aggregate, AggregateId, Runtime, RuntimeBuilder,
    catalog::{Catalog, CatalogError},
    command_bus::{Authorizer, CommandResult, Middleware},
    id::IdError,
    ports::Traces,
    projection::Projection,
    query::QueryType,
    query_bus::{QueryRequest, QueryResult},
    saga::{Saga, SagaDefinitions, SagaTwice},
};

use read_side::ReadSide;
use storage::Opening;

pub use cache::Cache;
pub use error::AppError;
pub use evidence::vault;
pub use listen::addresses;
pub use master_keys::{MasterKeyError, key_place};
pub use presence::Presence;
pub use registered::Registered;
pub use storage::{Migrated, Storage};

use crate::{
    auth::Auth,
    domain,
    integrity::Integrity,
    sagas,
    settings::{Database, SagaDefinition, Settings},
};

/// How an app is made: from settings, with the domains of this crate unless told otherwise.
#[derive(Debug)]
pub struct AppBuilder {
    settings: Settings,
    catalog: Result<Catalog, CatalogError>,
    read_side: ReadSide,
    /// Those of the embedder; this crate's own come at the start, when the settings are known.
    sagas: SagaDefinitions,
    works_on_sagas: bool,
    follows: bool,
    upgrades: bool,
    opens_personal: bool,
    middleware: Vec<Arc<dyn Middleware>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    opening: Opening,
    seals: bool,
    guards: bool,
    traces: Option<Arc<dyn Traces>>,
}

impl AppBuilder {
    /// Takes these settings.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Sets the database: `sqlite://…`, `memory:` or `postgres://…`.
    ///
    /// # Errors
    /// [`AppError::Database`] with the accepted forms.
    pub fn database_url(mut self, url: &str) -> Result<Self, AppError> {
        self.settings.event_store.database_url = url.parse()?;
        Ok(self)
    }

    /// Starts from an empty catalog instead of this crate's four domains, without their read models and sagas.
    #[must_use]
    pub fn without_domains(self) -> Self {
        let read_side = ReadSide { has_built_in: false, ..self.read_side };
        Self { catalog: Ok(Catalog::default()), read_side, ..self }
    }

    /// Adds a saga of the embedder's.
    ///
    /// # Errors
    /// [`SagaTwice`] when there is one of this name and version.
    pub fn saga(mut self, saga: impl Saga) -> Result<Self, SagaTwice> {
        self.sagas.register(saga)?;
        Ok(self)
    }

    /// Whether this process works on sagas, if it keeps read models up to date; yes unless set. Else it only starts and
    /// shows those that other processes work on.
    #[must_use]
    pub fn work_on_sagas(self, works: bool) -> Self {
        Self { works_on_sagas: works, ..self }
    }

    /// Keeps a read model of the embedder's.
    #[must_use]
    pub fn projection(mut self, projection: impl Projection) -> Self {
        self.read_side.projections.push(Arc::new(projection));
        self
    }

    /// Answers queries of this type.
    #[must_use]
    pub fn query_type(mut self, query: QueryType) -> Self {
        self.read_side.queries.push(query);
        self
    }

    /// Whether this process begins a rebuild by itself where another version wrote a read model's rows; yes unless set.
    #[must_use]
    pub fn upgrade(self, upgrades: bool) -> Self {
        Self { upgrades, ..self }
    }

    /// Whether this process opens personal members, for which it needs the master key file; yes unless set.
    #[must_use]
    pub fn open_personal(self, opens: bool) -> Self {
        Self { opens_personal: opens, ..self }
    }

    /// Whether this process keeps read models up to date, if the settings do not say no; yes unless set. Else it only
    /// reads those that other processes keep.
    #[must_use]
    pub fn follow(self, follows: bool) -> Self {
        Self { follows, ..self }
    }

    /// Whether this process seals the log and signs checkpoints, or stands by to do it, if the settings do not say no; yes
    /// unless set. Else it only verifies and proves, and makes no key.
    #[must_use]
    pub fn seal(self, seals: bool) -> Self {
        Self { seals, ..self }
    }

    /// Adds an aggregate of the embedder's.
    ///
    /// # Errors
    /// [`AppError::Start`] when a name is taken.
    pub fn aggregate<A: Aggregate>(mut self) -> Result<Self, AppError> {
        let mut catalog = self.catalog?;
        catalog.register::<A>()?;
        self.catalog = Ok(catalog);
        Ok(self)
    }

    /// Registers the function that lifts an event of the embedder's from an old schema version to a newer one.
    #[must_use]
    pub fn upcaster(
        mut self,
        event_type: &str,
        from_version: u32,
        to_version: u32,
        function: impl Fn(serde_json::Value) -> Result<serde_json::Value, String> + Send + Sync + 'static,
    ) -> Self {
        if let Ok(catalog) = &mut self.catalog {
            catalog.upcasters_mut().register(event_type, from_version, to_version, function);
        }
        self
    }

    /// Sets who ties spans to traces of other processes; nobody unless set.
    #[must_use]
    pub fn traces(self, traces: Arc<dyn Traces>) -> Self {
        Self { traces: Some(traces), ..self }
    }

    /// Adds a link to the command bus, after validation and before admission.
    #[must_use]
    pub fn middleware(mut self, link: Arc<dyn Middleware>) -> Self {
        self.middleware.push(link);
        self
    }

    /// Sets who may do what.
    #[must_use]
    pub fn authorizer(self, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer: Some(authorizer), ..self }
    }

    /// How long to try a database that does not answer; 5 s unless set.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { opening: Opening { patience, ..self.opening }, ..self }
    }

    /// Whether to make a database file, and its folder, that are not there; yes unless set.
    #[must_use]
    pub fn create(self, create: bool) -> Self {
        Self { opening: Opening { create, ..self.opening }, ..self }
    }

    /// Whether to bring an older schema up to date; yes unless set, else an older one is refused.
    #[must_use]
    pub fn migrate(self, migrate: bool) -> Self {
        Self { opening: Opening { migrate, ..self.opening }, ..self }
    }

    /// Checks the settings and that they fit the aggregates, without opening anything.
    ///
    /// # Errors
    /// [`AppError`]; its sentence says what to change.
    pub fn check(&self) -> Result<(), AppError> {
        self.settings.validate()?;
        #[cfg(feature = "postgres")]
        if let crate::settings::Database::Postgres { url } = &self.settings.event_store.database_url {
            crate::store::PostgresOptions::new(url.expose()).check()?;
        }
        // `start` takes the error itself, which cannot be cloned.
        let Ok(catalog) = &self.catalog else { return Ok(()) };
        self.read_side.resolve(&self.settings, catalog)?;
        access::check_names(&self.settings, catalog)?;
        for name in self.settings.event_store.aggregates.keys() {
            if !catalog.entries().any(|(known, ..)| known.as_str() == name) {
                let known = catalog.entries().map(|(known, ..)| known.as_str());
                let nearest = event_sourcing_actors::catalog::nearest(name, known);
                return Err(AppError::UnknownAggregateType { name: name.clone(), nearest });
            }
        }
        Ok(())
    }

    /// Opens the store and starts the runtime.
    ///
    /// # Errors
    /// [`AppError`]; its sentence says what to change.
    pub fn start(self) -> impl Future<Output = Result<App, AppError>> + Send {
        // On the heap: what is held over the waits is too large for the futures of all callers.
        Box::pin(self.begin())
    }

    async fn begin(self) -> Result<App, AppError> {
        self.check()?;
        let (catalog, mut definitions, settings) = (self.catalog?, self.sagas, self.settings);
        if self.read_side.has_built_in {
            sagas::register(&mut definitions, &policies(&settings))?;
        }
        let read_side = self.read_side.resolve(&settings, &catalog)?;
        let event_store = settings.event_store.clone();
        let cache = Cache::open(&settings.cache)?;
        let storage = Storage::open(&event_store, self.opening).await?;
        let views = match &settings.read_models.database_url {
            Some(url) if *url != event_store.database_url => Some(open_views(&settings, url, self.opening).await?),
            _ => None,
        };
        let follows = self.follows && settings.projections.follow;
        let mut builder = RuntimeBuilder::new(storage.events(), storage.snapshots())
            .scrubber(storage.scrubber())
            .branches(storage.branches())
            .catalog(catalog)
            .sagas(definitions)
            .work_on_sagas(self.works_on_sagas && follows)
            .limits(settings.limits())
            .views(views.as_ref().unwrap_or(&storage).views())
            .follow(follows)
            .look_after_erasures(self.follows)
            .upgrade(self.upgrades)
            .snapshot_frequency(move |kind| event_store.snapshot_frequency_of(kind.as_str()));
        builder = match self.opens_personal {
            true => master_keys::into_builder(builder, &storage, &settings).await?,
            false => builder.sealed(),
        };
        builder = read_side.into_builder(builder, &settings);
        if let Some(views) = &views {
            builder = builder.scrubber(views.scrubber());
        }
        if self.guards {
            builder = access::authorized(builder, &settings);
        }
        if let Some(authorizer) = self.authorizer {
            builder = builder.authorizer(authorizer);
        }
        if let Some(traces) = self.traces {
            builder = builder.traces(traces);
        }
        if let Some(wakeups) = storage.wakeups() {
            builder = builder.wakeups(wakeups);
        }
        for link in self.middleware {
            builder = builder.middleware(link);
        }
        if let Some(port) = cache.port() {
            builder = builder.query_cache(port);
        }
        let auth = access::start(&settings, &storage, self.guards).await?;
        let runtime = Arc::new(Box::pin(builder.start()).await?);
        let integrity = evidence::start(&settings, &storage, &runtime, views.as_ref().unwrap_or(&storage), self.seals);
        let integrity = match integrity.await {
            Ok(integrity) => integrity,
            Err(error) => {
                // Nothing else was begun: what is started ends in order.
                runtime.shutdown().await;
                auth.close().await;
                storage.close().await;
                return Err(error);
            }
        };
        Ok(App { runtime, storage, views, cache, integrity, auth: Arc::new(auth), settings })
    }
}

/// How long this crate's sagas may take, and how often their steps are tried.
fn policies(settings: &Settings) -> sagas::Policies {
    let policy = |set: SagaDefinition| sagas::Policy { timeout: set.timeout(), steps: set.step_policy() };
    let set = &settings.sagas.definitions;
    sagas::Policies { transfer: policy(set.transfer), order_fulfillment: policy(set.order_fulfillment) }
}

/// A database of the read models' own.
async fn open_views(settings: &Settings, url: &Database, opening: Opening) -> Result<Storage, AppError> {
    let event_store = crate::settings::EventStore { database_url: url.clone(), ..settings.event_store.clone() };
    // Rows can be made again from the log, so a new file is never an error here.
    Storage::open(&event_store, Opening { create: true, ..opening }).await
}

/// A running app; made by [`App::builder`], ended by [`App::shutdown`].
#[derive(Debug)]
pub struct App {
    runtime: Arc<Runtime>,
    storage: Storage,
    views: Option<Storage>,
    cache: Cache,
    integrity: Option<Arc<Integrity>>,
    auth: Arc<Auth>,
    settings: Settings,
}

impl App {
    /// With the default settings and this crate's domains, on `sqlite://data/eventstore.db`.
    #[must_use]
    pub fn builder() -> AppBuilder {
        let mut catalog = Catalog::default();
        let catalog = domain::register(&mut catalog).map(|()| catalog);
        AppBuilder {
            settings: Settings::default(),
            catalog,
            read_side: ReadSide { has_built_in: true, ..ReadSide::default() },
            sagas: SagaDefinitions::default(),
            works_on_sagas: true,
            follows: true,
            upgrades: true,
            opens_personal: true,
            middleware: Vec::new(),
            authorizer: None,
            opening: Opening::default(),
            seals: true,
            guards: true,
            traces: None,
        }
    }

    /// Sends a typed command in the system's name; its events are durable when the answer comes.
    ///
    /// # Errors
    /// [`CommandError`](event_sourcing_actors::error::CommandError).
    pub async fn execute<A: Aggregate>(
        &self,
        id: impl TryInto<AggregateId, Error: Into<IdError>>,
        command: impl Into<A::Command>,
    ) -> CommandResult {
        self.runtime.execute::<A>(id, command).await
    }

    /// Asks a read model.
    ///
    /// # Errors
    /// [`QueryError`](event_sourcing_actors::query_bus::QueryError).
    pub async fn query(&self, request: QueryRequest) -> QueryResult {
        self.runtime.queries().ask(request).await
    }

    /// The runtime: bus, feed, history, actors.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// The store.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Where read models are kept: the store, or a database of their own.
    #[must_use]
    pub fn views(&self) -> &Storage {
        self.views.as_ref().unwrap_or(&self.storage)
    }

    /// Where answers of queries are kept for a while.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Evidence against tampering; `None` when the settings say no.
    #[must_use]
    pub fn integrity(&self) -> Option<&Arc<Integrity>> {
        self.integrity.as_ref()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Answers what is in flight, ends every task and closes the store. Returns whether all was answered in time.
    pub async fn shutdown(&self) -> bool {
        let was_drained = self.runtime.shutdown().await;
        if let Some(integrity) = &self.integrity {
            // The journal has ended: this seals and signs the last events.
            integrity.close().await;
        }
        self.auth.close().await;
        self.cache.close().await;
        if let Some(views) = &self.views {
            views.close().await;
        }
        self.storage.close().await;
        was_drained
    }
}
