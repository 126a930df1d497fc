//! `event-sourcing-cqrs`: an event-sourced application server, and a library to embed.
//!
//! Aggregates are supervised actors that decide one command at a time; their events go to SQLite, PostgreSQL or memory, and
//! nobody hears "done" before that. Read models, sagas, history and evidence follow from the log. The runtime is the crate
//! [`event_sourcing_actors`]; here are the stores, the domains, the settings, the HTTP door and the command line.
//!
//! ```
//! use event_sourcing_actors::query_bus::QueryRequest;
//! use event_sourcing_cqrs::{
//!     app::App,
//!     domain::account::{Account, CreateAccount, DepositMoney},
//! };
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let app = App::builder().database_url("memory:")?.start().await?;
//! let create = CreateAccount { account_id: None, owner: "Ada".to_owned(), initial_balance: 100 };
//! app.execute::<Account>("acc-1", create).await?;
//! let accepted = app.execute::<Account>("acc-1", DepositMoney { amount: 50, ..Default::default() }).await?;
//! assert_eq!(accepted.version.0, 2);
//!
//! let mut query = QueryRequest::new("GetAccountBalance", r#"{"account_id":"acc-1"}"#)?;
//! // Reads what was just written, on whichever replica.
//! query.min_position = Some(accepted.position);
//! let answer = app.query(query).await?;
//! assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.data)?["balance"], 150);
//! app.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! An aggregate, a read model or a saga of your own goes to the [builder](app::AppBuilder). The guide for embedders is
//! `docs/embedding.md` of the repository, the words are explained in `docs/concepts.md`.
//!
//! # Map, in reading order
//! - [`domain`]: account, order, inventory, user; pure
//! - [`store`]: the ports of events, snapshots and read models over SQLite and PostgreSQL
//! - [`projections`], [`views`], [`queries`]: the read models, their rows, and what can be asked of them; pure
//! - [`sagas`]: long-running transactions over commands of the domains; pure
//! - [`cache`]: where answers of queries are kept for a while
//! - [`integrity`]: evidence against tampering: a Merkle tree over the log, signed checkpoints, proofs, verification
//! - [`archive`]: backups and their restoration, exports and imports
//! - [`auth`]: who may come in and do what, and the audit of what was done or refused
//! - [`settings`]: defaults < files < environment < flags
//! - [`app`]: the in-process door for embedders
//! - `http`: the HTTP door (feature `http`)
//! - [`telemetry`]: the log of the process
//! - [`wire`]: the JSON that the HTTP door and the command line share

pub mod app;
pub mod archive;
pub mod auth;
pub mod cache;
pub mod domain;
#[cfg(feature = "http")]
pub mod http;
pub mod integrity;
pub mod projections;
pub mod queries;
pub mod sagas;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod views;
pub mod wire;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The page for embedders: its examples run.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;

/// The page about read models: its projection compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/read-models.md")]
struct ReadModels;

/// The page about sagas: its example runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/sagas.md")]
struct Sagas;

/// The page about branches: its example runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/branches.md")]
struct Branches;

/// The page about schema evolution: its example runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/schema-evolution.md")]
struct SchemaEvolution;
