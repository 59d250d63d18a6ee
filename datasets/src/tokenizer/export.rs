//! A tokenizer written out again: as the keys of a GGUF, or as the files of a folder.

use std::collections::HashMap;

use ft_gguf::Metadata;
use serde_json::{Map, Value, json};

use super::error::{TokenizerError, TokenizerFault};
use super::gguf::{BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED};
use super::pre;
use super::{Tokenizer, templates::ChatTemplates};

/// What a control token scores in a vocabulary of scores: it is never made by a merge.
const CONTROL_SCORE: f32 = -1000.0;

/// What the library's own description says.
struct Described {
    json: Value,
    tokens: Vec<Option<String>>,
}

impl Tokenizer {
    /// Sets the keys of a GGUF that make this tokenizer again, for an embedding of `rows` rows. Keys of another
    /// tokenizer are taken out.
    ///
    /// Byte-level vocabularies are named by the pattern that splits their text. Vocabularies with `▁` for spaces
    /// get scores in the order of their merges, which llama.cpp merges by.
    ///
    /// # Errors
    ///
    /// [`TokenizerFault::Inexpressible`] if llama.cpp has no tokenizer of this kind.
    pub fn to_gguf(&self, rows: usize, keys: &mut Metadata) -> Result<(), TokenizerError> {
        self.describe(rows, keys).map_err(|fault| fault.at(self.file()))
    }

    fn describe(&self, rows: usize, keys: &mut Metadata) -> Result<(), TokenizerFault> {
        let described = self.described(rows)?;
        let model = &described.json["model"];
        if model["type"].as_str().unwrap_or("BPE") != "BPE" {
            let what = format!("its model is `{}`", model["type"].as_str().unwrap_or("unknown"));
            return Err(TokenizerFault::Inexpressible { what });
        }
        let own: Vec<String> = keys.iter().map(|(key, _)| key.to_owned()).collect();
        for key in own.iter().filter(|key| key.starts_with("tokenizer.")) {
            keys.remove(key);
        }
        let merges = merges(model)?;
        let byte_level = mentions(&described.json["pre_tokenizer"], "ByteLevel");
        let mut types: Vec<i32> = Vec::with_capacity(described.tokens.len());
        let mut tokens: Vec<String> = Vec::with_capacity(described.tokens.len());
        let added = self.inner.get_added_tokens_decoder();
        for (id, token) in (0u32..).zip(&described.tokens) {
            let Some(token) = token else {
                tokens.push(format!("[PAD{id}]"));
                types.push(UNUSED);
                continue;
            };
            types.push(match added.get(&id) {
                Some(added) if added.special => CONTROL,
                Some(_) => USER_DEFINED,
                None if !byte_level && is_byte(token) => BYTE,
                None => NORMAL,
            });
            // A reader looks for them before it writes spaces as `▁`.
            let found_as_is = !byte_level && types.last() == Some(&USER_DEFINED);
            tokens.push(if found_as_is { token.replace('▁', " ") } else { token.clone() });
        }
        if byte_level {
            let name = pre::name_of(&described.json)?;
            keys.insert("tokenizer.ggml.model", "gpt2");
            keys.insert("tokenizer.ggml.pre", name);
        } else if mentions(&described.json["decoder"], "ByteFallback")
            || model["byte_fallback"].as_bool() == Some(true)
        {
            keys.insert("tokenizer.ggml.model", "llama");
            keys.insert("tokenizer.ggml.pre", "default");
            let scores = scores(&tokens, &types, &merges);
            keys.insert("tokenizer.ggml.scores", scores);
            let prefix = puts_a_space_first(&described.json);
            keys.insert("tokenizer.ggml.add_space_prefix", prefix);
        } else {
            let what = "it is neither byte-level nor one with `▁` and byte tokens".to_owned();
            return Err(TokenizerFault::Inexpressible { what });
        }
        keys.insert("tokenizer.ggml.tokens", tokens);
        keys.insert("tokenizer.ggml.token_type", types);
        if byte_level {
            let lines: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
            keys.insert("tokenizer.ggml.merges", lines);
        }
        self.name_tokens(keys);
        keys.insert("tokenizer.ggml.add_bos_token", self.adds_bos());
        keys.insert("tokenizer.ggml.add_eos_token", self.adds_eos());
        set_templates(&self.templates, keys);
        Ok(())
    }

    /// Sets the ids of the named tokens, and of an end of turn that is not the end of text.
    pub fn name_tokens(&self, keys: &mut Metadata) {
        let turn = self.stops.iter().find(|stop| Some(**stop) != self.named.eos).copied();
        for (name, id) in [
            ("bos", self.named.bos),
            ("eos", self.named.eos),
            ("eot", turn),
            ("unknown", self.named.unk),
            ("padding", self.named.pad),
        ] {
            if let Some(id) = id {
                keys.insert(format!("tokenizer.ggml.{name}_token_id"), id);
            }
        }
    }

    fn described(&self, rows: usize) -> Result<Described, TokenizerFault> {
        let library = |error: tokenizers::Error| TokenizerFault::Library(error.to_string());
        let json = serde_json::from_str(&self.inner.to_string(false).map_err(library)?)?;
        let mut tokens = vec![None; rows.max(self.vocab_size)];
        self.inner.get_vocab(true).into_iter().for_each(|(token, id)| {
            if let Some(place) = tokens.get_mut(id as usize) {
                *place = Some(token);
            }
        });
        Ok(Described { json, tokens })
    }

    /// The files that transformers reads: names and bytes. `template` stands in the place of the tokenizer's own.
    ///
    /// # Errors
    ///
    /// If the library cannot write it down.
    pub fn to_files(
        &self,
        template: Option<&str>,
    ) -> Result<Vec<(&'static str, Vec<u8>)>, TokenizerError> {
        let described = self.described(0).map_err(|fault| fault.at(self.file()))?;
        let Value::Object(mut json) = described.json else { return Ok(Vec::new()) };
        let around = around(|id| self.token(id), &self.prefix, &self.suffix);
        json.insert("post_processor".to_owned(), around);
        let mut files = vec![
            ("tokenizer.json", pretty(&Value::Object(json))),
            ("tokenizer_config.json", pretty(&Value::Object(self.config()))),
            ("generation_config.json", pretty(&self.generation())),
        ];
        if let Some(template) = template.or_else(|| self.chat_template()) {
            files.push(("chat_template.jinja", template.as_bytes().to_vec()));
        }
        Ok(files)
    }

    /// `tokenizer_config.json`.
    pub fn config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
        for (key, id) in [
            ("bos_token", self.named.bos),
            ("eos_token", self.named.eos),
            ("pad_token", self.named.pad),
            ("unk_token", self.named.unk),
        ] {
            if let Some(text) = id.and_then(|id| self.token(id)) {
                config.insert(key.to_owned(), text.into());
            }
        }
        config
    }

    /// `generation_config.json`: where a generation begins and at which ids it ends.
    pub fn generation(&self) -> Value {
        let mut config = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                config.insert(key.to_owned(), value);
            }
        };
        set("bos_token_id", self.named.bos.map(Value::from));
        set(
            "eos_token_id",
            match self.stops.as_slice() {
                [] => None,
                [one] => Some((*one).into()),
                several => Some(json!(several)),
            },
        );
        set("pad_token_id", self.named.pad.map(Value::from));
        Value::Object(config)
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// `tokenizer.chat_template` and its named fellows.
fn set_templates(templates: &ChatTemplates, keys: &mut Metadata) {
    if let Some(text) = templates.default_template() {
        keys.insert("tokenizer.chat_template", text);
    }
    for name in templates.names().filter(|name| *name != "default") {
        if let Some(text) = templates.named(name) {
            keys.insert(format!("tokenizer.chat_template.{name}"), text);
        }
    }
}

/// Whether a part, or one inside it, is of a type.
fn mentions(part: &Value, kind: &str) -> bool {
    match part {
        Value::Object(fields) => {
            fields.get("type").and_then(Value::as_str) == Some(kind)
                || fields.values().any(|value| mentions(value, kind))
        }
        Value::Array(parts) => parts.iter().any(|part| mentions(part, kind)),
        _ => false,
    }
}

fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The two halves of each merge, in order.
fn merges(model: &Value) -> Result<Vec<(String, String)>, TokenizerFault> {
    let list = model["merges"].as_array().map_or(&[][..], Vec::as_slice);
    let halves = |merge: &Value| match merge {
        Value::String(line) => line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    };
    list.iter()
        .enumerate()
        .map(|(index, merge)| {
            halves(merge)
                .ok_or_else(|| TokenizerFault::BadMerge { merge: merge.to_string(), index })
        })
        .collect()
}

/// Scores that order the pieces as their first merges are ordered.
fn scores(tokens: &[String], types: &[i32], merges: &[(String, String)]) -> Vec<f32> {
    let mut first: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (rank, (a, b)) in merges.iter().enumerate() {
        first.entry(format!("{a}{b}")).or_insert(rank);
    }
    let of = |(token, kind): (&String, &i32)| match (*kind, first.get(token)) {
        (NORMAL, Some(rank)) => -(*rank as f32),
        // Characters: no merge makes them.
        (NORMAL, None) => -(merges.len() as f32),
        (BYTE, _) => 0.0,
        _ => CONTROL_SCORE,
    };
    tokens.iter().zip(types).map(of).collect()
}

/// Whether the first word of a text gets a space before it.
fn puts_a_space_first(json: &Value) -> bool {
    let scheme = |part: &Value| match part {
        Value::Object(fields) => {
            fields.get("prepend_scheme").and_then(Value::as_str).map(str::to_owned)
        }
        _ => None,
    };
    let pre = &json["pre_tokenizer"];
    let schemes = std::iter::once(pre).chain(pre["pretokenizers"].as_array().into_iter().flatten());
    mentions(&json["normalizer"], "Prepend")
        || schemes.filter_map(scheme).any(|scheme| scheme != "never")
}

/// The post-processor that puts ids before and behind a text.
fn around(token: impl Fn(u32) -> Option<String>, prefix: &[u32], suffix: &[u32]) -> Value {
    if prefix.is_empty() && suffix.is_empty() {
        return Value::Null;
    }
    let text = |id: &u32| token(*id).unwrap_or_default();
    let special = |id: &u32, kind: u8| json!({"SpecialToken": {"id": text(id), "type_id": kind}});
    let one = |name: &str, kind: u8| {
        let mut parts: Vec<Value> = prefix.iter().map(|id| special(id, kind)).collect();
        parts.push(json!({"Sequence": {"id": name, "type_id": kind}}));
        parts.extend(suffix.iter().map(|id| special(id, kind)));
        parts
    };
    let mut named = Map::new();
    for id in prefix.iter().chain(suffix) {
        named.insert(text(id), json!({"id": text(id), "ids": [id], "tokens": [text(id)]}));
    }
    let pair: Vec<Value> = one("A", 0).into_iter().chain(one("B", 1)).collect();
    json!({"type": "TemplateProcessing", "single": one("A", 0), "pair": pair, "special_tokens": named})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_keep_the_order_of_merges() {
        let tokens = ["<bos>", "<0x41>", "a", "b", "ab", "aab"].map(str::to_owned);
        let types = [CONTROL, BYTE, NORMAL, NORMAL, NORMAL, NORMAL];
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let merges = [pair("a", "b"), pair("a", "ab"), pair("aa", "b")];
        assert_eq!(scores(&tokens, &types, &merges), [-1000.0, 0.0, -3.0, -3.0, 0.0, -1.0]);
    }

    #[test]
    fn what_stands_around_a_text_becomes_a_template() {
        let token = |id: u32| Some(format!("<{id}>"));
        let made = around(token, &[2], &[]);
        assert_eq!(made["single"][0]["SpecialToken"]["id"], "<2>");
        assert_eq!(made["single"][1]["Sequence"]["id"], "A");
        assert_eq!(made["special_tokens"]["<2>"]["ids"][0], 2);
        assert_eq!(around(token, &[], &[]), Value::Null);
    }

    #[test]
    fn byte_tokens_are_told_from_others() {
        assert!(is_byte("<0x0A>") && !is_byte("<0xG0>") && !is_byte("<0x0A") && !is_byte("a"));
    }
}
