//! `ft data show`: rows as the model will see them, token by token, with what is learned.
//!
//! Nothing here prints; the command does.

use std::fmt::Write as _;

use ft_recipes::DataSection;

use crate::encode::{Example, RowAudit};
use crate::prepare::{DataError, PrepareOptions, RowEncoder};
use crate::source::{self, Place, Problem};
use crate::tokenizer::Tokenizer;

/// How tokens are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// By ANSI colours: learned tokens green, partly learned ones yellow, masked ones dim.
    Ansi,
    /// By marks alone: `[learned]`, `[learned]*0.5`, and masked text bare.
    None,
}

/// Which rows are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShowOptions {
    /// Rows passed over, of each data set.
    pub skip: usize,
    /// Rows shown, of each data set.
    pub rows: usize,
    /// Colours or marks.
    pub colour: Colour,
}

/// Between tokens, where the tokenizer cut: text is shown with its seams.
const SEAM: char = '·';

/// The rows of a recipe's data sets with their tokens, weights, seams and audit.
///
/// A row that cannot be encoded is shown with what is wrong with it, so bad rows can be looked at.
/// `origin` says where a row stood that lies elsewhere now, such as one that was cleaned.
///
/// # Errors
///
/// [`DataError`] if a data set or its template cannot be used at all.
pub fn show(
    section: &DataSection,
    tokenizer: &Tokenizer,
    options: ShowOptions,
    origin: &dyn Fn(&Place) -> Place,
) -> Result<String, DataError> {
    let mut text = String::new();
    for dataset in section.datasets.iter().chain(&section.test_datasets) {
        let encoder = RowEncoder::new(dataset, section, tokenizer)?;
        let rows = source::rows(dataset, PrepareOptions::default().limits)?;
        for row in rows.skip(options.skip).take(options.rows) {
            let (at, examples) = match row {
                Ok(row) => (origin(&row.at), encoder.encode(row.fields)),
                Err(Problem::Bad(row)) => (origin(&row.at), Err(row.fault.into())),
                Err(Problem::Fatal(error)) => return Err(error.into()),
            };
            match examples {
                Ok(examples) => {
                    for (example, facts) in &examples {
                        line(&mut text, &format!("{at}  {}", summary(facts, section)));
                        line(&mut text, &tokens(example, tokenizer, options.colour));
                        line(&mut text, "");
                    }
                }
                Err(fault) => line(&mut text, &format!("{at}  {fault}\n")),
            }
        }
    }
    Ok(text)
}

fn line(text: &mut String, line: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{line}");
}

/// What a row teaches, and what would be wrong with it, on one line.
fn summary(facts: &RowAudit, section: &DataSection) -> String {
    let mut summary = format!(
        "{} tokens, {} trained, {} of {} stop tokens trained",
        facts.tokens, facts.trained, facts.trained_stops, facts.stops
    );
    let mut warn = |when: bool, what: &str| {
        if when {
            summary.push_str("; ");
            summary.push_str(what);
        }
    };
    warn(facts.trained == 0, "NO TRAINED TOKEN");
    warn(facts.endless_answers > 0, "AN ANSWER DOES NOT END IN A TRAINED STOP TOKEN");
    warn(facts.doubled_bos, "BEGINNING OF TEXT TWICE");
    warn(facts.tokens > section.sequence_len, "LONGER THAN `sequence_len`");
    warn(facts.tokens < section.min_row_len, "SHORTER THAN `min_sample_len`");
    summary
}

/// The tokens of an example with their weights; `·` stands between the tokens of a stretch.
///
/// Control characters are written as escapes (`⏎` for a line feed, which is also kept), so that a
/// row cannot steer the terminal.
pub fn tokens(example: &Example, tokenizer: &Tokenizer, colour: Colour) -> String {
    let mut text = String::new();
    let mut start = 0;
    while start < example.len() {
        // The first token is predicted by nothing, whatever its weight says.
        let weight = |at: usize| if at == 0 { 0.0 } else { example.weights[at] };
        let same = |at: &usize| weight(*at).to_bits() == weight(start).to_bits();
        let end = (start + 1..example.len()).take_while(same).last().map_or(start + 1, |at| at + 1);
        stretch(&mut text, &pieces(&example.ids[start..end], tokenizer), weight(start), colour);
        start = end;
    }
    text
}

fn stretch(text: &mut String, shown: &str, weight: f32, colour: Colour) {
    let fraction = if weight > 0.0 && (weight - 1.0).abs() > f32::EPSILON {
        format!("*{weight}")
    } else {
        String::new()
    };
    // Writing to a text cannot fail.
    let _ = match (colour, weight > 0.0) {
        (Colour::None, false) => write!(text, "{shown}"),
        (Colour::None, true) => write!(text, "[{shown}]{fraction}"),
        (Colour::Ansi, false) => write!(text, "\x1b[2m{shown}\x1b[0m"),
        (Colour::Ansi, true) if fraction.is_empty() => write!(text, "\x1b[32m{shown}\x1b[0m"),
        (Colour::Ansi, true) => write!(text, "\x1b[33m{shown}\x1b[0m{fraction}"),
    };
}

/// The texts of some tokens with seams between them. Tokens that hold a part of a character only
/// are shown together, as the character.
fn pieces(ids: &[u32], tokenizer: &Tokenizer) -> String {
    let mut shown = String::new();
    let mut held: Vec<u32> = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        held.push(*id);
        let alone = tokenizer.decode_piece(*id);
        let piece = match held.as_slice() {
            [_] if !alone.contains('\u{FFFD}') => alone,
            held => tokenizer.decode_with_special(held),
        };
        // A character has at most four bytes.
        if piece.contains('\u{FFFD}') && held.len() < 4 && at + 1 < ids.len() {
            continue;
        }
        if !shown.is_empty() {
            shown.push(SEAM);
        }
        for letter in piece.chars() {
            match letter {
                '\n' => shown.push_str("⏎\n"),
                letter if letter.is_control() => {
                    let _ = write!(shown, "{}", letter.escape_default());
                }
                letter => shown.push(letter),
            }
        }
        held.clear();
    }
    shown
}
