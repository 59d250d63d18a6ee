//! `ft serve` as clients and attackers meet it, on a tiny model.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod adapters;
mod dialects;
mod life;
mod limits;
mod refusals;
mod server;
mod shapes;
mod tls;
