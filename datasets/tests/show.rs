//! What `ft data show` says of rows.

mod common;
#[path = "../src/testing.rs"]
mod testing;

use ft_datasets::encode::Example;
use ft_datasets::show::{Colour, ShowOptions, show, tokens};
use ft_datasets::source::Place;
use ft_recipes::RowType;
use testing::{section, source};

#[test]
fn learned_tokens_stand_in_brackets_with_their_weight_and_seams() {
    let tokenizer = common::tokenizer("<s>", "</s>", true);
    // `He`, ` an` as one token, `!` at half weight, an end.
    let example = Example {
        ids: vec![300, 72, 101, 261, 33, 301],
        weights: vec![0.0, 0.0, 1.0, 1.0, 0.5, 0.0],
    };
    assert_eq!(tokens(&example, &tokenizer, Colour::None), "<s>·H[e· an][!]*0.5</s>");
    assert_eq!(
        tokens(&example, &tokenizer, Colour::Ansi),
        "\x1b[2m<s>·H\x1b[0m\x1b[32me· an\x1b[0m\x1b[33m!\x1b[0m*0.5\x1b[2m</s>\x1b[0m"
    );
}

#[test]
fn parts_of_a_character_are_shown_as_the_character_and_control_characters_as_escapes() {
    let tokenizer = common::tokenizer("<s>", "</s>", true);
    let ids = tokenizer.encode("日\x1b\n本");
    let weights = vec![0.0; ids.len()];
    let shown = tokens(&Example { ids, weights }, &tokenizer, Colour::None);
    assert_eq!(shown, "日·\\u{1b}·⏎\n·本");
}

#[test]
fn each_row_is_shown_with_its_place_and_its_audit_and_bad_rows_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let rows = "{\"input_ids\": [65, 66], \"labels\": [-100, 66]}\n{\"input_ids\": [65], \"labels\": \
                [-100]}\n{\"ids\": 1}\n{\"input_ids\": [65, 67]}\n";
    std::fs::write(&path, rows).unwrap();
    let section = section(vec![source(path.to_str().unwrap(), RowType::PreTokenized)]);
    let tokenizer = common::tokenizer("<s>", "</s>", true);
    let options = ShowOptions { skip: 0, rows: 3, colour: Colour::None };
    let shown = show(&section, &tokenizer, options, &Place::clone).unwrap();
    let shown = shown.replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(
        shown,
        "rows.jsonl:1  2 tokens, 1 trained, 0 of 0 stop tokens trained; AN ANSWER DOES NOT END IN A \
         TRAINED STOP TOKEN\nA[B]\n\nrows.jsonl:2  1 tokens, 0 trained, 0 of 0 stop tokens trained; \
         NO TRAINED TOKEN; SHORTER THAN `min_sample_len`\nA\n\nrows.jsonl:3  pre-tokenised row has no \
         `input_ids`; it has `ids`\n\n"
    );
    let options = ShowOptions { skip: 3, rows: 9, colour: Colour::None };
    assert!(show(&section, &tokenizer, options, &Place::clone).unwrap().contains("A[C]"));
}
