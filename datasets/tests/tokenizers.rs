//! Tokenizers from files: what is read, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{tokenizer, tokenizer_json, write};
use ft_datasets::tokenizer::{Tokenizer, TokenizerFault};
use ft_gguf::Metadata;
use proptest::prelude::*;
use serde_json::{Value, json};

fn refused(file: &Value, config: &Value) -> TokenizerFault {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), file, config);
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(error.file.starts_with(folder.path()), "{error}");
    error.fault
}

#[test]
fn broken_files_are_refused_with_the_place_of_the_fault() {
    let good = tokenizer_json();
    let none = json!({});

    let mut file = good.clone();
    file["model"]["vocab"]["x9"] = json!(4_000_000_000_u64);
    let fault = refused(&file, &none);
    assert!(matches!(fault, TokenizerFault::IdTooLarge { id: 4_000_000_000, .. }), "{fault}");

    let mut file = good.clone();
    file["model"]["vocab"]["twin"] = json!(65);
    let fault = refused(&file, &none);
    assert!(matches!(fault, TokenizerFault::DuplicateId { id: 65, .. }), "{fault}");

    let mut file = good.clone();
    file["added_tokens"][1]["id"] = json!(300);
    let fault = refused(&file, &none);
    assert!(matches!(fault, TokenizerFault::DuplicateId { id: 300, .. }), "{fault}");

    let mut file = good.clone();
    file["added_tokens"][1]["id"] = json!(9000);
    let fault = refused(&file, &none);
    assert!(matches!(fault, TokenizerFault::DuplicateId { id: 9000, .. }), "{fault}");

    let mut file = good.clone();
    for id in 0..1000 {
        file["model"]["vocab"][format!("[more{id}]")] = json!(1000 + id);
    }
    file["model"]["merges"] = json!([]);
    let fault = refused(&file, &none);
    assert!(matches!(fault, TokenizerFault::NoMerges { .. }), "{fault}");

    let mut file = good.clone();
    file["model"]["merges"] = json!(["q q"]);
    assert!(matches!(refused(&file, &none), TokenizerFault::Library(_)));

    let mut file = good.clone();
    let pattern = &mut file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    *pattern = json!("a".repeat(1 << 20));
    assert!(
        matches!(refused(&file, &none), TokenizerFault::LongPattern { bytes, .. } if bytes == 1 << 20)
    );
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(\\p{L}+)+$");
    assert!(matches!(refused(&file, &none), TokenizerFault::SlowPattern { .. }));

    let mut file = good.clone();
    file["model"] = json!({"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0},
        "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
    file["added_tokens"] = json!([]);
    assert!(matches!(refused(&file, &none), TokenizerFault::UnknownModel { .. }));

    let fault = refused(&good, &json!({"eos_token": "<|nowhere|>"}));
    assert!(matches!(fault, TokenizerFault::SpecialToken { .. }), "{fault}");
    assert!(matches!(refused(&json!({"model": 3}), &none), TokenizerFault::Json(_)));

    let empty = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(empty.path()).unwrap_err();
    assert!(matches!(error.fault, TokenizerFault::NoTokenizer), "{error}");
}

#[test]
fn special_tokens_of_a_recipe_replace_those_of_the_files() {
    let mut tokenizer = tokenizer("<s>", "</s>", true);
    let set = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    };
    let remarks = tokenizer
        .set_special_tokens(&set(&[
            ("eos_token", "<|im_end|>"),
            ("pad_token", "[PAD]"),
            ("bos_token", "<bos>"),
        ]))
        .unwrap();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert_eq!(tokenizer.eos(), tokenizer.id("<|im_end|>"));
    assert_eq!(tokenizer.eos_ids().first().copied(), tokenizer.eos());
    assert_eq!(tokenizer.encode_with_bos("a"), [tokenizer.id("<bos>").unwrap(), u32::from(b'a')]);
    let error = tokenizer.set_special_tokens(&set(&[("eos_token", "<|im_ende|>")])).unwrap_err();
    assert!(error.to_string().ends_with("did you mean `<|im_end|>`?"), "{error}");
    let error = tokenizer.set_special_tokens(&set(&[("end", "</s>")])).unwrap_err();
    assert!(matches!(error.fault, TokenizerFault::SpecialKey { .. }));
}

#[test]
fn an_embedding_with_too_few_rows_is_noticed() {
    let tokenizer = tokenizer("<s>", "</s>", false);
    assert!(tokenizer.check_rows(tokenizer.vocab_size()).is_ok());
    let error = tokenizer.check_rows(301).unwrap_err();
    assert!(
        matches!(error.fault, TokenizerFault::BeyondRows { id: 301, rows: 301, .. }),
        "{error}"
    );
}

/// A SentencePiece vocabulary: bytes, and pieces with scores.
fn pieces(prefix: bool) -> Metadata {
    let mut metadata = Metadata::new();
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    let mut types = vec![2, 3, 3];
    let mut scores = vec![0.0_f32; 3];
    for byte in 0..=255_u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
        scores.push(0.0);
    }
    for (rank, piece) in
        (0_u8..).zip(["▁h", "ll", "▁he", "llo", "▁hello", "▁", "h", "e", "l", "o", "w", "r", "d"])
    {
        tokens.push(piece.to_owned());
        types.push(1);
        scores.push(-f32::from(rank));
    }
    tokens.push("  ".to_owned());
    types.push(4);
    scores.push(-1000.0);
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata.insert("tokenizer.ggml.token_type", types);
    metadata.insert("tokenizer.ggml.scores", scores);
    metadata.insert("tokenizer.ggml.bos_token_id", 1_u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 2_u32);
    metadata.insert("tokenizer.ggml.unknown_token_id", 0_u32);
    metadata.insert("tokenizer.ggml.add_space_prefix", prefix);
    metadata
}

#[test]
fn a_sentencepiece_gguf_merges_by_score_falls_back_to_bytes_and_prefixes_a_space() {
    let tokenizer = Tokenizer::from_gguf(&pieces(true)).unwrap();
    let spelled = |text: &str| -> Vec<String> {
        tokenizer.encode(text).iter().map(|id| tokenizer.token(*id).unwrap()).collect()
    };
    assert_eq!(spelled("hello"), ["▁hello"]);
    assert_eq!(spelled("hello  wé"), ["▁hello", "▁▁", "w", "<0xC3>", "<0xA9>"]);
    assert_eq!(spelled("</s>hello"), ["</s>", "▁hello"]);
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.encode_with_bos("hello")[0], 1);
    assert_eq!(tokenizer.decode(&tokenizer.encode("hello  wé")), "hello  wé");
    let plain = tokenizer.encode_plain("</s>");
    assert!(!plain.contains(&2), "{plain:?}");
    let bare = Tokenizer::from_gguf(&pieces(false)).unwrap();
    assert_eq!(bare.token(bare.encode("hello")[0]).unwrap(), "h");
}

#[test]
fn broken_gguf_vocabularies_are_refused() {
    let fault = |change: &dyn Fn(&mut Metadata)| {
        let mut metadata = pieces(true);
        change(&mut metadata);
        Tokenizer::from_gguf(&metadata).unwrap_err().fault
    };
    let short = fault(&|m| m.insert("tokenizer.ggml.scores", vec![0.0_f32; 3]));
    assert!(matches!(short, TokenizerFault::ArrayLength { found: 3, .. }), "{short}");
    let far = fault(&|m| m.insert("tokenizer.ggml.eos_token_id", 70_000_u32));
    assert!(matches!(far, TokenizerFault::SpecialId { id: 70_000, .. }), "{far}");
    let kind = fault(&|m| m.insert("tokenizer.ggml.model", "bert"));
    assert!(matches!(kind, TokenizerFault::UnknownModel { .. }), "{kind}");
    let merges = fault(&|m| m.insert("tokenizer.ggml.model", "gpt2"));
    assert!(matches!(merges, TokenizerFault::NoMerges { .. }), "{merges}");
    let pre = fault(&|m| {
        m.insert("tokenizer.ggml.model", "gpt2");
        m.insert("tokenizer.ggml.pre", "qwen3");
        m.insert("tokenizer.ggml.merges", vec!["h e"]);
    });
    assert!(pre.to_string().ends_with("did you mean `qwen2`?"), "{pre}");
    let twice = fault(&|m| m.insert("tokenizer.ggml.tokens", vec!["a"; 273]));
    assert!(matches!(twice, TokenizerFault::DuplicateId { .. }), "{twice}");
    let none = Tokenizer::from_gguf(&Metadata::new()).unwrap_err().fault;
    assert!(matches!(none, TokenizerFault::Gguf(_)), "{none}");
}

#[test]
fn a_stream_never_gives_half_a_character_and_ends_with_what_decode_gives() {
    let tokenizer = tokenizer("<s>", "</s>", false);
    let ids = tokenizer.encode("né 🎉</s>!");
    let mut stream = tokenizer.stream();
    let parts: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    assert_eq!(parts, ["n", "", "é", " ", "", "", "", "🎉", "", "!"]);
    assert_eq!(stream.finish(), "");
    let mut broken = tokenizer.stream();
    assert_eq!(broken.push(tokenizer.encode("é")[0]), "");
    assert_eq!(broken.push(u32::from(b'a')), "\u{FFFD}a");
    assert_eq!(broken.push(tokenizer.encode("é")[0]), "");
    assert_eq!(broken.finish(), "\u{FFFD}");
}

proptest! {
    #[test]
    fn any_text_comes_back_from_its_tokens(text in "\\PC{0,40}") {
        let tokenizer = tokenizer("<s>", "</s>", false);
        let ids = tokenizer.encode_plain(&text);
        prop_assert_eq!(&tokenizer.decode(&ids), &text);
        let mut stream = tokenizer.stream();
        let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
        streamed.push_str(&stream.finish());
        prop_assert_eq!(streamed, text);
    }
}
