//! Rows that are too short or too long to be what they should.

use ft_recipes::LengthBounds;

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};
use crate::tokenizer::Tokenizer;

/// Drops rows outside of the bounds, in characters and, with a tokenizer, in tokens.
pub(crate) struct Length<'a> {
    pub(crate) bounds: LengthBounds,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
}

/// Characters of a word beyond which it is data: base64, a dump, a file.
const LONGEST_WORD: usize = 2000;

impl Rule for Length<'_> {
    fn name(&self) -> &'static str {
        "length"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let LengthBounds { min_answer, max_turn, max_row, max_tokens } = self.bounds;
        let mut all = 0;
        for turn in &record.turns {
            // Bytes are at least characters, and cheaper to know.
            let length = turn.text.len();
            all += length;
            if turn.role.is_answer() && !turn.calls && length < 4 * min_answer {
                let count = turn.text.trim().chars().count();
                if count < min_answer {
                    return drop_for("the answer is too short", count, "characters");
                }
            }
            if length > max_turn {
                let count = turn.text.chars().count();
                if count > max_turn {
                    return drop_for("a turn is too long", count, "characters");
                }
            }
            if length > LONGEST_WORD
                && let Some(word) = turn.text.split_whitespace().find(|word| is_data(word))
            {
                return Verdict::Drop(Finding::new("a word too long to be one", word));
            }
        }
        if all > max_row {
            let count: usize = record.turns.iter().map(|turn| turn.text.chars().count()).sum();
            if count > max_row {
                return drop_for("the row is too long", count, "characters");
            }
        }
        // A token is a byte at least.
        if let (Some(most), Some(tokenizer)) = (max_tokens, self.tokenizer)
            && all > most
        {
            let tokens: usize =
                record.turns.iter().map(|turn| tokenizer.encode(&turn.text).len()).sum();
            if tokens > most {
                return drop_for("the row has too many tokens", tokens, "tokens");
            }
        }
        Verdict::Keep
    }
}

fn is_data(word: &str) -> bool {
    word.len() > LONGEST_WORD && word.bytes().filter(u8::is_ascii_graphic).count() > LONGEST_WORD
}

fn drop_for(reason: &'static str, count: usize, unit: &str) -> Verdict {
    Verdict::Drop(Finding::new(reason, &format!("{count} {unit}")))
}
