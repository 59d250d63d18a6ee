//! Tokenizers of real models against the ids of Hugging Face's libraries.
//!
//! Needs files too large to ship: `FT_MODELS` names a folder with `golden/NAME.json` (a list of
//! `{"text", "ids"}`), and the tokenizers under the paths below. Run with
//! `cargo test -p ft-datasets --features real-models`.
#![cfg(feature = "real-models")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use ft_datasets::chat::{Content, Conversation, Message};
use ft_datasets::encode::{ChatEncoder, Masking, PromptEncoder, PromptFields, PromptFormat};
use ft_datasets::template::{RenderOptions, Template};
use ft_datasets::tokenizer::Tokenizer;
use rayon::prelude::*;

fn models() -> PathBuf {
    PathBuf::from(std::env::var("FT_MODELS").expect("FT_MODELS names the folder of models"))
}

fn golden(name: &str) -> Vec<(String, Vec<u32>)> {
    let text = std::fs::read(models().join("golden").join(name)).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let ids = |case: &serde_json::Value| -> Vec<u32> {
        serde_json::from_value(case["ids"].clone()).unwrap()
    };
    cases.iter().map(|case| (case["text"].as_str().unwrap().to_owned(), ids(case))).collect()
}

fn compare(tokenizer: &Tokenizer, name: &str) {
    for (text, ids) in golden(name) {
        let found = tokenizer.encode(&text);
        let pieces = |ids: &[u32]| ids.iter().map(|id| tokenizer.token(*id)).collect::<Vec<_>>();
        assert_eq!(found, ids, "{name}: {text:?}\n{:?}\n{:?}", pieces(&found), pieces(&ids));
        assert_eq!(tokenizer.encode_with_offsets(&text).ids, ids);
        let mut stream = tokenizer.stream();
        let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, tokenizer.decode(&ids), "{name}: {text:?}");
    }
}

fn gguf(path: &str) -> Tokenizer {
    let file = ft_gguf::File::open(&models().join(path)).unwrap();
    Tokenizer::from_gguf(file.metadata()).unwrap()
}

fn folder(name: &str) -> Tokenizer {
    Tokenizer::from_folder(&models().join(name).join(Path::new("package/models"))).unwrap()
}

#[test]
fn a_byte_level_gguf_gives_the_ids_of_transformers() {
    let tokenizer = gguf("../smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    compare(&tokenizer, "smollm2.json");
    assert_eq!((tokenizer.vocab_size(), tokenizer.adds_bos()), (49152, false));
    assert_eq!(tokenizer.eos_ids(), [2, 0]);
}

#[test]
fn a_sentencepiece_gguf_gives_the_ids_of_the_original_tokenizer() {
    let tokenizer = gguf("../gemma3/gemma-3-270m-q4_k_m.gguf");
    compare(&tokenizer, "gemma3.json");
    assert_eq!((tokenizer.vocab_size(), tokenizer.adds_bos()), (262_144, true));
    assert!(tokenizer.eos_ids().contains(&106), "{:?}", tokenizer.eos_ids());
}

#[test]
fn real_tokenizer_files_give_the_ids_of_the_library() {
    for (name, eos, bos) in [
        ("llama3_1", 128_009, true),
        ("qwen3", 151_645, false),
        ("gemma3", 106, true),
        ("deepseek_v3", 1, true),
        ("gptoss", 200_002, false),
    ] {
        let tokenizer = folder(name);
        compare(&tokenizer, &format!("{name}.json"));
        assert_eq!((tokenizer.eos(), tokenizer.adds_bos()), (Some(eos), bos), "{name}");
    }
}

#[test]
fn real_templates_give_the_text_of_transformers_and_its_tokens() {
    let cases = std::fs::read(models().join("golden/templates.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
    for name in ["llama3_1", "qwen3", "gemma3", "deepseek_v3"] {
        let tokenizer = folder(name);
        let template = Template::named(None, &tokenizer).unwrap();
        let masking = Masking::default();
        let encoder =
            ChatEncoder::new(&tokenizer, &template, RenderOptions::default(), masking).unwrap();
        for case in cases.iter().filter(|case| case["model"] == name) {
            let tools = Some(case["tools"].clone()).filter(|tools| !tools.is_null());
            let mut row = Conversation { tools, ..Conversation::default() };
            for fields in case["messages"].as_array().unwrap() {
                let mut message = Message::new(fields["role"].as_str().unwrap(), "");
                message.content = Content::from(fields["content"].clone());
                message.extra = fields.as_object().unwrap().clone();
                message.extra.shift_remove("role");
                message.extra.shift_remove("content");
                row.messages.push(message);
            }
            let generation = case["generation"].as_bool().unwrap();
            let prompt = encoder.render_prompt(&row, generation).unwrap();
            assert_eq!(prompt.text, case["text"].as_str().unwrap(), "{name}");
            assert_eq!(prompt.ids, tokenizer.encode(&prompt.text), "{name}");
            let chat = encoder.encode(&row).unwrap();
            let learned = chat.example.trained();
            let answers = row.messages.iter().filter(|m| m.role == "assistant").count();
            assert!(answers == 0 || learned > answers, "{name}: {}", chat.text);
        }
    }
}

#[test]
fn alpaca_rows_are_tokenised_at_five_thousand_a_second_on_two_cores() {
    let tokenizer = gguf("../smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    let format = PromptFormat::named("alpaca").unwrap();
    let encoder =
        PromptEncoder { tokenizer: &tokenizer, format, train_on_inputs: false, sequence_len: 2048 };
    let answer = "The three primary colours are red, blue and yellow. They are called primary \
        because they cannot be made by mixing other colours, and all others can be made of them.";
    let rows: Vec<(String, String)> = (0..20_000)
        .map(|i| {
            (
                format!("Name the {i} primary colours of set {}.", i * 7919 % 10_007),
                format!("{answer} ({i})"),
            )
        })
        .collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let begun = std::time::Instant::now();
    let tokens: usize = pool.install(|| {
        rows.par_iter()
            .map(|(instruction, output)| {
                encoder
                    .encode(&PromptFields { instruction, output, ..PromptFields::default() })
                    .len()
            })
            .sum()
    });
    let rate = rows.len() as f64 / begun.elapsed().as_secs_f64();
    // Measured in release on two free cores; a busy machine or a debug build says less.
    assert!(cfg!(debug_assertions) || rate > 5_000.0, "{rate:.0} rows/s, {tokens} tokens");
    assert!(tokens > rows.len() * 60);
}
