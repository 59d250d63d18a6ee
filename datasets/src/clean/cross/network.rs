//! The endpoints of rules, and what their ledger is.

use ft_recipes::EndpointSection;

use super::super::error::CleanError;
use super::super::spool::Spool;
use crate::endpoint::{Budget, Client, ClientOptions, Ledger};

/// Opens the way to an endpoint. Answers are remembered in `OUT.requests.jsonl`, so that a run
/// that is begun again asks for nothing twice. The key comes from the environment.
pub(super) fn connect(endpoint: &EndpointSection, kept: &Spool) -> Result<Client, CleanError> {
    let ledger = Ledger::open(&kept.output().with_extension("requests.jsonl"))?;
    let key = std::env::var(&endpoint.key_env).ok();
    let budget = Budget { requests: endpoint.max_requests, tokens: endpoint.max_tokens };
    let options = ClientOptions { budget, ..ClientOptions::default() };
    Ok(Client::new(&endpoint.url, key, ledger, options)?)
}
