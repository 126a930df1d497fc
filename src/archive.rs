//! Moving a log: backups and their restoration, exports and imports.
//!
//! A **backup** keeps everything of the log exactly: positions, instants, digests, and the evidence over them, so that a
//! restored store has the same tree head. An **export** is for other programs: CloudEvents, one a line; what imports it
//! gives the events new positions and instants.
//!
//! This module knows the log through its ports alone ([`TreeStore`](crate::integrity::port::TreeStore),
//! [`RestoreStore`], [`EventStore`](event_sourcing_actors::ports::EventStore)), and no database. What can be made again
//! from the log (read models, snapshots, the index of sagas) is in no backup; nor are idempotency keys, nor the keys of
//! data subjects, which must be able to die: these go into a **key file** of their own.

mod audit;
mod backup;
mod content;
pub mod event;
mod frame;
mod import;
mod inspect;
mod key_file;
mod keys;
mod port;
mod restore;
mod rows;

pub use crate::integrity::vault::Moved;
pub use backup::{BackupError, BackupSummary, Source, back_up};
pub use content::Manifest;
pub use frame::{Family, FileError};
pub use import::{ImportError, ImportOptions, Imported, import};
pub use inspect::{Inspected, inspect, manifest};
pub use key_file::KeyManifest;
pub use keys::{KeyPlace, KeySource, KeysBackedUp, KeysError, KeysRestored, back_up_keys, restore_keys};
pub use port::{Refused, RestoreEnd, RestoreMark, RestorePage, RestoreStore};
pub use restore::{RestoreError, Restored, restore};
