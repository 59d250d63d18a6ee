//! One answer that is held to a grammar, and how a document comes to its end before its tokens do.

use std::sync::Arc;

use ft_model::engine::{Allowed, Constraint};
use llguidance::Matcher;

use super::{Grammars, first_line};

/// What a grammar describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, which is no better for ending early.
    Text,
    /// A JSON document, which ends with its last bracket.
    Document,
    /// Text with documents in it.
    WithDocuments,
}

/// Whether a document is brought to its end when tokens run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Nothing was counted yet.
    Unknown,
    /// It takes so many tokens from here.
    Takes(usize),
    /// There were too few tokens from the beginning: a cut document is what the model has to say, and no worse than one that
    /// is closed and says nothing.
    Hopeless,
}

/// An answer that is held to a grammar.
pub(super) struct Held {
    matcher: Matcher,
    grammars: Arc<Grammars>,
    kind: Kind,
    closing: Closing,
    /// Whether the token that was just chosen would have made the document too long.
    refused: bool,
    /// The last byte that came.
    last: u8,
}

/// Tokens that are kept in reserve for closing a document, where counting is off by one or two.
const RESERVE: usize = 2;
/// Most tokens that closing is tried with.
const MOST_CLOSING: usize = 512;

impl Held {
    pub(super) fn new(matcher: Matcher, grammars: Arc<Grammars>, kind: Kind) -> Self {
        Self { matcher, grammars, kind, closing: Closing::Unknown, refused: false, last: 0 }
    }

    fn mask(&mut self) -> Result<Vec<u32>, String> {
        let mut mask = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| first_line(&error.to_string()))?
            .as_slice()
            .to_vec();
        let ends = &self.grammars.ends;
        if ends.iter().any(|end| has(&mask, *end)) {
            for end in ends {
                set(&mut mask, *end);
            }
        }
        Ok(mask)
    }

    /// What brings the document nearer to its end.
    fn closers(&mut self) -> Result<Vec<u32>, String> {
        // Bytes that must come, in the fewest tokens.
        if let Some(id) = self.forced() {
            let mut only = vec![0; self.grammars.blanks.len()];
            set(&mut only, id);
            return Ok(only);
        }
        let mask = self.mask()?;
        Ok(self.grammars.narrowed(mask))
    }

    /// Tokens of the bytes that must come.
    fn must_come(&mut self) -> Vec<u32> {
        let bytes = self.matcher.compute_ff_bytes();
        self.grammars.environment.tok_trie().greedy_tokenize(&bytes)
    }

    /// How many tokens closing takes from here.
    fn count(&self) -> usize {
        let mut probe = Self {
            matcher: self.matcher.clone(),
            grammars: Arc::clone(&self.grammars),
            kind: self.kind,
            closing: self.closing,
            refused: false,
            last: self.last,
        };
        let mut count = 0;
        while count < MOST_CLOSING && !probe.is_complete() {
            let mut ids = probe.must_come();
            if ids.is_empty() {
                let Ok(mask) = probe.mask() else { return count };
                ids.extend(first(&probe.grammars.narrowed(mask)));
            }
            if ids.iter().any(|id| probe.grammars.ends.contains(id)) {
                return count;
            }
            for id in &ids {
                if probe.accept(*id).is_err() {
                    return count;
                }
            }
            if ids.is_empty() {
                return count;
            }
            count += ids.len();
        }
        count
    }

    /// Whether what is left is just enough for closing.
    fn is_short(&mut self, left: usize) -> bool {
        let known = match self.closing {
            Closing::Hopeless => return false,
            Closing::Unknown => {
                let count = self.count();
                if count > left {
                    self.closing = Closing::Hopeless;
                    return false;
                }
                count
            }
            // Inside a string closing takes fewer with each token, which nobody counts while there are enough.
            Closing::Takes(known) if left <= known + RESERVE => self.count(),
            Closing::Takes(known) => known,
        };
        self.closing = Closing::Takes(known);
        left <= known + RESERVE
    }
}

impl Grammars {
    /// Those tokens of a mask with which a document is closed as soon as it can be.
    fn narrowed(&self, mut mask: Vec<u32>) -> Vec<u32> {
        let only = |wanted: &[u32]| {
            let mut narrowed = vec![0; mask.len()];
            wanted.iter().filter(|id| has(&mask, **id)).for_each(|id| set(&mut narrowed, *id));
            narrowed.iter().any(|word| *word != 0).then_some(narrowed)
        };
        if let Some(ends) = only(&self.ends) {
            return ends;
        }
        // In a string a brace is a letter like any other, and the model goes on until the string may end.
        if self.only_in_strings.iter().any(|id| has(&mask, *id)) {
            return only(&self.quotes).unwrap_or(mask);
        }
        if let Some(closers) = self.closers.iter().find_map(|ids| only(ids)) {
            return closers;
        }
        let blanks = mask.iter().zip(&self.blanks).map(|(word, blank)| word & !blank);
        let rest: Vec<u32> = blanks.collect();
        if rest.iter().any(|word| *word != 0) {
            mask = rest;
        }
        mask
    }
}

pub(super) fn has(mask: &[u32], id: u32) -> bool {
    mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

pub(super) fn set(mask: &mut [u32], id: u32) {
    if let Some(word) = mask.get_mut(id as usize / 32) {
        *word |= 1 << (id % 32);
    }
}

fn first(mask: &[u32]) -> Option<u32> {
    let at = mask.iter().position(|word| *word != 0)?;
    u32::try_from(at * 32).ok().map(|base| base + mask[at].trailing_zeros())
}

impl Constraint for Held {
    fn allowed(&mut self, left: usize) -> Result<Allowed, String> {
        if self.kind != Kind::Text && (self.refused || self.is_short(left)) {
            return Ok(Allowed::Some(self.closers()?));
        }
        Ok(Allowed::Some(self.mask()?))
    }

    fn forced(&mut self) -> Option<u32> {
        self.must_come().first().copied()
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        let trie = self.grammars.environment.tok_trie();
        self.last = trie.token(id).last().copied().unwrap_or(self.last);
        self.matcher.consume_token(id).map_err(|error| first_line(&error.to_string()))
    }

    /// A document may grow by what must come behind a bracket, a comma or a name: then what it takes to close it is counted, and
    /// if that is too much, the token does not come.
    fn takes(&mut self, id: u32, left: usize) -> Result<bool, String> {
        let grows = self.kind != Kind::Text
            && self.closing != Closing::Hopeless
            && has(&self.grammars.structural, id);
        if !grows || self.refused {
            self.refused = false;
            return self.accept(id).map(|()| true);
        }
        let before = (self.matcher.clone(), self.last);
        self.accept(id)?;
        let count = self.count();
        if count < left {
            self.closing = Closing::Takes(count);
            return Ok(true);
        }
        (self.matcher, self.last) = before;
        self.refused = true;
        Ok(false)
    }

    fn is_complete(&mut self) -> bool {
        let document = self.kind == Kind::Document && b"}]\"".contains(&self.last);
        self.matcher.is_stopped() || document && self.matcher.is_accepting().unwrap_or(false)
    }
}
