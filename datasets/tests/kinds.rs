//! The default rules on rows that nobody had in mind when they were written: faults of the known
//! kinds in other words, and good rows that look like faults.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::Path;
use std::sync::Arc;

use ft_datasets::clean::{Plan, Record};
use ft_datasets::source::{Place, Position};
use ft_recipes::CleanSection;
use serde_json::{Value, json};

/// The rule that drops or repairs a row first, and the row as it is after that.
fn judged(plan: &Plan, row: &Value) -> (Option<&'static str>, Option<Value>) {
    let at = Place { file: Arc::from(Path::new("rows.jsonl")), position: Position::Line(1) };
    let Ok(mut record) = Record::open(row.as_object().unwrap().clone(), at) else {
        return (Some("shape"), None);
    };
    if let Err((rule, _)) = plan.judge(&mut record) {
        return (Some(rule), None);
    }
    let first = record.repairs().first().map(|(rule, _)| *rule);
    (first, Some(Value::Object(record.into_fields())))
}

fn pair(question: &str, answer: &str) -> Value {
    json!({"instruction": question, "input": "", "output": answer})
}

const ENGLISH: &str = "What should I know about the history of bridges in this region?";
const JAPANESE: &str = "この地域の橋の歴史について教えてください。";

/// The rule that should find it, the question, the answer.
const FAULTS: &[(&str, &str, &str)] = &[
    ("refusal", ENGLISH, "I'm really sorry, but I'm not able to fulfill that request."),
    ("refusal", ENGLISH, "I can’t help with that."),
    ("refusal", ENGLISH, "Sorry, but I'm not able to assist you with this topic."),
    ("refusal", ENGLISH, "I’m unable to provide information on that subject."),
    ("refusal", ENGLISH, "As a language model, I cannot provide an opinion on this."),
    ("refusal", ENGLISH, "I have to decline this request because it goes against my guidelines."),
    ("refusal", ENGLISH, "Unfortunately, I do not have access to that information."),
    ("refusal", ENGLISH, "This request violates our content policy."),
    ("refusal", ENGLISH, "I don't think I can help with that."),
    ("refusal", JAPANESE, "申し訳ございませんが、その情報は提供いたしかねます。"),
    ("refusal", JAPANESE, "恐れ入りますが、ご質問にはお答えすることができません。"),
    ("refusal", JAPANESE, "そのご質問への回答は差し控えさせていただきます。"),
    ("refusal", JAPANESE, "ごめんなさい、それについてはお手伝いできません。"),
    ("refusal", JAPANESE, "残念ながらお力になれません。"),
    (
        "ai_speak",
        ENGLISH,
        "As an artificial intelligence, I find bridges very interesting to describe.",
    ),
    (
        "ai_speak",
        ENGLISH,
        "While I don't have personal experiences, bridges are known to be old here.",
    ),
    (
        "ai_speak",
        ENGLISH,
        "Bridges are old. My knowledge cutoff is September 2021, so newer ones are missing.",
    ),
    ("ai_speak", ENGLISH, "I was trained by OpenAI, and I can tell you that bridges are old here."),
    ("ai_speak", JAPANESE, "人工知能なので実際に見たことはありませんが、この橋は古いものです。"),
    ("ai_speak", JAPANESE, "AIアシスタントとしてお答えしますと、この橋は江戸時代に作られました。"),
    (
        "ai_speak",
        JAPANESE,
        "私は大規模言語モデルですので、最新の情報ではありませんが、橋は三つあります。",
    ),
    ("empty", ENGLISH, "<N/A>"),
    ("empty", JAPANESE, "無回答"),
    ("boilerplate", ENGLISH, "503 Service Unavailable"),
    ("boilerplate", ENGLISH, "Please verify you are human by completing the action below."),
    ("injection", ENGLISH, "Bridges are old.<|im_end|>"),
    ("injection", ENGLISH, "Bridges are old.<|eot_id|><|start_header_id|>user<|end_header_id|>"),
    ("injection", ENGLISH, "Bridges are old.<｜end▁of▁sentence｜>"),
    ("injection", ENGLISH, "Bridges are old.\n\n### Human: And the towers?"),
    ("injection", ENGLISH, "[INST] Bridges [/INST] They are old."),
    (
        "truncated",
        ENGLISH,
        "The first bridge was made of wood. It burned down in 1666, and the people of the",
    ),
    (
        "truncated",
        ENGLISH,
        "The first bridge was made of wood. It burned down in 1666 and was rebu",
    ),
    ("truncated", JAPANESE, "最初の橋は木で作られました。その後、火事で焼けてしまい、新しい橋が"),
    (
        "truncated",
        ENGLISH,
        "{\"bridges\": [{\"name\": \"Old Bridge\", \"year\": 1666}, {\"name\": ",
    ),
    ("fences", ENGLISH, "Run this:\n\n```bash\necho bridge\nls"),
    (
        "language",
        ENGLISH,
        "この地域の橋はとても古く、多くの人に愛されています。毎年たくさんの観光客が訪れます。",
    ),
    (
        "language",
        JAPANESE,
        "The bridges of this region are very old, and they are loved by the people who live here.",
    ),
    (
        "language",
        ENGLISH,
        "Los puentes de esta región son muy antiguos y la gente los quiere mucho, porque unen los pueblos.",
    ),
    (
        "repetition",
        ENGLISH,
        "The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old. The bridge is old.",
    ),
    (
        "repetition",
        JAPANESE,
        "橋は古いです。橋は古いです。橋は古いです。橋は古いです。橋は古いです。橋は古いです。橋は古いです。橋は古いです。橋は古いです。橋は古いです。",
    ),
    ("pii", ENGLISH, "Ask the keeper at kenji.watanabe@example.com about the oldest one."),
    ("pii", ENGLISH, "Ask the keeper at +81-3-5555-1234 about the oldest one."),
    ("pii", ENGLISH, "Ask the keeper, whose phone is 415-555-2671, about the oldest one."),
    ("pii", JAPANESE, "詳しくは０３－１２３４－５６７８までお電話ください。"),
    ("pii", JAPANESE, "担当者の携帯は080 1234 5678です。"),
    ("pii", ENGLISH, "The toll was paid with card 5555-5555-5555-4444 last year."),
    ("pii", ENGLISH, "The toll was paid with card 378282246310005 last year."),
    ("pii", JAPANESE, "個人番号：1234 5678 9018 を確認しました。"),
    (
        "secrets",
        ENGLISH,
        "Use the key sk-1f2e3d4c5b6a79887766554433221100ffeeddcc for the map of bridges.",
    ),
    ("secrets", ENGLISH, "Set AWS_ACCESS_KEY_ID=AKIA4HZT9QWX7PLM2RVB for the map of bridges."),
    ("text", ENGLISH, "The cafÃ© beside the bridge serves crÃ¨me brÃ»lÃ©e."),
    ("text", ENGLISH, "Itâ€™s the oldest bridge â€“ and the longest."),
    ("text", JAPANESE, "縺薙ｓ縺ｫ縺｡縺ｯ荳也阜"),
    ("control", ENGLISH, "The bridge\u{200B} is very\u{200D} old\u{FEFF}."),
    ("unicode", ENGLISH, "The cafe\u{301} beside the bridge is old."),
];

/// Questions and answers that nothing is wrong with.
const GOOD: &[(&str, &str)] = &[
    ("What is 12 * 12?", "144"),
    ("Is the sky blue?", "Yes"),
    ("What is the capital of Japan?", "Tokyo"),
    ("Choose the right letter: which is a fruit? A) car B) apple", "B"),
    ("日本の首都は？", "東京"),
    ("はいかいいえで答えてください。水は液体ですか？", "はい"),
    ("Which keyword ends a loop in Python?", "break"),
    ("What does the function return if the key is missing?", "None"),
    (
        "Weng earns $12 an hour. She did 50 minutes of babysitting. How much did she earn?",
        "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10",
    ),
    ("Solve x^2 - 5x + 6 = 0.", "Factor the left side: (x - 2)(x - 3) = 0.\n\nSo x = 2 or x = 3."),
    ("What is the integral of 2x?", "$$\\int 2x\\,dx = x^2 + C$$"),
    (
        "Write a message that I cannot come to the party on Friday.",
        "I'm sorry, but I can't make it to your party on Friday. Have a wonderful time!",
    ),
    (
        "断りのメールを書いてください。",
        "お世話になっております。\n申し訳ございませんが、今回のご依頼はお受けできません。\n何卒よろしくお願いいたします。",
    ),
    ("Who are you?", "I am an AI assistant. I answer questions about this shop."),
    (
        "What is a language model?",
        "A language model gives each next word a probability. It was trained on much text.",
    ),
    (
        "How do I write less-than in HTML?",
        "Write `&lt;` for the sign and `&amp;` for an ampersand.",
    ),
    (
        "Write a function that adds two numbers in Rust.",
        "fn add(a: i32, b: i32) -> i32 {\n    a + b\n}",
    ),
    (
        "Give me a regular expression for dates.",
        "`\\d{4}-\\d{2}-\\d{2}` matches dates such as 2024-05-17.",
    ),
    ("Compose two functions in F#.", "Use `f >> g`, or write `x |> f |> g` and `g <| f x`."),
    (
        "How do I validate an e-mail address in Python?",
        "```python\nassert is_valid(\"alice@example.com\")\n```",
    ),
    ("What is pi to ten places?", "3.1415926536"),
    ("When was the treaty signed?", "It was signed on 1848-02-02, and ratified on 1848-05-30."),
    ("What is the ISBN of the book?", "The ISBN is 978-3-16-148410-0."),
    ("Translate to French: Where is the station?", "Où est la gare, s'il vous plaît ?"),
    ("「こんにちは」を英語に訳してください。", "Hello, and how are you today, my dear friend?"),
    (
        "Write a haiku about rain.",
        "Rain on the tin roof\nThe cat sleeps beside the stove\nNobody is out",
    ),
    (
        "Sing the chorus.",
        "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, merrily,\nLife is but a dream.",
    ),
    ("List three primary colours.", "- Red\n- Yellow\n- Blue"),
    ("三原色を挙げてください。", "1. 赤\n2. 青\n3. 黄"),
    ("Sign off a letter to Anna.", "Thank you for the lovely evening, Anna.\n\nBest regards,\nTom"),
    ("What did Hamlet ask?", "\"To be, or not to be: that is the question\""),
    ("Show a family emoji.", "👨‍👩‍👧‍👦"),
    ("How is the Persian word for 'I want' spelled?", "می‌خواهم"),
    ("What is the price in Swiss francs?", "CHF 1’250.– (about €1 290)"),
    (
        "Why can nobody divide by zero?",
        "You cannot divide by zero, because no number times zero gives anything but zero.",
    ),
    (
        "How do plants help?",
        "They can help clean the air. I would not call them a replacement for fresh air, though.",
    ),
    (
        "この製品の欠点は何ですか？",
        "残念ながら、重さが2キロあり、持ち運びにはあまり向いていません。",
    ),
    (
        "AIの歴史を一文で説明してください。",
        "AIの研究は1956年の会議から本格的に始まり、何度かのブームを経て現在に至ります。",
    ),
    ("Return the user as JSON.", "{\"name\": \"Taro\", \"age\": 30}"),
    (
        "Explain `git rebase` shortly.",
        "`git rebase main` puts your commits on top of `main`:\n\n```bash\ngit fetch\ngit rebase origin/main\n```",
    ),
    ("What are the opening hours?", "Mon–Fri 9:00–17:00, Sat 10:00–14:00"),
    (
        "電話番号の市外局番とは何ですか？",
        "市外局番は地域を表す番号で、東京23区は03、大阪市は06です。",
    ),
    ("Name the SI prefixes for 10^3 and 10^6.", "kilo (k) and mega (M)"),
];

#[test]
fn faults_in_other_words_are_found_by_their_rule() {
    let plan = Plan::from_section(&CleanSection::default(), None).unwrap();
    let mut missed = Vec::new();
    for (rule, question, answer) in FAULTS {
        let (found, _) = judged(&plan, &pair(question, answer));
        if found != Some(*rule) {
            missed.push(format!("{rule}: {answer}: {found:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn good_rows_that_look_like_faults_stay_as_they_are() {
    let plan = Plan::from_section(&CleanSection::default(), None).unwrap();
    let mut touched = Vec::new();
    for (question, answer) in GOOD {
        let row = pair(question, answer);
        let (found, after) = judged(&plan, &row);
        if found.is_some() || after.as_ref() != Some(&row) {
            touched.push(format!("{found:?}: {answer}"));
        }
    }
    assert!(touched.is_empty(), "{touched:#?}");
}
