//! Text to ids and back, as the base model's own tokenizer does it.
//!
//! Knows vocabularies, special tokens and where a token stands in a text. Does *not* know
//! messages, templates or masks.

mod error;
mod export;
mod facts;
mod folder;
mod gguf;
mod pre;
mod segments;
mod stream;
mod templates;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ft_gguf::Metadata;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::{AddedToken, Tokenizer as Inner};

pub use error::{TokenizerError, TokenizerFault};
pub use segments::Encoded;
pub use stream::Stream;
pub use templates::ChatTemplates;

use crate::nearest::nearest;
use segments::{Finder, Plain};
use stream::Spelling;

/// Ids of the tokens that have a name of their own.
#[derive(Debug, Clone, Copy, Default)]
struct Named {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
}

/// What a reader of files hands over.
struct Parts {
    inner: Inner,
    named: Named,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    stops: Vec<u32>,
    templates: ChatTemplates,
}

/// The tokenizer of a base model.
///
/// Can be shared between threads. Holds no text but its vocabulary and templates.
pub struct Tokenizer {
    /// Without post-processor: what stands around a text is `prefix` and `suffix`.
    inner: Inner,
    /// The same, blind for special tokens; made when first needed.
    plain: OnceLock<Plain>,
    /// Finds the names of special tokens; made when first needed.
    finder: OnceLock<Finder>,
    file: PathBuf,
    named: Named,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    stops: Vec<u32>,
    templates: ChatTemplates,
    spelling: Spelling,
    special: BTreeSet<u32>,
    vocab_size: usize,
    sha256: String,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("file", &self.file)
            .field("vocab_size", &self.vocab_size)
            .field("named", &self.named)
            .field("prefix", &self.prefix)
            .field("suffix", &self.suffix)
            .field("stops", &self.stops)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the tokenizer of a folder in Hugging Face's layout: `tokenizer.json`, and beside it
    /// `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`,
    /// `chat_template.jinja` where they are.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`] if a file cannot be read, or says what no tokenizer can mean: ids beyond
    /// any embedding, two tokens with one id, a byte-pair vocabulary without merges, patterns that
    /// may run for ever.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let (parts, bytes) = folder::read(folder)?;
        let mut hash = Sha256::new();
        hash.update(&bytes);
        Ok(Self::new(parts, folder.join("tokenizer.json"), hash))
    }

    /// Builds the tokenizer of a GGUF from its keys.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`] if a key is missing, or its value does not fit the vocabulary.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let file = metadata.file().to_path_buf();
        let parts = gguf::read(metadata).map_err(|fault| fault.at(&file))?;
        let mut hash = Sha256::new();
        for (key, value) in metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.ggml.")) {
            hash.update(key.as_bytes());
            hash.update([0]);
            gguf::hash_value(&mut hash, value);
        }
        Ok(Self::new(parts, file, hash))
    }

    fn new(parts: Parts, file: PathBuf, mut hash: Sha256) -> Self {
        let Parts { inner, named, prefix, suffix, mut stops, templates } = parts;
        let mut seen = BTreeSet::new();
        stops.retain(|id| seen.insert(*id));
        for id in prefix.iter().chain(&suffix).chain(&stops) {
            hash.update(id.to_le_bytes());
        }
        let decoder = inner.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok());
        let spelling = Spelling::of(&decoder.unwrap_or_default());
        let sha256 = hexadecimal(&hash.finalize());
        let mut tokenizer = Self {
            inner,
            plain: OnceLock::new(),
            finder: OnceLock::new(),
            file,
            named,
            prefix,
            suffix,
            stops,
            templates,
            spelling,
            special: BTreeSet::new(),
            vocab_size: 0,
            sha256,
        };
        tokenizer.count();
        tokenizer
    }

    /// Recounts what added tokens change.
    fn count(&mut self) {
        let added = self.inner.get_added_tokens_decoder();
        let mut special = BTreeSet::new();
        for (id, token) in &added {
            if token.special {
                special.insert(*id);
            }
        }
        self.special = special;
        // Ids may have gaps, so the tokens are not counted.
        let largest = self.inner.get_vocab(true).into_values().max();
        self.vocab_size = largest.map_or(0, |id| id as usize + 1);
        self.plain = OnceLock::new();
        self.finder = OnceLock::new();
    }

    /// Replaces special tokens by those of a recipe (`special_tokens: {eos_token: "<|im_end|>"}`),
    /// and returns remarks for the user.
    ///
    /// A `pad_token` that the vocabulary lacks is no error: padding is masked by position, so any
    /// token will do.
    ///
    /// # Errors
    ///
    /// [`TokenizerFault::SpecialToken`] if a token is not in the vocabulary (new tokens have no
    /// row in the embedding), [`TokenizerFault::SpecialKey`] for an unknown key.
    pub fn set_special_tokens(
        &mut self,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, TokenizerError> {
        let mut remarks = Vec::new();
        for (key, text) in overrides {
            let id = self.inner.token_to_id(text);
            let old = self.named;
            let slot = match key.as_str() {
                "bos_token" => &mut self.named.bos,
                "eos_token" => &mut self.named.eos,
                "pad_token" => &mut self.named.pad,
                "unk_token" => &mut self.named.unk,
                _ => return Err(TokenizerFault::SpecialKey { key: key.clone() }.at(&self.file)),
            };
            let Some(id) = id else {
                if key == "pad_token" {
                    *slot = old.eos;
                    remarks.push(format!(
                        "`pad_token: {text}` is not in the vocabulary; padding is masked by \
                         position, so the end-of-text token stands in for it"
                    ));
                    continue;
                }
                let added = self.inner.get_added_tokens_decoder();
                let near = nearest(text, added.values().map(|token| token.content.as_str()));
                let fault = TokenizerFault::SpecialToken {
                    key: key.clone(),
                    token: text.clone(),
                    tokens: self.vocab_size,
                    nearest: near.map(str::to_owned),
                };
                return Err(fault.at(&self.file));
            };
            *slot = Some(id);
            match key.as_str() {
                "bos_token" => replace(&mut self.prefix, old.bos, id),
                "eos_token" => {
                    replace(&mut self.suffix, old.eos, id);
                    if !self.stops.contains(&id) {
                        self.stops.insert(0, id);
                    }
                }
                _ => {}
            }
            self.inner
                .add_special_tokens(&[AddedToken::from(text.as_str(), true).normalized(false)]);
        }
        self.count();
        Ok(remarks)
    }

    /// Checks that each id has a row in an embedding of `rows` rows.
    ///
    /// # Errors
    ///
    /// [`TokenizerFault::BeyondRows`], naming the first token without one.
    pub fn check_rows(&self, rows: usize) -> Result<(), TokenizerError> {
        let beyond = (rows..self.vocab_size)
            .filter_map(|id| u32::try_from(id).ok())
            .find_map(|id| Some((id, self.token(id)?)));
        match beyond {
            Some((id, token)) => Err(TokenizerFault::BeyondRows { token, id, rows }.at(&self.file)),
            None => Ok(()),
        }
    }

    /// Ids of a text; nothing is added around it. Text that spells a special token becomes that
    /// token: for rendered templates.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let encoding = self.inner.encode_fast(text, false);
        encoding.expect("unknown tokens were checked when the file was read").get_ids().to_vec()
    }

    /// Ids of a text with what the tokenizer puts around it: the beginning of text where the
    /// model wants one (see [`Tokenizer::adds_bos`]), rarely an end.
    pub fn encode_with_bos(&self, text: &str) -> Vec<u32> {
        self.surrounded(self.encode(text))
    }

    /// Ids with what the tokenizer puts around a text.
    pub(crate) fn surrounded(&self, ids: Vec<u32>) -> Vec<u32> {
        if self.prefix.is_empty() && self.suffix.is_empty() {
            return ids;
        }
        let mut around = self.prefix.clone();
        around.extend(ids);
        around.extend(&self.suffix);
        around
    }

    /// [`Tokenizer::encode`] of many texts, on all threads of the current pool.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// The text of some ids, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decoded(ids, true)
    }

    /// The text of some ids, special tokens included.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.decoded(ids, false)
    }

    fn decoded(&self, ids: &[u32], skip: bool) -> String {
        self.inner.decode(ids, skip).expect("the decoders of causal models cannot fail")
    }

    /// What one token adds to a text, for showing: broken characters become `�`.
    pub fn decode_piece(&self, id: u32) -> String {
        String::from_utf8_lossy(&self.token_bytes(id)).into_owned()
    }

    /// Number of ids: the largest plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The vocabulary's spelling of an id (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token in the vocabulary's spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether an id is a special (control) token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Beginning of text.
    pub fn bos(&self) -> Option<u32> {
        self.named.bos
    }

    /// End of text.
    pub fn eos(&self) -> Option<u32> {
        self.named.eos
    }

    /// Padding, if the files name one.
    pub fn pad(&self) -> Option<u32> {
        self.named.pad
    }

    /// The unknown token.
    pub fn unk(&self) -> Option<u32> {
        self.named.unk
    }

    /// All ids at which a generation ends: end of text, end of turn, and those of
    /// `generation_config.json`.
    pub fn eos_ids(&self) -> &[u32] {
        &self.stops
    }

    /// Whether the model wants a beginning of text before any text.
    pub fn adds_bos(&self) -> bool {
        self.named.bos.is_some_and(|bos| self.prefix.contains(&bos))
    }

    /// Whether the tokenizer puts an end of text behind any text.
    pub fn adds_eos(&self) -> bool {
        self.named.eos.is_some_and(|eos| self.suffix.contains(&eos))
    }

    /// The template for plain chat that came with the tokenizer.
    pub fn chat_template(&self) -> Option<&str> {
        self.templates.default_template()
    }

    /// All templates that came with the tokenizer.
    pub fn chat_templates(&self) -> &ChatTemplates {
        &self.templates
    }

    /// Hash of the files that decide the ids, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The file that it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// Bytes as hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte is below 16");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Puts a new id in the place of an old one.
fn replace(ids: &mut [u32], old: Option<u32>, new: u32) {
    for id in ids.iter_mut().filter(|id| Some(**id) == old) {
        *id = new;
    }
}
