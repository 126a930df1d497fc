//! Who may come in and do what, as the settings say.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use event_sourcing_actors::{
    RuntimeBuilder,
    catalog::{Catalog, nearest},
    ports::SystemClock,
};

use super::{App, AppBuilder, AppError, Storage};
use crate::{
    auth::{Auth, Method, Parts, authorizer::RoleAuthorizer, memory::MemoryAccess, port::AccessStore},
    settings::{AuthMode, Settings, SettingsError},
};

/// What is sent to aggregates under names that no aggregate has.
const OWN_COMMANDS: [&str; 4] = ["AppendEvents", "StartSaga", "CancelSaga", "RetrySaga"];

impl AppBuilder {
    /// Whether callers of this process have to prove who they are, if the settings say so; yes unless set. A word on the
    /// store itself asks nobody: whoever can open the database may do anything to it.
    #[must_use]
    pub fn guard(self, guards: bool) -> Self {
        Self { guards, ..self }
    }
}

impl App {
    /// Who may come in, their keys, and the audit.
    #[must_use]
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }
}

/// Checks that roles are demanded of commands that there are.
pub(super) fn check_names(settings: &Settings, catalog: &Catalog) -> Result<(), AppError> {
    let known = || {
        let commands = catalog.entries().flat_map(|(_, commands, _)| commands.iter().copied());
        commands.chain(OWN_COMMANDS)
    };
    match settings.commands.types.keys().find(|name| !known().any(|known| known == *name)) {
        None => Ok(()),
        Some(name) => Err(AppError::UnknownCommandType { name: name.clone(), nearest: nearest(name, known()) }),
    }
}

/// Roles on the buses, where callers have to prove who they are.
pub(super) fn authorized(builder: RuntimeBuilder, settings: &Settings) -> RuntimeBuilder {
    if settings.auth.mode == AuthMode::None {
        return builder;
    }
    let commands = settings.commands.types.iter().filter_map(|(name, own)| Some((name.clone(), own.role?)));
    let queries = settings.queries.types.iter().filter_map(|(name, own)| Some((name.clone(), own.role?)));
    let roles = RoleAuthorizer { commands: commands.collect(), queries: queries.collect::<BTreeMap<_, _>>() };
    let roles = Arc::new(roles);
    builder.authorizer(roles.clone()).query_authorizer(roles)
}

/// Lets callers in, or only looks after keys and the audit.
pub(super) async fn start(settings: &Settings, storage: &Storage, guards: bool) -> Result<Auth, AppError> {
    let store: Arc<dyn AccessStore> = match storage {
        Storage::Memory(_) => Arc::new(MemoryAccess::default()),
        #[cfg(feature = "sqlite")]
        Storage::Sqlite(store) => Arc::new(store.clone()),
        #[cfg(feature = "postgres")]
        Storage::Postgres(store) => Arc::new(store.clone()),
    };
    let method = match settings.auth.mode {
        AuthMode::None => Method::None,
        AuthMode::ApiKey => Method::ApiKey(configured(settings)?),
        AuthMode::Jwt => jwt(settings)?,
    };
    let auth = Auth::start(Parts { store, clock: Arc::new(SystemClock), method, guards }).await?;
    if let Some(days) = NonZeroU32::new(settings.auth.audit_retention_days).filter(|_| guards) {
        auth.retain(days);
    }
    Ok(auth)
}

fn invalid(key: &str, problem: impl Into<String>) -> AppError {
    let (key, origin, problem) = (key.to_owned(), "settings".to_owned(), problem.into());
    SettingsError::Invalid { key, origin, problem }.into()
}

fn configured(settings: &Settings) -> Result<Vec<crate::auth::ConfiguredKey>, AppError> {
    let keys = settings.auth.keys.iter().map(|line| line.parsed().map_err(|problem| invalid("auth.keys", problem)));
    keys.collect()
}

#[cfg(not(feature = "jwt"))]
fn jwt(_: &Settings) -> Result<Method, AppError> {
    Err(invalid("auth.mode", "this program was built without the feature \"jwt\"; the modes are none and api_key"))
}

#[cfg(feature = "jwt")]
fn jwt(settings: &Settings) -> Result<Method, AppError> {
    use std::time::Duration;

    use crate::auth::jwt::{FETCH_PAUSE, JwtOptions, KEEP_MAX, KeySource};

    let jwt = &settings.auth.jwt;
    let source = match (&jwt.jwks_file, &jwt.jwks_url) {
        (Some(path), _) => KeySource::File(path.clone()),
        (None, Some(url)) => KeySource::Url(url.expose().to_owned()),
        (None, None) => return Err(invalid("auth.jwt.jwks_url", "the set of public keys is missing")),
    };
    Ok(Method::Jwt(JwtOptions {
        source,
        issuer: jwt.issuer.clone().unwrap_or_default(),
        audience: jwt.audience.clone(),
        algorithms: jwt.algorithms.clone(),
        roles_claim: jwt.roles_claim.clone(),
        leeway: Duration::from_secs(jwt.leeway_s),
        refresh: Duration::from_secs(jwt.refresh_s),
        fetch_pause: FETCH_PAUSE,
        keep: KEEP_MAX,
    }))
}
