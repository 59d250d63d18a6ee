//! What can be wrong with a row: one function a fault, each with the rule that should find it.

use serde_json::{Value, json};

use crate::phrases::{AI, ENGLISH, FOREIGN, J_AI, J_REFUSALS, REFUSALS};
use crate::rows::{Random, Row, shaped};

/// A fault: its name, the rule that should find it, and the line that has it.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    make: fn(&mut Random, Row) -> Vec<u8>,
}

/// Every fault that is known.
pub(crate) const FAULTS: &[Fault] = &[
    fault("bad UTF-8", "read", |_, row| {
        let mut line = line(&row, 0);
        let at = line.len() / 2;
        line.splice(at..at, [0xFF, 0xFE]);
        line
    }),
    fault("cut line", "read", |_, row| {
        let line = line(&row, 0);
        line[..line.len() * 2 / 3].to_vec()
    }),
    fault("NUL bytes", "read", |_, row| {
        let mut line = line(&row, 0);
        line.extend([0; 12]);
        line
    }),
    fault("lone surrogate", "read", |_, row| {
        text(&row).replace("\"output\":\"", "\"output\":\"\\ud83d").into()
    }),
    fault("key twice", "read", |_, row| text(&row).replacen('{', "{\"output\":\"x\",", 1).into()),
    fault("deep nesting", "read", |_, _| {
        format!("{{\"instruction\":{}1{}}}", "[".repeat(5000), "]".repeat(5000)).into()
    }),
    fault("comma after the row", "read", |_, row| (text(&row) + ",").into()),
    fault("no known fields", "shape", |_, row| {
        json!({"id": 1, "note": row.question}).to_string().into()
    }),
    fault("answer missing", "shape", |_, row| {
        json!({"instruction": row.question, "input": ""}).to_string().into()
    }),
    fault("UTF-8 as windows-1252", "text", |_, mut row| {
        row.answer = misread(
            &(row.answer
                + if row.japanese {
                    "これは例です。"
                } else {
                    " It’s “fine” – café crème."
                }),
        );
        line(&row, 0)
    }),
    fault("UTF-8 misread twice", "text", |_, mut row| {
        row.answer = misread(&misread(
            &(row.answer
                + if row.japanese {
                    "これは例です。"
                } else {
                    " Voilà l’été à Paris."
                }),
        ));
        line(&row, 0)
    }),
    fault("lost characters", "text", |_, mut row| {
        row.answer.insert_str(0, "The caf\u{FFFD} \u{FFFD} is open: ");
        line(&row, 0)
    }),
    fault("HTML entities", "text", |_, mut row| {
        row.question =
            "Who made the famous cartoon about a cat? ".to_owned() + &digits(&row.question);
        row.answer = "Tom &amp; Jerry was made by Hanna &amp; Barbera; the first film is &quot;Puss Gets the Boot&quot;.".into();
        line(&row, 0)
    }),
    fault("zero-width characters", "control", |_, mut row| {
        row.answer = spread(&row.answer, "\u{200B}");
        line(&row, 1)
    }),
    fault("control codes", "control", |_, mut row| {
        row.answer = spread(&row.answer, "\u{8}");
        line(&row, 1)
    }),
    fault("direction marks", "control", |_, mut row| {
        row.question.push('\u{202E}');
        line(&row, 3)
    }),
    fault("byte order mark inside", "control", |_, mut row| {
        row.question.insert(0, '\u{FEFF}');
        line(&row, 4)
    }),
    fault("carriage returns", "control", |_, mut row| {
        row.answer = format!("{}\r\n\r\nThat is all for now.", row.answer);
        line(&row, 2)
    }),
    fault("letters and marks apart", "unicode", |_, mut row| {
        row.answer = if row.japanese {
            row.answer + "か\u{3099}んば\u{308A}ます。"
        } else {
            row.answer + " Cafe\u{301} Mu\u{308}ller is near."
        };
        line(&row, 1)
    }),
    fault("two questions in a row", "roles", |_, row| {
        messages(&[("user", &row.question), ("user", "And why?"), ("assistant", &row.answer)])
    }),
    fault("answer before question", "roles", |_, row| {
        messages(&[("assistant", &row.answer), ("user", &row.question), ("assistant", "Yes.")])
    }),
    fault("unknown role", "roles", |_, row| {
        messages(&[("narrator", &row.question), ("assistant", &row.answer)])
    }),
    fault("question at the end", "roles", |_, row| {
        messages(&[
            ("user", &row.question),
            ("assistant", &row.answer),
            ("user", "Thanks, and then?"),
        ])
    }),
    fault("system in the middle", "roles", |_, row| {
        messages(&[("user", &row.question), ("system", "Be brief."), ("assistant", &row.answer)])
    }),
    fault("template token inside", "injection", |random, mut row| {
        let token = random.of(&[
            "<|im_end|>\n<|im_start|>user\n",
            "<|eot_id|>",
            "<end_of_turn>",
            "[/INST]",
        ]);
        row.answer = format!("{}{token}And then?", row.answer);
        line(&row, 2)
    }),
    fault("turn of a prompt format", "injection", |_, mut row| {
        row.answer = format!("{}\n\n### Instruction:\nName another one.", row.answer);
        line(&row, 0)
    }),
    fault("empty answer", "empty", |random, mut row| {
        row.answer = random.of(&["", "  ", "\n", "　"]).into();
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("placeholder answer", "empty", |random, mut row| {
        row.answer =
            random.of(&["N/A", "n/a", "...", "TODO", "<nooutput>", "nan", "未回答"]).into();
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("empty question", "empty", |random, mut row| {
        (row.question, row.input) = (String::new(), String::new());
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("filler", "boilerplate", |random, mut row| {
        row.answer = random
            .of(&[
                "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
                "There was an error generating a response. Please try again.",
                "Please enable JavaScript to view this page.",
                "Too many requests in 1 hour. Try again later.",
                "このサイトではクッキーを使用しています。",
            ])
            .into();
        line(&row, 0)
    }),
    fault("word for no input", "boilerplate", |random, mut row| {
        row.input = random.of(&["<noinput>", "N/A", "No input", "none"]).into();
        line(&row, 0)
    }),
    fault("button of a chat page", "boilerplate", |_, mut row| {
        row.answer = format!("Copy code\n{}", row.answer);
        line(&row, 2)
    }),
    fault("refusal", "refusal", |random, mut row| {
        row.answer = if row.japanese { random.of(J_REFUSALS) } else { random.of(REFUSALS) }.into();
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("speaks as a model", "ai_speak", |random, mut row| {
        let phrase = if row.japanese { random.of(J_AI) } else { random.of(AI) };
        row.answer = format!("{phrase}{}", row.answer);
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("cut in a sentence", "truncated", |random, mut row| {
        let row_prose = prose(&row);
        let end = row_prose.char_indices().rev().nth(3 + random.below(12)).map_or(0, |(at, _)| at);
        row.answer = row_prose[..end].trim_end().into();
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("cut JSON", "truncated", |_, mut row| {
        let whole =
            json!({"name": row.question, "list": [1, 2, 3], "note": row.answer}).to_string();
        let end = whole.char_indices().nth(whole.chars().count() * 3 / 4).map_or(0, |(at, _)| at);
        row.answer = String::from(&whole[..end]);
        line(&row, 0)
    }),
    fault("open code fence", "fences", |random, mut row| {
        row.answer = format!(
            "{}\n\n```python\nfor i in range({}):\n    print(i)",
            row.answer,
            random.below(99)
        );
        line(&row, 0)
    }),
    fault("answer in another language", "language", |random, mut row| {
        row.answer = if row.japanese { random.of(ENGLISH) } else { random.of(FOREIGN) }.into();
        row.question = if row.japanese {
            format!("この町の魅力を教えてください。番号は{}です。", digits(&row.question))
        } else {
            format!(
                "What makes this town a good place to live? The number is {}.",
                digits(&row.question)
            )
        };
        line(&row, 0)
    }),
    fault("endless answer", "length", |_, mut row| {
        row.answer = many(9000, |n| format!("Step {n} is number {}. ", n * 7));
        line(&row, 0)
    }),
    fault("data instead of words", "length", |random, mut row| {
        row.answer = many(300, |_| format!("{:016x}", random.next()));
        line(&row, 0)
    }),
    fault("sentence over and over", "repetition", |random, mut row| {
        let sentence = if row.japanese {
            "この町はとても静かで過ごしやすいです。"
        } else {
            "The town is quiet and good to live in. "
        };
        row.answer = sentence.repeat(6 + random.below(20));
        let shape = random.below(5);
        line(&row, shape)
    }),
    fault("word over and over", "repetition", |random, mut row| {
        row.answer = format!("{} very{}.", row.answer, " very".repeat(8 + random.below(40)));
        line(&row, 0)
    }),
    fault("e-mail address", "pii", |random, row| {
        let address = format!(
            "{}.{}@mail-{}.co.jp",
            random.of(&["taro", "anna", "k.sato"]),
            random.below(999),
            random.below(99)
        );
        with(row, &address)
    }),
    fault("telephone number", "pii", |random, row| {
        let (a, b) = (1000 + random.below(9000), 1000 + random.below(9000));
        let number = match random.below(4) {
            0 => format!("090-{a}-{b}"),
            1 => format!("03-{a}-{b}"),
            2 => format!("({}) {}-{b}", 212 + random.below(700), 200 + random.below(355)),
            _ => format!("+81 90 {a} {b}"),
        };
        with(row, &number)
    }),
    fault("card number", "pii", |random, row| {
        let mut digits: Vec<u32> =
            std::iter::once(4).chain((0..14).map(|_| (random.next() % 10) as u32)).collect();
        let sum: u32 = digits.iter().rev().enumerate().map(|(at, d)| luhn(at + 1, *d)).sum();
        digits.push((10 - sum % 10) % 10);
        let text: String = digits.iter().map(u32::to_string).collect();
        with(row, &format!("{} {} {} {}", &text[..4], &text[4..8], &text[8..12], &text[12..]))
    }),
    fault("My Number", "pii", |random, row| {
        let digits: Vec<u32> = (0..11).map(|_| (random.next() % 10) as u32).collect();
        let sum: u32 =
            digits.iter().rev().zip([2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6]).map(|(d, q)| d * q).sum();
        let check = match sum % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        };
        let text: String = digits.iter().chain([&check]).map(u32::to_string).collect();
        with(row, &format!("マイナンバー{text}"))
    }),
    fault("API key", "secrets", |random, row| {
        let mut word = |length: usize| -> String {
            let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
            (0..length).map(|_| char::from(letters[random.below(32)])).collect()
        };
        let (long, short) = (word(36), word(16));
        let key = match long.len() + short.bytes().map(usize::from).sum::<usize>() % 3 {
            36 => ["AKIA", &short].concat(),
            37 => ["ghp_", &long].concat(),
            _ => ["sk-", "proj-", &long].concat(),
        };
        with(row, &key)
    }),
    fault("private key", "secrets", |random, row| {
        let body = many(8, |_| format!("MIIE{:016x}{:016x}\n", random.next(), random.next()));
        with(row, &format!("-----BEGIN {0}-----\n{body}-----END {0}-----", "RSA PRIVATE KEY"))
    }),
];

/// The faults of rows that stand beside an earlier good row, and the rule that should find each.
pub(crate) const BESIDE: [(&str, &str); 4] = [
    ("the same row again", "duplicates"),
    ("the same but for its marks", "near_duplicates"),
    ("the same but for a word", "near_duplicates"),
    ("another answer to a question", "conflicts"),
];

/// The row with a fault of [`BESIDE`]; none if it is too short or not of the kind for it.
pub(crate) fn beside(kind: usize, random: &mut Random, mut row: Row) -> Option<Row> {
    let words = row.answer.split(' ').count();
    match BESIDE[kind].0 {
        "the same row again" => {
            if random.below(2) == 0 {
                row.question = format!(" {}", row.question.to_uppercase().replace(' ', "  "));
            }
        }
        "the same but for its marks" if row.prose => {
            row.answer = row
                .answer
                .replace(". ", "! ")
                .replace("。", "！")
                .replace(", ", " - ")
                .replace('、', "，");
        }
        "the same but for a word" if words > 130 => {
            let at = row.answer.match_indices(' ').nth(random.below(words - 20))?.0;
            let end = at + 1 + row.answer[at + 1..].find(' ')?;
            row.answer.replace_range(at + 1..end, "also");
        }
        "another answer to a question" if row.answer.parse::<u64>().is_ok() => {
            row.answer = format!("{}{}", 1 + random.below(8), row.answer);
        }
        _ => return None,
    }
    Some(row)
}

const fn fault(
    name: &'static str,
    rule: &'static str,
    make: fn(&mut Random, Row) -> Vec<u8>,
) -> Fault {
    Fault { name, rule, make }
}

impl Fault {
    pub(crate) fn apply(&self, random: &mut Random, row: Row) -> Vec<u8> {
        (self.make)(random, row)
    }
}

fn text(row: &Row) -> String {
    shaped(row, 0).to_string()
}

fn line(row: &Row, shape: usize) -> Vec<u8> {
    shaped(row, shape).to_string().into()
}

fn messages(turns: &[(&str, &str)]) -> Vec<u8> {
    let turns: Vec<Value> =
        turns.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
    json!({"messages": turns}).to_string().into()
}

/// Many pieces of text, end to end.
fn many(count: usize, piece: impl FnMut(usize) -> String) -> String {
    (0..count).map(piece).collect()
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn luhn(at: usize, digit: u32) -> u32 {
    let doubled = if at % 2 == 1 { digit * 2 } else { digit };
    if doubled > 9 { doubled - 9 } else { doubled }
}

/// UTF-8's bytes taken for windows-1252, as a careless program takes them.
fn misread(text: &str) -> String {
    let table: Vec<char> =
        "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ".chars().collect();
    text.bytes()
        .map(|byte| match byte {
            0x80..=0x9F => table[usize::from(byte) - 0x80],
            byte => char::from(byte),
        })
        .collect()
}

/// The text with something after its third, sixth, ... character.
fn spread(text: &str, what: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        out.push(c);
        if at % 9 == 2 {
            out.push_str(what);
        }
    }
    out + what
}

/// The row's answer if it is prose, or some.
fn prose(row: &Row) -> String {
    match (row.prose, row.japanese) {
        (true, _) => row.answer.clone(),
        (_, true) => "この町には古い橋があり、多くの人が毎日渡っています。川の近くには市場があり、新鮮な野菜が並んでいます。".to_owned(),
        (_, false) => "There is an old bridge in the town that many people cross every day. Near the river there is a market with fresh vegetables.".to_owned(),
    }
}

/// The row with something to reach someone, or to get in, at the end of its answer.
fn with(mut row: Row, what: &str) -> Vec<u8> {
    row.answer = if row.japanese {
        format!("{}連絡先は {what} です。", prose(&row))
    } else {
        format!("{} For more, use {what} today.", prose(&row))
    };
    line(&row, 0)
}
