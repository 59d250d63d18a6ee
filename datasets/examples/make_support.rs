//! Makes the quickstart's data set: short support e-mails, and what they say as JSON.
//!
//! `cargo run -p ft-datasets --example make_support` writes `train.jsonl` and `held_out.jsonl` into
//! `recipes/support`. The same bytes each time; a test compares them with the files there. Names,
//! shops, products and orders are invented.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Rows to train on, and rows to ask about.
pub const ROWS: [usize; 2] = [600, 100];
/// Where the numbers start; another seed makes another data set.
const SEED: u64 = 20_260_401;
/// What the model is told first.
const SYSTEM: &str = "Extract name, product, order, issue and urgent as JSON.";
/// One in so many e-mails is Japanese.
const JAPANESE: usize = 4;

/// `SplitMix64` (Steele, Lea and Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// A language's words. In templates, `{n}` is the name, `{p}` the product, `{o}` the order, `{i}`
/// the sentence that tells the issue and `{u}` the one that tells the hurry.
struct Language {
    first: &'static [&'static str],
    last: &'static [&'static str],
    /// Between the parts of a name.
    between: &'static str,
    colours: &'static [&'static str],
    things: &'static [&'static str],
    templates: &'static [&'static str],
    issues: &'static [(&'static str, &'static [&'static str])],
    urgent: &'static [&'static str],
    calm: &'static [&'static str],
}

const ENGLISH: Language = Language {
    first: &[
        "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ines", "Jonas",
        "Kate", "Liam", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wendy",
        "Yara", "Oscar", "Nina",
    ],
    last: &[
        "Hill", "Stone", "Reed", "Brook", "Field", "Marsh", "Wood", "Lake", "Frost", "Dale",
        "Finch", "Hart", "Lane", "North", "Pond", "Rowe", "Shaw", "Vale", "West", "York",
    ],
    between: " ",
    colours: &["red", "blue", "green", "black", "white", "grey", "small", "large"],
    things: &[
        "lamp", "kettle", "backpack", "chair", "mug", "jacket", "clock", "radio", "blanket",
        "desk", "mirror", "teapot", "umbrella", "wallet", "keyboard", "camera",
    ],
    templates: &[
        "Hello! {i} It is the {p}, order {o}.{u} Thanks, {n}",
        "Hi, this is {n}. I ordered the {p} ({o}). {i}{u}",
        "Order {o}: {p}. {i}{u} Kind regards, {n}",
        "Dear team, about my {p} from order {o}: {i}{u} Best, {n}",
        "Good morning! My order {o} was for the {p}. {i}{u} {n}",
        "{n} here. {i} Order {o}, the {p}.{u}",
        "Hi there! {i} I mean the {p} in {o}.{u} Yours, {n}",
    ],
    issues: &[
        (
            "damaged",
            &[
                "It arrived broken.",
                "There is a big crack in it.",
                "One side was bent when I opened the box.",
                "It came with deep scratches.",
                "It stopped working after a day.",
            ],
        ),
        (
            "late",
            &[
                "It has not arrived yet.",
                "The parcel is a week late.",
                "I am still waiting for it.",
                "The tracking has not moved for days.",
                "It should have been here on Monday.",
            ],
        ),
        (
            "wrong_item",
            &[
                "You sent me something else.",
                "This is not what I ordered.",
                "The box had a different article in it.",
                "I got the wrong one.",
                "Someone else's article was in the parcel.",
            ],
        ),
        (
            "refund",
            &[
                "I would like my money back.",
                "Please refund me.",
                "I sent it back and wait for the payment.",
                "When will I get the money?",
                "Please return the amount to my card.",
            ],
        ),
        (
            "question",
            &[
                "How do I clean it?",
                "Does it come with a manual?",
                "How long is the warranty?",
                "Can I get a second one in this colour?",
                "Is it safe for children?",
            ],
        ),
    ],
    urgent: &[
        " I need an answer today.",
        " This is urgent.",
        " Please answer at once.",
        " I need help right now.",
        " Please hurry, it is a gift for tomorrow.",
    ],
    calm: &["", "", "", " No rush.", " Take your time.", " Any day is fine."],
};

const JAPANESE_WORDS: Language = Language {
    first: &["健", "葵", "翔", "結衣", "陽菜", "蓮", "美咲", "大輔", "彩", "誠", "優", "直樹"],
    last: &[
        "佐藤", "鈴木", "高橋", "田中", "伊藤", "山本", "中村", "小林", "加藤", "森", "石井",
        "原田",
    ],
    between: "",
    colours: &["赤い", "青い", "白い", "黒い", "小さい", "大きい"],
    things: &["傘", "時計", "鞄", "机", "椅子", "皿", "靴", "帽子", "毛布", "鏡", "茶碗", "鍋"],
    templates: &[
        "{n}です。注文{o}の{p}ですが、{i}{u}",
        "注文{o}、{p}。{i}{u}{n}",
        "{p}の件です。{i}{u}注文は{o}、{n}です。",
        "こんにちは、{n}です。{p}({o})ですが、{i}{u}",
        "注文{o}の{n}です。{p}について、{i}{u}",
    ],
    issues: &[
        (
            "damaged",
            &[
                "届いたら壊れていました。",
                "ひびがありました。",
                "傷だらけでした。",
                "一日で動かなくなりました。",
            ],
        ),
        (
            "late",
            &[
                "まだ届きません。",
                "一週間遅れています。",
                "配達が止まっています。",
                "昨日届くはずでした。",
            ],
        ),
        (
            "wrong_item",
            &[
                "違う品が届きました。",
                "別の物が入っていました。",
                "頼んだ物と違います。",
                "他の人の品でした。",
            ],
        ),
        (
            "refund",
            &[
                "返金してください。",
                "お金を返してください。",
                "返品したので返金を待っています。",
                "返金はいつですか。",
            ],
        ),
        (
            "question",
            &[
                "洗い方を教えてください。",
                "保証は何年ですか。",
                "説明書はありますか。",
                "別の色もありますか。",
            ],
        ),
    ],
    urgent: &[
        "至急お願いします。",
        "今日中に返事をください。",
        "急いでいます。",
        "すぐ返事をください。",
    ],
    calm: &["", "", "", "急ぎません。", "いつでもいいです。"],
};

/// Which e-mails a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    HeldOut,
}

/// The two files: name and text.
pub fn files() -> [(&'static str, String); 2] {
    let mut random = Random(SEED);
    let mut orders = BTreeSet::new();
    let mut file = |part: Part, count: usize| -> String {
        let mut text = String::new();
        for number in 0..count {
            let japanese = number % JAPANESE == JAPANESE - 1;
            let language = if japanese { &JAPANESE_WORDS } else { &ENGLISH };
            text += &row(language, part, &mut random, &mut orders);
            text.push('\n');
        }
        text
    };
    [("train.jsonl", file(Part::Train, ROWS[0])), ("held_out.jsonl", file(Part::HeldOut, ROWS[1]))]
}

/// One e-mail and its answer. No two share an order, and no name stands in both files.
fn row(
    language: &Language,
    part: Part,
    random: &mut Random,
    orders: &mut BTreeSet<String>,
) -> String {
    let (first, last) = loop {
        let (first, last) = (random.below(language.first.len()), random.below(language.last.len()));
        // One combination of names in six is kept for the held-out rows.
        if ((first + last) % 6 == 0) == (part == Part::HeldOut) {
            break (language.first[first], language.last[last]);
        }
    };
    let name = match language.between {
        "" => format!("{last}{first}"),
        between => format!("{first}{between}{last}"),
    };
    let product = [random.pick(language.colours), random.pick(language.things)];
    let product = product.join(language.between);
    let order = loop {
        let letter = random.pick(&["A", "B", "C", "D", "E", "F", "G", "H", "K", "M"]);
        let order = format!("{letter}-{}", 1000 + random.below(9000));
        if orders.insert(order.clone()) {
            break order;
        }
    };
    let (issue, sentences) = language.issues[random.below(language.issues.len())];
    let urgent = random.below(3) == 0;
    let hurry = random.pick(if urgent { language.urgent } else { language.calm });
    let mail = random
        .pick(language.templates)
        .replace("{n}", &name)
        .replace("{p}", &product)
        .replace("{o}", &order)
        .replace("{i}", random.pick(sentences))
        .replace("{u}", hurry);
    let answer = format!(
        "{{\"name\":\"{name}\",\"product\":\"{product}\",\"order\":\"{order}\",\
         \"issue\":\"{issue}\",\"urgent\":{urgent}}}"
    );
    let message = |role: &str, content: &str| {
        format!("{{\"role\":\"{role}\",\"content\":{}}}", Value::from(content))
    };
    format!(
        "{{\"messages\":[{},{},{}]}}",
        message("system", SYSTEM),
        message("user", &mail),
        message("assistant", &answer)
    )
}

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/support");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in files() {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
