//! Rows of every shape, and rows that miss it.

use serde_json::json;

use super::*;
use crate::chat::{Content, TrainSpan};
use crate::testing::{section, source};

fn of(row: Value, source: &DatasetSource) -> Result<Shaped, ShapeFault> {
    let Value::Object(fields) = row else { panic!("a row is an object") };
    shape(fields, source, &section(Vec::new()))
}

fn fault(row: Value, row_type: RowType) -> String {
    of(row, &source("", row_type)).unwrap_err().to_string()
}

fn alpaca() -> RowType {
    RowType::Alpaca { style: None }
}

fn chat(row: Value, source: &DatasetSource) -> Conversation {
    match of(row, source) {
        Ok(Shaped::Chat(conversation)) => conversation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn alpaca_rows_have_an_instruction_perhaps_an_input_and_an_output() {
    let wanted = |input: &str| {
        Shaped::Instruction(Instruction {
            instruction: "a".to_owned(),
            input: input.to_owned(),
            output: "c".to_owned(),
            ..Instruction::default()
        })
    };
    let source = source("", alpaca());
    let with = json!({"instruction": "a", "input": "b", "output": "c", "text": "ignored"});
    assert_eq!(of(with, &source), Ok(wanted("b")));
    assert_eq!(of(json!({"instruction": "a", "output": "c"}), &source), Ok(wanted("")));
    let null = json!({"instruction": "a", "input": null, "output": "c"});
    assert_eq!(of(null, &source), Ok(wanted("")));
}

#[test]
fn a_missing_field_is_told_with_the_fields_there_and_what_would_fit() {
    assert_eq!(
        fault(json!({"instruction": "a", "ouptut": "b"}), alpaca()),
        "alpaca row has no `output`; it has `instruction`, `ouptut`\n  = help: did you mean `ouptut`?"
    );
    assert_eq!(
        fault(json!({"instruction": "a", "response": "b"}), alpaca()),
        "alpaca row has no `output`; it has `instruction`, `response`\n  = help: use `type: \
         {field_instruction: instruction, field_output: response, format: \"{instruction}\"}`"
    );
    assert_eq!(
        fault(json!({"messages": []}), alpaca()),
        "alpaca row has no `instruction`; it has `messages`\n  = help: use `type: chat_template`"
    );
    assert_eq!(
        fault(json!({"conversations": [{"from": "human", "value": "a"}]}), RowType::ChatTemplate),
        "chat_template row has no `messages`; it has `conversations`\n  = help: use `type: \
         chat_template` with `field_messages: conversations` and `message_property_mappings: \
         {role: from, content: value}`"
    );
    assert_eq!(
        fault(json!({"a": 1}), RowType::Completion),
        "completion row has no `text`; it has `a`"
    );
    assert_eq!(
        fault(json!({"instruction": "a", "output": 7}), alpaca()),
        "`output` is a number, expected a text"
    );
}

#[test]
fn a_recipe_names_fields_of_its_own() {
    let keys = [("field_instruction", "question"), ("field_output", "answer")];
    let fields = keys.map(|(key, name)| (key.to_owned(), name.to_owned())).into();
    let source = source("", RowType::Custom { fields });
    let row = json!({"question": "a", "answer": "b", "input": "c", "system": "d"});
    let wanted = Instruction {
        system: "d".to_owned(),
        instruction: "a".to_owned(),
        input: "c".to_owned(),
        output: "b".to_owned(),
    };
    assert_eq!(of(row, &source), Ok(Shaped::Instruction(wanted)));
    assert_eq!(
        of(json!({"question": "a"}), &source).unwrap_err().to_string(),
        "custom row has no `answer`; it has `question`"
    );
}

#[test]
fn sharegpt_rows_become_messages_of_the_templates_roles() {
    let mut source = source("", RowType::ChatTemplate);
    source.field_messages = "conversations".to_owned();
    source.message_property_mappings =
        [("role", "from"), ("content", "value")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let row = json!({"system": "s", "conversations": [
        {"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": 0.5}]});
    let mut answer = crate::chat::Message::new("assistant", "a");
    answer.train = Some(0.5);
    assert_eq!(
        chat(row, &source),
        Conversation::new(vec![
            crate::chat::Message::new("system", "s"),
            crate::chat::Message::new("user", "q"),
            answer
        ])
    );
}

#[test]
fn unmapped_sharegpt_messages_are_told_which_key_maps_them() {
    let row = json!({"messages": [{"from": "human", "value": "a"}]});
    assert_eq!(
        fault(row, RowType::ChatTemplate),
        "message of a chat_template row has no `role`; it has `from`, `value`\n  = help: map the \
         fields: `message_property_mappings: {role: from, content: value}`"
    );
}

#[test]
fn training_flags_weights_and_stretches_stay_with_their_message() {
    let source = source("", RowType::ChatTemplate);
    let row = json!({"messages": [
        {"role": "user", "content": "q", "train": true, "name": "kim", "nothing": null},
        {"role": "assistant", "content": "abcdef", "train": false},
        {"role": "assistant", "content": "abcdef", "train_detail": [
            {"begin_offset": 0, "end_offset": 2, "train": true},
            {"begin_offset": 3, "end_offset": 5, "train": 0.25}]}]});
    let messages = chat(row, &source).messages;
    assert_eq!(messages[0].train, Some(1.0));
    assert_eq!(Value::Object(messages[0].extra.clone()), json!({"name": "kim"}));
    assert_eq!(messages[1].train, Some(0.0));
    assert_eq!(
        messages[2].spans,
        [TrainSpan { begin: 0, end: 3, weight: 1.0 }, TrainSpan { begin: 3, end: 6, weight: 0.25 }]
    );
    let bad = json!({"messages": [{"role": "user", "content": "q", "train": "yes"}]});
    assert_eq!(
        of(bad, &source).unwrap_err().to_string(),
        "`messages[0].train` is \"yes\", expected true, false or a weight between 0 and 1000"
    );
}

#[test]
fn system_messages_are_dropped_and_defaulted() {
    let mut source = source("", RowType::ChatTemplate);
    let row =
        json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]});
    let mut section = section(Vec::new());
    let fields = || row.as_object().unwrap().clone();
    section.default_system_message = Some("d".to_owned());
    let first = |shaped| match shaped {
        Ok(Shaped::Chat(conversation)) => conversation.messages[0].content.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(first(shape(fields(), &source, &section)), Content::from("s"));
    source.drop_system_message = true;
    assert_eq!(first(shape(fields(), &source, &section)), Content::from("d"));
    section.default_system_message = None;
    assert_eq!(first(shape(fields(), &source, &section)), Content::from("q"));
}

#[test]
fn tools_and_calls_are_passed_on_as_values() {
    let source = source("", RowType::ChatTemplate);
    let row = json!({"tools": "[{\"name\": \"f\"}]", "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 1}"}}]}]});
    let conversation = chat(row, &source);
    assert_eq!(conversation.tools, Some(json!([{"name": "f"}])));
    let calls = &conversation.messages[1].extra["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], json!({"x": 1}));
    assert_eq!(conversation.messages[1].content, Content::Json(Value::Null));
}

#[test]
fn messages_that_are_none_are_told_with_their_number() {
    let chat = |messages: Value| fault(json!({"messages": messages}), RowType::ChatTemplate);
    assert_eq!(chat(json!([])), "`messages` is empty");
    assert_eq!(
        chat(json!("x")),
        "`messages` is a text that is not JSON: expected value at line 1 column 1"
    );
    assert_eq!(chat(json!([7])), "`messages[0]` is a number, expected an object");
    assert_eq!(
        chat(json!([{"role": "asistant", "content": "a"}])),
        "`messages[0].role` is `asistant`\n  = help: did you mean `assistant`? (a new spelling goes \
         into `roles`)"
    );
    assert_eq!(
        chat(json!([{"role": "user", "content": null}])),
        "`messages[0].content` is null, expected a text"
    );
}

#[test]
fn segments_are_texts_with_labels() {
    let source = source("", RowType::InputOutput);
    let row = json!({"segments": [{"text": "a", "label": false}, {"text": "b", "label": true}]});
    let segment = |text: &str, trained| Segment { text: text.to_owned(), trained };
    assert_eq!(
        of(row, &source),
        Ok(Shaped::Segments(vec![segment("a", false), segment("b", true)]))
    );
    assert_eq!(
        fault(json!({"segments": [{"text": "a", "label": 1}]}), RowType::InputOutput),
        "`segments[0].label` is a number, expected true or false"
    );
}

#[test]
fn tokens_are_taken_as_they_are_without_their_padding() {
    let source = source("", RowType::PreTokenized);
    let row = json!({"input_ids": [0, 5, 6, 7, 0], "labels": [-100, -100, 6, 7, -100],
        "attention_mask": [0, 1, 1, 1, 0]});
    let example = Example { ids: vec![5, 6, 7], weights: vec![0.0, 1.0, 1.0] };
    assert_eq!(of(row, &source), Ok(Shaped::Tokens(example)));
    let all = Example { ids: vec![5, 6], weights: vec![1.0, 1.0] };
    assert_eq!(of(json!({"input_ids": [5, 6]}), &source), Ok(Shaped::Tokens(all)));
}

#[test]
fn labels_that_are_not_the_tokens_are_an_error() {
    let tokens = |row| fault(row, RowType::PreTokenized);
    let shifted = tokens(json!({"input_ids": [5, 6, 7], "labels": [6, 7, -100]}));
    assert!(shifted.starts_with("`labels[0]` is 6, but `input_ids[0]` is 5;"), "{shifted}");
    assert_eq!(
        tokens(json!({"input_ids": [5, 6], "labels": [5]})),
        "`labels` has 1 entries, `input_ids` has 2"
    );
    assert_eq!(tokens(json!({"input_ids": [5, -6]})), "`input_ids[1]` is -6, expected a token id");
    assert_eq!(
        tokens(json!({"input_ids": [5, 1.5]})),
        "`input_ids[1]` is 1.5, expected a token id"
    );
    assert_eq!(
        tokens(json!({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]})),
        "`attention_mask[1]` is 0 between ones; only padding at the ends can be masked"
    );
    assert_eq!(tokens(json!({"input_ids": []})), "`input_ids` is empty");
}
