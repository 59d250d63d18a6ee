//! `ft eval` as a user runs it, on a tiny model: in this process and through a server.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::Place;

/// Rows of both tasks.
const ROWS: usize = 12;

const CHOICES: &str = "\
task: colours
dataset_path: json
dataset_kwargs:
  data_files:
    test: colours.jsonl
    train: colours.jsonl
output_type: multiple_choice
test_split: test
training_split: train
num_fewshot: 2
doc_to_text: \"Question: {{question}}\\nAnswer:\"
doc_to_choice: \"{{choices}}\"
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
";

const TEXTS: &str = "\
task: sums
dataset_path: json
dataset_kwargs:
  data_files:
    test: sums.jsonl
output_type: generate_until
test_split: test
doc_to_text: \"{{a}} + {{b}} =\"
doc_to_target: \"{{a + b}}\"
generation_kwargs:
  until: [\"7\", \"\\n\"]
  max_gen_toks: 24
filter_list:
  - name: number
    filter:
      - function: regex
        regex_pattern: \"(-?[0-9]+)\"
      - function: take_first
";

/// A model, two tasks and their rows.
fn place() -> Place {
    let place = Place::new();
    place.tiny_model();
    place.write("colours.yaml", CHOICES);
    place.write("sums.yaml", TEXTS);
    let colours: Vec<Value> = (0..ROWS)
        .map(|row| {
            let question = format!("Which colour has thing number {}?", row * 37 % 11);
            json!({"question": question, "choices": ["red", "green as grass", "blue", "it's none"], "answer": row % 4})
        })
        .collect();
    place.rows("rows/colours.jsonl", &colours);
    let sums: Vec<Value> = (0..ROWS).map(|row| json!({"a": row * 3, "b": row + 5})).collect();
    place.rows("rows/sums.jsonl", &sums);
    place
}

const ASK: [&str; 8] =
    ["eval", "model", "--device", "cpu", "--data", "rows", "--tasks", "colours.yaml,sums.yaml"];

fn asked(place: &Place, more: &[&str]) -> String {
    place.done(&[&ASK[..], more].concat())
}

/// The only file of a folder whose name begins so.
fn only(place: &Place, folder: &str, begins: &str) -> String {
    let names = fs::read_dir(place.path(folder))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap());
    let found: Vec<String> = names.filter(|name| name.starts_with(begins)).collect();
    assert_eq!(found.len(), 1, "{begins} in {found:?}");
    place.read(&format!("{folder}/{}", found[0]))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A server that ends with its test.
struct Server {
    child: Child,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(place: &Place) -> Server {
    let arguments = ["serve", "model", "--exact", "--port", "0", "--device", "cpu"];
    let mut child = place.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut base = String::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        if let Some((_, address)) = line.split_once("listening on ") {
            base = format!("{address}/v1");
        }
        if line == "ready" {
            break;
        }
    }
    std::thread::spawn(move || for _ in lines {});
    assert!(!base.is_empty(), "the server did not start");
    Server { child, base }
}

#[test]
fn a_server_gives_exactly_the_numbers_of_this_process() {
    let place = place();
    let table = asked(&place, &["--output", "native"]);
    assert!(table.contains("acc_norm") && table.contains("exact_match"), "{table}");
    let server = serve(&place);
    let far = asked(
        &place,
        &["--output", "far", "--endpoint", &server.base, "--endpoint-model", "model"],
    );
    assert_eq!(table, far);
    for task in ["colours", "sums"] {
        let (native, far) = (
            only(&place, "native", &format!("samples_{task}")),
            only(&place, "far", &format!("samples_{task}")),
        );
        assert_eq!(native, far, "{task}");
        assert_eq!(lines(&native).len(), ROWS);
    }
    // Answers differ from each other, or their equality would say nothing.
    let scores = lines(&only(&place, "native", "samples_colours"));
    let first = |row: &Value| row["resps"][0][0][0].as_str().unwrap().to_owned();
    assert_ne!(first(&scores[0]), first(&scores[1]));
    let texts = lines(&only(&place, "native", "samples_sums"));
    assert!(texts.iter().any(|row| !row["resps"][0][0].as_str().unwrap().is_empty()));
    assert!(texts.iter().all(|row| !row["resps"][0][0].as_str().unwrap().contains('7')));
}

#[test]
fn how_much_is_done_at_once_changes_no_number() {
    let place = place();
    asked(&place, &["--output", "many", "--slots", "7"]);
    asked(&place, &["--output", "one", "--slots", "1"]);
    for task in ["colours", "sums"] {
        let name = format!("samples_{task}");
        assert_eq!(only(&place, "many", &name), only(&place, "one", &name), "{task}");
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on_with_the_answers_that_it_has() {
    let place = place();
    asked(&place, &["--output", "whole"]);
    // What a killed run leaves behind: some answers, and a line that is cut off.
    let mut command = place.command(&[&ASK[..], &["--output", "cut"]].concat());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let kept = place.path("cut/answers.jsonl");
    while child.try_wait().unwrap().is_none() {
        let lines = fs::read_to_string(&kept).map_or(0, |text| text.lines().count());
        if lines > 3 {
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
    if let Ok(text) = fs::read_to_string(&kept) {
        let lines: Vec<&str> = text.lines().take(4).collect();
        fs::write(&kept, format!("{}\n{{\"key\": \"", lines.join("\n"))).unwrap();
        asked(&place, &["--output", "cut"]);
    }
    for task in ["colours", "sums"] {
        let name = format!("samples_{task}");
        assert_eq!(only(&place, "whole", &name), only(&place, "cut", &name), "{task}");
    }
    assert!(!kept.exists(), "nothing is left of a run that is done");
}

#[test]
fn answers_of_another_model_are_not_taken_for_its_own() {
    let place = place();
    place.write("out/answers.jsonl", "{\"answers_of\": \"another\"}\n");
    let said = place.refused(&[&ASK[..], &["--output", "out"]].concat());
    assert!(
        said.contains("answers of another model") && said.contains("name another `--output`"),
        "{said}"
    );
}

#[test]
fn a_key_that_is_unknown_is_shown_where_it_stands() {
    let place = place();
    place.write("colours.yaml", CHOICES.replace("doc_to_choice", "doc_to_chioce"));
    let said = place.refused(&ASK);
    let wanted = "\
error: unknown key `doc_to_chioce`
  --> colours.yaml:12:1
   |
12 | doc_to_chioce: \"{{choices}}\"
   | ^^^^^^^^^^^^^
   = help: did you mean `doc_to_choice`?";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn code_in_python_and_expressions_that_look_around_are_refused() {
    let place = place();
    place.write("colours.yaml", CHOICES.to_owned() + "process_docs: !function utils.process\n");
    let said = place.refused(&ASK);
    assert!(
        said.contains("colours.yaml:17:25") && said.contains("Python, which is not run here"),
        "{said}"
    );
    place.write("colours.yaml", CHOICES);
    place.write("sums.yaml", TEXTS.replace("(-?[0-9]+)", "(?<=x)1"));
    let said = place.refused(&ASK);
    assert!(
        said.contains("not an expression") && said.contains("neither look around nor refer back"),
        "{said}"
    );
}

#[test]
fn rows_that_are_not_there_are_asked_for_by_name() {
    let place = place();
    let said =
        place.refused(&["eval", "model", "--device", "cpu", "--tasks", "gsm8k", "--data", "rows"]);
    for part in [
        "`gsm8k`: the rows of split `test` are not there",
        "`rows/gsm8k/main/test.jsonl`",
        "rows are never fetched",
        "openai/grade-school-math",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = place.refused(&["eval", "model", "--tasks", "gms8k"]);
    assert!(
        said.contains("there is no task `gms8k`") && said.contains("did you mean `gsm8k`?"),
        "{said}"
    );
}

#[test]
fn shipped_tasks_are_listed() {
    let list = place().done(&["eval", "model", "--list"]);
    for task in ["gsm8k", "hellaswag", "arc_challenge", "mmlu"] {
        assert!(list.lines().any(|line| line.split(' ').next() == Some(task)), "{task}: {list}");
    }
}

#[test]
fn models_are_set_beside_each_other_on_the_same_rows() {
    let place = place();
    // The same model under another name differs nowhere.
    let table = place.done(&[&ASK[..], &["--compare", "base,model", "--output", "both"]].concat());
    assert!(
        table.contains("acc_norm")
            && table.contains("better on 0, worse on 0  p = 1.0000 (McNemar)"),
        "{table}"
    );
    for name in ["base", "model"] {
        only(&place, &format!("both/{name}"), "results_");
    }
    let said = place.refused(&[&ASK[..], &["--compare", "base,adapter"]].concat());
    assert!(said.contains("which is not named"), "{said}");
}

/// A judge who always prefers the first answers; it counts what it is asked.
fn judge() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(
                body["messages"][1]["content"]
                    .as_str()
                    .unwrap()
                    .contains("<assistant B, answer 1>")
            );
            count.fetch_add(1, Ordering::SeqCst);
            let answer =
                json!({"choices": [{"message": {"content": "The first is better.\n[[A]]"}}]})
                    .to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
            write!(stream, "{head} {}\r\n\r\n{answer}", answer.len()).unwrap();
        }
    });
    (base, asked)
}

#[test]
fn a_judge_is_asked_in_both_orders_and_only_once() {
    let place = place();
    let turns = [json!(["Name a colour.", "And another."]), json!(["Say a word."])];
    let row =
        |(at, turns): (usize, &Value)| json!({"question_id": at, "category": "x", "turns": turns});
    let rows: Vec<Value> = turns.iter().enumerate().map(row).collect();
    place.rows("questions.jsonl", &rows);
    let (base, asked) = judge();
    let ask = || {
        place.done(&[
            "eval",
            "model",
            "--device",
            "cpu",
            "--compare",
            "base,model",
            "--questions",
            "questions.jsonl",
            "--judge",
            &base,
            "--judge-model",
            "judge",
            "--max-tokens",
            "8",
            "--output",
            "judged",
        ])
    };
    // Who prefers whatever stands first prefers nobody.
    let said = ask();
    assert!(
        said.contains("won 0, lost 0, tied 2 (another verdict in each order: 2, no verdict: 0)"),
        "{said}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let pairs = lines(&place.read("judged/pairwise.jsonl"));
    assert_eq!(pairs[0]["answers"][0].as_array().unwrap().len(), 2, "an answer a turn");
    assert_eq!(pairs[0]["answers"][0], pairs[0]["answers"][1], "the same model answers alike");
    assert_eq!(pairs[0]["verdicts"], json!(["first", "second"]));
    assert_eq!(ask(), said);
    assert_eq!(asked.load(Ordering::SeqCst), 4, "what was judged is not paid for again");
}

#[test]
fn a_text_has_a_perplexity() {
    let place = place();
    place.write("text.txt", "Colourless green ideas sleep furiously. ".repeat(20));
    let table = place.done(&[
        "eval",
        "model",
        "--device",
        "cpu",
        "--tasks",
        "perplexity",
        "--data",
        "text.txt",
    ]);
    assert!(table.contains("word_perplexity") && table.contains("bits_per_byte"), "{table}");
}

#[test]
fn programs_are_not_run_unasked() {
    let place = place();
    let row = json!({"task_id": "a", "prompt": "def one():\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "one"});
    place.rows("rows/humaneval/test.jsonl", &[row]);
    let ask = [
        "eval",
        "model",
        "--device",
        "cpu",
        "--tasks",
        "humaneval",
        "--data",
        "rows",
        "--max-length",
        "128",
    ];
    let said = place.ft(&ask);
    // 1024 tokens of an answer do not fit: that is said before anything else is done.
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("not run without `--allow-code-execution`"), "{}", said.err);
    assert!(said.err.contains("`max_gen_toks` is 1024"), "{}", said.err);
}
