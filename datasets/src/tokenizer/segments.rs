//! Texts of which parts come from users: there, the names of special tokens are plain text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{Encoding, Tokenizer as Inner};

use super::Tokenizer;

/// Ids of a text, and where each stands in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Bytes of the text that each token covers, begin and end. Tokens that share a character
    /// (its bytes) cover the same.
    pub offsets: Vec<(usize, usize)>,
}

impl Encoded {
    fn append(&mut self, encoding: &Encoding, shift: usize) {
        self.ids.extend(encoding.get_ids());
        self.offsets.extend(encoding.get_offsets().iter().map(|(a, b)| (a + shift, b + shift)));
    }
}

/// The tokenizer without eyes for special tokens.
pub(super) struct Plain {
    first: Inner,
    /// For text that is not the beginning: no space is put before it. `None` where the first
    /// serves.
    later: Option<Inner>,
}

/// Finds the names of special tokens in a text.
pub(super) struct Finder {
    names: AhoCorasick,
    found: Vec<Special>,
}

struct Special {
    id: u32,
    strips_left: bool,
    strips_right: bool,
}

impl Plain {
    fn new(tokenizer: &Tokenizer) -> Self {
        let mut first = tokenizer.inner.clone();
        first.set_encode_special_tokens(true);
        let later = first.get_pre_tokenizer().and_then(without_prefix).map(|pre| {
            let mut later = first.clone();
            later.with_pre_tokenizer(Some(pre));
            later
        });
        Self { first, later }
    }

    /// The tokenizer for a piece that begins at `at`.
    fn at(&self, at: usize) -> &Inner {
        self.later.as_ref().filter(|_| at > 0).unwrap_or(&self.first)
    }
}

impl Finder {
    fn new(tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.inner.get_added_tokens_decoder();
        let (mut names, mut found) = (Vec::new(), Vec::new());
        for id in &tokenizer.special {
            let Some(token) = added.get(id).filter(|token| !token.content.is_empty()) else {
                continue;
            };
            names.push(token.content.clone());
            let (strips_left, strips_right) = (token.lstrip, token.rstrip);
            found.push(Special { id: *id, strips_left, strips_right });
        }
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest);
        let names = builder.build(&names).expect("fewer names than an automaton has states");
        Self { names, found }
    }
}

/// A pre-tokenizer that puts a space before the first word of a text, changed to one that does
/// not; `None` if it does not anyway.
fn without_prefix(pre: &PreTokenizerWrapper) -> Option<PreTokenizerWrapper> {
    match pre {
        PreTokenizerWrapper::Metaspace(space)
            if space.get_prepend_scheme() == PrependScheme::First =>
        {
            let (letter, split) = (space.get_replacement(), space.get_split());
            Some(Metaspace::new(letter, PrependScheme::Never, split).into())
        }
        _ => None,
    }
}

impl Tokenizer {
    fn plain(&self) -> &Plain {
        self.plain.get_or_init(|| Plain::new(self))
    }

    fn finder(&self) -> &Finder {
        self.finder.get_or_init(|| Finder::new(self))
    }

    /// Ids and places of a text; text that spells a special token becomes that token.
    pub fn encode_with_offsets(&self, text: &str) -> Encoded {
        let mut encoded = Encoded::default();
        encoded.append(&encode(&self.inner, text), 0);
        encoded
    }

    /// Ids of a text in which the names of special tokens are only letters: for what users write.
    pub fn encode_plain(&self, text: &str) -> Vec<u32> {
        if self.finder().names.is_match(text) {
            return encode(&self.plain().first, text).get_ids().to_vec();
        }
        self.encode(text)
    }

    /// The name of a special token in a text, if one stands there.
    pub fn special_in<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.finder().names.find(text).map(|found| &text[found.range()])
    }

    /// Ids of a text whose ranges `users` (bytes, ascending, apart) come from users: special
    /// tokens are recognised only outside of them.
    ///
    /// Where no user wrote the name of a special token, this is [`Tokenizer::encode`] of the whole
    /// text. Where one did, the text is cut at the template's own special tokens, which cut it
    /// anyway, and the pieces are read as plain text.
    pub fn encode_segments(&self, text: &str, users: &[Range<usize>]) -> Encoded {
        let finder = self.finder();
        let mut inside = users.iter().peekable();
        let injected = finder.names.find_iter(text).any(|found| {
            while inside.next_if(|user| user.end <= found.start()).is_some() {}
            inside.peek().is_some_and(|user| user.start < found.end())
        });
        if !injected {
            return self.encode_with_offsets(text);
        }
        let plain = self.plain();
        let mut encoded = Encoded::default();
        let mut from = 0;
        for (index, begin) in (0..=users.len()).map(|i| (i, end_before(users, i))) {
            let end = users.get(index).map_or(text.len(), |user| user.start);
            for found in finder.names.find_iter(&text[begin..end]) {
                let special = &finder.found[found.pattern().as_usize()];
                let (mut start, mut stop) = (begin + found.start(), begin + found.end());
                if special.strips_left {
                    start = from.max(text[..start].trim_end().len());
                }
                if special.strips_right {
                    stop += text[stop..].len() - text[stop..].trim_start().len();
                }
                if from < start {
                    encoded.append(&encode(plain.at(from), &text[from..start]), from);
                }
                encoded.ids.push(special.id);
                encoded.offsets.push((start.max(from), stop));
                from = stop;
            }
        }
        if from < text.len() {
            encoded.append(&encode(plain.at(from), &text[from..]), from);
        }
        encoded
    }
}

/// Where the template's text before the user's range `index` begins.
fn end_before(users: &[Range<usize>], index: usize) -> usize {
    index.checked_sub(1).map_or(0, |before| users[before].end)
}

fn encode(inner: &Inner, text: &str) -> Encoding {
    inner.encode(text, false).expect("unknown tokens were checked when the file was read")
}
