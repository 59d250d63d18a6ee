//! Answers that decline instead of answering, in English, Japanese and Chinese.

use regex::Regex;
use serde_json::Value;

use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict, around};

/// An answer declines in its first words or not at all: later it may speak of others who do.
const HEAD: usize = 240;

/// Declining to help, whatever was asked.
const HELP: &str = r"(?xi)
    ^\W*(?:(?:oh|well|hi|hello|hey|ah|hmm|no|thank\ you[^.!]{0,40}|thanks[^.!]{0,40}|i\ appreciate[^.!]{0,60}|i\ understand[^.!]{0,80}|while\ i[^.!]{0,80})[,.!\ ]+\ *(?:but\ |however,?\ )?)?
    (?:(?:i['’]?\ ?a?m\ (?:very\ |so\ |really\ |truly\ |deeply\ )?(?:sorry|afraid)|my\ apologies|i\ apologi[sz]e|sorry|apologies|unfortunately|regrettably|as\ an?\ (?:ai|(?:large\ )?language\ model)[^.]{0,40}?)[^.!?\n]{0,60}?[,.:;—-]?\ ?(?:but\ |that\ |however,?\ )?)?
    (?:
      i\ ?(?:['’]m\ |am\ )?(?:really\ |simply\ |just\ |also\ )?(?:can(?:['’]t|\ ?not)|could(?:n['’]t|\ not)|unable\ to|not\ (?:able|allowed|permitted|comfortable|authori[sz]ed|in\ a\ position|programmed|designed|going|willing)(?:\ to)?|won['’]t|will\ not|would\ rather\ not|(?:do\ not|don['’]t)\ (?:feel\ comfortable|think\ (?:that\ )?i\ can|have\ (?:the\ (?:ability|capability|capacity)|permission)(?:\ to)?)|must\ (?:respectfully\ |politely\ )?(?:decline|refuse)|have\ to\ (?:respectfully\ |politely\ )?(?:decline|refuse)|need\ to\ (?:respectfully\ |politely\ )?(?:decline|refuse)|refuse|(?:respectfully\ |politely\ )?decline)\ ?
        (?:to\ )?(?:be\ able\ to\ |directly\ |currently\ |actually\ |legally\ |ethically\ |in\ good\ conscience\ |possibly\ )*
        (?:assist|help|comply|fulfil+|provid|answer|respond|do\ (?:that|this|so|it)|creat(?:e|ing)\ (?:that|this|such|content|any)|generat(?:e|ing)\ (?:that|this|such|content|any|image)|engag|support\ (?:that|this|such|you)|participat|writ(?:e|ing)\ (?:that|this|such|about|content|any)|discuss|shar(?:e|ing)\ (?:that|this|such|any|information|personal)|complet(?:e|ing)\ (?:that|this|the|your)|offer\ (?:that|this|such|any|advice|guidance|assistance|information)|giv(?:e|ing)\ (?:that|this|such|you|any|advice|legal|medical|financial)|advis|promot|process\ (?:that|this|your)|browse|access\ (?:the|real|external|current|live|your)|view\ (?:the|image|file|link|attach)|open\ (?:the|link|url|file|attach)|see\ (?:the|any|image|attach)|continue\ (?:with|this)|proceed|perform\ (?:that|this)|carry\ out|recommend\ (?:that|this|any)|tell\ you|say\ (?:that|anything)|predict|comment)
    | i\ (?:really\ |simply\ |just\ )?(?:must|have\ to|need\ to)\ (?:respectfully\ |politely\ )?(?:decline|refuse)
    | i\ (?:do\ not|don['’]t)\ have\ (?:access\ to|real[-\ ]?time|the\ ability|the\ capability|enough\ (?:information|context)|any\ information|sufficient)
    | i\ (?:do\ not|don['’]t)\ feel\ comfortable
    | (?:it\ (?:is|would\ be)|it['’]s)\ (?:not\ (?:appropriate|ethical|possible|right)|inappropriate|unethical|against\ (?:my|the))[^.\n]{0,30}(?:\ for\ me\ to|programming|guidelines|policy|principles)
    | (?:this|that|your|the)\ (?:request|question|prompt|content|topic)\ (?:violates|goes\ against|is\ against|is\ (?:inappropriate|not\ (?:something|appropriate|allowed|permitted))|cannot\ be\ (?:completed|processed|answered|fulfilled)|can['’]t\ be\ (?:completed|processed|answered|fulfilled))
    | (?:that|this)(?:\ is|['’]s)\ (?:not\ something|something)\ (?:that\ )?i\ (?:can(?:not|['’]t)?|am\ (?:not\ )?able|won['’]t|will\ not|would\ rather\ not|['’]m\ (?:not\ )?able)
    | (?:that|this)(?:\ is|['’]s)\ (?:outside|beyond)\ (?:of\ )?(?:my|what\ i)
    | my\ (?:guidelines|programming|policies|principles|safety)[^.\n]{0,30}(?:prevent|prohibit|(?:do\ not|don['’]t)\ (?:allow|permit)|forbid)
    | i(?:['’]m|\ am|\ have\ been|['’]ve\ been)\ (?:programmed|designed|trained|instructed)\ (?:not\ to|to\ (?:avoid|decline|refuse))
    | we\ (?:are\ unable|cannot|can['’]t)\ (?:to\ )?(?:process|complete|fulfil+)\ (?:this|that|your)\ request
    | request\ (?:denied|refused|declined)
    )";

/// Regret, and then that something cannot be done: declining, unless that was to be written.
const REGRET: &str = r"(?xi)
    ^\W*(?:(?:oh|well|hi|hello|ah)[,.!\ ]+)?
    (?:i['’]?\ ?a?m\ (?:very\ |so\ |really\ |truly\ |deeply\ )?(?:sorry|afraid)|my\ apologies|i\ apologi[sz]e|sorry|apologies|unfortunately|regrettably)
      [^.!?\n]{0,50}?(?-u:\b)i\ ?(?:['’]m|am)?\ ?(?:can(?:['’]t|\ ?not)|could(?:n['’]t|\ not)|(?:am\ )?(?:unable|not\ able|not\ allowed|not\ permitted|not\ comfortable)|won['’]t|will\ not|(?:do\ not|don['’]t)\ (?:have|know))";

/// Bytes of an answer that is more than a refusal, where one was to be written.
const COMPOSED_BYTES: usize = 180;
/// Questions whose answer may regret something in someone's name, in lower case.
const COMPOSED: [&str; 40] = [
    "write",
    "message",
    "email",
    "e-mail",
    "letter",
    "reply",
    "respond",
    "text to",
    "excuse",
    "dialog",
    "dialogue",
    "story",
    "role",
    "pretend",
    "say",
    "apolog",
    "declin",
    "customer",
    "conversation",
    "script",
    "draft",
    "phrase",
    "translate",
    "sentence",
    "メール",
    "返信",
    "手紙",
    "文章",
    "書いて",
    "断り",
    "断る",
    "台詞",
    "セリフ",
    "会話",
    "お客",
    "顧客",
    "訳",
    "谢罪",
    "お詫び",
    "作成",
];

const JAPANESE: &str = r"(?x)
    ^\W*(?:
      (?:(?:大変|誠に|本当に|まことに)?(?:申し訳(?:ございません|ありません|ない(?:です|のです)?)|すみません|すいません|ごめんなさい|恐れ入ります|恐縮です|残念です|残念ながら|あいにく)[がけどの、。，\s]*)?
      (?:AI[^。\n]{0,20}(?:として|なので|ですので|のため)、?)?
      [^。\n]{0,60}?
      (?:お答え|ご?回答|お手伝い|お応え|お力|ご期待|ご?質問|ご?要望|ご?要求|ご?依頼|リクエスト|お問い合わせ|コメント|サポート|支援|協力|アドバイス|助言|ご?案内|情報[をの]?(?:ご?提供)|ご?提供|ご?対応|教える|応じる)
      [^。\n]{0,24}?
      (?:(?:でき|出来)(?:ません|かねます|ない(?:です|のです|んです)?(?:。|$))|(?:いた|致)?しかねます|られません|りかねます|応じられ|沿えません|添えません|なれません|なりません|(?:差し)?控えさせて|差し控え|控えます|お断り)
    | (?:私|わたし|僕|AI)(?:に)?(?:は|では)[^。\n]{0,30}(?:でき(?:ません|かねます)|出来ません|権限がありません|アクセスでき|お答え[^。\n]{0,12}(?:でき|かねます))
    | (?:それ|その(?:よう|件|話題|内容|質問)[^。\n]{0,20}|この(?:件|話題|内容|質問|リクエスト)[^。\n]{0,20})(?:は|には|については?)[^。\n]{0,16}(?:でき(?:ません|かねます)|出来ません|(?:いた|致)?しかねます|応じられません|答えられません)
    | (?:お断り|拒否)(?:します|いたします|させて)
    )";

const CHINESE: &str = r"(?x)
    ^\W*(?:
      (?:非常|很|十分)?(?:抱歉|对不起|遗憾|對不起)[，,。！!\s]*(?:但(?:是)?)?[^。\n]{0,20}?我?[^。\n]{0,10}?(?:不能|无法|無法|不会|没办法|不便)
    | 我(?:不能|无法|無法|没有办法|不便|拒绝)(?:为您|为你|给您|给你|直接)?(?:提供|回答|帮助|协助|满足|完成|执行|访问|讨论|生成)
    | 作为(?:一个|一名|一款)?(?:AI|人工智能|语言模型)[^。\n]{0,20}(?:不能|无法)
    )";

/// Drops rows whose answer declines. Rows with tools stay: they teach what no tool is there for.
pub(crate) struct Refusal {
    help: Regex,
    regret: Regex,
    japanese: Regex,
    chinese: Regex,
}

impl Refusal {
    pub(crate) fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            help: Regex::new(HELP)?,
            regret: Regex::new(REGRET)?,
            japanese: Regex::new(JAPANESE)?,
            chinese: Regex::new(CHINESE)?,
        })
    }

    /// Where an answer declines; `composed` says whether it was to be written in someone's name.
    fn find(&self, text: &str, composed: bool) -> Option<(usize, usize)> {
        let end = text.char_indices().nth(HEAD).map_or(text.len(), |(at, _)| at);
        let head = &text[..end];
        let plain = head.is_ascii();
        let english = || self.help.find(head).or_else(|| self.regret.find(head));
        let eastern = || self.japanese.find(head).or_else(|| self.chinese.find(head));
        let found = match (composed, plain) {
            (true, true) => self.help.find(head),
            // What was to be written in someone's name is longer than a refusal.
            (true, false) if text.len() > COMPOSED_BYTES => self.help.find(head),
            (true, false) => self.help.find(head).or_else(eastern),
            (false, true) => english(),
            (false, false) => english().or_else(eastern),
        };
        found.map(|found| (found.start(), found.end()))
    }
}

impl Rule for Refusal {
    fn name(&self) -> &'static str {
        "refusal"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        let tools = |name: &&str| {
            record.field(name).is_some_and(|tools| match tools {
                Value::String(text) => text.len() > 2,
                Value::Array(list) => !list.is_empty(),
                _ => false,
            })
        };
        if ["tools", "functions"].iter().any(tools) {
            return Verdict::Keep;
        }
        let asks = |text: &str| {
            let lower = text.to_lowercase();
            COMPOSED.iter().any(|word| lower.contains(word))
        };
        for (at, turn) in record.turns.iter().enumerate() {
            if !turn.role.is_answer() || self.find(&turn.text, false).is_none() {
                continue;
            }
            let composed = record.turns[..at]
                .iter()
                .any(|turn| matches!(turn.role, Role::User | Role::Input) && asks(&turn.text));
            if let Some((start, end)) = self.find(&turn.text, composed) {
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
    fn declining_is_told_from_speaking_of_it() {
        let rule = Refusal::new().unwrap();
        for text in [
            "I'm sorry, but I can't assist with that request.",
            "I cannot provide that information.",
            "Sorry, I'm unable to help with that.",
            "Unfortunately, I cannot browse the internet.",
            "I’m sorry, but as an AI language model, I am not able to do that.",
            "Thank you for your question, but I can't help with this.",
            "I must respectfully decline.",
            "That's not something I can help with.",
            "I'm afraid I can't do that.",
            "I'm not comfortable discussing this topic.",
            "Your request cannot be processed.",
            "It is against my programming to help with this.",
            "I don't have access to real-time data.",
            "I refuse to answer this question.",
            "I won't be able to help you with that.",
            "My guidelines prevent me from answering.",
            "I'm sorry, I don't know the answer to that.",
            "申し訳ありませんが、そのご要望にはお応えできません。",
            "申し訳ございませんが、お手伝いできません。",
            "すみません、その質問には回答できません。",
            "そのようなリクエストには対応できません。",
            "残念ながら、その情報を提供することはできません。",
            "お答えいたしかねます。",
            "その件についてはコメントを差し控えさせていただきます。",
            "ご期待に沿えません。",
            "私にはその権限がありません。",
            "抱歉，我无法提供该信息。",
            "我不能回答这个问题。",
        ] {
            assert!(rule.find(text, false).is_some(), "{text}");
        }
        for text in [
            "I'm sorry to hear that you are ill. Rest and drink water.",
            "You can say: \"I'm sorry, I can't come tonight.\"",
            "A cell cannot survive without water.",
            "I can help you with that. First, open the settings.",
            "I cannot imagine a world without music, and neither could she.",
            "I will not go gently, said the captain, and turned the ship.",
            "Unfortunately, the battle was lost in 1066.",
            "You cannot divide by zero.",
            "申し訳ありませんが、は丁寧な表現です。",
            "東京は日本の首都です。大阪では見られません。",
            "ご質問ありがとうございます。営業時間は9時からです。",
            "この問題は解くことができません。分母が0になるからです。",
            "水は燃えません。",
            "对不起的英文是sorry。",
        ] {
            assert_eq!(rule.find(text, false), None, "{text}");
        }
        let note = "I'm sorry, but I can't make it to your party on Friday.";
        assert!(rule.find(note, false).is_some() && rule.find(note, true).is_none());
    }
}
