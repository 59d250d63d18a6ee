//! Code fences that open and never close.

use crate::clean::glance::Glance;
use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Drops answers with an open code fence; with `repair`, closes it.
pub(crate) struct Fences {
    pub(crate) repair: bool,
}

impl Rule for Fences {
    fn name(&self) -> &'static str {
        "fences"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if !record.glance().has_any(const { Glance::those(b"`~") }) {
            return Verdict::Keep;
        }
        let mut repaired = None;
        for turn in record.turns.iter_mut().filter(|turn| turn.role.is_answer()) {
            let Some((fence, line)) = open_fence(&turn.text) else { continue };
            let finding = Finding::new("a code fence that does not close", &line);
            if !self.repair {
                return Verdict::Drop(finding);
            }
            turn.text = format!("{}\n{fence}", turn.text.trim_end());
            repaired = Some(finding);
        }
        repaired.map_or(Verdict::Keep, Verdict::Repair)
    }
}

/// The fence that is open at the end, and the line that opened it (`CommonMark` §4.5).
fn open_fence(text: &str) -> Option<(String, String)> {
    if !text.contains("```") && !text.contains("~~~") {
        return None;
    }
    let mut open: Option<(char, usize, &str)> = None;
    for line in text.lines() {
        // In lists fences are indented; a quotation may hold one.
        let bare = line.trim_start_matches([' ', '\t', '>']);
        let Some(mark) = bare.chars().next().filter(|mark| matches!(mark, '`' | '~')) else {
            continue;
        };
        let length = bare.chars().take_while(|c| *c == mark).count();
        if length < 3 {
            continue;
        }
        let info = &bare[length..];
        match open {
            None if mark == '`' && info.contains('`') => {}
            None => open = Some((mark, length, line)),
            Some((opened, least, _))
                if opened == mark && length >= least && info.trim().is_empty() =>
            {
                open = None;
            }
            // A fence with a name within an open one: the first was never closed.
            Some(_) => {}
        }
    }
    open.map(|(mark, length, line)| (mark.to_string().repeat(length), line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::open_fence;

    #[test]
    fn only_a_fence_that_stays_open_counts() {
        assert!(open_fence("```python\nprint(1)").is_some());
        assert!(open_fence("a\n```\nx\n```\nb\n```js\ny").is_some());
        assert!(open_fence("```python\nprint(1)\n```\ndone").is_none());
        assert!(open_fence("````md\n```\nx\n```\n````").is_none());
        assert!(open_fence("use ```x``` here").is_none());
        assert!(open_fence("1. a\n   ```\n   x\n   ```").is_none());
    }
}
