//! The HTTP door, over the real thing: the runtime on the memory store, a socket, and a client.

mod bodies;
mod commands;
mod connections;
mod faults;
mod live;
mod live_load;
mod openapi;
mod problems;
mod projections;
mod queries;
mod reading;
mod sagas;
mod specification;
mod temporal;
