//! Answers that decline instead of answering, in English and Japanese.

use regex::Regex;

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict, around};

/// An answer declines in its first words or not at all: later it may speak of others who do.
const HEAD: usize = 240;

const ENGLISH: &str = r"(?xi)
    ^\W*(?:(?:oh|well|hi|hello|hey|ah|thank\ you[^.!]{0,40}|thanks[^.!]{0,40}|i\ appreciate[^.!]{0,60}|i\ understand[^.!]{0,80})[,.!\ ]+\ *(?:but\ |however,?\ )?)?
    (?:
      (?:i['’]?\ ?a?m\ (?:very\ |so\ |really\ |truly\ |deeply\ )?(?:sorry|afraid)|my\ apologies|i\ apologi[sz]e|sorry|apologies|unfortunately|regrettably|as\ an\ ai[^.]{0,40},?)
        [^.!?\n]{0,50}?(?-u:\b)(?:i|we)\ ?(?:['’]m|am)?\ ?(?:can(?:['’]t|\ ?not)|could(?:n['’]t|\ not)|(?:am\ )?(?:unable|not\ able|not\ allowed|not\ permitted|not\ comfortable)|won['’]t|will\ not|must\ (?:decline|refuse)|(?:do\ not|don['’]t)\ (?:feel\ comfortable|have\ (?:the\ ability|access|enough\ information|any\ information)))
    | i\ (?:really\ |simply\ |just\ )?(?:can(?:['’]t|\ ?not)|am\ (?:unable|not\ able|not\ allowed|not\ comfortable)|won['’]t|will\ not)\ (?:to\ )?(?:be\ able\ to\ )?(?:assist|help|comply|fulfil+|provide|answer|respond|do\ (?:that|this|so)|create|generate|engage|support|participate|write|discuss|share|complete|offer|give|advise|promote|process)(?-u:\b)
    | i['’]m\ (?:unable|not\ able|not\ allowed|not\ comfortable)\ (?:to\ )?(?:assist|help|comply|fulfil+|provid|answer|respond|do\ (?:that|this)|creat|generat|engag|support|participat|writ|discuss|shar|complet)
    | i\ (?:must|have\ to|need\ to)\ (?:respectfully\ |politely\ )?(?:decline|refuse)
    | i\ (?:respectfully\ |politely\ )?decline\ to
    | (?:it\ (?:is|would\ be)|it['’]s)\ (?:not\ (?:appropriate|ethical|possible)|inappropriate|unethical)\ for\ me\ to
    | (?:this|that|your)\ (?:request|question|prompt|content)\ (?:violates|goes\ against|is\ against)
    | i\ do(?:\ not|n['’]t)\ (?:have\ the\ ability|feel\ comfortable)\ 
    )";

const JAPANESE: &str = r"(?x)
    ^\W*(?:
      (?:大変|誠に|本当に)?(?:申し訳(?:ございません|ありません|ない(?:です|のです)?)|すみません|すいません|ごめんなさい|恐れ入ります|恐縮です|残念です)(?:が|けど|、|。|\s)+[^。\n]{0,80}
        (?:でき(?:ません|かねます|ない)|出来(?:ません|かねます)|いたしかねます|致しかねます|しかねます|応じられません|答えられません|お答えを?控え|差し控え|ありません(?:ので|ため)?お)
    | 残念ながら[^。\n]{0,60}(?:お答え|お手伝い|お応え|ご?対応|提供|ご案内|支援)[^。\n]{0,20}(?:できません|出来ません|かねます|ことはできません)
    | (?:その|この|ご)(?:よう[なう])?(?:ご?要求|ご?要望|リクエスト|ご?依頼|ご?質問|お問い合わせ)(?:には?|に(?:関して|対して)は?)[^。\n]{0,30}(?:できません|出来ません|かねます|られません)
    | (?:お手伝い|お答え|ご回答|回答|支援|サポート|ご?対応)(?:する(?:こと)?)?(?:は|が|を)?(?:できません|出来ません|いたしかねます|できかねます|控えさせて)
    | 私には(?:お答え|お手伝い|回答|それ)[^。\n]{0,20}(?:できません|かねます)
    )";

/// Drops rows whose answer declines.
pub(crate) struct Refusal {
    english: Regex,
    japanese: Regex,
}

impl Refusal {
    pub(crate) fn new() -> Result<Self, regex::Error> {
        Ok(Self { english: Regex::new(ENGLISH)?, japanese: Regex::new(JAPANESE)? })
    }

    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let end = text.char_indices().nth(HEAD).map_or(text.len(), |(at, _)| at);
        let head = &text[..end];
        let english = self.english.find(head);
        let found =
            if head.is_ascii() { english } else { english.or_else(|| self.japanese.find(head)) };
        found.map(|found| (found.start(), found.end()))
    }
}

impl Rule for Refusal {
    fn name(&self) -> &'static str {
        "refusal"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        for turn in record.turns.iter().filter(|turn| turn.role.is_answer()) {
            if let Some((start, end)) = self.find(&turn.text) {
                let evidence = around(&turn.text, start, end);
                return Verdict::Drop(Finding::new("the answer declines", &evidence));
            }
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_decline_are_told_from_answers_that_speak_of_it() {
        let rule = Refusal::new().unwrap();
        for text in [
            "I'm sorry, but I can't assist with that request.",
            "I cannot provide medical advice.",
            "Sorry, I am unable to help with that.",
            "Unfortunately, I cannot browse the internet.",
            "I’m sorry, but as an AI language model, I am not able to do that.",
            "Thank you for your question, but I can't help with this.",
            "I must respectfully decline.",
            "申し訳ありませんが、そのご要望にはお応えできません。",
            "申し訳ございませんが、お手伝いできません。",
            "すみません、その質問には回答できません。",
            "そのようなリクエストには対応できません。",
            "残念ながら、その情報を提供することはできません。",
        ] {
            assert!(rule.find(text).is_some(), "{text}");
        }
        for text in [
            "I'm sorry to hear that you are ill. Rest and drink water.",
            "You can say: \"I'm sorry, I can't come tonight.\"",
            "A cell cannot survive without water.",
            "I can help you with that. First, open the settings.",
            "申し訳ありませんが、は丁寧な表現です。",
            "東京は日本の首都です。大阪では見られません。",
            "ご質問ありがとうございます。営業時間は9時からです。",
        ] {
            assert!(rule.find(text).is_none(), "{text}");
        }
    }
}
