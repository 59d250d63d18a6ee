//! Languages of questions and answers.

use ft_recipes::CleanSection;

use crate::clean::language::{Language, of};
use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict};

/// Drops rows that answer in another language than was asked in, unless the question is about
/// languages; and, with a list of languages, rows whose answer is in none of them.
pub(crate) struct Languages {
    only: Vec<Language>,
    restricted: bool,
}

impl Languages {
    pub(crate) fn new(section: &CleanSection) -> Self {
        let only = section.languages.iter().filter_map(|code| Language::from_code(code)).collect();
        Self { only, restricted: !section.languages.is_empty() }
    }
}

/// Words of a question that is about languages, in lower case.
const ABOUT: [&str; 58] = [
    "translat",
    "in english",
    "in japanese",
    "in french",
    "in german",
    "in spanish",
    "in chinese",
    "in korean",
    "in italian",
    "in portuguese",
    "in russian",
    "in arabic",
    "in hindi",
    "in latin",
    "in dutch",
    "to english",
    "into ",
    "to japanese",
    "to french",
    "to german",
    "to spanish",
    "to chinese",
    "to korean",
    "to italian",
    "language",
    "haiku",
    "poem",
    "lyrics",
    "romaji",
    "kanji",
    "hiragana",
    "katakana",
    "pinyin",
    "phrase",
    "proverb",
    "翻訳",
    "訳し",
    "訳せ",
    "和訳",
    "英訳",
    "英語",
    "日本語",
    "中国語",
    "韓国語",
    "フランス語",
    "ドイツ語",
    "スペイン語",
    "言語",
    "外国語",
    "翻译",
    "译成",
    "英文",
    "中文",
    "日文",
    "日语",
    "英语",
    "번역",
    "영어",
];

impl Rule for Languages {
    fn name(&self) -> &'static str {
        "language"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let mut asked: Option<(Language, usize)> = None;
        let mut about = false;
        let (last, mut heard) = (record.last_answer(), None);
        for (at, turn) in record.turns.iter().enumerate() {
            match turn.role {
                Role::System => about |= is_about(&turn.text),
                Role::User => {
                    about |= is_about(&turn.text);
                    asked = of(&turn.text).map(|language| (language, at));
                }
                // An `input` is what a question is about, in whatever language.
                Role::Input => {
                    about |= of(&turn.text)
                        .is_some_and(|input| asked.is_some_and(|(asked, _)| asked.differs(input)));
                }
                Role::Assistant | Role::Chosen | Role::Text => {
                    let answer = of(&turn.text);
                    if Some(at) == last {
                        heard = Some(answer);
                    }
                    let Some(answer) = answer else { continue };
                    if self.restricted && !self.only.iter().any(|only| !only.differs(answer)) {
                        let reason = format!("the answer is in {}", answer.name());
                        return Verdict::Drop(Finding::new(reason, &turn.text));
                    }
                    if let Some((asked, _)) = asked
                        && !about
                        && asked.differs(answer)
                    {
                        let reason =
                            format!("asked in {}, answered in {}", asked.name(), answer.name());
                        return Verdict::Drop(Finding::new(reason, &turn.text));
                    }
                }
                Role::Tool | Role::Rejected | Role::Unknown => {}
            }
        }
        if let Some(heard) = heard {
            record.answered_in(heard);
        }
        Verdict::Keep
    }
}

/// Whether a question in other letters quotes words in Latin ones, as in `「opulent」を使った文`.
fn quotes_latin(text: &str) -> bool {
    let opens = |c: char| matches!(c, '"' | '“' | '「' | '『' | '‘' | '\'');
    !text.is_ascii()
        && text.match_indices(opens).any(|(at, mark)| {
            let inside = &text[at + mark.len()..];
            inside.chars().take(3).filter(char::is_ascii_alphabetic).count() == 3
        })
        && of(text).is_some_and(Language::is_wide)
}

fn is_about(text: &str) -> bool {
    // Long questions bring texts along; what is to be done stands at their ends.
    let lower = text.to_lowercase();
    ABOUT.iter().any(|word| lower.contains(word)) || quotes_latin(text)
}
