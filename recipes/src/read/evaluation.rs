//! What is measured at the end.

use crate::fields::{Field, Fields};
use crate::sections::{EvalSection, EvalTask};

const TASKS: &[&str] = &["json_fields"];

pub(super) fn read(fields: &Fields<'_>) -> EvalSection {
    let tasks = fields.get("eval").and_then(|field| {
        let inner = field.fields()?;
        inner.only(&["tasks"]);
        let items = inner.get("tasks")?.items()?;
        Some(items.iter().filter_map(task).collect())
    });
    EvalSection { tasks: tasks.unwrap_or_default() }
}

fn task(item: &Field<'_>) -> Option<EvalTask> {
    let task = item.fields()?;
    task.only(TASKS);
    let options = task.get("json_fields")?.fields()?;
    options.only(&["path", "max_new_tokens"]);
    let max_new_tokens = options.size("max_new_tokens", 1).unwrap_or(256);
    let path = options.text("path");
    if options.get("path").is_none() {
        item.wrong(format!("`{}.json_fields` has no `path`", item.name), None);
    }
    Some(EvalTask::JsonFields { path: path?.into(), max_new_tokens })
}
