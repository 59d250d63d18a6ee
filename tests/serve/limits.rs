//! Too much, too slow, and not at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Answer, CHAT, Server, chat, long_stream, place, read, request, said};

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

#[test]
fn a_client_that_is_slow_is_let_go() {
    let place = place();
    let more = ["--client-timeout", "1", "--connections", "4", "--audit-log", "audit.jsonl"];
    let server = Server::start(&place, &more);
    let begun = Instant::now();
    // Nothing, half a header, half a body, and a request after which nothing comes.
    let mut slow: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    slow[1].write_all(b"GET /v1/models HTTP/1.1\r\nHost: lo").unwrap();
    slow[2]
        .write_all(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
              Content-Length: 100\r\n\r\n{\"prompt\":",
        )
        .unwrap();
    slow[3].write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let answers: Vec<Answer> = slow.into_iter().map(read).collect();
    assert!(begun.elapsed() < Duration::from_secs(30), "all were let go");
    assert!([0, 408].contains(&answers[0].status) && [0, 408].contains(&answers[1].status));
    assert_eq!((answers[2].status, answers[3].status), (408, 200), "{answers:?}");
    assert!(answers[2].body.contains("the body took longer than 1 seconds"));
    // All places are free again.
    said(&server.post(CHAT, &chat(&json!({}))));
}

#[test]
fn what_is_no_http_is_refused_and_harms_nobody() {
    let place = place();
    let server = Server::start(&place, &["--max-body", "1"]);
    let before = said(&server.post(CHAT, &chat(&json!({}))));
    let post = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let body = chat(&json!({})).to_string();
    let typed = |kind: &str| {
        server.send(&format!("{post}{kind}Content-Length: {}\r\n\r\n{body}", body.len())).status
    };
    assert_eq!(typed("Content-Type: application/json; charset=utf-8\r\n"), 200);
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        assert_eq!(typed(kind), 415, "{kind}");
    }
    for (request, statuses) in [
        ("\u{1}\u{2}\u{3} hello\r\n\r\n", &[400][..]),
        ("GET /health\r\n\r\n", &[400]),
        ("GET /v1/models HTTP/1.0\r\n\r\n", &[400]),
        ("GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", &[400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400, 505]),
        ("BREW /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", &[405]),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", &[404]),
        (
            "GET /v1/models/%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            &[400, 404],
        ),
    ] {
        let answer = server.send(request);
        assert!(statuses.contains(&answer.status), "{request:?}: {answer:?}");
    }
    let both = format!(
        "{post}Content-Type: application/json\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert_eq!(server.send(&both).status, 400, "two lengths are none");
    let negative = format!("{post}Content-Type: application/json\r\nContent-Length: -5\r\n\r\n");
    assert_eq!(server.send(&negative).status, 400);
    // Who asks before sending is told at once.
    let expecting = format!(
        "{post}Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"
    );
    assert_eq!(server.send(&expecting).status, 413);
    assert_eq!(said(&server.post(CHAT, &chat(&json!({})))), before);
}

#[test]
fn a_stream_that_is_torn_at_any_place_frees_its_slot() {
    let place = place();
    let server = Server::start(&place, &["--slots", "2"]);
    let talk = request(CHAT, &chat(&json!({"max_tokens": 200, "stream": true, "temperature": 1})));
    let long = long_stream(200);
    // However short the answer is, its head and first event are longer than 200 bytes.
    for (request, bytes) in [(&talk, 0), (&talk, 1), (&talk, 40), (&talk, 200), (&long, 900)] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut vec![0; bytes]).unwrap();
        // Rubbish behind the request, and no listening to the end.
        let _ = stream.write_all(b"\r\n\r\nGARBAGE");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    said(&server.post(CHAT, &chat(&json!({}))));
    let begun = Instant::now();
    while server.metric("ft_requests_running") > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
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
