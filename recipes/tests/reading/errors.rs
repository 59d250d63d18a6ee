//! What a user reads when something is wrong, word for word.

use std::path::Path;

use ft_recipes::{Recipe, RecipeError};

use super::{LEAST, complaint, complaint_about, parse};

#[test]
fn a_misspelled_key_is_shown_where_it_stands_with_the_key_that_was_meant() {
    assert_eq!(
        complaint("lora_dorpout: 0.1\n"),
        "\
unknown key `lora_dorpout`
  --> r.yaml:10:1
   |
10 | lora_dorpout: 0.1
   | ^^^^^^^^^^^^
   = help: did you mean `lora_dropout`?"
    );
}

#[test]
fn a_misspelled_key_of_a_data_set_is_found_as_well() {
    let text = LEAST.replace("    type: alpaca\n", "    type: alpaca\n    field_mesages: chat\n");
    assert_eq!(
        complaint_about(&text),
        "\
unknown key `datasets[0].field_mesages`
 --> r.yaml:9:5
  |
9 |     field_mesages: chat
  |     ^^^^^^^^^^^^^
  = help: did you mean `field_messages`?"
    );
}

#[test]
fn a_key_of_a_data_set_at_the_first_level_is_told_where_it_belongs() {
    let said = complaint("roles_to_train: [assistant]\n");
    assert!(said.ends_with("= help: `roles_to_train` belongs to an entry of `datasets`"), "{said}");
}

#[test]
fn a_key_that_is_like_none_gets_no_suggestion() {
    let said = complaint("banana: 1\n");
    assert!(said.starts_with("unknown key `banana`\n") && !said.contains("help"), "{said}");
}

#[test]
fn a_wrong_value_is_shown_with_what_was_expected_and_found() {
    assert_eq!(
        complaint("load_in_4bit: maybe\n"),
        "\
`load_in_4bit` must be `true` or `false`, found `maybe`
  --> r.yaml:10:15
   |
10 | load_in_4bit: maybe
   |               ^^^^^"
    );
}

#[test]
fn all_problems_are_there_at_once_in_the_order_of_the_file() {
    let text = "\
base_model: m
adapter: lora
lora_r: 0
lora_alpha: 16
lora_dropout: 1.0
lora_target_linear: true
datasets:
  - path: rows.jsonl
    type: alpacca
learning_rate: -1e-4
lora_rank: 3
";
    let Err(error) = parse(text) else { panic!("accepted") };
    let said: Vec<&str> = error.problems().iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "`lora_r` must be a whole number of at least 1, found `0`",
            "`lora_dropout` must be a number of at least 0 and below 1, found `1.0`",
            "no row type is called `alpacca` here",
            "`learning_rate` must be a number above 0, found `-1e-4`",
            "unknown key `lora_rank`",
        ]
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (lines, wanted) in [
        ("weight_decay: -0.1\n", "must be a number of at least 0, found `-0.1`"),
        ("weight_decay: .nan\n", "must be a number of at least 0, found `.nan`"),
        ("weight_decay: .inf\n", "must be a number of at least 0, found `.inf`"),
        ("warmup_ratio: 1.5\n", "must be a number from 0 to 1, found `1.5`"),
        ("num_epochs: 0\n", "must be a number above 0 and at most 100000, found `0`"),
        ("num_epochs: 1e300\n", "must be a number above 0 and at most 100000, found `1e300`"),
        (
            "lora_rank_pattern: {q_proj: 1000000}\n",
            "`lora_rank_pattern.q_proj` is 1000000, the most is 16384",
        ),
        ("sequence_len: 100000000\n", "the most is 16777216"),
        ("micro_batch_size: 0\n", "must be a whole number of at least 1, found `0`"),
        ("micro_batch_size: 0.05\n", "must be a whole number of at least 1, found `0.05`"),
        ("micro_batch_size: 99999999999\n", "the most is 1000000000"),
        ("sequence_len: true\n", "must be a whole number of at least 2, found `true`"),
        ("sequence_len: [512]\n", "must be a whole number of at least 2, found a list"),
        ("adam_beta2: 1\n", "must be a number of at least 0 and below 1, found `1`"),
        ("val_set_size: 1.5\n", "a share below 1 or a whole number of rows, found `1.5`"),
        ("max_steps: -2\n", "must be a whole number of at least 1, found `-2`"),
        ("micro_batch_size: 010\n", "base 8 to YAML 1.1: write `10` or `8`"),
        ("eval_batch_size: 1:30\n", "colons mean base 60"),
        ("output_dir: ''\n", "`output_dir` is empty"),
        ("output_dir: {a: b}\n", "must be text, found a map"),
        ("eot_tokens: [[a]]\n", "`eot_tokens[0]` must be text, found a list"),
        ("special_tokens: no\n", "must be a map of keys, found `no`"),
        ("peft_layers_to_transform: [-1]\n", "must be a whole number of at least 0, found `-1`"),
        ("base_model_sha256: abc\n", "must be 64 hexadecimal digits"),
        ("device: tpu\n", "must be one of `auto`, `cpu`, `wgpu`, `cuda`, `cuda:1`, found `tpu`"),
    ] {
        let said = complaint(lines);
        assert!(said.contains(wanted), "{lines}{said}");
    }
}

#[test]
fn an_unknown_word_is_answered_with_the_words_there_are() {
    assert_eq!(
        complaint("excess_length_strategy: truncat\n"),
        "\
`excess_length_strategy` must be one of `drop`, `truncate`, `raise`, found `truncat`
  --> r.yaml:10:25
   |
10 | excess_length_strategy: truncat
   |                         ^^^^^^^
   = help: did you mean `truncate`?"
    );
}

#[test]
fn a_duplicate_key_is_shown_with_the_line_of_the_first() {
    assert_eq!(
        complaint("lora_r: 16\n"),
        "\
duplicate key `lora_r`
  --> r.yaml:10:1
   |
10 | lora_r: 16
   | ^^^^^^
   = help: the first is in line 3; keep one"
    );
}

#[test]
fn what_is_missing_is_said_of_the_whole_file() {
    assert_eq!(
        complaint_about("base_model: m\n"),
        "\
`adapter` is missing, and training every weight of the base is not done here
 --> r.yaml
 = help: add `adapter: lora`, or `adapter: qlora` with `load_in_4bit: true`

`lora_r` is missing
 --> r.yaml
 = help: `lora_r: 16` is a usual rank

`lora_alpha` is missing
 --> r.yaml
 = help: `lora_alpha: 32` is a usual scale for `lora_r: 16`

no key says what is tuned
 --> r.yaml
 = help: `lora_target_linear: true` tunes every projection of every block

`datasets` is missing
 --> r.yaml
 = help: `datasets: [{path: rows.jsonl, type: alpaca}]`

`learning_rate` is missing
 --> r.yaml
 = help: `learning_rate: 2e-4` is usual for LoRA"
    );
}

#[test]
fn a_file_that_is_no_map_or_has_nothing_in_it_is_answered_clearly() {
    for (text, wanted) in [
        ("", "the recipe is empty\n --> r.yaml\n"),
        ("# nothing\n", "the recipe is empty\n"),
        ("\u{feff}", "the recipe is empty\n"),
        ("- a\n- b\n", "a recipe is a map of keys (`base_model: ...`), found a list\n"),
        ("just words\n", "a recipe is a map of keys (`base_model: ...`), found `just words`\n"),
        (
            "a: 1\n---\nb: 2\n",
            "a recipe is one document, here a second one starts\n --> r.yaml:2:1",
        ),
        ("a: [1, 2\nb: 3\n", "not YAML: "),
        ("a: b: c\n", "not YAML: "),
        ("? [a]\n: b\n", "a key must be a word, here is a list or map\n"),
        ("a: *nowhere\n", "not YAML: "),
        ("a: &x [*x]\n", "an alias cannot stand inside the value that it names\n"),
        ("a: !!python/object/apply:os.system [x]\n", "a recipe has no use for the tag `"),
    ] {
        let said = complaint_about(text);
        assert!(said.starts_with(wanted), "{text:?}\n{said}");
    }
}

#[test]
fn a_tab_is_named_as_the_culprit() {
    let said = complaint_about("datasets:\n\t- path: x\n");
    assert!(said.contains("r.yaml:2:") && said.contains("indent with spaces"), "{said}");
}

#[test]
fn an_alias_bomb_is_refused_at_the_alias_that_is_too_much() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let again = format!("*a{}", i - 1);
        let line = format!("a{i}: &a{i} [{}]\n", [again.as_str(); 10].join(", "));
        bomb = [bomb, line].concat();
    }
    let said = complaint_about(&bomb);
    assert!(
        said.starts_with("more than 20000 values, counting those that aliases repeat\n"),
        "{said}"
    );
    let deep = format!("a: {}{}\n", "[".repeat(500), "]".repeat(500));
    let said = complaint_about(&deep);
    assert!(said.contains("r.yaml:1:"), "{said}");
}

#[test]
fn control_characters_of_a_recipe_do_not_reach_the_terminal() {
    let said = complaint("output_dirr: \"\u{1b}[2J\"\n");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let said = complaint("seed: \"\\e[2J\"\n");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_very_long_line_is_quoted_around_the_place() {
    let said =
        complaint(&format!("special_tokens: {{pad_token: {}, padd: x}}\n", "p".repeat(5000)));
    assert!(said.len() < 1000 && said.contains("padd: x"), "{said}");
}

#[test]
fn carets_stand_under_words_after_wide_characters() {
    let said = complaint("special_tokens: {pad_token: 日本, padd: x}\n");
    assert!(said.contains("r.yaml:10:33\n"), "{said}");
    assert!(said.contains(&format!("\n   | {}^^^^\n", " ".repeat(32))), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_as_text_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = Recipe::load(&path, &[]).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "F")
    };
    assert_eq!(
        load("a.yaml", b"base_model: m\nx: \xe4\n"),
        "`F/a.yaml` is not UTF-8: byte 17 (line 2) is 0xe4; save it as UTF-8"
    );
    assert_eq!(
        load("b.yaml", b"\xff\xfea\0"),
        "`F/b.yaml` is not UTF-8: byte 0 (line 1) is part of UTF-16 text; save it as UTF-8"
    );
    assert_eq!(
        load("c.yaml", &vec![b'#'; 2 << 20]),
        "`F/c.yaml` has 2097152 bytes, and a recipe at most 1048576; is it a data set?"
    );
    let missing = Recipe::load(Path::new("nowhere/r.yaml"), &[]).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read `nowhere/r.yaml`: "), "{missing}");
    assert!(matches!(missing, RecipeError::Read { .. }));
}

#[test]
fn a_set_on_the_command_line_is_quoted_as_the_place() {
    let set = [("lora_rr".to_owned(), "8".to_owned())];
    let error = Recipe::parse(LEAST, Path::new("r.yaml"), &set).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\
unknown key `lora_rr`
 --> --set lora_rr=8
 = help: did you mean `lora_r`?"
    );
}

#[test]
fn a_file_that_is_no_recipe_at_all_is_answered_soon_and_in_short() {
    let rows: Vec<String> = (0..9000).map(|i| format!("column{i}: value\n")).collect();
    let rows = rows.concat();
    let Err(error) = parse(&rows) else { panic!("accepted") };
    let problems = error.problems();
    assert_eq!(problems.len(), 108, "a hundred, seven keys that are missing, and a count");
    assert_eq!(problems[107].what, "8900 more problems");
}

#[test]
fn a_recipe_from_windows_is_the_same_recipe() {
    let windows = format!("\u{feff}{}", LEAST.replace('\n', "\r\n"));
    assert_eq!(parse(&windows).unwrap().recipe, parse(LEAST).unwrap().recipe);
    let said = complaint_about(&format!("{windows}lora_dorpout: 0.1\r\n"));
    assert!(said.contains("10 | lora_dorpout: 0.1\n"), "{said:?}");
}
