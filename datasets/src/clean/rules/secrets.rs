//! Keys, tokens and passwords that were left in a text.

use aho_corasick::AhoCorasick;
use regex::Regex;

use crate::clean::glance::Glance;
use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Drops rows with secrets, or masks them.
pub(crate) struct Secrets {
    mask: bool,
    /// Words without which none of the patterns can be.
    hints: AhoCorasick,
    pattern: Regex,
}

const HINTS: [&str; 27] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "pk_live_",
    "xox",
    "AIza",
    "hf_",
    "npm_",
    "pypi-",
    "PRIVATE KEY",
    "eyJ",
    "SG.",
    "ya29.",
    "aws_secret",
    "AccountKey=",
    "dop_v1_",
    "hooks.slack.com",
    "gsk_",
    "r8_",
];

const PATTERN: &str = r"(?x)
    (?-u:\b)(?:AKIA|ASIA)[0-9A-Z]{16}(?-u:\b)
  | (?-u:\b)gh[pousr]_[0-9A-Za-z]{36,}(?-u:\b)
  | (?-u:\b)github_pat_[0-9A-Za-z_]{22,}(?-u:\b)
  | (?-u:\b)glpat-[0-9A-Za-z_\-]{20,}
  | (?-u:\b)sk-(?:ant-|proj-|or-v1-)?[0-9A-Za-z_\-]{20,}
  | (?-u:\b)[srp]k_live_[0-9A-Za-z]{16,}(?-u:\b)
  | (?-u:\b)xox[abeoprs]-[0-9A-Za-z\-]{10,}
  | (?-u:\b)AIza[0-9A-Za-z_\-]{35}
  | (?-u:\b)hf_[0-9A-Za-z]{30,}(?-u:\b)
  | (?-u:\b)npm_[0-9A-Za-z]{36}(?-u:\b)
  | (?-u:\b)pypi-[0-9A-Za-z_\-]{50,}
  | (?-u:\b)SG\.[0-9A-Za-z_\-]{16,}\.[0-9A-Za-z_\-]{16,}
  | (?-u:\b)ya29\.[0-9A-Za-z_\-]{20,}
  | (?-u:\b)dop_v1_[0-9a-f]{64}(?-u:\b)
  | (?-u:\b)eyJ[0-9A-Za-z_\-]{10,}\.eyJ[0-9A-Za-z_\-]{10,}\.[0-9A-Za-z_\-]{10,}
  | (?i:aws_secret(?:_access)?_key)[\x22'\ ]*[:=][\x22'\ ]*[0-9A-Za-z/+]{40}
  | AccountKey=[0-9A-Za-z/+]{60,}={0,2}
  | hooks\.slack\.com/services/T[0-9A-Z]{8,}/B[0-9A-Z]{8,}/[0-9A-Za-z]{20,}
  | (?-u:\b)gsk_[0-9A-Za-z]{40,}(?-u:\b)
  | (?-u:\b)r8_[0-9A-Za-z]{37,}(?-u:\b)
  | -----BEGIN\ (?:[A-Z]+\ )*PRIVATE\ KEY(?:\ BLOCK)?-----[\s\S]*?(?:-----END\ (?:[A-Z]+\ )*PRIVATE\ KEY(?:\ BLOCK)?-----|\z)";

impl Secrets {
    pub(crate) fn new(mask: bool) -> Result<Self, crate::clean::error::CleanError> {
        Ok(Self { mask, hints: AhoCorasick::new(HINTS)?, pattern: Regex::new(PATTERN)? })
    }

    /// The first secret that is not a placeholder.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        if !self.hints.is_match(text) {
            return None;
        }
        let found = self.pattern.find_iter(text).find(|found| !is_placeholder(found.as_str()))?;
        Some((found.start(), found.end()))
    }
}

/// Keys of documents: `AKIAIOSFODNN7EXAMPLE`, `sk-xxxxxxxxxxxxxxxxxxxxxxxx`.
fn is_placeholder(key: &str) -> bool {
    let upper = key.to_ascii_uppercase();
    let words = [
        "EXAMPLE",
        "XXXXX",
        "YOUR",
        "PLACEHOLDER",
        "*****",
        "....",
        "00000000",
        "PLACE_HOLDER",
        "INSERT",
        "CHANGEME",
    ];
    if words.iter().any(|word| upper.contains(word)) {
        return true;
    }
    // A frame without a key in it.
    if upper.starts_with("-----BEGIN") {
        let body = key.lines().skip(1).take_while(|line| !line.starts_with("-----"));
        return body.map(|line| line.trim().len()).sum::<usize>() < 32;
    }
    // Keys are random; words between dashes are a name.
    !key.bytes().any(|byte| byte.is_ascii_digit())
}

impl Rule for Secrets {
    fn name(&self) -> &'static str {
        "secrets"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if !record.glance().has_any(const { Glance::those(b"0123456789-") }) {
            return Verdict::Keep;
        }
        let mut masked = None;
        for turn in &mut record.turns {
            while let Some((start, end)) = self.find(&turn.text) {
                let shown: String =
                    turn.text[start..end].chars().take(6).chain("…".chars()).collect();
                let finding = Finding::new("a key or password", &shown);
                if !self.mask {
                    return Verdict::Drop(finding);
                }
                turn.text.replace_range(start..end, "[SECRET]");
                masked = Some(finding);
            }
        }
        masked.map_or(Verdict::Keep, Verdict::Repair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_examples_of_keys_are_not() {
        let rule = Secrets::new(false).unwrap();
        // In pieces, so that nobody's scanner takes this file for a leak.
        let pieces = [
            ["AKIA", "Q3EGP7XW2N5TR8KD"],
            ["ghp_", "a8Fh2kLq9ZrT4vWx7YbC1nMp5sDg3jKe6uQo"],
            ["sk-", "proj-a8Fh2kLq9ZrT4vWx7YbC1nMp"],
            ["xoxb-", "2931847561-a8Fh2kLq9Z"],
            ["AIza", "SyA8Fh2kLq9ZrT4vWx7YbC1nMp5sDg3jKe6"],
        ];
        for key in pieces {
            assert!(rule.find(&format!("use {} here", key.concat())).is_some(), "{key:?}");
        }
        let pem = format!(
            "-----BEGIN RSA {0}-----\n{1}\n-----END RSA {0}-----",
            "PRIVATE KEY",
            "MIIEow8Q".repeat(8)
        );
        assert!(rule.find(&pem).is_some());
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-your-api-key-goes-in-here",
            "hf_transfer",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        ] {
            assert!(rule.find(text).is_none(), "{text}");
        }
    }
}
