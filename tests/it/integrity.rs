//! Tamper evidence: attacks behind the server's back, replicas, the program's words, and a verifier that is not ours.

mod attacks;
mod forger;
mod program;
mod python;
mod replicas;
mod targets;
mod tree;
