//! The list outside of the database of who was erased, in memory, shared by what stands for several processes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Mutex;

use event_sourcing_actors::ports::{StoreError, Tombstone, Tombstones};
use futures_util::{FutureExt, future::BoxFuture};

#[derive(Debug, Default)]
pub struct List(pub Mutex<Vec<Tombstone>>);

impl Tombstones for List {
    fn all(&self) -> BoxFuture<'_, Result<Vec<Tombstone>, StoreError>> {
        async { Ok(self.0.lock().unwrap().clone()) }.boxed()
    }

    fn add<'a>(&'a self, tombstones: &'a [Tombstone]) -> BoxFuture<'a, Result<(), StoreError>> {
        async {
            self.0.lock().unwrap().extend_from_slice(tombstones);
            Ok(())
        }
        .boxed()
    }
}
