//! Rows that nothing is wrong with, of many kinds, with much in them that looks wrong.

use serde_json::{Value, json};

/// Numbers from a seed (`SplitMix64`).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most.max(1) as u64).unwrap_or_default()
    }

    pub(crate) fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// A question, its context and its answer.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) question: String,
    pub(crate) input: String,
    pub(crate) answer: String,
    pub(crate) japanese: bool,
    /// Running prose of several sentences, which a cut shows in.
    pub(crate) prose: bool,
}

const THINGS: &[&str] = &[
    "bicycle",
    "garden",
    "library",
    "bakery",
    "telescope",
    "violin",
    "harbour",
    "lighthouse",
    "museum",
    "orchard",
    "railway",
    "kitchen",
    "compass",
    "microscope",
    "greenhouse",
    "theatre",
    "waterfall",
    "notebook",
    "sailboat",
    "clock",
];
const PLACES: &[&str] = &[
    "Lisbon",
    "Kyoto",
    "Toronto",
    "Nairobi",
    "Oslo",
    "Lima",
    "Dublin",
    "Hanoi",
    "Prague",
    "Cairo",
    "Vienna",
    "Quito",
    "Zürich",
    "Málaga",
    "São Paulo",
    "Québec",
    "Malmö",
    "Kraków",
];
const PEOPLE: &[&str] = &[
    "Maria", "Kenji", "Amara", "Lars", "Sofia", "Omar", "Chloé", "Björn", "Priya", "Tomás",
    "Ingrid", "Mateo",
];
const QUALITIES: &[&str] = &[
    "quiet",
    "sturdy",
    "colourful",
    "compact",
    "historic",
    "modern",
    "reliable",
    "spacious",
    "affordable",
    "elegant",
    "bright",
    "remote",
    "famous",
    "practical",
];
const REASONS: &[&str] = &[
    "it saves time during the week",
    "the view is wide in every season",
    "people of all ages can use it",
    "the local school has lessons there",
    "repairs cost little and parts are easy to find",
    "it was built by hand over many years",
    "the weather is mild in the spring",
    "visitors find it calm and well kept",
    "the design follows an old tradition",
    "the council keeps it open until late",
];
const ADVICE: &[&str] = &[
    "Start with a small plan and write down what you need.",
    "Ask a neighbour who has done it before.",
    "Check the opening hours before you leave home.",
    "Keep the receipts in one folder.",
    "Take a short break after each hour of work.",
    "Compare two or three offers before you decide.",
    "Leave some room for changes at the end.",
    "Label every part so that nothing is lost.",
];
const J_THINGS: &[&str] = &[
    "自転車",
    "図書館",
    "庭園",
    "望遠鏡",
    "灯台",
    "美術館",
    "温泉",
    "和菓子",
    "電車",
    "台所",
    "時計",
    "劇場",
    "畑",
    "水族館",
];
const J_PLACES: &[&str] = &[
    "京都", "札幌", "金沢", "長崎", "仙台", "松本", "高知", "鎌倉", "神戸", "那覇", "函館", "奈良",
];
const J_QUALITIES: &[&str] =
    &["静かな", "丈夫な", "色鮮やかな", "便利な", "歴史ある", "新しい", "手頃な", "広い", "有名な"];
const J_REASONS: &[&str] = &[
    "一年を通して景色が美しいからです",
    "子どもからお年寄りまで利用できるからです",
    "修理の費用が安く部品も手に入りやすいからです",
    "地元の学校が授業で使っているからです",
    "昔からの設計を大切に守っているからです",
    "駅から歩いて行けるからです",
];
const J_ADVICE: &[&str] = &[
    "まず必要なものを書き出しましょう。",
    "経験のある人に相談すると安心です。",
    "出かける前に営業時間を確認してください。",
    "作業の合間に短い休憩を取りましょう。",
    "二つか三つの見積もりを比べてください。",
    "最後に予備の時間を残しておきます。",
];

/// A row that nothing is wrong with; `number` makes it differ from all others.
pub(crate) fn clean(random: &mut Random, number: usize) -> Row {
    if random.below(10) < 4 { japanese(random, number) } else { english(random, number) }
}

fn english(random: &mut Random, number: usize) -> Row {
    let (thing, place, person) = (random.of(THINGS), random.of(PLACES), random.of(PEOPLE));
    let (quality, reason, advice) = (random.of(QUALITIES), random.of(REASONS), random.of(ADVICE));
    let (other, more) = (random.of(REASONS), random.of(ADVICE));
    let (a, b) = (2 + random.below(900), 3 + random.below(90));
    let year = 1800 + random.below(220);
    let mut input = String::new();
    let mut prose = false;
    let (question, answer) = match random.below(21) {
        0..=6 => {
            prose = true;
            (
                format!("Why do people in {place} like the {quality} {thing} number {number}?"),
                format!(
                    "The {thing} near the old square of {place} opened in {year} and became popular quickly. Most \
                     people like it because {reason}. {person} says that {other}. {advice}"
                ),
            )
        }
        7 => (
            format!("Give three tips for someone who wants to visit the {thing} in {place} ({number})."),
            format!("Here are three tips:\n\n1. {advice}\n2. {more}\n3. Bring a map of {place}"),
        ),
        8 => (
            format!("What is {a} times {b}, and is the result larger than {number}?"),
            format!("{a} × {b} = {}", a * b),
        ),
        9 => (
            format!("Write a Python function that counts the {thing}s in a list, version {number}."),
            format!(
                "```python\ndef count_{thing}s(items):\n    total = 0\n    for item in items:\n        if item == \
                 \"{thing}\":\n            total += 1\n    return total + {number} - {number}\n```\n\nCall it with a list \
                 of strings."
            ),
        ),
        10 => (
            format!("Translate into French: The {thing} in {place} has {number} visitors."),
            format!("Le {thing} de {place} reçoit {number} visiteurs chaque année, et les habitants en sont très fiers."),
        ),
        11 => {
            input = format!("The {thing} of {place} was built in {year} and has {number} rooms.");
            (format!("In which year was it built? ({number})"), format!("{year}"))
        }
        12 => (
            format!("Write a short e-mail to {person} about the {thing}, reference {number}."),
            format!(
                "Dear {person},\n\nThank you for your letter about the {quality} {thing}. {advice}\n\nIf you have \
                 questions, write to office{number}@example.com or call 555-0142.\n\nBest regards,\nThe {place} team"
            ),
        ),
        13 => (
            format!("Return the data of visitor {number} as JSON."),
            json!({"name": person, "city": place, "visits": b, "id": number}).to_string(),
        ),
        14 => (
            format!("How do I comfort {person}, whose {thing} broke on day {number}?"),
            format!(
                "You could say: \"I'm sorry to hear about your {thing}.\" Then offer to help with the repair. People \
                 often cannot think clearly at first, so give {person} some time."
            ),
        ),
        15 => (
            format!("Explain how HTML writes the sign < in {thing}{number}.html."),
            "Write &lt; for the sign itself, and &amp; for an ampersand. Browsers show <em>emphasis</em> for tags.".to_owned()
                + &format!(" The file {thing}{number}.html is a good place to try it."),
        ),
        16 => (
            format!("Compare the {thing} of {place} with a café, item {number}, in a table."),
            format!("| item | {thing} | café |\n| --- | --- | --- |\n| opened | {year} | {} |\n| price | £{b} | €{} |", year + 3, b + 2),
        ),
        17 => (
            format!("What does a language model do when it answers question {number} about a {thing}?"),
            format!("It predicts one word after another. Each word depends on the question about the {thing} and on the words before. AI research in {place} began in {year}."),
        ),
        18 => (
            format!("Name one city that has a {quality} {thing}. ({number})"),
            place.to_owned(),
        ),
        19 => (
            format!("Describe the {quality} {thing} of {place} and its history, chapter {number}."),
            long(random, thing, place, person, number),
        ),
        _ => (
            format!("Write two cheerful lines about a {thing} for card {number}."),
            format!("Happy days at the {quality} {thing} 👩‍👩‍👧 — see you in {place}!\nBring {person}, bring cake, and bring {b} friends ☀️"),
        ),
    };
    Row { question, input, answer, japanese: false, prose }
}

/// Many sentences, so that one changed word leaves nearly all of them.
fn long(random: &mut Random, thing: &str, place: &str, person: &str, number: usize) -> String {
    let mut sentences =
        vec![format!("The {thing} of {place} has a long history, and entry {number} tells of it.")];
    for year in (1800..).step_by(7 + random.below(9)).take(9 + random.below(4)) {
        let (other, quality) = (random.of(THINGS), random.of(QUALITIES));
        let (reason, who) = (random.of(REASONS), random.of(PEOPLE));
        sentences.push(format!(
            "In {year} a {quality} {other} was added beside it by {who}, because {reason}, and {person} \
             counted {} guests.",
            20 + random.below(900)
        ));
    }
    sentences.join(" ")
}

fn japanese(random: &mut Random, number: usize) -> Row {
    let (thing, place, quality) =
        (random.of(J_THINGS), random.of(J_PLACES), random.of(J_QUALITIES));
    let (reason, advice, more) = (random.of(J_REASONS), random.of(J_ADVICE), random.of(J_ADVICE));
    let year = 1850 + random.below(170);
    let a = 2 + random.below(500);
    let mut prose = false;
    let (question, answer) = match random.below(10) {
        0..=4 => {
            prose = true;
            (
                format!("{place}の{quality}{thing}（第{number}号）が人気なのはなぜですか？"),
                format!(
                    "{place}の{thing}は{year}年に開かれ、多くの人に親しまれてきました。人気の理由は、{reason}。{advice}\
                     また、季節ごとに催しが開かれるので、何度訪れても楽しめます。"
                ),
            )
        }
        5 => (
            format!("{place}で{thing}を楽しむコツを三つ教えてください。（{number}）"),
            format!("1. {advice}\n2. {more}\n3. {place}の地図を持って行く"),
        ),
        6 => (format!("{a}に{number}を足すといくつですか。"), format!("{}", a + number)),
        7 => (
            format!("次の文を英語に訳してください：{place}の{thing}には{number}人が訪れました。"),
            format!(
                "{number} people visited the place in the city, and most of them were happy with what they saw there."
            ),
        ),
        8 => (
            format!("{thing}の問い合わせ番号{number}への丁寧な返信を書いてください。"),
            format!(
                "お問い合わせいただきありがとうございます。{quality}{thing}についてご案内いたします。{advice}\nご不明な点は\
                 support{number}@example.jpではなく、info@example.comまでご連絡ください。\n\n{place}店　担当"
            ),
        ),
        _ => (
            format!("{quality}{thing}がある町を一つ挙げてください。（{number}）"),
            place.to_owned(),
        ),
    };
    Row { question, input: String::new(), answer, japanese: true, prose }
}

/// The row as an object, in one of the usual shapes.
pub(crate) fn shaped(row: &Row, shape: usize) -> Value {
    let asked = if row.input.is_empty() {
        row.question.clone()
    } else {
        format!("{}\n\n{}", row.question, row.input)
    };
    match shape % 5 {
        0 | 1 => json!({"instruction": row.question, "input": row.input, "output": row.answer}),
        2 => json!({"messages": [
            {"role": "system", "content": "You are a helpful guide."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": row.answer},
        ]}),
        3 => json!({"conversations": [
            {"from": "human", "value": asked},
            {"from": "gpt", "value": row.answer},
        ]}),
        _ => json!({"prompt": asked, "completion": row.answer}),
    }
}
