//! Damage to text from its way here: misread encodings, HTML's spellings of characters.

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict, around, excerpt};
use crate::clean::text::{is_lost, repaired};

/// Puts misread text right; drops rows in which characters were lost.
pub(crate) struct Text {
    /// Whether rows with damage are put right.
    pub(crate) repair: bool,
}

/// HTML's spellings that data sets are full of.
const ENTITIES: [(&str, &str); 14] = [
    ("&quot;", "\""),
    ("&#39;", "'"),
    ("&#x27;", "'"),
    ("&apos;", "'"),
    ("&nbsp;", " "),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&hellip;", "…"),
    ("&mdash;", "—"),
    ("&ndash;", "–"),
    ("&rsquo;", "’"),
    ("&ldquo;", "“"),
    ("&rdquo;", "”"),
    // Last, or `&amp;lt;` would lose two layers.
    ("&amp;", "&"),
];

impl Rule for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if record.glance().is_ascii() && !record.glance().has(b'&') {
            return Verdict::Keep;
        }
        let mut found = None;
        // Rows about HTML mean its spellings.
        let html = record.turns.iter().any(|turn| about_html(&turn.text));
        for turn in &mut record.turns {
            if let Some(fixed) = repaired(&turn.text) {
                let at = turn.text.bytes().position(|byte| !byte.is_ascii()).unwrap_or_default();
                let evidence = around(&turn.text, at, at);
                if !self.repair {
                    return Verdict::Drop(Finding::new("misread characters", &evidence));
                }
                turn.text = fixed;
                found.get_or_insert(Finding::new("misread characters", &evidence));
            }
            if is_lost(&turn.text) {
                let lost = turn.text.find(|c: char| !c.is_ascii());
                let at = turn.text.find('\u{FFFD}').or(lost).unwrap_or_default();
                let evidence = around(&turn.text, at, at);
                return Verdict::Drop(Finding::new("characters were lost", &evidence));
            }
            if !html && let Some((fixed, entity)) = without_entities(&turn.text) {
                if !self.repair {
                    return Verdict::Drop(Finding::new("HTML's spelling of characters", entity));
                }
                found.get_or_insert(Finding::new(
                    "HTML's spelling of characters",
                    &excerpt(entity, 20),
                ));
                turn.text = fixed;
            }
        }
        found.map_or(Verdict::Keep, Verdict::Repair)
    }
}

fn about_html(text: &str) -> bool {
    text.contains('&')
        && (text.contains(['<', '`'])
            || ["html", "HTML", "entit", "escape", "XML", "xml"]
                .iter()
                .any(|word| text.contains(word)))
}

fn without_entities(text: &str) -> Option<(String, &'static str)> {
    if !text.contains('&') || !text.contains(';') {
        return None;
    }
    let (entity, _) = ENTITIES.iter().find(|(entity, _)| text.contains(entity))?;
    let mut fixed = text.to_owned();
    for (entity, c) in ENTITIES {
        if fixed.contains(entity) {
            fixed = fixed.replace(entity, c);
        }
    }
    Some((fixed, entity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_spelled_out_where_html_is_not_the_subject() {
        let fixed = |text: &str| without_entities(text).map(|(text, _)| text);
        assert_eq!(
            fixed("Tom &amp; Jerry&#39;s &quot;show&quot;"),
            Some("Tom & Jerry's \"show\"".to_owned())
        );
        assert_eq!(fixed("AT&T; fine"), None);
        assert!(about_html("Use &lt; in HTML") && !about_html("Tom &amp; Jerry"));
    }
}
