//! A server that asks who comes in, and keys for it.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    RuntimeBuilder,
    catalog::Catalog,
    memory::MemoryStore,
    ports::{Clock, SystemClock},
    query::QueryCatalog,
    testing::clock::ManualClock,
};
use event_sourcing_cqrs::{
    auth::{Auth, Method, NewToken, Parts, Role, authorizer::RoleAuthorizer, memory::MemoryAccess, port::AccessStore},
    domain,
    http::HttpOptions,
    projections, queries,
};

use super::http::{Reply, TestServer};

/// A guarded server with its keys.
pub struct Guarded {
    pub server: TestServer,
    pub auth: Arc<Auth>,
    pub store: Arc<dyn AccessStore>,
    pub clock: Arc<ManualClock>,
}

impl Guarded {
    /// By API keys, over the memory store, with the four domains and their read models.
    pub async fn start() -> Self {
        Self::with(Method::ApiKey(Vec::new()), HttpOptions::default(), RoleAuthorizer::default()).await
    }

    pub async fn with(method: Method, options: HttpOptions, roles: RoleAuthorizer) -> Self {
        let store: Arc<dyn AccessStore> = Arc::new(MemoryAccess::default());
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let parts = Parts { store: store.clone(), clock: clock.clone(), method, guards: true };
        let auth = Arc::new(Auth::start(parts).await.unwrap());
        let (mut catalog, mut types) = (Catalog::default(), QueryCatalog::default());
        domain::register(&mut catalog).unwrap();
        queries::register(&mut types).unwrap();
        let events = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let roles = Arc::new(roles);
        let builder = RuntimeBuilder::new(events.clone(), events).catalog(catalog).throwaway_keys();
        let builder = builder.projections(projections::all()).query_catalog(types);
        let builder = builder.authorizer(roles.clone()).query_authorizer(roles);
        let server = TestServer::over(builder, options, |context| context.auth(auth.clone())).await;
        Self { server, auth, store, clock }
    }

    /// A key with these roles.
    pub async fn key(&self, name: &str, roles: &[Role]) -> String {
        self.key_until(name, roles, None).await
    }

    pub async fn key_until(&self, name: &str, roles: &[Role], expires_at: Option<DateTime<Utc>>) -> String {
        let new = NewToken { name: Some(name.to_owned()), roles: roles.to_vec(), expires_at };
        self.auth.create_token(new, "test").await.unwrap().0.expose().to_owned()
    }

    /// One key for each role, under the role's name.
    pub async fn keys(&self) -> BTreeMap<Role, String> {
        let mut keys = BTreeMap::new();
        for role in Role::ALL {
            keys.insert(role, self.key(role.as_str(), &[role]).await);
        }
        keys
    }

    /// A request with a key, or without any.
    pub async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Reply {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.server.send(method, path, &headers, body.as_bytes()).await
    }
}
