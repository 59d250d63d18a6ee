//! Answers that speak of themselves as a model, in English, Japanese and Chinese.

use regex::Regex;

use crate::clean::record::{Record, Role};
use crate::clean::rule::{Finding, Rule, Verdict, around};

const PHRASES: &str = r"(?xi)
    (?-u:\b)(?:as|being|since\ i['’]?\ ?a?m|because\ i['’]?\ ?a?m)\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model|llm|machine\ learning\ model|neural\ network|virtual\ assistant|digital\ assistant|chatbot|computer\ program|text-based\ (?:ai|model|assistant))(?:\ (?:language\ )?(?:model|assistant|chatbot|chat\ bot|program|bot|system|entity))?(?:\ (?:developed|trained|created|made|built)\ by\ \w+)?(?:,|\ i(?-u:\b)|\ my(?-u:\b))
  | (?-u:\b)as\ an?\ (?:ai\ (?:language\ model|assistant|chatbot)|large\ language\ model|language\ model)(?-u:\b)
  | (?-u:\b)i(?:['’]m|\ am)\ (?:just\ |only\ |merely\ |simply\ |actually\ )*an?\ (?:ai(?-u:\b)|artificial\ intelligence|(?:large\ )?language\ model|machine\ learning\ model|llm(?-u:\b)|virtual\ assistant|computer\ program|chatbot)
  | (?-u:\b)i(?:['’]m|\ am)\ (?:chatgpt|gpt-\d|claude|bard|gemini|bing\ chat|copilot|llama|qwen|deepseek)(?-u:\b)
  | (?-u:\b)my\ (?:knowledge|training)(?:\ data)?\ (?:cut[-\ ]?off|was\ (?:last\ )?updated|only\ goes|goes\ up)
  | (?-u:\b)my\ (?:knowledge|training\ data)\ (?:ends|extends|is\ (?:limited|based|current)|includes|does\ not\ include)
  | (?-u:\b)(?:as\ of|up\ to|until|since)\ my\ (?:last\ |latest\ )?(?:knowledge|training|update|cut[-\ ]?off)
  | (?-u:\b)my\ (?:last|latest)\ (?:knowledge\ |training\ )?update\ (?:was\ )?in(?-u:\b)
  | (?-u:\b)(?:i\ (?:was|am|have\ been)|i['’](?:m|ve\ been)|model)\ (?:trained|developed|created|built|made)\ by\ (?:openai|anthropic|google|meta|microsoft|alibaba|deepseek|mistral)
  | (?-u:\b)i\ (?:do\ not|don['’]t|cannot|can['’]t)\ (?:have|hold|possess|experience|feel)\ (?:personal|any\ personal|real[-\ ]time|human|physical|subjective|my\ own)\ (?:opinions?|feelings?|emotions?|beliefs?|experiences?|preferences?|access|data|bod|consciousness)
  | (?-u:\b)openai['’]s\ (?:use[-\ ]case\ )?polic(?:y|ies)
  | (?:AI|人工知能|大規模言語モデル|言語モデル|チャットボット|バーチャルアシスタント)(?:言語モデル|アシスタント|モデル|チャットボット)?(?:として(?:の私|は?、|お|ご|申|私|回|で|の(?:立場|回答))|ですので|ですから|なので|であるため|のため、?私|である私|であり、?私)
  | (?:私は|わたしは|僕は|私、)[^。\n]{0,20}(?:AI(?:アシスタント|言語モデル|モデル|です|であ|なの)|人工知能(?:です|であ|なの)|(?:大規模)?言語モデル(?:です|であ|なの)|チャットボット(?:です|であ|なの)|ChatGPT|GPT-\d|Claude)
  | (?:OpenAI|Google|Anthropic|Meta|Microsoft)(?:社)?(?:によって|に(?:より)?)(?:開発|訓練|トレーニング|作成|学習)された(?:AI|人工知能|大規模|言語モデル|モデル|アシスタント|チャットボット)
  | (?:私|AI)の(?:知識|学習データ|訓練データ|トレーニングデータ|情報)は[^。\n]{0,20}(?:まで|時点|年)
  | 個人的な(?:意見|感情|経験|好み|見解)(?:は|を|や)[^。\n]{0,20}(?:持って(?:いません|おりません|いない)|持ち(?:ません|合わせて)|ありません|ございません)
  | 私(?:は|に)は?(?:感情|意識|個人的な)[^。\n]{0,16}(?:持って(?:いません|おりません|いない)|持ち(?:ません|合わせて)|ありません|ございません)
  | 学習した(?:データ|時点)[^。\n]{0,20}(?:まで|限り|時点)
  | (?:作为|身为|做为)(?:一个|一名|一款|一種)?(?:AI|人工智能|(?:大型)?语言模型|机器人|智能助手|虚拟助手)
  | 我(?:是|只是)(?:一个|一名|一款|由)?[^。\n]{0,12}(?:AI(?:助手|模型|语言)|人工智能(?:助手|模型|程序)|语言模型)";

/// Questions to the assistant about itself, which it has to answer as what it is.
const ABOUT_ITSELF: &str = r"(?i)\b(?:who|what)(?:['’]?s?| is| are| r)? ?(?:exactly )?(?:are you|you are|your name|is your name|r u)\b|\bare you (?:an? |really |actually )*(?:ai|bot|robot|human|person|machine|real|chatgpt|gpt|claude|language model|chatbot|virtual)|\bwho (?:made|created|built|developed|trained|designed|owns?) you\b|\b(?:introduce|describe) yourself\b|\b(?:tell me |know |something |more )about (?:yourself|you)\b|\byour (?:name|creator|developer|maker|identity)\b|あなた(?:は|って|の)[^。？?\n]{0,12}(?:誰|だれ|何者|何です|どなた|名前|AI|人間|ロボット|正体)|(?:お名前|自己紹介)|誰(?:が|に)[^。？?\n]{0,8}(?:作|開発|つく)|你是[谁誰什哪]|你叫什么|你的(?:名字|身份|开发者)|介绍一?下?你自己|自我介绍|谁(?:创造|开发|训练|制造)了?你";

/// Drops rows whose answer speaks of itself as a model, unless it was asked what it is.
pub(crate) struct AiSpeak {
    phrases: Regex,
    about_itself: Regex,
}

impl AiSpeak {
    pub(crate) fn new() -> Result<Self, regex::Error> {
        Ok(Self { phrases: Regex::new(PHRASES)?, about_itself: Regex::new(ABOUT_ITSELF)? })
    }
}

impl Rule for AiSpeak {
    fn name(&self) -> &'static str {
        "ai_speak"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        for (at, turn) in record.turns.iter().enumerate() {
            let Some(found) = self.phrases.find(&turn.text).filter(|_| turn.role.is_answer())
            else {
                continue;
            };
            let asked = record.turns[..at].iter().rev().find(|turn| turn.role == Role::User);
            if asked.is_some_and(|asked| self.about_itself.is_match(&asked.text)) {
                continue;
            }
            let evidence = around(&turn.text, found.start(), found.end());
            return Verdict::Drop(Finding::new("the answer speaks as a model", &evidence));
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_what_it_is_may_say_so() {
        let rule = AiSpeak::new().unwrap();
        for question in [
            "Who are you?",
            "what's your name",
            "Are you a robot?",
            "あなたは誰ですか？",
            "你是谁？",
        ] {
            assert!(rule.about_itself.is_match(question), "{question}");
        }
        for question in
            ["Who are your heroes in this book?", "What is a robot?", "What do you think of Rome?"]
        {
            assert!(!rule.about_itself.is_match(question), "{question}");
        }
    }

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
            "I'm just a computer program, so I have no favourite.",
            "My training data only goes up to 2021, so I may be wrong.",
            "As a large language model trained by Google, I am neutral.",
            "Since I am an AI, I do not eat.",
            "AIである私には分かりませんが、こう考えられます。",
            "私には感情がありませんが、お気持ちは分かります。",
            "作为一个AI语言模型，我没有个人观点。",
        ] {
            assert!(rule.phrases.is_match(text), "{text}");
        }
        for text in [
            "A language model predicts the next word.",
            "As an airline pilot, I fly often.",
            "Use AI to sort the mail. I am a gardener.",
            "AIの歴史は1950年代に始まります。",
            "この会社は生成AIを使ったサービスを提供しています。",
            "GoogleによってAndroidが開発されました。",
            "AIとしては最も古いものの一つがこのプログラムです。",
            "The team at OpenAI trained a model on text.",
            "I am a teacher, and my training ends in May.",
            "She works as an assistant, I think.",
        ] {
            assert!(!rule.phrases.is_match(text), "{text}");
        }
    }
}
