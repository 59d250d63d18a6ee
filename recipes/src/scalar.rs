//! How YAML 1.1, which Axolotl's recipes are written for, reads a word.
//!
//! `PyYAML` takes `2e-4` for text, `yes` and `no` for booleans, `010` for eight and `1:30` for
//! ninety. Here the wanted type decides: a number may be written in any of the usual ways (also
//! in quotes), `no` is false where a boolean is wanted and the word `no` where a word is wanted,
//! and what two readers would read differently is refused.

/// A whole number or why there is none.
pub(crate) enum Number<T> {
    /// It is one.
    Is(T),
    /// It looks like one and is ambiguous: what to write instead.
    Ambiguous(String),
    /// It is none.
    Not,
}

/// `true`, `yes`, `on`, `1` and their opposites.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A finite number: `2e-4`, `.5`, `1_000`.
pub(crate) fn number(text: &str) -> Number<f64> {
    let Some(digits) = plain_digits(text) else { return Number::Not };
    if let Some(problem) = ambiguous(&digits) {
        return Number::Ambiguous(problem);
    }
    let shape_fits = digits.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match digits.parse::<f64>() {
        Ok(value) if shape_fits && value.is_finite() => Number::Is(value),
        _ => Number::Not,
    }
}

/// 2^53: up to there a float holds every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number: `16`, `1_000`, `16.0`, `1e3`.
pub(crate) fn whole(text: &str) -> Number<i64> {
    if let Some(digits) = plain_digits(text) {
        if let Some(problem) = ambiguous(&digits) {
            return Number::Ambiguous(problem);
        }
        if let Ok(value) = digits.parse() {
            return Number::Is(value);
        }
    }
    match number(text) {
        Number::Is(value) if value.fract() == 0.0 && value.abs() <= EXACT =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            Number::Is(value as i64)
        }
        Number::Ambiguous(problem) => Number::Ambiguous(problem),
        _ => Number::Not,
    }
}

/// Without the underscores that YAML 1.1 allows between digits.
fn plain_digits(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let stray = |i: usize| bytes[i] == b'_' && !(i > 0 && digit(i - 1) && digit(i + 1));
    if text.is_empty() || (0..bytes.len()).any(stray) {
        return None;
    }
    Some(text.replace('_', ""))
}

/// What is wrong with a number that YAML 1.1 and YAML 1.2 read differently.
fn ambiguous(digits: &str) -> Option<String> {
    let bare = digits.trim_start_matches(['+', '-']);
    if bare.len() > 1 && bare.starts_with('0') && bare.bytes().all(|b| b.is_ascii_digit()) {
        let decimal = bare.trim_start_matches('0');
        let decimal = if decimal.is_empty() { "0" } else { decimal };
        return Some(match i64::from_str_radix(bare, 8) {
            Ok(octal) => {
                format!("a leading zero means base 8 to YAML 1.1: write `{decimal}` or `{octal}`")
            }
            Err(_) => format!("write `{decimal}` without the leading zero"),
        });
    }
    let parts: Vec<&str> = bare.split(':').collect();
    let digits_only = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (parts.len() > 1 && parts.iter().all(digits_only))
        .then(|| "colons mean base 60 to YAML 1.1: write the number out".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        match number(text) {
            Number::Is(value) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn numbers_that_yaml_1_1_takes_for_text_are_numbers() {
        assert_eq!(value("2e-4"), Some(2e-4));
        assert_eq!(value("1E3"), Some(1e3));
        assert_eq!(value(".5"), Some(0.5));
        assert_eq!(value("1_000.5"), Some(1000.5));
        assert_eq!(value("+3"), Some(3.0));
    }

    #[test]
    fn what_is_not_a_finite_number_is_none() {
        for text in
            ["", "nan", ".nan", "inf", ".inf", "infinity", "1e999", "0x10", "_1", "1_", "1__0"]
        {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_two_readers_read_differently_are_ambiguous() {
        assert!(matches!(whole("010"), Number::Ambiguous(why) if why.contains("`10` or `8`")));
        assert!(matches!(whole("1:30"), Number::Ambiguous(why) if why.contains("base 60")));
        assert!(matches!(whole("0"), Number::Is(0)));
        assert!(matches!(whole("16.0"), Number::Is(16)));
        assert!(matches!(whole("0.05"), Number::Not));
    }
}
