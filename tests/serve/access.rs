//! Who may ask.

use serde_json::{Value, json};

use crate::server::{CHAT, Server, chat, place};

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
fn a_key_asks_no_oftener_than_it_may_and_others_are_not_held_up() {
    let place = place();
    let add = |user: &str| {
        let key = place.done(&["serve", "--keys", "keys.jsonl", "--add-key", user]);
        format!("x-api-key: {}\r\n", key.trim())
    };
    let (anna, ben) = (add("anna"), add("ben"));
    // A line of its own gives somebody limits of their own.
    let keys = place.read("keys.jsonl");
    let (first, rest) = keys.split_once("}\n").unwrap();
    place.write("keys.jsonl", format!("{first},\"requests_per_minute\":5}}\n{rest}"));
    let server = Server::start(&place, &["--keys", "keys.jsonl", "--requests-per-minute", "2"]);
    let status = |key: &str| {
        let answer = server.ask_with("/v1/models", key, None);
        let later = answer.head.to_lowercase().contains("retry-after: ");
        assert_eq!(later, answer.status == 429, "{answer:?}");
        answer.status
    };
    assert_eq!([status(&ben), status(&ben), status(&ben)], [200, 200, 429]);
    assert_eq!([0; 5].map(|_| status(&anna)), [200; 5]);
    assert_eq!(status(&anna), 429);
}
