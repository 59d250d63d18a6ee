//! Did you mean.

/// The candidate with the fewest edits from `word`, if a third of the word's length (at least one
/// edit) is enough. The first one wins a tie.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Names are short; anything longer is not worth a quadratic search.
    if word.is_empty() || word.len() > 200 {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    let mut best = None;
    for candidate in candidates {
        let edits = distance(word, candidate);
        if edits <= allowed && best.is_none_or(|(fewest, _)| edits < fewest) {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The line of help for an error: empty, or beginning with a line break.
pub(crate) fn help(near: Option<&String>) -> String {
    near.map_or_else(String::new, |near| format!("\n  = help: did you mean `{near}`?"))
}

/// Insertions, deletions and replacements that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
        }
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_word_with_the_fewest_edits_is_meant_and_far_words_are_not() {
        assert_eq!(nearest("q_porj", ["k_proj", "q_proj"]), Some("q_proj"));
        assert_eq!(nearest("query", ["q_proj", "lm_head"]), None);
        assert_eq!(nearest("", ["a"]), None);
    }
}
