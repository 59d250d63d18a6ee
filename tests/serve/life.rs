//! Hanging up, the audit log, and the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Answer, CHAT, Server, chat, long_stream, place, read, request, said};

#[test]
fn whoever_hangs_up_frees_a_slot_and_the_log_says_so() {
    let place = place();
    let server = Server::start(&place, &["--slots", "1", "--audit-log", "audit.jsonl"]);
    let mut stream = server.connect();
    stream.write_all(long_stream(230).as_bytes()).unwrap();
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
fn a_server_that_is_told_to_stop_finishes_what_it_began_and_the_log_is_whole() {
    let place = place();
    let mut server = Server::start(&place, &["--audit-log", "audit.jsonl"]);
    let long = chat(&json!({"max_tokens": 200, "temperature": 1, "seed": 3}));
    let (answers, status) = std::thread::scope(|scope| {
        let address = server.address.clone();
        let asks: Vec<_> = (0..8)
            .map(|_| {
                let (address, request) = (address.clone(), request(CHAT, &long));
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    read(stream)
                })
            })
            .collect();
        let begun = Instant::now();
        // All eight have begun; how far they are is left open.
        while place.read("audit.jsonl").matches("\"event\":\"request\"").count() < 8 {
            assert!(begun.elapsed() < Duration::from_mins(1));
            std::thread::sleep(Duration::from_millis(2));
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
    assert_eq!(log.matches("\"outcome\":\"answered\"").count(), 8);
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

/// A limit on the size of files stands for a disk that fills up.
#[cfg(target_os = "linux")]
#[test]
fn once_the_log_cannot_be_written_requests_are_refused_and_what_is_there_stays_whole() {
    let place = place();
    let program = place.command(&[]).get_program().to_owned();
    let mut command = place.command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(place.path("")).env("HOME", place.path(""));
    shell.arg("-c").arg("trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"").arg(program).args([
        "serve",
        "model",
        "--port",
        "0",
        "--device",
        "cpu",
        "--audit-log",
        "audit.jsonl",
    ]);
    std::mem::swap(&mut command, &mut shell);
    let server = Server::spawn(&mut command);
    said(&server.post(CHAT, &chat(&json!({}))));
    let mut last = server.get("/v1/models");
    for _ in 0..60 {
        if last.status != 200 {
            break;
        }
        last = server.get("/v1/models");
    }
    assert_eq!(last.status, 503, "{last:?}");
    assert!(last.refusal().1.contains("cannot be logged"), "{last:?}");
    assert_eq!(server.post(CHAT, &chat(&json!({}))).status, 503);
    assert_eq!(server.get("/health").status, 200);
    drop(server);
    assert!(place.done(&["audit", "verify", "audit.jsonl"]).starts_with("whole: "));
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
