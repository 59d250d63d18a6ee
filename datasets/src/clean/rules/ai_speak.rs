//! Answers that speak of themselves as a model, in English and Japanese.

use regex::Regex;

use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict, around};

const PHRASES: &str = r"(?xi)
    (?-u:\b)as\ an?\ (?:ai|artificial\ intelligence|large\ language\ model|language\ model|llm)(?:\ (?:language\ )?(?:model|assistant|chatbot|chat\ bot|program|bot))?(?:\ (?:developed|trained|created|made|built)\ by\ \w+)?(?:,|\ i(?-u:\b)|\ my(?-u:\b))
  | (?-u:\b)as\ an?\ (?:ai\ (?:language\ model|assistant|chatbot)|large\ language\ model|language\ model)(?-u:\b)
  | (?-u:\b)i(?:['’]m|\ am)\ (?:just\ |only\ |merely\ )?an?\ (?:ai(?-u:\b)|artificial\ intelligence|large\ language\ model|language\ model|llm(?-u:\b)|virtual\ assistant)
  | (?-u:\b)i(?:['’]m|\ am)\ (?:chatgpt|gpt-\d|claude|bard|gemini|bing\ chat)
  | (?-u:\b)(?:my|the)\ (?:knowledge|training)(?:\ data)?\ (?:cut[-\ ]?off|only\ goes|goes\ up|ends|extends)
  | (?-u:\b)as\ of\ my\ (?:last\ )?(?:knowledge|training|update|cut[-\ ]?off)
  | (?-u:\b)my\ (?:last|latest)\ (?:knowledge\ )?update\ (?:was\ )?in(?-u:\b)
  | (?-u:\b)(?:i\ (?:was|am|have\ been)|model)\ (?:trained|developed|created)\ by\ (?:openai|anthropic|google|meta|microsoft|alibaba)
  | (?-u:\b)i\ (?:do\ not|don['’]t)\ have\ (?:personal|any\ personal|real[-\ ]time|human|physical)\ (?:opinions?|feelings?|emotions?|beliefs?|experiences?|preferences?|access|data|bod)
  | (?-u:\b)openai['’]s\ (?:use[-\ ]case\ )?polic(?:y|ies)
  | (?:AI|人工知能|大規模言語モデル|言語モデル|チャットボット)(?:言語モデル|アシスタント|モデル|チャットボット)?(?:として|ですので|なので|であるため|であり、?私)
  | (?:私は|わたしは|僕は)[^。\n]{0,20}(?:AI(?:アシスタント|言語モデル|モデル|です|であ|なの)|人工知能(?:です|であ|なの)|言語モデル(?:です|であ|なの)|ChatGPT)
  | (?:OpenAI|Google|Anthropic|Meta)(?:社)?(?:によって|が|に)(?:開発|訓練|トレーニング|作成|学習)
  | 私の(?:知識|学習データ|訓練データ|トレーニングデータ)は[^。\n]{0,20}(?:まで|時点|年)
  | 個人的な(?:意見|感情|経験|好み|見解)(?:は|を|や)[^。\n]{0,20}(?:持って(?:いません|おりません|いない)|持ち(?:ません|合わせて)|ありません|ございません)
  | 学習した(?:データ|時点)[^。\n]{0,20}(?:まで|限り|時点)";

/// Drops rows whose answer speaks of itself as a model.
pub(crate) struct AiSpeak {
    phrases: Regex,
}

impl AiSpeak {
    pub(crate) fn new() -> Result<Self, regex::Error> {
        Ok(Self { phrases: Regex::new(PHRASES)? })
    }
}

impl Rule for AiSpeak {
    fn name(&self) -> &'static str {
        "ai_speak"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        for turn in record.turns.iter().filter(|turn| turn.role.is_answer()) {
            if let Some(found) = self.phrases.find(&turn.text) {
                let evidence = around(&turn.text, found.start(), found.end());
                return Verdict::Drop(Finding::new("the answer speaks as a model", &evidence));
            }
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaking_as_a_model_is_told_from_speaking_of_models() {
        let rule = AiSpeak::new().unwrap();
        for text in [
            "As an AI language model, I have no opinion.",
            "Well, as an AI, I can say this.",
            "I am an AI assistant created to help.",
            "As of my last update in 2021, it was so.",
            "I don't have personal opinions.",
            "AI言語モデルとして、意見はありません。",
            "私はAIですので、体験はできません。",
            "私の知識は2021年までです。",
            "OpenAIによって開発されたモデルです。",
        ] {
            assert!(rule.phrases.is_match(text), "{text}");
        }
        for text in [
            "A language model predicts the next word.",
            "As an airline pilot, I fly often.",
            "Use AI to sort the mail. I am a gardener.",
            "AIの歴史は1950年代に始まります。",
            "この会社は生成AIを使ったサービスを提供しています。",
        ] {
            assert!(!rule.phrases.is_match(text), "{text}");
        }
    }
}
