//! The bad days, on the real program: killed, frozen, cut off, contended and overloaded.

mod contention;
mod duplicates;
mod failpoints;
mod kill;
mod log_order;
mod overload;
mod proxy;
mod read_your_writes;
mod rebuild;
mod rolling;
mod takeover;
mod timers;
mod transfers;
