//! A tokenizer from a folder in Hugging Face's layout.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::error::{TokenizerError, TokenizerFault};
use super::facts::Facts;
use super::templates::ChatTemplates;
use super::{Named, Parts};

/// The largest `tokenizer.json` that is read; Gemma's, the largest in use, has 33 MiB.
const LARGEST: u64 = 256 << 20;

/// The bytes of a file, or `None` if there is none.
fn read_bytes(file: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TokenizerFault::from(error).at(file)),
    };
    let length = opened.metadata().map_err(|error| TokenizerFault::from(error).at(file))?.len();
    if length > LARGEST {
        return Err(TokenizerFault::TooLarge { bytes: length, most: LARGEST }.at(file));
    }
    let mut bytes = Vec::new();
    let read = opened.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| TokenizerFault::from(error).at(file))?;
    // A pipe or a growing file says nothing of its length beforehand.
    if bytes.len() as u64 > LARGEST {
        return Err(TokenizerFault::TooLarge { bytes: bytes.len() as u64, most: LARGEST }.at(file));
    }
    Ok(Some(bytes))
}

/// The text of a file, or `None` if there is none.
pub(super) fn read_text(file: &Path) -> Result<Option<String>, TokenizerError> {
    let Some(bytes) = read_bytes(file)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let error = std::io::Error::new(ErrorKind::InvalidData, error.utf8_error());
        TokenizerFault::from(error).at(file)
    })
}

/// The JSON of a file, or `None` if there is none.
pub(super) fn read_json(file: &Path) -> Result<Option<Value>, TokenizerError> {
    let Some(bytes) = read_bytes(file)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| TokenizerFault::from(error).at(file))
}

/// Reads `tokenizer.json` and what stands beside it. Also returns the text that was read, for its
/// hash.
pub(super) fn read(folder: &Path) -> Result<(Parts, Vec<u8>), TokenizerError> {
    let file = folder.join("tokenizer.json");
    let bytes = read_bytes(&file)?.ok_or_else(|| TokenizerFault::NoTokenizer.at(folder))?;
    let facts = Facts::read(&bytes).map_err(|fault| fault.at(&file))?;
    let library = |error: tokenizers::Error| TokenizerFault::Library(error.to_string()).at(&file);
    let mut inner = Inner::from_bytes(&bytes).map_err(library)?;
    // The library renumbers an added token whose id is taken or leaves a gap.
    for added in &facts.added_tokens {
        if inner.token_to_id(&added.content).map(u64::from) != Some(added.id) {
            let id = u32::try_from(added.id).unwrap_or(u32::MAX);
            let first = inner.id_to_token(id).unwrap_or_default();
            let second = added.content.clone();
            return Err(TokenizerFault::DuplicateId { id, first, second }.at(&file));
        }
    }
    inner.with_padding(None);
    inner.with_truncation(None).map_err(library)?;

    let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let map = read_json(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
    let generation = read_json(&folder.join("generation_config.json"))?.unwrap_or_default();
    let model = read_json(&folder.join("config.json"))?.unwrap_or_default();
    add_tokens(&mut inner, &config);

    let config_file = folder.join("tokenizer_config.json");
    let mut find = |key: &str| -> Result<Option<u32>, TokenizerError> {
        let named = text_of(&config[key]).or_else(|| text_of(&map[key]));
        if let Some(text) = named {
            let id = inner.token_to_id(text).ok_or_else(|| {
                let (key, tokens) = (key.to_owned(), inner.get_vocab_size(true));
                let token = text.to_owned();
                TokenizerFault::SpecialToken { key, token, tokens, nearest: None }.at(&config_file)
            })?;
            // Named tokens are special, whatever `added_tokens` says of them.
            inner.add_special_tokens(&[AddedToken::from(text, true).normalized(false)]);
            return Ok(Some(id));
        }
        // No names at all: the model's ids.
        let key = format!("{key}_id");
        let id =
            [&generation, &model].into_iter().find_map(|file| ids_of(&file[&key]).first().copied());
        Ok(id.filter(|id| inner.id_to_token(*id).is_some()))
    };
    let named = Named {
        bos: find("bos_token")?,
        eos: find("eos_token")?,
        pad: find("pad_token")?,
        unk: find("unk_token")?,
    };
    let stops = named.eos.into_iter().chain(ids_of(&generation["eos_token_id"]));
    let stops = stops.filter(|id| inner.id_to_token(*id).is_some()).collect();

    let (mut prefix, mut suffix) = added_by_post_processor(&inner).map_err(library)?;
    // transformers' classes for Llama and Gemma put their own post-processor in place of the
    // file's, by these two flags.
    match config["add_bos_token"].as_bool() {
        Some(true) => prefix = named.bos.into_iter().collect(),
        Some(false) => prefix.retain(|id| Some(*id) != named.bos),
        None => {}
    }
    match config["add_eos_token"].as_bool() {
        Some(true) => suffix = named.eos.into_iter().collect(),
        Some(false) => suffix.retain(|id| Some(*id) != named.eos),
        None => {}
    }
    inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    let templates = ChatTemplates::from_folder(folder, &config)?;
    Ok((Parts { inner, named, prefix, suffix, stops, templates }, bytes))
}

/// A special token is a text, or an object with the text in `content`.
fn text_of(field: &Value) -> Option<&str> {
    field.as_str().or_else(|| field["content"].as_str())
}

/// One id or a list of ids.
fn ids_of(field: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match field {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// Adds the tokens that only `tokenizer_config.json` knows as added.
fn add_tokens(inner: &mut Inner, config: &Value) {
    let Some(decoder) = config["added_tokens_decoder"].as_object() else { return };
    let mut tokens: Vec<(u32, &Value)> =
        decoder.iter().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
    tokens.sort_by_key(|(id, _)| *id);
    // Counting copies the vocabulary, so it is done once.
    let mut next = u32::try_from(inner.get_vocab_size(true)).unwrap_or(u32::MAX);
    for (id, token) in tokens {
        let Some(text) = text_of(token) else { continue };
        let known = inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id);
        // A new token gets the next id; one that claims another would shift all behind it.
        if known || inner.token_to_id(text).unwrap_or(next) != id {
            continue;
        }
        next = next.max(id + 1);
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        let added = AddedToken::from(text, flag("special"))
            .normalized(flag("normalized"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .single_word(flag("single_word"));
        if flag("special") {
            inner.add_special_tokens(&[added]);
        } else {
            inner.add_tokens(&[added]);
        }
    }
}

/// What the post-processor puts before and behind a text.
fn added_by_post_processor(inner: &Inner) -> Result<(Vec<u32>, Vec<u32>), tokenizers::Error> {
    let bare = inner.encode_fast("a", false)?;
    let full = inner.encode_fast("a", true)?;
    let (bare, full) = (bare.get_ids(), full.get_ids());
    let at = full.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
    Ok((full[..at].to_vec(), full[(at + bare.len()).min(full.len())..].to_vec()))
}
