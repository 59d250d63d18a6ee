//! Each dialect on the same engine, and scores.

use serde_json::{Value, json};

use crate::server::{CHAT, Server, chat, place, question, said};

#[test]
fn every_dialect_answers_alike_and_streams_what_it_answers() {
    let place = place();
    let server = Server::start(&place, &[]);
    assert_eq!(server.get("/health").json()["status"], "ok");
    let text = said(&server.post(CHAT, &chat(&json!({}))));
    let anthropic =
        json!({"model": "model", "max_tokens": 8, "temperature": 0, "messages": question("say 1")});
    assert_eq!(server.post("/v1/messages", &anthropic).json()["content"][0]["text"], text.as_str());
    let ollama = json!({"model": "model:latest", "messages": question("say 1"), "stream": false,
                        "options": {"temperature": 0, "num_predict": 8}});
    assert_eq!(server.post("/api/chat", &ollama).json()["message"]["content"], text.as_str());
    let responses = json!({"input": "say 1", "max_output_tokens": 8, "temperature": 0});
    let answer = server.post("/v1/responses", &responses).json();
    assert_eq!(answer["output"][0]["content"][0]["text"], text.as_str());
    // What a stream says piece by piece is the same.
    let stream = server
        .post(CHAT, &chat(&json!({"stream": true, "stream_options": {"include_usage": true}})));
    let events: Vec<&str> = stream.body.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(events.last(), Some(&"data: [DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let streamed: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(streamed, text);
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 8);
    // And one without anything remote is there to look at.
    let page = server.get("/");
    assert!(page.status == 200 && page.head.contains("default-src 'none'"));
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "nothing remote");
}

#[test]
fn scores_over_http_have_one_entry_a_token_and_are_those_of_the_whole_text() {
    let place = place();
    let server = Server::start(&place, &[]);
    place.rows("in.jsonl", &[json!({"tokens": [86, 68, 92, 97, 4]})]);
    let own: Value = serde_json::from_str(&place.done(&["score", "model", "in.jsonl"])).unwrap();
    let body = json!({"model": "model", "prompt": [[86, 68, 92, 97, 4]], "temperature": 0, "max_tokens": 1,
                      "logprobs": 1, "seed": 1234, "echo": true});
    let answer = server.post("/v1/completions", &body).json();
    let scores = &answer["choices"][0]["logprobs"];
    let logprobs = scores["token_logprobs"].as_array().unwrap();
    assert_eq!(
        (logprobs.len(), &logprobs[0], &scores["top_logprobs"][0]),
        (6, &Value::Null, &Value::Null)
    );
    for (at, own) in own["logprobs"].as_array().unwrap().iter().enumerate().skip(1) {
        assert!((own.as_f64().unwrap() - logprobs[at].as_f64().unwrap()).abs() < 1e-4, "{at}");
    }
    let top = scores["top_logprobs"][5].as_object().unwrap();
    let most = top.values().map(|value| value.as_f64().unwrap()).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(logprobs[5].as_f64().unwrap().to_bits(), most.to_bits(), "greedy is the likeliest");
}

#[test]
fn a_template_can_be_named_where_the_model_has_none() {
    let place = place();
    let config = place.read("model/tokenizer_config.json");
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    place.write("model/tokenizer_config.json", config.to_string());
    let server = Server::start(&place, &[]);
    let answer = server.post(CHAT, &chat(&json!({})));
    assert!(answer.status == 400 && answer.body.contains("not made for chat"), "{answer:?}");
    assert_eq!(
        server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).status,
        200
    );
    let server = Server::start(&place, &["--chat-template", "chatml"]);
    said(&server.post(CHAT, &chat(&json!({}))));
    place.write("own.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}!");
    let server = Server::start(&place, &["--chat-template", "own.jinja"]);
    let prompt = server.post("/apply-template", &json!({"messages": question("hi")})).json();
    assert_eq!(prompt["prompt"], "hi!");
    let refused = place.ft(&["serve", "model", "--port", "0", "--chat-template", "nothing"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("`--chat-template nothing`"), "{}", refused.err);
}
