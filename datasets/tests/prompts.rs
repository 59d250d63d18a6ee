//! Rows without a template: prompts, completions, segments, rows with labels.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::tokenizer;
use ft_datasets::encode::{Example, PromptEncoder, PromptFields, PromptFormat, audit};
use ft_datasets::tokenizer::Tokenizer;

/// Tokens as text, what is learned in `«»`.
fn shown(tokenizer: &Tokenizer, example: &Example) -> String {
    let split = example.weights.iter().position(|weight| *weight > 0.0).unwrap_or(example.len());
    assert!(example.weights[split..].iter().all(|weight| *weight > 0.0));
    let text = |ids: &[u32]| tokenizer.decode_with_special(ids);
    format!("{}«{}»", text(&example.ids[..split]), text(&example.ids[split..]))
}

fn encode(tokenizer: &Tokenizer, kind: &str, fields: PromptFields<'_>) -> String {
    let format = PromptFormat::named(kind).unwrap();
    let encoder = PromptEncoder { tokenizer, format, train_on_inputs: false, sequence_len: 2048 };
    shown(tokenizer, &encoder.encode(&fields))
}

#[test]
fn alpaca_rows_have_stanfords_words_one_begin_and_one_end() {
    let tokenizer = tokenizer("<s>", "</s>", true);
    let fields = PromptFields {
        instruction: "Add.",
        input: "1 {2}",
        output: "3",
        ..PromptFields::default()
    };
    assert_eq!(
        encode(&tokenizer, "alpaca", fields),
        "<s>Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 {2}\n\n### Response:\n«3</s>»"
    );
    let bare = PromptFields { input: "", ..fields };
    assert_eq!(
        encode(&tokenizer, "alpaca", bare),
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n«3</s>»"
    );
    assert_eq!(
        encode(&tokenizer, "alpaca:chat", bare),
        "<s>SYSTEM: Below is an instruction that describes a task. Write a response that appropriately completes the request.\nUSER: Add.\nASSISTANT:«3</s>»"
    );
    assert_eq!(
        encode(&tokenizer, "alpaca:phi", fields),
        "<s><|system|>\nBelow is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.<|end|>\n<|user|>\nAdd.<|end|>1 {2}<|assistant|>«3</s>»"
    );
    assert_eq!(
        encode(
            &tokenizer,
            "alpaca_w_system.load_open_orca",
            PromptFields { system: "Be.", ..bare }
        ),
        "<s>### System:\nBe.\n### Human:\nAdd.\n### Assistant:\n«3</s>»"
    );
    assert!(PromptFormat::named("alpaca:verse").is_none() && PromptFormat::named("chat").is_none());
}

#[test]
fn a_format_of_a_recipe_is_filled_as_python_fills_it() {
    let tokenizer = tokenizer("<s>", "</s>", false);
    let format = PromptFormat::custom(
        Some("{{Q}} {instruction}|{input} A:"),
        None,
        Some("S:{system}\n"),
        Some("sys"),
    );
    let encoder =
        PromptEncoder { tokenizer: &tokenizer, format, train_on_inputs: false, sequence_len: 64 };
    let fields =
        PromptFields { instruction: "{input}", input: "x", output: "y", ..PromptFields::default() };
    assert_eq!(shown(&tokenizer, &encoder.encode(&fields)), "S:sys\n{Q} {input}|x A:«y</s>»");
    let fields = PromptFields { system: "own", input: "", ..fields };
    assert_eq!(shown(&tokenizer, &encoder.encode(&fields)), "S:own\n{input} «y</s>»");
}

#[test]
fn the_end_is_added_only_where_it_fits_and_an_empty_answer_teaches_nothing() {
    let tokenizer = tokenizer("<s>", "</s>", true);
    let format = PromptFormat::custom(Some("{instruction}"), Some("{instruction}"), None, None);
    let encoder = |sequence_len| PromptEncoder {
        tokenizer: &tokenizer,
        format: format.clone(),
        train_on_inputs: false,
        sequence_len,
    };
    let fields = PromptFields { instruction: "q", output: "xyz", ..PromptFields::default() };
    let text = |len| shown(&tokenizer, &encoder(len).encode(&fields));
    // A begin and three letters are four tokens; the end is the fifth.
    assert_eq!((text(4), text(5)), ("<s>q«xyz»".to_owned(), "<s>q«xyz</s>»".to_owned()));
    let empty = encoder(64).encode(&PromptFields { output: "", ..fields });
    assert_eq!((empty.trained(), empty.len()), (0, 2));
    let all = PromptEncoder { train_on_inputs: true, ..encoder(64) }.encode(&fields);
    assert_eq!(all.trained(), all.len());
}

#[test]
fn a_row_that_spells_a_special_token_gets_letters() {
    let tokenizer = tokenizer("<s>", "<|im_end|>", false);
    let format = PromptFormat::named("alpaca:chatml").unwrap();
    let encoder =
        PromptEncoder { tokenizer: &tokenizer, format, train_on_inputs: false, sequence_len: 2048 };
    let fields = PromptFields {
        instruction: "a<|im_end|>b",
        output: "c<|im_end|>d",
        ..PromptFields::default()
    };
    let example = encoder.encode(&fields);
    let ends = example.ids.iter().filter(|id| Some(**id) == tokenizer.id("<|im_end|>")).count();
    assert_eq!(ends, 3); // system, user, end of text
    let facts = audit(&example, &tokenizer);
    assert_eq!((facts.answers, facts.endless_answers, facts.trained_stops), (1, 0, 1));
}

#[test]
fn completions_are_learned_whole_in_pieces_of_a_sequence() {
    let tokenizer = tokenizer("<s>", "</s>", true);
    let examples = Example::from_completion("abcdefg", &tokenizer, 4);
    let texts: Vec<String> =
        examples.iter().map(|e| tokenizer.decode_with_special(&e.ids)).collect();
    assert_eq!(texts, ["<s>abc", "defg", "</s>"]);
    assert!(examples.iter().all(|example| example.trained() == example.len()));
}

#[test]
fn segments_get_no_token_that_they_do_not_spell() {
    let tokenizer = tokenizer("<s>", "</s>", true);
    let segments = [("<s>Q:", false), ("a</s>", true)];
    let example = Example::from_segments(segments, &tokenizer, false);
    assert_eq!(shown(&tokenizer, &example), "<s>Q:«a</s>»");
    assert_eq!(Example::from_segments(segments, &tokenizer, true).trained(), example.len());
}

#[test]
fn rows_with_labels_are_checked() {
    let example = Example::from_labels(&[1, 2, 3], Some(&[-100, 2, 3]), 10).unwrap();
    assert_eq!(example.weights, [0.0, 1.0, 1.0]);
    assert_eq!(Example::from_labels(&[1], None, 10).unwrap().weights, [1.0]);
    for (ids, labels) in [
        (&[1, 2][..], Some(&[1][..])),
        (&[1, 10][..], None),
        (&[-1][..], None),
        (&[1, 2][..], Some(&[-100, 3][..])),
    ] {
        assert!(Example::from_labels(ids, labels, 10).is_err());
    }
}
