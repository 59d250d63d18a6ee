//! A server under test, and requests to it byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Place;

/// A server that ends with its test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The field and the words of a refusal.
    pub(crate) fn refusal(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&error["param"]), text(&error["message"]))
    }
}

impl Server {
    /// Starts `ft serve model` with more arguments, and waits until it is ready.
    pub(crate) fn start(place: &Place, more: &[&str]) -> Self {
        let mut arguments = vec!["serve", "model", "--port", "0", "--device", "cpu"];
        arguments.extend(more);
        Self::spawn(&mut place.command(&arguments))
    }

    /// Starts a command that serves, and waits until it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some((_, found)) = line.split_once("listening on ") {
                address = found.split_once("://").map(|(_, address)| address.to_owned());
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

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        // A server that refuses early closes before everything is written.
        let _ = stream.write_all(request.as_bytes());
        read(stream)
    }

    pub(crate) fn ask_with(&self, path: &str, headers: &str, body: Option<&str>) -> Answer {
        let method = if body.is_some() { "POST" } else { "GET" };
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let body = body.unwrap_or_default();
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask_with(path, "", None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask_with(path, "", Some(&body.to_string()))
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no `{name}` in {text}"))
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    pub(crate) fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

/// Reads an answer to its end.
pub(crate) fn read(mut stream: TcpStream) -> Answer {
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

pub(crate) fn place() -> Place {
    let place = Place::new();
    place.tiny_model();
    place
}

pub(crate) fn question(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// A chat request with more fields.
pub(crate) fn chat(more: &Value) -> Value {
    let mut body = json!({"messages": question("say 1"), "max_tokens": 8, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub(crate) fn said(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A request of JSON as bytes on the wire.
pub(crate) fn request(path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A request whose answer streams on for `tokens`, whatever the model says.
pub(crate) fn long_stream(tokens: u32) -> String {
    let body = json!({
        "prompt": "say 1", "max_tokens": tokens, "stream": true, "temperature": 1, "ignore_eos": true,
    });
    request("/v1/completions", &body)
}
