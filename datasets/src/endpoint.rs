//! Questions to a model behind an OpenAI-compatible endpoint, each paid for once.
//!
//! Knows HTTP, budgets and the ledger of answers. Does *not* know what is asked or why. A request
//! goes into the [`Ledger`] before it is sent and its answer when it is there, so a run that was
//! killed goes on with the answers that it has, and asks nothing twice. Keys are held in memory and
//! written nowhere.

mod budget;
mod client;
mod error;
mod ledger;
mod request;

pub use budget::{Budget, Spent};
pub use client::{Client, ClientOptions};
pub use error::EndpointError;
pub use ledger::Ledger;
pub use request::{Answer, Path, Request, Usage};
