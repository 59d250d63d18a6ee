//! What web pages and tools leave in texts: buttons, error messages, filler.

use aho_corasick::AhoCorasick;

use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict, around};

/// Texts that stand in for an answer that was never there.
const FILLER: [&str; 50] = [
    "lorem ipsum dolor",
    "javascript is disabled",
    "javascript is required",
    "your browser does not support",
    "accept all cookies",
    "verify you are human",
    "verify that you are human",
    "are you a robot?",
    "subscribe to our newsletter",
    "sign up for our newsletter",
    "click here to subscribe",
    "log in to continue reading",
    "this content is not available",
    "this page isn't available",
    "page not found",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway timeout",
    "504 gateway time-out",
    "429 too many requests",
    "internal server error",
    "that model is currently overloaded",
    "this model is currently overloaded",
    "続きを読むにはログイン",
    "ログインしてください",
    "お使いのブラウザは",
    "お探しのページ",
    "アクセスが集中して",
    "please enable javascript",
    "enable javascript and cookies",
    "this site uses cookies",
    "we use cookies to",
    "there was an error generating a response",
    "something went wrong. if this issue persists",
    "too many requests in 1 hour. try again later",
    "an error occurred. either the engine you requested does not exist",
    "rate limit reached for",
    "you've reached the current usage cap",
    "network error. please try again",
    "the server is overloaded",
    "our systems are a bit busy at the moment",
    "404 not found",
    "403 forbidden",
    "access denied. you don't have permission",
    "このサイトではクッキーを使用しています",
    "javascriptを有効にしてください",
    "ただいまサーバーが混み合っております",
    "エラーが発生しました。しばらくしてから",
    "ページが見つかりませんでした",
];
/// Lines that are buttons of chat pages.
const BUTTONS: [&str; 13] = [
    "copy code",
    "copy",
    "chatgpt said:",
    "you said:",
    "share this response",
    "コピー",
    "copy to clipboard",
    "regenerate response",
    "regenerate",
    "share prompt",
    "コードをコピーする",
    "コードをコピー",
    "コピーする",
];
/// What stands for an empty `input`.
const NO_INPUT: [&str; 16] = [
    "<noinput>",
    "<none>",
    "[no input]",
    "(no input)",
    "null",
    "特になし",
    "该任务无需输入",
    "noinput",
    "no input",
    "n/a",
    "none",
    "<no input>",
    "not applicable",
    "no input required",
    "なし",
    "入力なし",
];

/// Drops rows that are filler; takes buttons and words for "no input" out of the others.
pub(crate) struct Boilerplate {
    filler: AhoCorasick,
}

impl Boilerplate {
    pub(crate) fn new() -> Result<Self, aho_corasick::BuildError> {
        Ok(Self { filler: AhoCorasick::builder().ascii_case_insensitive(true).build(FILLER)? })
    }
}

impl Rule for Boilerplate {
    fn name(&self) -> &'static str {
        "boilerplate"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let mut repaired = None;
        for turn in &mut record.turns {
            if turn.role == Role::Input && is_no_input(&turn.text) {
                repaired = Some(Finding::new("a word for no input", &turn.text));
                turn.text.clear();
                continue;
            }
            if !turn.role.is_answer() {
                continue;
            }
            // Filler is short or at the start; a long text may speak of it.
            if let Some(found) = self.filler.find(&turn.text)
                && (found.start() < 80 || turn.text.len() < 400)
                && !turn.text[..found.start()].contains(['"', '`', '“', '「'])
            {
                let evidence = around(&turn.text, found.start(), found.end());
                return Verdict::Drop(Finding::new("filler instead of an answer", &evidence));
            }
            if let Some((clean, button)) = without_buttons(&turn.text) {
                repaired = Some(Finding::new("a button of a chat page", &button));
                turn.text = clean;
            }
        }
        repaired.map_or(Verdict::Keep, Verdict::Repair)
    }
}

fn is_no_input(text: &str) -> bool {
    let bare = text.trim().trim_end_matches('.');
    bare.len() <= 24 && NO_INPUT.contains(&bare.to_lowercase().as_str())
}

/// The text without the lines that are buttons, and one of them.
fn without_buttons(text: &str) -> Option<(String, String)> {
    let is_button = |line: &str| {
        let bare = line.trim();
        bare.len() <= 40 && BUTTONS.contains(&bare.to_lowercase().as_str())
    };
    // `python Copy code` above a block is a label and a button in one.
    let labelled = |line: &str| line.len() < 40 && line.trim_end().ends_with("Copy code");
    // One line is an answer; buttons stand between others.
    let lines = || text.split('\n');
    lines().nth(1)?;
    let found = lines().find(|line| is_button(line) || labelled(line))?.to_owned();
    let kept: Vec<&str> = lines()
        .filter(|line| !is_button(line))
        .map(|line| {
            if labelled(line) {
                line.trim_end().trim_end_matches("Copy code").trim_end()
            } else {
                line
            }
        })
        .collect();
    let clean = kept.join("\n").trim_matches('\n').to_owned();
    Some((clean, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_go_and_lines_that_only_look_so_stay() {
        let clean = |text: &str| without_buttons(text).map(|(text, _)| text);
        assert_eq!(clean("Try this:\nCopy code\nprint(1)"), Some("Try this:\nprint(1)".to_owned()));
        assert_eq!(clean("pythonCopy code\nprint(1)"), Some("python\nprint(1)".to_owned()));
        assert_eq!(clean("Copy code"), None);
        assert_eq!(clean("Do not copy code\nfrom others"), None);
        assert!(is_no_input("<noinput>") && !is_no_input("None of these"));
    }
}
