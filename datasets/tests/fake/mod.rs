//! An endpoint of a few lines, which notes what it was asked.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the endpoint was asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// What the endpoint answers: status, further headers, body.
pub(crate) type Reply = (u16, String, String);

/// An endpoint of a few lines.
pub(crate) struct Fake {
    pub(crate) base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream, &seen, &*answer));
            }
        });
        Self { base, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(usize, &Asked) -> Reply + Send + Sync),
) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut authorization) = (String::new(), 0, None);
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(':') else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let asked = Asked { path, authorization, body: serde_json::from_slice(&body).unwrap() };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked.clone());
            seen.len() - 1
        };
        let (status, headers, text) = answer(number, &asked);
        if status == 0 {
            return;
        }
        let length = text.len();
        let reply =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{text}");
        if (&mut &*stream).write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// An answer as OpenAI writes it; ten tokens for the prompt and twenty for the answer.
pub(crate) fn says(text: &str, finish: &str) -> Reply {
    let body = json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "text": text, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20},
    });
    (200, String::new(), body.to_string())
}
