//! `event-sourcing-cqrs`: an event-sourced application server, and a library to embed.
//!
//! The runtime (aggregates as actors, the journal, the buses) is the crate [`event_sourcing_actors`]; here are the
//! stores, the domains, the settings, the HTTP door and the command line.
//!
//! # Map, in reading order
//! - [`domain`]: account, order, inventory, user; pure
//! - [`store`]: the ports of events, snapshots and read models over SQLite and PostgreSQL
//! - [`projections`], [`views`], [`queries`]: the read models, their rows, and what can be asked of them; pure
//! - [`sagas`]: long-running transactions over commands of the domains; pure
//! - [`cache`]: where answers of queries are kept for a while
//! - [`integrity`]: evidence against tampering: a Merkle tree over the log, signed checkpoints, proofs, verification
//! - [`settings`]: defaults < files < environment < flags
//! - [`app`]: the in-process door for embedders
//! - `http`: the HTTP door (feature `http`)
//! - [`telemetry`]: the log of the process
//! - [`wire`]: the JSON that the HTTP door and the command line share

pub mod app;
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

/// The page about schema evolution: its example runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/schema-evolution.md")]
struct SchemaEvolution;
