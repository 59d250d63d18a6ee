//! From files to tasks: includes, groups and tags.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ft_recipes::document::{Document, Kind, did_you_mean};
use serde_json::Value;

use super::fields::{Entry, Fields, Problems};
use super::keys::task;
use super::shipped::{text_of, texts};
use super::{Aggregate, Group, Task, TaskError, is_file};

/// Longest file of a task.
const MOST_BYTES: u64 = 4 << 20;

/// What was named.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tasks {
    /// Each once, in the order in which they are asked.
    pub tasks: Vec<Task>,
    /// Groups of them, members before those that have them.
    pub groups: Vec<Group>,
}

/// All that some files say, by name.
#[derive(Default)]
struct Known {
    tasks: Vec<Task>,
    groups: Vec<Group>,
}

/// Reads the tasks of some names: of shipped tasks, groups and tags, or of files.
///
/// # Errors
///
/// [`TaskError`]: all problems of a file at once.
pub fn load(names: &[String]) -> Result<Tasks, TaskError> {
    let mut shipped = Known::default();
    for (name, text) in texts() {
        if !name.starts_with('_') {
            shipped.add(read(text, Path::new(name))?)?;
        }
    }
    let mut wanted = Vec::new();
    let mut files = Known::default();
    for name in names {
        if is_file(name) {
            let path = Path::new(name);
            let found = read(&content(path)?, path)?;
            wanted.extend(match found.groups.last() {
                Some(group) => vec![group.name.clone()],
                None => found.tasks.iter().map(|task| task.name.clone()).collect(),
            });
            files.add(found)?;
        } else {
            wanted.push(name.clone());
        }
    }
    let mut tasks = Tasks::default();
    for name in &wanted {
        tasks.want(name, &[&files, &shipped])?;
    }
    Ok(tasks)
}

/// Everything that is shipped.
pub(super) fn all_shipped() -> Result<Tasks, TaskError> {
    let mut known = Known::default();
    for (name, text) in texts() {
        if !name.starts_with('_') {
            known.add(read(text, Path::new(name))?)?;
        }
    }
    Ok(Tasks { tasks: known.tasks, groups: known.groups })
}

impl Known {
    fn add(&mut self, more: Self) -> Result<(), TaskError> {
        for task in more.tasks {
            if let Some(other) = self.tasks.iter().find(|other| other.name == task.name) {
                let (name, one, other) = (task.name, other.file.clone(), task.file);
                return Err(TaskError::Twice { name, one, other });
            }
            self.tasks.push(task);
        }
        self.groups.extend(more.groups);
        Ok(())
    }
}

impl Tasks {
    fn want(&mut self, name: &str, known: &[&Known]) -> Result<(), TaskError> {
        if self.groups.iter().any(|group| group.name == name)
            || self.tasks.iter().any(|task| task.name == name)
        {
            return Ok(());
        }
        for known in known {
            if let Some(task) = known.tasks.iter().find(|task| task.name == name) {
                self.tasks.push(task.clone());
                return Ok(());
            }
        }
        for found in known {
            if let Some(group) = found.groups.iter().find(|group| group.name == name) {
                for member in &group.members {
                    self.want(member, known)?;
                }
                self.groups.push(group.clone());
                return Ok(());
            }
        }
        let tagged = |known: &&Known| {
            let with = known.tasks.iter().filter(|task| task.tags.iter().any(|tag| tag == name));
            with.map(|task| task.name.clone()).collect::<Vec<_>>()
        };
        let tagged: Vec<String> = known.iter().flat_map(tagged).collect();
        if tagged.is_empty() {
            let tasks =
                known.iter().flat_map(|known| known.tasks.iter().map(|it| it.name.as_str()));
            let groups =
                known.iter().flat_map(|known| known.groups.iter().map(|it| it.name.as_str()));
            let help = did_you_mean(name, tasks.chain(groups)).unwrap_or_else(|| {
                "`ft eval --list` names all that are shipped; a file ends in `.yaml`".to_owned()
            });
            return Err(TaskError::Unknown { name: name.to_owned(), help: Some(help) });
        }
        tagged.iter().try_for_each(|task| self.want(task, known))
    }
}

fn content(path: &Path) -> Result<String, TaskError> {
    let fault = |source| TaskError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(fault)?.len();
    if bytes > MOST_BYTES {
        return Err(TaskError::TooLong { path: path.to_owned(), bytes, limit: MOST_BYTES });
    }
    fs::read_to_string(path).map_err(fault)
}

/// What a file says.
fn read(text: &str, path: &Path) -> Result<Known, TaskError> {
    let problems = Problems::default();
    let mut known = Known::default();
    let fields = document(text, path)?;
    if fields.entries.iter().any(|entry| entry.key.text == "group") {
        group(fields, path, &mut known, &problems)?;
    } else {
        let fields = included(fields, path, &mut vec![path.to_owned()])?;
        known.tasks.extend(task(fields, path, &problems));
    }
    let problems = problems.all();
    if problems.is_empty() { Ok(known) } else { Err(TaskError::Problems { problems }) }
}

fn document(text: &str, path: &Path) -> Result<Fields, TaskError> {
    let document =
        Document::parse(text, path).map_err(|problems| TaskError::Problems { problems })?;
    let root = document.root.clone();
    let at = root.at;
    let document = Rc::new(document);
    let Kind::Map(entries) = root.kind else {
        let what = "a task is a map of keys, such as `task: NAME`";
        return Err(TaskError::Problems { problems: vec![document.problem(at, what, None)] });
    };
    let entry = |(key, node)| Entry { key, node, document: Rc::clone(&document) };
    Ok(Fields { entries: entries.into_iter().map(entry).collect() })
}

/// Puts the keys of an included file under those that include it.
fn included(mut fields: Fields, path: &Path, seen: &mut Vec<PathBuf>) -> Result<Fields, TaskError> {
    let Some(include) = fields.take("include") else { return Ok(fields) };
    let problems = Problems::default();
    let Some(name) = include.text(&problems) else {
        return Err(TaskError::Problems { problems: problems.all() });
    };
    let beside = path.parent().unwrap_or(Path::new("")).join(&name);
    let shipped = text_of(&name).filter(|_| !beside.is_file());
    let (text, from) = match shipped {
        Some(text) => (text.to_owned(), PathBuf::from(&name)),
        None => (content(&beside)?, beside),
    };
    if seen.contains(&from) {
        return Err(TaskError::Circle { path: from });
    }
    seen.push(from.clone());
    let below = included(document(&text, &from)?, &from, seen)?;
    for entry in below.entries {
        if fields.entries.iter().all(|other| other.key.text != entry.key.text) {
            fields.entries.push(entry);
        }
    }
    Ok(fields)
}

fn group(
    mut fields: Fields,
    path: &Path,
    known: &mut Known,
    problems: &Problems,
) -> Result<(), TaskError> {
    const KNOWN: &[&str] = &["group", "group_alias", "task", "aggregate_metric_list", "metadata"];
    let name = fields.take("group").and_then(|entry| entry.text(problems)).unwrap_or_default();
    let alias = fields.take("group_alias").and_then(|entry| entry.text(problems));
    let version = version(&mut fields, problems).0;
    let mut members = Vec::new();
    for member in fields.take("task").and_then(|entry| entry.items(problems)).unwrap_or_default() {
        if let Kind::Map(_) = member.node.kind {
            let Some(inner) = member.fields(problems) else { continue };
            let inner = included(inner, path, &mut vec![path.to_owned()])?;
            if let Some(task) = task(inner, path, problems) {
                members.push(task.name.clone());
                known.tasks.push(task);
            }
        } else {
            members.extend(member.text(problems));
        }
    }
    let mut aggregates = Vec::new();
    let listed = fields.take("aggregate_metric_list").and_then(|entry| entry.items(problems));
    for entry in listed.unwrap_or_default() {
        let Some(mut inner) = entry.fields(problems) else { continue };
        let metric = inner.take("metric").and_then(|entry| entry.text(problems));
        let weight = inner.take("weight_by_size").and_then(|entry| entry.truth(problems));
        let filters = inner.take("filter_list").and_then(|entry| entry.texts(problems));
        if let Some(entry) = inner.take("aggregation") {
            entry.choice(problems, &[("mean", ())]);
        }
        inner.end(problems, &["metric", "aggregation", "weight_by_size", "filter_list"]);
        if let Some(metric) = metric {
            let weight_by_size = weight.unwrap_or(true);
            aggregates.push(Aggregate { metric, weight_by_size, filters });
        }
    }
    fields.end(problems, KNOWN);
    known.groups.push(Group { name, alias, members, aggregates, version });
    Ok(())
}

/// `metadata.version`, and `metadata.source`.
pub(super) fn version(fields: &mut Fields, problems: &Problems) -> (Value, Option<String>) {
    let metadata = fields.take("metadata").and_then(|entry| entry.fields(problems));
    let Some(mut metadata) = metadata else { return (Value::from("N/A"), None) };
    let version = metadata.take("version").map_or(Value::from("N/A"), |entry| entry.value());
    (version, metadata.take("source").and_then(|entry| entry.text(problems)))
}
