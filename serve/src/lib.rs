//! An engine behind HTTP, in the dialects of OpenAI, Anthropic and Ollama.
//!
//! | what | where |
//! |---|---|
//! | sockets, TLS, an orderly end | `server/` |
//! | names, origins, keys, limits, the body, the audit log | `gate.rs`, `access/`, [`audit`] |
//! | which route leads where | `routes.rs` |
//! | the dialects: strict readers and writers of JSON | `api/` |
//! | a turn, whatever its dialect; calls of tools | `chat.rs`, `tools/` |
//! | text and stop texts from tokens | `text.rs` |
//! | answers held to a grammar | `grammar/` |
//!
//! Every field of a request is read or refused by name. No tool is ever run here, no model is
//! fetched, and nothing is told to anybody.
#![forbid(unsafe_code)]

mod access;
mod api;
mod app;
pub mod audit;
mod chat;
mod error;
mod fields;
mod gate;
mod grammar;
mod model;
mod routes;
mod server;
mod stream;
mod text;
mod tools;

pub use access::{KeyError, KeyLimits, KeyLine, Role, read_keys};
pub use model::{Adapter, Loader, Model, Parts};
pub use server::{Config, ServeError, Told, serve};
