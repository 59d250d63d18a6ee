//! Pre-tokenizers by the name that a GGUF gives them.
//!
//! A GGUF holds only a name; the pattern belongs to the tokenizer that was converted. The patterns
//! are those of the original `tokenizer.json` files; names and groups are llama.cpp's
//! (`llama-vocab.cpp`, `llm_tokenizer_bpe`).

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::error::TokenizerFault;
use crate::nearest::nearest;

/// English contractions, words, numbers, signs, spaces: GPT-2.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// GPT-4's rule, as Llama 3 has it: numbers of up to three digits.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with combining marks in words.
const QWEN_35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: capitals before small letters, single digits.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o (`o200k`).
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// `DeepSeek` V3's last rule.
const DEEPSEEK_3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Patterns by the names that share them; a text is split by each in turn.
pub(super) const PATTERNS: &[(&[&str], &[&str])] = &[
    (&["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"], &[GPT_2]),
    (&["llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "falcon3"], &[LLAMA_3]),
    (&["chatglm-bpe", "glm4", "pixtral", "lfm2"], &[LLAMA_3]),
    (
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "solar-open", "grok-2"],
        &[QWEN_2],
    ),
    (&["qwen35"], &[QWEN_35]),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "granite",
        ],
        &[r"\p{N}", GPT_2],
    ),
    (&["tekken"], &[TEKKEN]),
    (&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[GPT_4O]),
    (&["deepseek-v3", "hunyuan-dense"], &[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_3]),
    (&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"]),
    (&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT_2, r"[0-9][0-9][0-9]"]),
    (&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
];

/// Names whose vocabulary is asked for the whole word before any merge.
const IGNORE_MERGES: &[&str] =
    &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken", "gpt-4o", "llama4"];

/// Names whose text is brought to Unicode's composed form first.
const COMPOSED: &[&str] =
    &["qwen2", "qwen35", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"];

/// The name of the pre-tokenizer that a `tokenizer.json` describes: of those with its patterns, the one that also
/// agrees in what else a name says.
pub(super) fn name_of(json: &serde_json::Value) -> Result<&'static str, TokenizerFault> {
    let mut patterns = Vec::new();
    gather(&json["pre_tokenizer"], &mut patterns)?;
    let ignores = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    let composes = json["normalizer"].to_string().contains("\"NFC\"");
    let same = |(_, known): &&(&[&str], &[&str])| patterns == **known;
    let named = PATTERNS.iter().filter(same).flat_map(|(names, _)| names.iter().copied());
    let agrees = |name: &&str| {
        usize::from(IGNORE_MERGES.contains(name) == ignores)
            + usize::from(COMPOSED.contains(name) == composes)
    };
    // Of several that agree alike the first, so the best known.
    let mut best: Option<&'static str> = None;
    for name in named {
        if best.is_none_or(|best| agrees(&name) > agrees(&best)) {
            best = Some(name);
        }
    }
    best.ok_or_else(|| TokenizerFault::Inexpressible {
        what: format!("no known pre-tokenizer splits text by {patterns:?}"),
    })
}

/// The patterns that a pre-tokenizer splits by, in order.
fn gather(part: &serde_json::Value, patterns: &mut Vec<String>) -> Result<(), TokenizerFault> {
    let inexpressible = |what: String| Err(TokenizerFault::Inexpressible { what });
    match part["type"].as_str() {
        None => Ok(()),
        Some("Sequence") => {
            let parts = part["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
            parts.iter().try_for_each(|part| gather(part, patterns))
        }
        Some("Split") => match part["pattern"]["Regex"].as_str() {
            Some(pattern) if part["behavior"] == "Isolated" || part["invert"] == true => {
                patterns.push(pattern.to_owned());
                Ok(())
            }
            _ => inexpressible("its pre-tokenizer splits by more than a pattern".to_owned()),
        },
        Some("Digits") => {
            let one = part["individual_digits"].as_bool().unwrap_or(false);
            patterns.push(if one { r"\p{N}" } else { r"\p{N}+" }.to_owned());
            Ok(())
        }
        Some("ByteLevel") => {
            if part["add_prefix_space"].as_bool().unwrap_or(false) {
                return inexpressible("its pre-tokenizer puts a space before a text".to_owned());
            }
            if part["use_regex"].as_bool().unwrap_or(true) {
                patterns.push(GPT_2.to_owned());
            }
            Ok(())
        }
        Some(other) => inexpressible(format!("its pre-tokenizer is `{other}`")),
    }
}

/// Pre-tokenizer of a byte-pair GGUF.
pub(super) struct Pre {
    pub(super) splits: PreTokenizerWrapper,
    pub(super) ignore_merges: bool,
    pub(super) composed: bool,
}

impl Pre {
    /// The pre-tokenizer of a name.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerFault> {
        let known = || PATTERNS.iter().flat_map(|(names, _)| names.iter().copied());
        let Some((_, patterns)) = PATTERNS.iter().find(|(names, _)| names.contains(&name)) else {
            return Err(TokenizerFault::UnknownPre {
                found: name.chars().take(80).collect(),
                known: known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
                nearest: nearest(name, known()).map(str::to_owned),
            });
        };
        let mut splits: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in *patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| TokenizerFault::Library(error.to_string()))?;
            splits.push(split.into());
        }
        splits.push(ByteLevel::new(false, false, false).into());
        Ok(Self {
            splits: Sequence::new(splits).into(),
            ignore_merges: IGNORE_MERGES.contains(&name),
            composed: COMPOSED.contains(&name),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(pre: &serde_json::Value, ignores: bool) -> Result<&'static str, TokenizerFault> {
        name_of(
            &json!({"pre_tokenizer": pre, "normalizer": null, "model": {"ignore_merges": ignores}}),
        )
    }

    #[test]
    fn a_pre_tokenizer_is_named_by_its_patterns() {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let smol = json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]});
        assert_eq!(described(&smol, false).unwrap(), "smollm");
        assert_eq!(described(&bytes(true), false).unwrap(), "gpt-2");
        let split = json!({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated"});
        let llama = json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]});
        assert_eq!(described(&llama, true).unwrap(), "llama-bpe");
        assert_eq!(described(&llama, false).unwrap(), "dbrx");
    }

    #[test]
    fn a_pattern_that_no_name_has_is_refused_with_it() {
        let split = json!({"type": "Split", "pattern": {"Regex": "a+b"}, "behavior": "Isolated"});
        let error = described(&split, false).unwrap_err();
        assert!(error.to_string().contains("\"a+b\""), "{error}");
    }
}
