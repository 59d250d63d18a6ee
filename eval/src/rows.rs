//! Rows of a task: which files they lie in, and what is done to them first.

mod process;

use std::path::{Path, PathBuf};

use ft_datasets::source::{self, Format, Limits, Problem, SourceError};
use serde_json::{Map, Number, Value};

use crate::jinja::{Jinja, JinjaError};
use crate::task::Task;
use process::processed;

/// A row.
pub(crate) type Doc = Map<String, Value>;

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// No such files.
    #[error(
        "`{task}`: the rows of split `{split}` are not there; looked for {}\n  = help: rows are never \
         fetched; put them there as JSONL, JSON, CSV or Parquet{}",
        listed(looked),
        source_of.as_ref().map(|it| format!("; they are published as {it}")).unwrap_or_default()
    )]
    Missing {
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// Where they could be.
        looked: Vec<PathBuf>,
        /// Where they are published.
        source_of: Option<String>,
    },
    /// The task names no files for a split.
    #[error("`{task}`: `data_files` names no rows for split `{split}`; it has {}", names(found))]
    NoSplit {
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A row that cannot be read.
    #[error(transparent)]
    Bad(#[from] source::BadRow),
    /// A text that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A row without what the task needs.
    #[error("{at}: {what}")]
    Shape {
        /// Its place.
        at: String,
        /// What it lacks.
        what: String,
    },
    /// An expression that fails.
    #[error("`{task}`, row {row}: `keep_if`: {source}")]
    Expression {
        /// The task.
        task: String,
        /// The row, counted from 0.
        row: usize,
        /// What is wrong.
        source: JinjaError,
    },
    /// Nothing is left.
    #[error("`{task}`: split `{split}` has no rows")]
    Empty {
        /// The task.
        task: String,
        /// The split.
        split: String,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    shown.join(", ")
}

fn names(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// The rows of a split, as the task wants them.
pub(crate) fn read(
    task: &Task,
    split: &str,
    data: &Path,
    jinja: &Jinja,
) -> Result<Vec<Doc>, RowsError> {
    let files = files(task, split, data)?;
    let mut rows = Vec::new();
    let mut places = Vec::new();
    for path in &files {
        let first = rows.len();
        if is_text(path) {
            let text = plain_text(path)?;
            places.push(path.display().to_string());
            rows.push(Map::from_iter([("text".to_owned(), Value::from(text))]));
            continue;
        }
        for row in source::file(path, Some(split), Limits::default())? {
            match row {
                Ok(row) => {
                    rows.push(row.fields);
                    places.push(row.at.to_string());
                }
                Err(Problem::Bad(row)) => return Err(row.into()),
                Err(Problem::Fatal(error)) => return Err(error.into()),
            }
        }
        if let Some(Format::Table { .. }) = Format::of(path) {
            typed(&mut rows[first..]);
        }
    }
    let made: Result<Vec<Doc>, RowsError> = match task.process_docs {
        None => Ok(rows),
        Some(process) => rows
            .into_iter()
            .zip(&places)
            .map(|(row, at)| {
                processed(row, process).map_err(|what| RowsError::Shape { at: at.clone(), what })
            })
            .collect(),
    };
    let mut rows = made?;
    if let Some(expression) = &task.keep_if {
        let mut kept = Vec::new();
        for (row, doc) in rows.into_iter().enumerate() {
            let holds = jinja.holds(expression, &doc).map_err(|source| RowsError::Expression {
                task: task.name.clone(),
                row,
                source,
            })?;
            if holds {
                kept.push(doc);
            }
        }
        rows = kept;
    }
    if rows.is_empty() {
        return Err(RowsError::Empty { task: task.name.clone(), split: split.to_owned() });
    }
    filled(&mut rows);
    Ok(rows)
}

/// Longest text that is one row.
const MOST_TEXT: u64 = 256 << 20;

/// Whether a file is a text, and so one row.
fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "txt" || ending == "md")
}

fn plain_text(path: &Path) -> Result<String, RowsError> {
    let fault = |source| RowsError::Text { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(fault)?.len();
    if bytes > MOST_TEXT {
        let said = format!("{bytes} bytes; a text has at most {MOST_TEXT}");
        return Err(fault(std::io::Error::other(said)));
    }
    std::fs::read_to_string(path).map_err(fault)
}

/// Gives every row every column, as a table has them: what a row lacks is nothing.
fn filled(rows: &mut [Doc]) {
    let mut columns: Vec<String> = Vec::new();
    for row in rows.iter() {
        if row.len() != columns.len() || row.keys().zip(&columns).any(|(one, other)| one != other) {
            for key in row.keys() {
                if !columns.contains(key) {
                    columns.push(key.clone());
                }
            }
        }
    }
    for row in rows {
        if row.len() == columns.len() && row.keys().zip(&columns).all(|(one, other)| one == other) {
            continue;
        }
        let mut whole = Map::new();
        for column in &columns {
            whole.insert(column.clone(), row.remove(column).unwrap_or(Value::Null));
        }
        *row = whole;
    }
}

/// Gives the columns of a table their types: whole numbers, numbers, or text; an empty field is
/// nothing.
fn typed(rows: &mut [Doc]) {
    let Some(first) = rows.first() else { return };
    let columns: Vec<String> = first.keys().cloned().collect();
    for column in columns {
        let texts =
            || rows.iter().filter_map(|row| row.get(&column)?.as_str()).filter(|it| !it.is_empty());
        let whole = texts().all(|text| text.parse::<i64>().is_ok());
        let number = texts().all(|text| text.parse::<f64>().is_ok_and(f64::is_finite));
        let any = texts().next().is_some();
        for row in rows.iter_mut() {
            let Some(value) = row.get_mut(&column) else { continue };
            let Some(text) = value.as_str() else { continue };
            *value = match text {
                "" => Value::Null,
                text if any && whole => text.parse::<i64>().map_or(Value::Null, Value::from),
                text if any && number => {
                    text.parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
                }
                _ => continue,
            };
        }
    }
}

/// Files of a split.
fn files(task: &Task, split: &str, data: &Path) -> Result<Vec<PathBuf>, RowsError> {
    let missing = |looked: Vec<PathBuf>| RowsError::Missing {
        task: task.name.clone(),
        split: split.to_owned(),
        looked,
        source_of: task.data.source.clone(),
    };
    let asked = task.test_split.as_deref().or(task.validation_split.as_deref());
    if data.is_file() && asked == Some(split) {
        return Ok(vec![data.to_owned()]);
    }
    if !task.data.files.is_empty() {
        let Some((_, named)) = task.data.files.iter().find(|(name, _)| name == split) else {
            let found = task.data.files.iter().map(|(name, _)| format!("`{name}`")).collect();
            let (task, split) = (task.name.clone(), split.to_owned());
            return Err(RowsError::NoSplit { task, split, found });
        };
        let beside = task.file.parent().unwrap_or(Path::new(""));
        return named
            .iter()
            .map(|name| {
                let places = [data.join(name), PathBuf::from(name), beside.join(name)];
                let found = places.iter().find(|path| path.is_file()).cloned();
                found.ok_or_else(|| missing(places.to_vec()))
            })
            .collect();
    }
    let mut looked = Vec::new();
    for folder in folders(task, data) {
        let found = in_folder(&folder, split);
        if !found.is_empty() {
            return Ok(found);
        }
        looked.push(folder.join(format!("{split}.jsonl")));
    }
    Err(missing(looked))
}

/// Where the rows of a published data set may lie, best first: under the task's name, or as the hub
/// lays them out.
fn folders(task: &Task, data: &Path) -> Vec<PathBuf> {
    let mut found = vec![data.join(&task.name)];
    let path = &task.data.path;
    let last = path.rsplit('/').next().unwrap_or(path);
    for name in [last, path.as_str()] {
        let folder = data.join(name);
        if let Some(part) = &task.data.name {
            found.push(folder.join(part));
        }
        found.push(folder);
    }
    found.dedup();
    // A name with `..` leads nowhere.
    found.retain(|folder| folder.components().all(|part| part.as_os_str() != ".."));
    found
}

/// Other names of splits in file names.
fn aliases(split: &str) -> &[&str] {
    match split {
        "validation" => &["validation", "val", "dev"],
        "dev" => &["dev", "validation"],
        "test" => &["test"],
        "train" => &["train"],
        _ => &[],
    }
}

/// The files of a split in a folder: `test.jsonl`, `test-00000-of-00001.parquet`,
/// `hellaswag_val.jsonl`, `ARC-Easy-Test.jsonl`, also under `data/`.
fn in_folder(folder: &Path, split: &str) -> Vec<PathBuf> {
    let own = [split];
    let aliases = aliases(split);
    let aliases = if aliases.is_empty() { &own[..] } else { aliases };
    for folder in [folder.to_owned(), folder.join("data")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.is_file() && (Format::of(path).is_some() || is_text(path)));
        paths.sort();
        let stem = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            name.split('.').next().unwrap_or_default().to_owned()
        };
        let own = |stem: &str, name: &str| stem == name;
        let first = |stem: &str, name: &str| {
            stem.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        };
        let last = |stem: &str, name: &str| {
            stem.strip_suffix(name).is_some_and(|rest| rest.ends_with(['-', '_']))
        };
        let ways: [fn(&str, &str) -> bool; 3] = [own, first, last];
        for fits in ways {
            for name in aliases {
                let found: Vec<PathBuf> =
                    paths.iter().filter(|path| fits(&stem(path), name)).cloned().collect();
                if !found.is_empty() {
                    return found;
                }
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doc(value: &Value) -> Doc {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn columns_of_a_table_are_numbers_where_all_of_them_are() {
        let mut rows = vec![
            doc(&json!({"a": "1", "b": "1.5", "c": "x", "d": ""})),
            doc(&json!({"a": "2", "b": "2", "c": "3", "d": ""})),
        ];
        typed(&mut rows);
        assert_eq!(Value::Object(rows[0].clone()), json!({"a": 1, "b": 1.5, "c": "x", "d": null}));
        assert_eq!(Value::Object(rows[1].clone()), json!({"a": 2, "b": 2.0, "c": "3", "d": null}));
    }

    #[test]
    fn rows_that_lack_a_column_have_nothing_there() {
        let mut rows = vec![doc(&json!({"a": 1})), doc(&json!({"b": 2, "a": 3}))];
        filled(&mut rows);
        assert_eq!(serde_json::to_string(&rows).unwrap(), r#"[{"a":1,"b":null},{"a":3,"b":2}]"#);
    }
}
