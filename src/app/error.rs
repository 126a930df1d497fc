//! Why an app does not start.

use event_sourcing_actors::{
    catalog::CatalogError, ports::StoreError, query::QueryTypeTaken, runtime::StartError, saga::SagaTwice,
};

use super::MasterKeyError;
use crate::{auth::AuthError, projections::DeclarationError, settings::SettingsError, store::OpenError};

/// Why an app does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database URL is not one.
    #[error(transparent)]
    Database(#[from] crate::settings::DatabaseError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file is not there and was not to be made.
    #[error("{database} was not found: nothing has been stored there yet")]
    Missing {
        /// The database, without secrets.
        database: String,
    },
    /// The program was built without the store that is asked for.
    #[error("this program was built without the feature {feature:?}, which {database} needs")]
    MissingFeature {
        /// The feature.
        feature: &'static str,
        /// The database, without secrets.
        database: String,
    },
    /// The settings name an aggregate type that nobody registered.
    #[error("event_store.aggregates.{name} names no aggregate type{}", did_you_mean(nearest))]
    UnknownAggregateType {
        /// As set.
        name: String,
        /// Known names close to it.
        nearest: Vec<String>,
    },
    /// The settings of a single projection are about none that there is.
    #[error(transparent)]
    UnknownProjection(#[from] crate::projections::UnknownProjection),
    /// The settings of a single query type are about none that there is.
    #[error(transparent)]
    UnknownQueryType(#[from] crate::queries::UnknownQueryType),
    /// The settings of a single command type are about none that there is.
    #[error("commands.types.{name} names no command type{}", did_you_mean(nearest))]
    UnknownCommandType {
        /// As set.
        name: String,
        /// Known names close to it.
        nearest: Vec<String>,
    },
    /// Nobody can be let in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A declared read model is wrong.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// Two query types have one name.
    #[error(transparent)]
    QueryType(#[from] QueryTypeTaken),
    /// Two sagas have one name and version.
    #[error(transparent)]
    Saga(#[from] SagaTwice),
    /// The Redis URL is not one.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Cache(#[from] crate::cache::redis::CacheError),
    /// Keys and checkpoints cannot be kept.
    #[error("the folder of the evidence, {folder}, cannot be used: {source}; integrity.directory names another")]
    Integrity {
        /// The folder.
        folder: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The master keys of personal data are not to be had.
    #[error(transparent)]
    MasterKeys(#[from] MasterKeyError),
    /// The store failed right after it was opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The aggregates do not fit together.
    #[error(transparent)]
    Start(#[from] StartError),
}

fn did_you_mean(nearest: &[String]) -> String {
    nearest.first().map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default()
}

impl From<CatalogError> for AppError {
    fn from(error: CatalogError) -> Self {
        Self::Start(error.into())
    }
}
