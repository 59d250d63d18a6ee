//! A tokenizer from the metadata of a GGUF.
//!
//! A GGUF has the vocabulary but not the program: for byte-level vocabularies (`gpt2`) the
//! pre-tokenizer is known by name ([`super::pre`]); for `SentencePiece` (`llama`) the merges are
//! rebuilt from the scores.

use std::collections::HashMap;

use ft_gguf::{Array, Metadata, Value};
use sha2::{Digest, Sha256};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace};
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::error::TokenizerFault;
use super::facts::BYTES_ONLY;
use super::pre::Pre;
use super::{Named, Parts, templates::ChatTemplates};

/// Types of tokens, as `tokenizer.ggml.token_type` numbers them.
pub(super) const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// Texts of tokens that end a turn in some family. A GGUF names one end of text and perhaps one
/// end of turn; a generation has to stop at any of these. llama.cpp's list of the same purpose.
const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "<turn|>",
];

/// Reads the tokenizer's keys.
pub(super) fn read(metadata: &Metadata) -> Result<Parts, TokenizerFault> {
    let model: &str = metadata.require("tokenizer.ggml.model")?;
    let tokens: &ft_gguf::Strings = metadata.require("tokenizer.ggml.tokens")?;
    let count = tokens.len();
    let types = metadata.i32s("tokenizer.ggml.token_type")?;
    let kinds = types.as_deref().unwrap_or(&[]);
    if types.is_some() {
        same_length("tokenizer.ggml.token_type", kinds.len(), count)?;
    }
    let mut vocabulary = Vocabulary::new(tokens.iter().map(str::to_owned).collect())?;

    let inner = match model {
        "gpt2" => byte_level(metadata, &vocabulary)?,
        "llama" => sentence_piece(metadata, &mut vocabulary, kinds)?,
        found => {
            let found = found.to_owned();
            return Err(TokenizerFault::UnknownModel { found, expected: "`gpt2`, `llama`" });
        }
    };
    let inner = add_tokens(inner, &vocabulary, kinds);

    let id = |key: &str| -> Result<Option<u32>, TokenizerFault> {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(id) = metadata.u32(&key)? else { return Ok(None) };
        // Some writers say "none" so.
        if id == u32::MAX {
            return Ok(None);
        }
        if id as usize >= count {
            return Err(TokenizerFault::SpecialId { key, id, tokens: count });
        }
        Ok(Some(id))
    };
    let named =
        Named { bos: id("bos")?, eos: id("eos")?, pad: id("padding")?, unk: id("unknown")? };
    let mut stops: Vec<u32> = [named.eos, id("eot")?, id("eom")?].into_iter().flatten().collect();
    for text in TURN_ENDS {
        if let Some(end) = vocabulary.ids.get(*text)
            && kinds.get(*end as usize) == Some(&CONTROL)
        {
            stops.push(*end);
        }
    }
    // llama.cpp's defaults, where the keys are missing.
    let pre = metadata.str("tokenizer.ggml.pre")?.unwrap_or("default");
    let adds_bos = metadata
        .bool("tokenizer.ggml.add_bos_token")?
        .unwrap_or(model == "llama" || matches!(pre, "llama-bpe" | "llama3" | "tekken"));
    let adds_eos = metadata.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);

    Ok(Parts {
        inner,
        named,
        prefix: named.bos.filter(|_| adds_bos).into_iter().collect(),
        suffix: named.eos.filter(|_| adds_eos).into_iter().collect(),
        stops,
        templates: ChatTemplates::from_gguf(metadata)?,
    })
}

fn same_length(key: &'static str, found: usize, expected: usize) -> Result<(), TokenizerFault> {
    if found == expected {
        return Ok(());
    }
    Err(TokenizerFault::ArrayLength { key, found, expected })
}

/// Tokens by id, and ids by token.
struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    fn new(tokens: Vec<String>) -> Result<Self, TokenizerFault> {
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in (0_u32..).zip(&tokens) {
            if let Some(first) = ids.insert(token.clone(), id) {
                let first = format!("{token}` (id {first}), `{token}");
                return Err(TokenizerFault::DuplicateId { id, first, second: token.clone() });
            }
        }
        Ok(Self { tokens, ids })
    }

    fn model(&self, merges: Merges) -> BPE {
        BPE::new(
            (0_u32..).zip(&self.tokens).map(|(id, token)| (token.clone(), id)).collect(),
            merges,
        )
    }
}

/// Byte-level BPE: merges from the file, the pre-tokenizer by its name.
fn byte_level(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Inner, TokenizerFault> {
    let pre = Pre::named(metadata.str("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let tokens = vocabulary.tokens.len();
    let lines: &ft_gguf::Strings = metadata
        .strings("tokenizer.ggml.merges")?
        // Bytes alone need none.
        .filter(|merges| !merges.is_empty() || tokens <= BYTES_ONLY)
        .ok_or(TokenizerFault::NoMerges { tokens })?;
    let mut merges = Merges::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        // The space between the halves; neither begins with one, since bytes are letters here.
        let first = line.chars().next().map_or(0, char::len_utf8);
        let Some(at) = line[first..].find(' ').map(|at| first + at) else {
            return Err(TokenizerFault::BadMerge { merge: line.to_owned(), index });
        };
        let (left, right) = (&line[..at], &line[at + 1..]);
        let known = |part: &str| vocabulary.ids.contains_key(part);
        if !(known(left) && known(right) && known(&format!("{left}{right}"))) {
            return Err(TokenizerFault::BadMerge { merge: line.to_owned(), index });
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    let mut model = vocabulary.model(merges);
    model.ignore_merges = pre.ignore_merges;
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(pre.splits));
    if pre.composed {
        inner.with_normalizer(Some(NFC));
    }
    inner.with_decoder(Some(ByteLevel::new(false, false, false)));
    Ok(inner)
}

/// `SentencePiece`'s byte-pair model as the `tokenizers` library runs it: no pre-tokenizer, spaces
/// written as `▁`, unknown characters as bytes.
fn sentence_piece(
    metadata: &Metadata,
    vocabulary: &mut Vocabulary,
    kinds: &[i32],
) -> Result<Inner, TokenizerFault> {
    let count = vocabulary.tokens.len();
    let scores = metadata.f32s("tokenizer.ggml.scores")?.ok_or(TokenizerFault::ArrayLength {
        key: "tokenizer.ggml.scores",
        found: 0,
        expected: count,
    })?;
    same_length("tokenizer.ggml.scores", scores.len(), count)?;
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(1);
    // The converter wrote runs of spaces as themselves; the model sees them as `▁`.
    for id in 0..count {
        if kind(id) == USER_DEFINED && vocabulary.tokens[id].contains(' ') {
            let spaced = vocabulary.tokens[id].replace(' ', "▁");
            if !vocabulary.ids.contains_key(&spaced) {
                vocabulary.ids.remove(&vocabulary.tokens[id]);
                vocabulary.ids.insert(spaced.clone(), u32::try_from(id).unwrap_or(u32::MAX));
                vocabulary.tokens[id] = spaced;
            }
        }
    }
    let merges = merges_of(vocabulary, &scores, kind);
    let mut model = vocabulary.model(merges);
    model.byte_fallback = true;
    model.fuse_unk = true;
    let unknown = metadata.u32("tokenizer.ggml.unknown_token_id")?;
    model.unk_token = unknown.and_then(|id| vocabulary.tokens.get(id as usize).cloned());
    let mut inner = Inner::new(model);
    let library = |error: tokenizers::Error| TokenizerFault::Library(error.to_string());
    let spaces: NormalizerWrapper = Replace::new(" ", "▁").map_err(library)?.into();
    let mut decoders: Vec<DecoderWrapper> = vec![
        Replace::new("▁", " ").map_err(library)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        let prepend = Prepend::new("▁".to_owned()).into();
        let both = tokenizers::normalizers::Sequence::new(vec![prepend, spaces]);
        inner.with_normalizer(Some(both));
        decoders.push(Strip::new(' ', 1, 0).into());
    } else {
        inner.with_normalizer(Some(spaces));
    }
    inner.with_decoder(Some(Sequence::new(decoders)));
    Ok(inner)
}

/// The merges that make each piece from two others, best score first.
///
/// Any split of a piece into two pieces is a merge. User-defined pieces come first, since
/// `SentencePiece` takes them whole: that is what score 0 does in transformers' converter
/// (`generate_merges`), whose order (score, then lengths, falling) this is.
fn merges_of(vocabulary: &Vocabulary, scores: &[f32], kind: impl Fn(usize) -> i32) -> Merges {
    let mut ranked: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    let mut local = Vec::new();
    for (id, piece) in vocabulary.tokens.iter().enumerate() {
        let score = match kind(id) {
            UNKNOWN | CONTROL | BYTE => continue,
            USER_DEFINED => 0.0,
            _ => scores[id],
        };
        local.clear();
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(a), Some(b)) = (vocabulary.ids.get(left), vocabulary.ids.get(right)) {
                local.push((*a, *b, left, right));
            }
        }
        local.sort_unstable_by_key(|(a, b, ..)| (*a, *b));
        ranked.extend(local.iter().map(|(_, _, left, right)| {
            (score, left.chars().count(), right.chars().count(), *left, *right)
        }));
    }
    ranked.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)).then_with(|| b.2.cmp(&a.2))
    });
    ranked.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// Control tokens are special; user-defined ones are found in any text.
fn add_tokens(mut inner: Inner, vocabulary: &Vocabulary, kinds: &[i32]) -> Inner {
    let of = |wanted: i32, special: bool| -> Vec<AddedToken> {
        let pairs = vocabulary.tokens.iter().zip(kinds).filter(|(_, kind)| **kind == wanted);
        let token = |text: &String| AddedToken::from(text.clone(), special).normalized(false);
        pairs.map(|(text, _)| token(text)).collect()
    };
    inner.add_special_tokens(&of(CONTROL, true));
    inner.add_special_tokens(&of(UNKNOWN, true));
    inner.add_tokens(&of(USER_DEFINED, false));
    inner
}

/// Adds the bytes of a value to a hash.
pub(super) fn hash_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::String(text) => hash.update(text.as_bytes()),
        Value::Array(Array::String(strings)) => {
            for text in strings {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
        Value::Array(Array::F32(numbers)) => {
            for number in numbers {
                hash.update(number.to_le_bytes());
            }
        }
        Value::Array(Array::I32(numbers)) => {
            for number in numbers {
                hash.update(number.to_le_bytes());
            }
        }
        other => hash.update(format!("{other:?}").as_bytes()),
    }
}
