//! Every key of a task's file.

use std::path::Path;
use std::rc::Rc;

use ft_recipes::document::{Kind, Node};
use minijinja::Environment;
use serde_json::{Map, Value, json};

use super::fields::{Entry, Fields, Problems};
use super::read::version;
use super::scoring::{filters, metrics};
use super::{Data, Fewshot, Field, Generation, MAX_GEN_TOKS, Output, ProcessDocs, Sampler, Task};

/// All keys of a task.
const KEYS: &[&str] = &[
    "task",
    "task_alias",
    "tag",
    "include",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "process_docs",
    "keep_if",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "gen_prefix",
    "num_fewshot",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "metric_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "unsafe_code",
    "metadata",
];
/// Keys of lm-evaluation-harness that mean code in Python, or pictures.
const REFUSED: &[(&str, &str)] = &[
    ("process_results", "write `metric_list`, or take a shipped task"),
    ("use_prompt", "write the prompt in `doc_to_text`"),
    ("custom_dataset", "name files in `dataset_kwargs.data_files`"),
    ("doc_to_image", "models here read text alone"),
    ("doc_to_audio", "models here read text alone"),
];

/// A task from its keys; none if it lacks what every task has.
#[expect(clippy::too_many_lines, reason = "one shape repeated: a key, its kind, its field")]
pub(super) fn task(mut fields: Fields, path: &Path, problems: &Problems) -> Option<Task> {
    let start = fields.entries.first().map(|entry| (Rc::clone(&entry.document), entry.key.at));
    let written = fields.written();
    for (key, help) in REFUSED {
        if let Some(entry) = fields.take(key) {
            let what = format!("`{key}` is not read here");
            problems.add(entry.document.problem(entry.key.at, what, Some((*help).to_owned())));
        }
    }
    // Of no meaning to what is asked.
    for key in ["should_decontaminate", "doc_to_decontamination_query"] {
        drop(fields.take(key));
    }
    let output = fields.take("output_type").and_then(|entry| entry.choice(problems, &OUTPUTS));
    let output = output.unwrap_or(Output::GenerateUntil);
    let (version, source) = version(&mut fields, problems);
    let mut text = |name: &str| fields.take(name).and_then(|entry| entry.text(problems));
    let (name, alias) = (text("task"), text("task_alias"));
    let splits =
        ["training_split", "validation_split", "test_split", "fewshot_split"].map(&mut text);
    let [training_split, validation_split, test_split, fewshot_split] = splits;
    let mut data = Data {
        path: text("dataset_path").unwrap_or_default(),
        name: text("dataset_name"),
        source,
        ..Data::default()
    };
    let description = text("description").unwrap_or_default();
    let target_delimiter = text("target_delimiter").unwrap_or_else(|| " ".to_owned());
    let fewshot_delimiter = text("fewshot_delimiter").unwrap_or_else(|| "\n\n".to_owned());
    let gen_prefix = text("gen_prefix");
    let keep_if = fields.take("keep_if").and_then(|entry| expression(&entry, problems));
    if let Some(entry) = fields.take("dataset_kwargs") {
        data.files = files(&entry, problems);
    }
    let process = [
        ("hellaswag", ProcessDocs::Hellaswag),
        ("arc", ProcessDocs::Arc),
        ("mmlu", ProcessDocs::Mmlu),
        ("mgsm", ProcessDocs::Mgsm),
    ];
    let process_docs =
        fields.take("process_docs").and_then(|entry| entry.choice(problems, &process));
    let mut field = |name: &str| fields.take(name).and_then(|entry| field_of(&entry, problems));
    let [doc_to_text, doc_to_target, doc_to_choice] =
        ["doc_to_text", "doc_to_target", "doc_to_choice"].map(&mut field);
    let fewshot = fields.take("fewshot_config").and_then(|entry| fewshot(&entry, problems));
    let num_fewshot = fields.take("num_fewshot").and_then(|entry| entry.count(problems));
    let generation = generation(fields.take("generation_kwargs"), &fewshot_delimiter, problems);
    let repeats = fields.take("repeats").and_then(|entry| entry.count(problems)).unwrap_or(1);
    let unsafe_code = fields.take("unsafe_code").and_then(|entry| entry.truth(problems));
    let tags = fields.take("tag").and_then(|entry| entry.texts(problems)).unwrap_or_default();
    let filters = fields.take("filter_list").map_or_else(Vec::new, |it| filters(&it, problems));
    let metrics = metrics(fields.take("metric_list"), output, problems);
    fields.end(problems, KEYS);
    let (document, at) = start?;
    let lacks = |key: &str, help: &str| {
        problems.add(document.problem(
            at,
            format!("the task has no `{key}`"),
            Some(help.to_owned()),
        ));
    };
    if name.as_ref().is_none_or(|name| !is_name(name)) {
        lacks("task", "write `task: NAME`, of letters, digits, `_`, `-` and `.`");
    }
    if doc_to_text.is_none() && output != Output::Rolling {
        lacks(
            "doc_to_text",
            "write the prompt, as in `doc_to_text: \"Question: {{question}}\\nAnswer:\"`",
        );
    }
    if doc_to_target.is_none() {
        lacks("doc_to_target", "write the right answer, as in `doc_to_target: \"{{answer}}\"`");
    }
    if doc_to_choice.is_none() && output == Output::MultipleChoice {
        lacks("doc_to_choice", "write the choices, as in `doc_to_choice: [\"A\", \"B\"]`");
    }
    if data.path.is_empty() {
        lacks(
            "dataset_path",
            "write `dataset_path: json` and files under `dataset_kwargs.data_files`",
        );
    }
    if test_split.is_none() && validation_split.is_none() {
        lacks("test_split", "name the rows that are asked, as in `test_split: test`");
    }
    Some(Task {
        name: name?,
        alias,
        tags,
        file: path.to_owned(),
        output,
        data,
        training_split,
        validation_split,
        test_split,
        fewshot_split,
        process_docs,
        keep_if,
        doc_to_text: doc_to_text.unwrap_or(Field::Text(String::new())),
        doc_to_target: doc_to_target?,
        doc_to_choice,
        description,
        target_delimiter,
        fewshot_delimiter,
        gen_prefix,
        fewshot: fewshot.unwrap_or_default(),
        num_fewshot,
        generation,
        repeats: repeats.max(1),
        filters,
        metrics,
        unsafe_code: unsafe_code.unwrap_or(false),
        version,
        written,
    })
}

const OUTPUTS: [(&str, Output); 4] = [
    ("loglikelihood", Output::Loglikelihood),
    ("multiple_choice", Output::MultipleChoice),
    ("generate_until", Output::GenerateUntil),
    ("loglikelihood_rolling", Output::Rolling),
];

/// Whether a name can be part of a file's name.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain)
}

fn expression(entry: &Entry, problems: &Problems) -> Option<String> {
    let text = entry.text(problems)?;
    if let Err(error) = Environment::new().compile_expression(&text) {
        entry.wrong(problems, format!("not an expression: {error}"), None);
        return None;
    }
    Some(text)
}

fn field_of(entry: &Entry, problems: &Problems) -> Option<Field> {
    match &entry.node.kind {
        Kind::List(_) => entry.texts(problems).map(Field::List),
        // As lm-evaluation-harness, the values.
        Kind::Map(entries) => {
            let text = |(_, node): &(_, Node)| match &node.kind {
                Kind::Scalar { text, .. } => Some(text.clone()),
                _ => None,
            };
            let texts: Option<Vec<String>> = entries.iter().map(text).collect();
            texts.map(Field::List)
        }
        Kind::Scalar { text, plain } => match text.parse::<i64>() {
            Ok(whole) if *plain => Some(Field::Whole(whole)),
            _ => {
                if let Err(error) = Environment::new().template_from_str(text) {
                    entry.wrong(problems, format!("not a template: {error}"), None);
                }
                Some(Field::Text(text.clone()))
            }
        },
    }
}

fn files(entry: &Entry, problems: &Problems) -> Vec<(String, Vec<String>)> {
    let Some(mut fields) = entry.fields(problems) else { return Vec::new() };
    drop(fields.take("trust_remote_code"));
    let found = match fields.take("data_files") {
        Some(files) if matches!(files.node.kind, Kind::Map(_)) => {
            let inner = files.fields(problems).map(|it| it.entries).unwrap_or_default();
            let pair = |entry: &Entry| Some((entry.key.text.clone(), entry.texts(problems)?));
            inner.iter().filter_map(pair).collect()
        }
        // As data sets have it: rows without a split are for training.
        Some(files) => {
            files.texts(problems).map(|texts| ("train".to_owned(), texts)).into_iter().collect()
        }
        None => Vec::new(),
    };
    fields.end(problems, &["data_files", "trust_remote_code"]);
    found
}

fn fewshot(entry: &Entry, problems: &Problems) -> Option<Fewshot> {
    let mut fields = entry.fields(problems)?;
    let samplers = [("default", Sampler::Random), ("first_n", Sampler::FirstN)];
    let sampler = fields.take("sampler").and_then(|entry| entry.choice(problems, &samplers));
    let samples = fields.take("samples").and_then(|entry| {
        let items = entry.items(problems)?;
        let object = |item: &Entry| {
            if let Value::Object(fields) = item.value() {
                return Some(fields);
            }
            item.wrong(problems, "an example is a map of columns", None);
            None
        };
        items.iter().map(object).collect::<Option<Vec<_>>>()
    });
    let mut field = |name: &str| fields.take(name).and_then(|entry| field_of(&entry, problems));
    let [doc_to_text, doc_to_target, doc_to_choice] =
        ["doc_to_text", "doc_to_target", "doc_to_choice"].map(&mut field);
    let mut text = |name: &str| fields.take(name).and_then(|entry| entry.text(problems));
    let [gen_prefix, target_delimiter, fewshot_delimiter] =
        ["gen_prefix", "target_delimiter", "fewshot_delimiter"].map(&mut text);
    fields.end(
        problems,
        &[
            "sampler",
            "samples",
            "doc_to_text",
            "doc_to_target",
            "doc_to_choice",
            "gen_prefix",
            "target_delimiter",
            "fewshot_delimiter",
        ],
    );
    Some(Fewshot {
        sampler: sampler.unwrap_or_default(),
        samples,
        doc_to_text,
        doc_to_target,
        doc_to_choice,
        gen_prefix,
        target_delimiter,
        fewshot_delimiter,
    })
}

fn generation(entry: Option<Entry>, delimiter: &str, problems: &Problems) -> Generation {
    let mut made = Generation {
        until: vec![delimiter.to_owned()],
        max_gen_toks: MAX_GEN_TOKS,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        written: Map::new(),
    };
    let Some(entry) = entry else {
        let standard = json!({"temperature": 0.0, "do_sample": false, "max_gen_toks": MAX_GEN_TOKS,
                              "until": [delimiter]});
        if let Value::Object(standard) = standard {
            made.written = standard;
        }
        return made;
    };
    let Some(mut fields) = entry.fields(problems) else { return made };
    made.written = fields.written();
    if let Some(Value::Number(number)) = made.written.get_mut("temperature") {
        // Always a float there, and so in hashes.
        *number = serde_json::Number::from_f64(number.as_f64().unwrap_or(0.0)).unwrap_or(0.into());
    }
    match fields.take("until") {
        Some(entry) => made.until = entry.texts(problems).unwrap_or_default(),
        None => drop(made.written.insert("until".to_owned(), json!([delimiter]))),
    }
    for name in ["max_gen_toks", "max_new_tokens", "max_tokens"] {
        if let Some(count) = fields.take(name).and_then(|entry| entry.count(problems)) {
            made.max_gen_toks = count.max(1);
        }
    }
    let samples = fields.take("do_sample").and_then(|entry| entry.truth(problems));
    #[expect(clippy::cast_possible_truncation, reason = "shares and temperatures are f32")]
    let mut number = |name: &str, low: f64, high: f64| {
        let entry = fields.take(name)?;
        let value = entry.number(problems)?;
        if value < low || value > high {
            entry.wrong(problems, format!("`{name}` is {value}, expected {low} to {high}"), None);
        }
        Some(value as f32)
    };
    made.temperature = number("temperature", 0.0, 100.0).unwrap_or(0.0);
    made.top_p = number("top_p", 1e-6, 1.0).unwrap_or(1.0);
    made.top_k = fields.take("top_k").and_then(|entry| entry.count(problems)).unwrap_or(0);
    if samples == Some(false) {
        made.temperature = 0.0;
    }
    fields.end(
        problems,
        &[
            "until",
            "max_gen_toks",
            "max_new_tokens",
            "max_tokens",
            "do_sample",
            "temperature",
            "top_p",
            "top_k",
        ],
    );
    made
}
