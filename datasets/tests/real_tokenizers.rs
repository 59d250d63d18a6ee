//! Tokenizers of real models against the ids of Hugging Face's libraries.
//!
//! Needs files too large to ship: `FT_MODELS` names a folder with `golden/NAME.json` (a list of
//! `{"text", "ids"}`), and the tokenizers under the paths below. Run with
//! `cargo test -p ft-datasets --features real-models`.
#![cfg(feature = "real-models")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use ft_datasets::tokenizer::Tokenizer;

fn models() -> PathBuf {
    PathBuf::from(std::env::var("FT_MODELS").expect("FT_MODELS names the folder of models"))
}

fn golden(name: &str) -> Vec<(String, Vec<u32>)> {
    let text = std::fs::read(models().join("golden").join(name)).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let ids = |case: &serde_json::Value| -> Vec<u32> {
        case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
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
