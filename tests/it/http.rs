//! The HTTP door, over the real thing: the runtime on the memory store, a socket, and a client.

mod audit;
mod auth;
mod bodies;
mod branches;
mod commands;
mod connections;
mod cors;
mod faults;
mod forwarded;
#[cfg(feature = "jwt")]
mod jwt;
mod live;
mod live_load;
mod openapi;
mod out_of_reach;
mod problems;
mod projections;
mod queries;
mod rate_limit;
mod reading;
mod roles;
mod sagas;
mod specification;
mod temporal;
