//! What may be spent, and what is.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What a run may spend in all, earlier runs with the same ledger included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Requests; none: as many as it takes.
    pub requests: Option<u64>,
    /// Tokens of prompts and answers; none: as many as it takes.
    pub tokens: Option<u64>,
}

/// What was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Spent {
    /// Requests, those without an answer included.
    pub requests: u64,
    /// Tokens of prompts, as the endpoint counts them.
    pub prompt_tokens: u64,
    /// Tokens of answers, as the endpoint counts them.
    pub completion_tokens: u64,
}

impl Spent {
    /// Tokens in all.
    pub fn tokens(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    /// The sum of two.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(more.requests),
            prompt_tokens: self.prompt_tokens.saturating_add(more.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(more.completion_tokens),
        }
    }
}

/// Counts what is spent, and what requests on their way may come to.
#[derive(Debug)]
pub(super) struct Purse {
    budget: Budget,
    /// Spent, and reserved.
    state: Mutex<(Spent, Spent)>,
}

impl Purse {
    pub(super) fn new(budget: Budget, spent: Spent) -> Self {
        Self { budget, state: Mutex::new((spent, Spent::default())) }
    }

    /// Sets aside the most that a request can come to; `Err` says which budget does not allow it.
    ///
    /// What is on its way counts with its most, so the sum is never over the budget.
    pub(super) fn reserve(&self, most: Spent) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let after = state.0.and(state.1).and(most);
        if let Some(requests) = self.budget.requests
            && after.requests > requests
        {
            return Err(format!("{requests} requests"));
        }
        if let Some(tokens) = self.budget.tokens
            && after.tokens() > tokens
        {
            let spent = state.0.tokens();
            return Err(format!(
                "{spent} of {tokens} tokens, and the next request may take {}",
                most.tokens()
            ));
        }
        state.1 = state.1.and(most);
        Ok(())
    }

    /// Counts what a request came to in place of what was set aside for it.
    pub(super) fn settle(&self, reserved: Spent, spent: Spent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.and(spent);
        state.1.requests = state.1.requests.saturating_sub(reserved.requests);
        state.1.prompt_tokens = state.1.prompt_tokens.saturating_sub(reserved.prompt_tokens);
        state.1.completion_tokens =
            state.1.completion_tokens.saturating_sub(reserved.completion_tokens);
    }

    pub(super) fn spent(&self) -> Spent {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(tokens: u64) -> Spent {
        Spent { requests: 1, prompt_tokens: 0, completion_tokens: tokens }
    }

    #[test]
    fn requests_on_their_way_count_with_the_most_they_can_come_to() {
        let budget = Budget { requests: None, tokens: Some(100) };
        let purse = Purse::new(budget, cost(10));
        purse.reserve(cost(60)).unwrap();
        assert!(purse.reserve(cost(60)).is_err());
        purse.settle(cost(60), cost(20));
        purse.reserve(cost(60)).unwrap();
        assert_eq!(purse.spent().tokens(), 30);
    }

    #[test]
    fn requests_of_earlier_runs_count() {
        let spent = Spent { requests: 2, ..Spent::default() };
        let purse = Purse::new(Budget { requests: Some(3), tokens: None }, spent);
        purse.reserve(cost(1)).unwrap();
        assert_eq!(purse.reserve(cost(1)).unwrap_err(), "3 requests");
    }
}
