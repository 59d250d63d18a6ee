//! Data sets, their types, splits, templates and masks.

use ft_recipes::*;

use super::{LEAST, complaint, complaint_about, notes, parse, with, with_data};

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let loaded = with_data(
        "  - &one
    path: a.jsonl
    type: completion
    field: body
  - <<: *one
    path: b.jsonl
",
    );
    let [a, b] = loaded.recipe.data.datasets.as_slice() else { panic!("two") };
    assert_eq!(
        (a.path.as_str(), b.path.as_str(), b.field.as_str()),
        ("a.jsonl", "b.jsonl", "body")
    );
    assert_eq!(b.row_type, RowType::Completion);
}

#[test]
fn packing_of_held_out_rows_follows_packing() {
    let packing = |lines: &str| {
        let data = with(lines).recipe.data;
        (data.sample_packing, data.eval_sample_packing)
    };
    assert_eq!(packing("sample_packing: true\n"), (true, true));
    assert_eq!(packing("sample_packing: true\neval_sample_packing: false\n"), (true, false));
}

#[test]
fn held_out_rows_are_a_share_a_count_or_files() {
    let held_out = |word: &str| with(&format!("val_set_size: {word}\n")).recipe.data.held_out;
    assert_eq!(held_out("0.05"), HeldOut::Fraction(0.05));
    assert_eq!(held_out("200"), HeldOut::Rows(200));
    assert_eq!(held_out("200.0"), HeldOut::Rows(200));
    assert_eq!(held_out("0.0"), HeldOut::Nothing);
    let files = "test_datasets: [{path: t.jsonl, type: alpaca}]\n";
    assert_eq!(with(files).recipe.data.test_datasets[0].path, "t.jsonl");
    let said = complaint(&format!("val_set_size: 0.1\n{files}"));
    assert!(said.starts_with("`val_set_size` and `test_datasets` both name the held-out rows\n"));
}

#[test]
fn rows_have_the_types_of_axolotl() {
    let source = |entry: &str| with_data(entry).recipe.data.datasets[0].clone();
    let row_type = |word: &str| source(&format!("  - {{path: p, type: {word}}}\n")).row_type;
    assert_eq!(row_type("alpaca"), RowType::Alpaca { style: None });
    assert_eq!(row_type("'alpaca:phi'"), RowType::Alpaca { style: Some("phi".to_owned()) });
    assert_eq!(row_type("chat_template"), RowType::ChatTemplate);
    assert_eq!(row_type("completion"), RowType::Completion);
    assert_eq!(row_type("input_output"), RowType::InputOutput);
    assert_eq!(row_type("null"), RowType::PreTokenized);
    let RowType::Custom { fields } = row_type("{field_output: a, format: '[INST] {instruction}'}")
    else {
        panic!("custom")
    };
    assert_eq!(
        (fields["field_output"].as_str(), fields["format"].as_str()),
        ("a", "[INST] {instruction}")
    );
    let share = source("  - {path: p, type: sharegpt}\n");
    assert_eq!(
        (share.row_type, share.field_messages.as_str()),
        (RowType::ChatTemplate, "conversations")
    );
    assert_eq!(share.message_property_mappings["role"], "from");
    assert_eq!(share.message_property_mappings["content"], "value");
    let text = LEAST.replace("type: alpaca", "type: 'alpaca:chatt'");
    let said = complaint_about(&text);
    assert!(said.starts_with("`alpaca` has no style `chatt`"), "{said}");
    assert!(said.ends_with("= help: did you mean `chat`?"), "{said}");
    let said = complaint_about(&LEAST.replace("type: alpaca", "type: {field_otput: a}"));
    assert!(said.starts_with("unknown key `datasets[0].type.field_otput`"), "{said}");
    assert!(said.ends_with("= help: did you mean `field_output`?"), "{said}");
}

#[test]
fn older_names_of_message_fields_are_mapped() {
    let loaded = with_data(
        "  - path: p
    type: chat_template
    message_field_role: from
    message_field_content: value
",
    );
    let mappings = &loaded.recipe.data.datasets[0].message_property_mappings;
    assert_eq!((mappings["role"].as_str(), mappings["content"].as_str()), ("from", "value"));
    assert_eq!(
        notes(&loaded, NoteKind::Mapped)[0],
        "`datasets[0].message_field_role`: older spelling of `message_property_mappings: {role: from}`, \
         taken as such"
    );
    let text = LEAST.replace(
        "type: alpaca",
        "type: chat_template\n    message_field_role: a\n    message_property_mappings: {role: b}",
    );
    let said = complaint_about(&text);
    assert!(said.starts_with("`message_field_role: a` contradicts"), "{said}");
}

#[test]
fn splits_may_be_sliced() {
    let split = |word: &str| {
        let text = LEAST.replace("type: alpaca", &format!("type: alpaca\n    split: '{word}'"));
        parse(&text).map(|loaded| loaded.recipe.data.datasets[0].split.clone().unwrap())
    };
    let slice = |from, to| RowSlice { name: "train".to_owned(), from, to };
    assert_eq!(split("train").unwrap(), slice(None, None));
    assert_eq!(split("train[:20%]").unwrap(), slice(None, Some(SliceBound::Percent(20.0))));
    let rows = |n| Some(SliceBound::Rows(n));
    assert_eq!(split("train[100:200]").unwrap(), slice(rows(100), rows(200)));
    assert_eq!(split("train[-10:]").unwrap(), slice(rows(-10), None));
    for bad in ["train[", "train[5]", "train[:x]", "train[:120%]", "train+test", "[:5]"] {
        let said = split(bad).unwrap_err().to_string();
        assert!(said.starts_with("`datasets[0].split` is no split: "), "{said}");
    }
}

#[test]
fn chat_templates_come_from_the_tokenizer_a_name_or_a_text() {
    let template = |lines: &str| with(lines).recipe.data.chat_template;
    assert_eq!(template("chat_template: tokenizer_default\n"), ChatTemplate::Tokenizer);
    assert_eq!(template("chat_template: llama3\n"), ChatTemplate::BuiltIn("llama3".to_owned()));
    assert_eq!(
        template("chat_template: tokenizer_default_fallback_chatml\n"),
        ChatTemplate::TokenizerOr("chatml".to_owned())
    );
    let jinja = ChatTemplate::Jinja("{{ messages }}".to_owned());
    assert_eq!(template("chat_template_jinja: '{{ messages }}'\n"), jinja);
    assert_eq!(template("chat_template: jinja\nchat_template_jinja: '{{ messages }}'\n"), jinja);
    let said = complaint("chat_template: jinja\n");
    assert!(said.starts_with("`chat_template: jinja` needs a template\n"), "{said}");
    let said = complaint("chat_template: chatlm\n");
    assert!(said.ends_with("= help: did you mean `chatml`?"), "{said}");
}

#[test]
fn a_boundary_of_turns_follows_the_end_of_sequence() {
    let source = |lines: &str| {
        let text = LEAST.replace("type: alpaca", &format!("type: chat_template\n    {lines}"));
        parse(&text).unwrap().recipe.data.datasets[0].clone()
    };
    let last = source("train_on_eos: last");
    assert_eq!((last.train_on_eos, last.train_on_eot), (TrainOn::Last, TrainOn::Last));
    let both = source("train_on_eos: none\n    train_on_eot: all");
    assert_eq!((both.train_on_eos, both.train_on_eot), (TrainOn::None, TrainOn::All));
    assert_eq!(source("roles_to_train: [user, assistant]").roles_to_train, ["user", "assistant"]);
    let roles = source("roles: {user: [human, person]}").roles;
    assert_eq!(roles["user"], ["human", "person"]);
    let shards = source("shards: 4\n    shards_idx: 3");
    assert_eq!((shards.shards, shards.shard_index), (Some(4), 3));
}
