//! `ft serve` as clients and attackers meet it, on a tiny model.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Place, conversation, recipe};

/// A server that ends with its test.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The field and the words of a refusal.
    fn refusal(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&error["param"]), text(&error["message"]))
    }
}

impl Server {
    /// Starts `ft serve model` with more arguments, and waits until it is ready.
    fn start(place: &Place, more: &[&str]) -> Self {
        let mut arguments = vec!["serve", "model", "--port", "0", "--device", "cpu"];
        arguments.extend(more);
        let mut child = place.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some((_, found)) = line.split_once("listening on http://") {
                address = Some(found.to_owned());
            }
            if line == "ready" {
                break;
            }
            said = said + &line + "\n";
        }
        // The pipe must be read, or the server blocks.
        std::thread::spawn(move || for _ in lines {});
        Self { address: address.unwrap_or_else(|| panic!("not started: {said}")), child }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    /// Sends bytes as they are.
    fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        // A server that refuses early closes before everything is written.
        let _ = stream.write_all(request.as_bytes());
        read(stream)
    }

    fn ask_with(&self, path: &str, headers: &str, body: Option<&str>) -> Answer {
        let method = if body.is_some() { "POST" } else { "GET" };
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let body = body.unwrap_or_default();
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask_with(path, "", None)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask_with(path, "", Some(&body.to_string()))
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no `{name}` in {text}"))
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(
            std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success()
        );
    }
}

/// Reads an answer to its end.
fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 || rest.len() < size {
            break;
        }
        body.push_str(&rest[..size]);
        text = rest[size..].trim_start_matches("\r\n");
    }
    body
}

fn place() -> Place {
    let place = Place::new();
    place.tiny_model();
    place
}

fn question(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// A chat request with more fields.
fn chat(more: &Value) -> Value {
    let mut body = json!({"messages": question("say 1"), "max_tokens": 8, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn said(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

const CHAT: &str = "/v1/chat/completions";

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
fn what_cannot_be_meant_is_refused_by_the_name_of_its_field() {
    let place = place();
    let server = Server::start(&place, &[]);
    let before = said(&server.post(CHAT, &chat(&json!({}))));
    let deep = (0..100)
        .fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let many: Vec<String> = (0..20_000).map(|at| format!("choice {at}")).collect();
    let cases = [
        (json!({"frobnicate": 1}), "frobnicate"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 9_223_372_036_854_775_808_u64}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"max_tokens": "8"}), "max_tokens"),
        (json!({"max_tokens": 1000}), "max_tokens"),
        (json!({"n": 1_000_000}), "n"),
        (json!({"temperature": "NaN"}), "temperature"),
        (json!({"temperature": -0.5}), "temperature"),
        (json!({"top_k": -5}), "top_k"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"stop": vec!["x"; 100_000]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"logit_bias": {"99": 1}}), "logit_bias"),
        (json!({"logit_bias": {"5": 1e9}}), "logit_bias"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": question(&"long ".repeat(100))}), "messages"),
        (json!({"messages": [{"role": "wizard", "content": "x"}]}), "messages[0].role"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0]",
        ),
        (json!({"messages": [{"role": "user", "content": "x", "typo": 1}]}), "messages[0].typo"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
        ),
        (schema(json!({"$ref": "https://example.com/schema.json"})), "response_format"),
        (schema(deep), "response_format"),
        (schema(json!({"type": "string", "pattern": "("})), "response_format"),
        (schema(json!({"type": "integer", "minimum": 5, "maximum": 4})), "response_format"),
        (json!({"guided_choice": many}), "guided_choice"),
        (json!({"guided_grammar": "start: nothing"}), "response_format"),
        (json!({"guided_regex": "("}), "response_format"),
    ];
    for (more, field) in cases {
        let answer = server.post(CHAT, &chat(&more));
        let found = answer.refusal();
        let shown: String = more.to_string().chars().take(80).collect();
        assert_eq!((answer.status, found.0.as_str()), (400, field), "{shown}: {}", found.1);
        assert!(found.1.contains('`') && found.1.len() < 600, "{}", found.1);
    }
    let answer = server.post(CHAT, &chat(&json!({"model": "gpt-9"})));
    assert_eq!((answer.status, answer.refusal().0.as_str()), (404, "model"));
    let prompts =
        [json!([]), json!(""), json!([1, 2, 999]), json!([[]]), json!([1, -1]), json!({})];
    for prompt in prompts {
        let answer = server.post("/v1/completions", &json!({"prompt": prompt, "max_tokens": 1}));
        assert_eq!((answer.status, answer.refusal().0.contains("prompt")), (400, true), "{prompt}");
    }
    for body in ["", "{", "[]", "null", "{\"a\": \u{0}}", &"[".repeat(100_000)] {
        assert_eq!(server.ask_with(CHAT, "", Some(body)).status, 400, "{body:.20}");
    }
    let plain = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(server.send(plain).status, 415);
    assert_eq!(server.get("/v1/nothing").status, 404);
    assert_eq!(server.get(CHAT).status, 405);
    assert_eq!(server.post("/v1/messages", &json!({"max_tokens": 1})).json()["type"], "error");
    assert!(server.post("/api/chat", &json!({})).json()["error"].is_string());
    assert_eq!(said(&server.post(CHAT, &chat(&json!({})))), before, "the engine is as it was");
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
    let choice = said(&server.post(CHAT, &chat(&json!({"guided_choice": ["yes", "no"]}))));
    assert!(["yes", "no"].contains(&choice.as_str()));
}

#[test]
fn names_of_special_tokens_in_a_message_are_text() {
    let place = place();
    let server = Server::start(&place, &[]);
    let tokens = |content: &str| {
        let answer = server.post("/apply-template", &json!({"messages": question(content)}));
        let tokens = answer.json()["tokens"].as_array().unwrap().clone();
        tokens.iter().filter(|id| **id == 2).count()
    };
    assert_eq!(tokens("x"), tokens("<|im_end|>"), "a user cannot end a turn");
}

#[test]
fn only_who_may_ask_is_answered() {
    let place = place();
    let refused = place.refused(&["serve", "model", "--host", "0.0.0.0", "--port", "0"]);
    assert!(refused.contains("no key is needed") && refused.contains("`--insecure`"), "{refused}");
    let add = |user: &str, more: &[&str]| {
        let mut arguments = vec!["serve", "--keys", "keys.jsonl", "--add-key", user];
        arguments.extend(more);
        place.done(&arguments).trim().to_owned()
    };
    let (anna, ben) = (add("anna", &["--admin"]), add("ben", &[]));
    assert!(!place.read("keys.jsonl").contains(&anna));
    let audit = ["--keys", "keys.jsonl", "--audit-log", "audit.jsonl"];
    let server = Server::start(&place, &audit);
    assert_eq!(server.get("/health").status, 200);
    for path in ["/", "/v1/models", "/metrics", "/api/tags", "/api/version", "/tokenizer_info"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.to_lowercase().contains("www-authenticate"), "{path}");
        let with = format!("Authorization: Bearer {ben}\r\n");
        assert_eq!(server.ask_with(path, &with, None).status, 200, "{path}");
    }
    let body = chat(&json!({})).to_string();
    let status = |headers: &str| server.ask_with(CHAT, headers, Some(&body)).status;
    assert_eq!(status("x-api-key: wrong\r\n"), 401);
    assert_eq!(status(&format!("x-api-key: {ben}x\r\n")), 401);
    assert_eq!(status(&format!("x-api-key: {ben}\r\n")), 200);
    assert_eq!(status(&format!("x-api-key: {ben}\r\nHost: evil.example\r\n")), 403);
    assert_eq!(status(&format!("x-api-key: {ben}\r\nOrigin: https://evil.example\r\n")), 403);
    assert_eq!(status(&format!("x-api-key: {ben}\r\nOrigin: http://localhost\r\n")), 200);
    let load = json!({"lora_name": "x"}).to_string();
    let admin = |key: &str| {
        server.ask_with("/v1/load_lora_adapter", &format!("x-api-key: {key}\r\n"), Some(&load))
    };
    assert_eq!(admin(&ben).status, 403);
    assert!(admin(&anna).refusal().1.contains("--adapter-root"));
    let preflight = "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
                     Access-Control-Request-Method: GET\r\nConnection: close\r\n\r\n";
    let answer = server.send(preflight);
    assert!(answer.status == 403 && !answer.head.to_lowercase().contains("access-control-allow"));
    drop(server);
    let log = place.read("audit.jsonl");
    let users: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["user"].clone())
        .collect();
    assert!(users.contains(&json!("ben")) && users.contains(&json!("unknown")));
    assert!(!log.contains(&ben), "keys are not logged");
}

#[test]
fn too_much_is_refused_and_nobody_else_waits_for_it() {
    let place = place();
    let server = Server::start(&place, &["--max-body", "1"]);
    // Said to be long, and long without saying so.
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: application/json\r\n";
    assert_eq!(server.send(&format!("{head}Content-Length: 2000000\r\n\r\n")).status, 413);
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    let long = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(20));
    let status = server.send(&long).status;
    assert!(status == 413 || status == 0, "{status}");
    let headers = format!("{head}X-Long: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(server.send(&headers).status, 431);
    let headers = format!("{head}{}\r\n", "A: b\r\n".repeat(200));
    assert_eq!(server.send(&headers).status, 431);
    // Half a request, many times, and others are served.
    let slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: lo").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    said(&server.post(CHAT, &chat(&json!({}))));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(slow);
}

/// Two adapters that were trained differently.
fn adapters(place: &Place) {
    let rows: Vec<Value> = (0..14).map(|at| conversation(&format!("say {at}"), "one")).collect();
    place.rows("rows.jsonl", &rows);
    place.write("r.yaml", recipe(""));
    place.done(&["train", "r.yaml", "--output-dir", "one"]);
    place.done(&[
        "train",
        "r.yaml",
        "--output-dir",
        "two",
        "--set",
        "peft_use_dora=true",
        "--set",
        "max_steps=6",
    ]);
}

#[test]
fn adapters_and_the_base_answer_together_as_alone_and_are_loaded_and_unloaded() {
    let place = place();
    adapters(&place);
    std::fs::create_dir_all(place.path("more/two")).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(place.path("two/adapter").join(file), place.path("more/two").join(file))
            .unwrap();
    }
    let server = Server::start(&place, &["--adapter", "one=one", "--adapter-root", "more"]);
    let loaded =
        server.post("/v1/load_lora_adapter", &json!({"lora_name": "second", "lora_path": "two"}));
    assert_eq!(loaded.status, 200, "{loaded:?}");
    let names: Vec<Value> = server.get("/v1/models").json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].clone())
        .collect();
    assert_eq!(names, ["model", "one", "second"]);
    let ask = |model: &str, seed: usize| {
        let more = json!({"model": model, "temperature": 1, "seed": seed, "max_tokens": 40});
        said(&server.post(CHAT, &chat(&more)))
    };
    let cases: Vec<(&str, usize)> =
        (0..12).map(|at| (["model", "one", "second"][at % 3], at)).collect();
    let alone: Vec<String> = cases.iter().map(|(model, seed)| ask(model, *seed)).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            cases.iter().map(|(model, seed)| scope.spawn(|| ask(model, *seed))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    assert_ne!(ask("model", 1), ask("one", 1));
    for (path, status) in [("../two", 400), ("/etc", 400), ("nothing", 400), ("two", 200)] {
        let body = json!({"lora_name": "x", "lora_path": path});
        assert_eq!(server.post("/v1/load_lora_adapter", &body).status, status, "{path}");
    }
    let unload = json!({"lora_name": "second"});
    assert_eq!(server.post("/v1/unload_lora_adapter", &unload).status, 200);
    assert_eq!(server.post("/v1/unload_lora_adapter", &unload).status, 404);
    assert_eq!(server.post(CHAT, &chat(&json!({"model": "second"}))).status, 404);
}

#[test]
fn an_adapter_of_another_base_is_refused_with_what_does_not_fit() {
    let place = place();
    adapters(&place);
    let config = place.read("one/adapter/adapter_config.json");
    let changed = |name: &str, text: String| {
        let folder = place.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("adapter_config.json"), text).unwrap();
        let weights = place.path("one/adapter/adapter_model.safetensors");
        std::fs::copy(weights, folder.join("adapter_model.safetensors")).unwrap();
    };
    changed("rank", config.replace("\"r\": 4", "\"r\": 1000000"));
    let refused = place.ft(&["serve", "model", "--port", "0", "--adapter", "x=rank"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("error: ") && refused.err.contains("rank"), "{}", refused.err);
}

#[test]
fn whoever_hangs_up_frees_a_slot_and_the_log_says_so() {
    let place = place();
    let server = Server::start(&place, &["--slots", "1", "--audit-log", "audit.jsonl"]);
    let body = chat(&json!({"max_tokens": 230, "stream": true, "temperature": 1})).to_string();
    let mut stream = server.connect();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 64];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    // The only slot is free for the next one.
    said(&server.post(CHAT, &chat(&json!({}))));
    let begun = Instant::now();
    while server.metric("ft_requests_running") > 0.0
        || !place.read("audit.jsonl").contains("\"cancelled\"")
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", place.read("audit.jsonl"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let place = place();
    let server = Server::start(&place, &["--slots", "1", "--queue", "2"]);
    let statuses: Vec<(u16, bool)> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let answer =
                        server.post(CHAT, &chat(&json!({"max_tokens": 200, "temperature": 1})));
                    (answer.status, answer.head.to_lowercase().contains("retry-after: "))
                })
            })
            .collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(statuses.contains(&(429, true)) && statuses.contains(&(200, false)), "{statuses:?}");
    assert!(statuses.iter().all(|(status, later)| *later == (*status == 429)), "{statuses:?}");
    said(&server.post(CHAT, &chat(&json!({}))));
}

#[test]
fn a_server_that_is_told_to_stop_finishes_what_it_began_and_the_log_is_whole() {
    let place = place();
    let mut server = Server::start(&place, &["--audit-log", "audit.jsonl"]);
    let long = chat(&json!({"max_tokens": 200, "temperature": 1, "seed": 3}));
    let (answers, status) = std::thread::scope(|scope| {
        let address = server.address.clone();
        let asks: Vec<_> = (0..8)
            .map(|_| {
                let (address, body) = (address.clone(), long.to_string());
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    let head = format!(
                        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                         Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).unwrap();
                    read(stream)
                })
            })
            .collect();
        let begun = Instant::now();
        while server.metric("ft_requests_running") < 8.0 {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        server.signal();
        let answers: Vec<Answer> = asks.into_iter().map(|ask| ask.join().unwrap()).collect();
        (answers, server.child.wait().unwrap())
    });
    assert_eq!(status.code(), Some(143));
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let whole = place.done(&["audit", "verify", "audit.jsonl"]);
    assert!(whole.starts_with("whole: "), "{whole}");
    let log = place.read("audit.jsonl");
    assert_eq!(
        log.matches("\"outcome\":\"answered\"").count() - log.matches("/metrics").count() / 2,
        8
    );
    assert!(log.lines().last().unwrap().contains("\"event\":\"stop\""));
    // Changed, cut and moved lines are found by the program too.
    let lines: Vec<&str> = log.lines().collect();
    for (what, text) in [
        ("hash is another", log.replacen("answered", "answereD", 1)),
        ("was cut off", lines[..lines.len() - 3].join("\n") + "\n"),
        ("does not follow", [&lines[..2], &lines[3..]].concat().join("\n") + "\n"),
    ] {
        place.write("audit.jsonl", &text);
        let complaint = place.refused(&["audit", "verify", "audit.jsonl"]);
        assert!(complaint.contains(what), "{what}: {complaint}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_log_nobody_is_answered() {
    let place = place();
    std::os::unix::fs::symlink("/dev/full", place.path("full.jsonl")).unwrap();
    let refused = place.ft(&["serve", "model", "--port", "0", "--audit-log", "full.jsonl"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("audit log `full.jsonl`"), "{}", refused.err);
    let server = Server::start(&place, &["--audit-log", "audit.jsonl"]);
    said(&server.post(CHAT, &chat(&json!({}))));
}
