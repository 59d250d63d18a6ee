//! What some data sets need before templates can speak of their rows.

use serde_json::{Map, Value};

use super::Doc;
use crate::python::{capitalized, strip, text_of};
use crate::task::ProcessDocs;

/// A row as its task's templates want it.
pub(super) fn processed(row: Doc, process: ProcessDocs) -> Result<Doc, String> {
    match process {
        ProcessDocs::Hellaswag => hellaswag(row),
        ProcessDocs::Arc => arc(row),
        ProcessDocs::Mmlu => mmlu(row),
        ProcessDocs::Mgsm => mgsm(row),
    }
}

fn text<'d>(row: &'d Doc, column: &str) -> Result<&'d str, String> {
    row.get(column).and_then(Value::as_str).ok_or_else(|| {
        let names: Vec<String> = row.keys().map(|key| format!("`{key}`")).collect();
        format!("the row has no text `{column}`; it has {}", names.join(", "))
    })
}

/// `query`, `choices` and `gold`, without the marks of `WikiHow`.
fn hellaswag(mut row: Doc) -> Result<Doc, String> {
    let clean = |text: &str| {
        let text = strip(text).replace(" [title]", ". ");
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        // The shortest brackets of one line.
        while let Some(open) = rest.find('[') {
            let line = rest[open..].find('\n').map_or(rest.len(), |end| open + end);
            let Some(close) = rest[open..line].find(']') else {
                out.push_str(&rest[..=open]);
                rest = &rest[open + 1..];
                continue;
            };
            out.push_str(&rest[..open]);
            rest = &rest[open + close + 1..];
        }
        out.push_str(rest);
        out.replace("  ", " ")
    };
    let context = format!("{} {}", text(&row, "ctx_a")?, capitalized(text(&row, "ctx_b")?));
    let query = clean(&format!("{}: {context}", text(&row, "activity_label")?));
    let endings =
        row.get("endings").and_then(Value::as_array).ok_or("the row has no list `endings`")?;
    let choices: Vec<Value> =
        endings.iter().filter_map(Value::as_str).map(|ending| clean(ending).into()).collect();
    let label = match row.get("label") {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_i64(),
        None => None,
    };
    let label: i64 = label.ok_or("the row has no number `label`")?;
    row.insert("query".to_owned(), query.into());
    row.insert("choices".to_owned(), choices.into());
    row.insert("gold".to_owned(), label.into());
    Ok(row)
}

/// From `question: {stem, choices: [{text, label}]}`.
fn arc(mut row: Doc) -> Result<Doc, String> {
    let Some(Value::Object(question)) = row.get("question") else { return Ok(row) };
    let stem = text(question, "stem")?.to_owned();
    let choices = question
        .get("choices")
        .and_then(Value::as_array)
        .ok_or("the question has no list `choices`")?;
    let column = |name: &str| -> Result<Vec<Value>, String> {
        let one = |choice: &Value| {
            let text = choice.get(name).and_then(Value::as_str);
            text.map(Value::from).ok_or_else(|| format!("a choice has no text `{name}`"))
        };
        choices.iter().map(one).collect()
    };
    let mut whole = Map::new();
    whole.insert("text".to_owned(), column("text")?.into());
    whole.insert("label".to_owned(), column("label")?.into());
    let mut made = Map::new();
    made.insert("id".to_owned(), row.remove("id").unwrap_or(Value::Null));
    made.insert("question".to_owned(), stem.into());
    made.insert("choices".to_owned(), whole.into());
    made.insert("answerKey".to_owned(), row.remove("answerKey").unwrap_or(Value::Null));
    Ok(made)
}

/// From a table with a column for each choice.
fn mmlu(mut row: Doc) -> Result<Doc, String> {
    if row.get("choices").is_some_and(Value::is_array) {
        return Ok(row);
    }
    let named = [["A", "B", "C", "D"], ["choice0", "choice1", "choice2", "choice3"]];
    let names = named
        .into_iter()
        .find(|names| names.iter().all(|name| row.contains_key(*name)))
        .ok_or("the row has no list `choices`, and no columns `A` to `D`")?;
    let choices: Vec<Value> = names
        .iter()
        .map(|name| Value::from(text_of(&row.remove(*name).unwrap_or(Value::Null))))
        .collect();
    let answer = row.iter().find(|(key, _)| key.to_lowercase().starts_with("answer"));
    let answer = match answer.map(|(_, value)| value) {
        Some(Value::String(letter)) => ["A", "B", "C", "D"].iter().position(|it| it == letter),
        Some(value) => value.as_u64().and_then(|it| usize::try_from(it).ok()),
        None => None,
    };
    let answer = answer.filter(|it| *it < 4).ok_or("the row has no `answer` from A to D")?;
    let mut made = Map::new();
    made.insert("question".to_owned(), text(&row, "question")?.into());
    made.insert("choices".to_owned(), choices.into());
    made.insert("answer".to_owned(), answer.into());
    Ok(made)
}

/// `answer_number` from a table of two columns without a header, or with `question` and `answer`.
fn mgsm(row: Doc) -> Result<Doc, String> {
    if row.contains_key("answer_number") {
        return Ok(row);
    }
    let question = text(&row, "question")?.to_owned();
    let number = match row.get("answer") {
        Some(Value::String(text)) => text.replace(',', "").trim().parse::<i64>().ok(),
        Some(value) => value.as_i64(),
        None => None,
    };
    let number = number.ok_or("the row has no whole number `answer`")?;
    let mut made = Map::new();
    made.insert("question".to_owned(), question.into());
    made.insert("answer".to_owned(), Value::Null);
    made.insert("answer_number".to_owned(), number.into());
    made.insert("equation_solution".to_owned(), Value::Null);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doc(value: &Value) -> Doc {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn marks_of_wikihow_are_taken_out_of_hellaswag() {
        let row = doc(
            &json!({"ctx_a": "[header] How to [title] run", "ctx_b": "then STOP", "activity_label":
            "Sport", "endings": [" [step] Go  home [a\nb] ", "x"], "label": "1"}),
        );
        let made = hellaswag(row).unwrap();
        assert_eq!(made["query"], "Sport: How to. run Then stop");
        assert_eq!(made["choices"], json!([" Go home [a\nb]", "x"]));
        assert_eq!(made["gold"], 1);
    }

    #[test]
    fn rows_of_authors_get_the_shape_of_the_hub() {
        let made = arc(doc(&json!({"id": "q", "question": {"stem": "Why?", "choices": [
            {"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "B"})));
        let wanted = json!({"id": "q", "question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]},
            "answerKey": "B"});
        assert_eq!(Value::Object(made.unwrap()), wanted);
        let made =
            mmlu(doc(&json!({"question": "q", "choice0": "w", "choice1": 1, "choice2": "y",
            "choice3": "z", "answer index": 2})));
        let wanted = json!({"question": "q", "choices": ["w", "1", "y", "z"], "answer": 2});
        assert_eq!(Value::Object(made.unwrap()), wanted);
    }
}
