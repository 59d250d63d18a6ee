//! Answers that are held to a grammar.

use serde_json::{Value, json};

use crate::server::{CHAT, Server, chat, place, question, said};

#[test]
fn what_the_model_would_say_anyway_is_what_it_says_wherever_the_grammar_lets_it() {
    let place = place();
    let server = Server::start(&place, &[]);
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["a", "b"],
                        "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let mut free = 0;
    for text in ["say 1", "a", "describe yourself", "what now?"] {
        let more = json!({"max_tokens": 120, "logprobs": true, "top_logprobs": 20,
                          "response_format": format, "messages": question(text)});
        let answer = server.post(CHAT, &chat(&more)).json();
        let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
        let (mut quotes, mut written) = (0, String::new());
        // At the end of its tokens a document is closed, whatever the model would say.
        for token in &tokens[..tokens.len().saturating_sub(30)] {
            let word = token["token"].as_str().unwrap();
            let best = token["top_logprobs"][0]["token"].as_str().unwrap();
            // In a string all may come but what must be escaped, and the names of special tokens.
            let fits = best.len() == 1 && !"\\\n".contains(best);
            // The third of each four quotation marks opens what is not a name.
            if quotes % 4 == 3 && fits {
                assert_eq!(word, best, "behind {written:?}");
                free += 1;
            }
            quotes += word.matches('"').count();
            written.push_str(word);
        }
    }
    assert!(free > 20, "{free}");
}

#[test]
fn a_document_is_whole_with_as_few_tokens_as_it_can_be_and_is_not_forced_with_fewer() {
    let place = place();
    let server = Server::start(&place, &[]);
    // `{"rows":[{"q":"x","a":"x"}]}` has 28 letters, which are tokens here.
    let text = json!({"type": "string", "minLength": 1});
    let row = json!({"type": "object", "additionalProperties": false, "required": ["q", "a"],
                     "properties": {"q": text, "a": text}});
    let rows = json!({"type": "array", "minItems": 1, "items": row});
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["rows"],
                        "properties": {"rows": rows}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let ask = |most: usize, seed: usize| {
        let more =
            json!({"max_tokens": most, "seed": seed, "temperature": 1, "response_format": format});
        server.post(CHAT, &chat(&more)).json()["choices"][0].clone()
    };
    for most in [30, 31, 34, 40, 55, 80, 120] {
        for seed in 0..4 {
            let choice = ask(most, seed);
            let content = choice["message"]["content"].as_str().unwrap();
            let document: Value = serde_json::from_str(content)
                .unwrap_or_else(|error| panic!("{most} tokens: {error}: {content}"));
            assert!(document["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{content}");
        }
    }
    let cut = ask(20, 1);
    assert_eq!(cut["finish_reason"], "length", "{cut}");
    assert!(cut["message"]["content"].as_str().unwrap().trim_start().starts_with('{'));
}

#[test]
fn every_dialect_holds_answers_to_a_schema() {
    let place = place();
    let server = Server::start(&place, &[]);
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["k"],
                        "properties": {"k": {"enum": ["cat", "dog"]}}});
    let fits = |text: &Value| {
        let document: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert!(["cat", "dog"].contains(&document["k"].as_str().unwrap()), "{document}");
    };
    let format = json!({"type": "json_schema", "name": "x", "schema": schema});
    let body = json!({"input": "x", "max_output_tokens": 40, "text": {"format": format}});
    fits(&server.post("/v1/responses", &body).json()["output"][0]["content"][0]["text"]);
    let mut body = json!({"model": "model", "max_tokens": 40, "messages": question("x"),
                          "output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "high"},
                          "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
    fits(&server.post("/v1/messages", &body).json()["content"][0]["text"]);
    body["context_management"]["edits"][0]["type"] = json!("clear_tool_uses_20250919");
    let refused = server.post("/v1/messages", &body);
    assert!(refused.body.contains("`context_management.edits[0].type`"), "{refused:?}");
    let body = json!({"model": "model", "messages": question("x"), "stream": false, "format": schema,
                      "options": {"num_predict": 40}});
    fits(&server.post("/api/chat", &body).json()["message"]["content"]);
    let body = json!({"model": "model", "prompt": "x", "stream": false, "format": schema,
                      "options": {"num_predict": 40}});
    fits(&server.post("/api/generate", &body).json()["response"]);
}

#[test]
fn answers_keep_to_their_shape_and_calls_to_their_schemas() {
    let place = place();
    let server = Server::start(&place, &[]);
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["n", "k", "l"], "properties": {
        "n": {"type": "string"}, "k": {"enum": ["cat", "dog"]}, "l": {"type": "array", "items": {"type": "integer"}}}});
    for seed in 0..10 {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let more =
            json!({"temperature": 1, "seed": seed, "max_tokens": 60, "response_format": format});
        let document: Value =
            serde_json::from_str(&said(&server.post(CHAT, &chat(&more)))).unwrap();
        assert!(
            document["n"].is_string() && ["cat", "dog"].contains(&document["k"].as_str().unwrap())
        );
        assert!(document["l"].as_array().unwrap().iter().all(Value::is_i64), "{document}");
    }
    // A template that is told of tools, in few words: the model reads no more than 256 tokens.
    let config = place.read("model/tokenizer_config.json");
    let told = config.replace("{% if add", "{% if tools %}<tool_call>{% endif %}{% if add");
    assert_ne!(config, told);
    place.write("model/tokenizer_config.json", told);
    let server = Server::start(&place, &[]);
    let tool = json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"],
        "additionalProperties": false}}}]);
    let more = json!({"tools": tool, "tool_choice": "required", "max_tokens": 100, "messages": question("x")});
    let answer = server.post(CHAT, &chat(&more)).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(call["name"] == "weather" && arguments["city"].is_string());
    // What code that makes schemas adds to a map of anything.
    let map = json!({"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {},
                     "$schema": "https://json-schema.org/draft/2020-12/schema"});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": map}});
    let more = json!({"response_format": format, "max_tokens": 30});
    let document: Value = serde_json::from_str(&said(&server.post(CHAT, &chat(&more)))).unwrap();
    assert!(document.is_object());
    let choice = said(&server.post(CHAT, &chat(&json!({"guided_choice": ["yes", "no"]}))));
    assert!(["yes", "no"].contains(&choice.as_str()));
}
