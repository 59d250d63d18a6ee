//! All tasks of a run in one value, in lm-evaluation-harness's shape.

use serde_json::{Map, Value, json};

use crate::metric::pooled_error;
use crate::run::{TaskReport, hash};
use crate::task::{Group, Tasks};

/// A line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The task or group.
    pub name: String,
    /// Examples in each prompt.
    pub num_fewshot: usize,
    /// Of which answers.
    pub filter: String,
    /// Its name.
    pub metric: String,
    /// What it is.
    pub value: f64,
    /// Its standard error.
    pub error: Option<f64>,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// How deep it stands: members of groups stand below them.
    pub depth: usize,
}

/// A group's number.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupScore {
    /// The metric and its filter, `acc,none`.
    pub key: (String, String),
    /// Its mean.
    pub value: f64,
    /// Its standard error.
    pub error: Option<f64>,
    /// Rows.
    pub size: usize,
}

/// The tasks below a group, at any depth.
pub fn leaves<'r>(
    group: &Group,
    groups: &[Group],
    reports: &'r [TaskReport],
) -> Vec<&'r TaskReport> {
    let mut found = Vec::new();
    for member in &group.members {
        if let Some(inner) = groups.iter().find(|group| group.name == *member) {
            found.extend(leaves(inner, groups, reports));
        }
        found.extend(reports.iter().find(|report| report.name == *member));
    }
    found
}

/// A group's numbers over its tasks.
pub fn group_scores(group: &Group, groups: &[Group], reports: &[TaskReport]) -> Vec<GroupScore> {
    let tasks = leaves(group, groups, reports);
    let mut found = Vec::new();
    for aggregate in &group.aggregates {
        let mut filters: Vec<&str> = match &aggregate.filters {
            Some(named) => named.iter().map(String::as_str).collect(),
            None => tasks
                .iter()
                .flat_map(|task| &task.scores)
                .filter(|score| score.metric == aggregate.metric)
                .map(|score| score.filter.as_str())
                .collect(),
        };
        filters.sort_unstable();
        filters.dedup();
        for filter in filters {
            let of = |task: &&&TaskReport| {
                let fits =
                    |it: &&crate::run::Score| it.metric == aggregate.metric && it.filter == filter;
                task.scores.iter().find(fits).map(|score| (score.clone(), task.rows.1))
            };
            let all: Vec<_> = tasks.iter().filter_map(|task| of(&task)).collect();
            if all.is_empty() {
                continue;
            }
            let sizes: Vec<usize> = all.iter().map(|(_, size)| *size).collect();
            let weight = |size: usize| if aggregate.weight_by_size { size as f64 } else { 1.0 };
            let total: f64 = sizes.iter().map(|size| weight(*size)).sum();
            let value =
                all.iter().map(|(score, size)| score.value * weight(*size)).sum::<f64>() / total;
            let errors: Option<Vec<f64>> = all.iter().map(|(score, _)| score.error).collect();
            let error = errors.map(|it| pooled_error(&it, &sizes, aggregate.weight_by_size));
            let key = (aggregate.metric.clone(), filter.to_owned());
            found.push(GroupScore { key, value, error, size: sizes.iter().sum() });
        }
    }
    found
}

fn or_none(error: Option<f64>) -> Value {
    error.map_or(Value::from("N/A"), Value::from)
}

/// The numbers of a run, as lm-evaluation-harness writes them; `more` says how it was run.
pub fn results(tasks: &Tasks, reports: &[TaskReport], more: Map<String, Value>) -> Value {
    let mut by_name = Map::new();
    let mut sections: [Map<String, Value>; 7] = Default::default();
    let [configs, versions, shots, better, sizes, hashes, groups] = &mut sections;
    for report in reports {
        let mut own = Map::new();
        own.insert("name".to_owned(), report.name.clone().into());
        own.insert("alias".to_owned(), report.alias.clone().into());
        own.insert("sample_len".to_owned(), report.rows.1.into());
        let mut directions = Map::new();
        for score in &report.scores {
            let (metric, filter) = (&score.metric, &score.filter);
            own.insert(format!("{metric},{filter}"), score.value.into());
            own.insert(format!("{metric}_stderr,{filter}"), or_none(score.error));
            directions.insert(metric.clone(), score.higher_is_better.into());
        }
        by_name.insert(report.name.clone(), own.into());
        configs.insert(report.name.clone(), report.config.clone().into());
        versions.insert(report.name.clone(), report.version.clone());
        shots.insert(report.name.clone(), report.num_fewshot.into());
        better.insert(report.name.clone(), directions.into());
        let (original, effective) = report.rows;
        sizes.insert(report.name.clone(), json!({"original": original, "effective": effective}));
        let all: String = report
            .samples
            .iter()
            .flat_map(|sample| {
                ["doc_hash", "prompt_hash", "target_hash"].map(|key| &sample.written[key])
            })
            .filter_map(Value::as_str)
            .collect();
        hashes.insert(report.name.clone(), hash(&all).into());
    }
    let mut members = Map::new();
    for group in &tasks.groups {
        let mut own = Map::new();
        own.insert("name".to_owned(), group.name.clone().into());
        let alias = group.alias.clone().unwrap_or_else(|| group.name.clone());
        own.insert("alias".to_owned(), alias.into());
        for score in group_scores(group, &tasks.groups, reports) {
            let (metric, filter) = &score.key;
            own.insert("sample_len".to_owned(), score.size.into());
            own.insert(format!("{metric},{filter}"), score.value.into());
            own.insert(format!("{metric}_stderr,{filter}"), or_none(score.error));
        }
        by_name.insert(group.name.clone(), own.clone().into());
        if !group.aggregates.is_empty() {
            groups.insert(group.name.clone(), own.into());
        }
        members.insert(group.name.clone(), group.members.clone().into());
        versions.insert(group.name.clone(), group.version.clone());
    }
    let [configs, versions, shots, better, sizes, hashes, groups] = sections;
    let mut whole = Map::new();
    whole.insert("results".to_owned(), by_name.into());
    if !groups.is_empty() {
        whole.insert("groups".to_owned(), groups.into());
    }
    for (name, section) in [
        ("group_subtasks", members),
        ("configs", configs),
        ("versions", versions),
        ("n-shot", shots),
        ("higher_is_better", better),
        ("n-samples", sizes),
        ("task_hashes", hashes),
    ] {
        whole.insert(name.to_owned(), section.into());
    }
    whole.extend(more);
    whole.into()
}

/// The table of a run: groups first, their tasks below them.
pub fn table(tasks: &Tasks, reports: &[TaskReport]) -> Vec<Row> {
    let inside =
        |name: &str| tasks.groups.iter().any(|group| group.members.iter().any(|it| it == name));
    let mut rows = Vec::new();
    for group in tasks.groups.iter().filter(|group| !inside(&group.name)) {
        below(group, tasks, reports, 0, &mut rows);
    }
    for report in reports.iter().filter(|report| !inside(&report.name)) {
        of_task(report, 0, &mut rows);
    }
    rows
}

fn below(group: &Group, tasks: &Tasks, reports: &[TaskReport], depth: usize, rows: &mut Vec<Row>) {
    let shots = leaves(group, &tasks.groups, reports).first().map_or(0, |it| it.num_fewshot);
    for score in group_scores(group, &tasks.groups, reports) {
        let (metric, filter) = score.key;
        rows.push(Row {
            name: group.alias.clone().unwrap_or_else(|| group.name.clone()),
            num_fewshot: shots,
            filter,
            metric,
            value: score.value,
            error: score.error,
            higher_is_better: true,
            depth,
        });
    }
    for member in &group.members {
        if let Some(inner) = tasks.groups.iter().find(|group| group.name == *member) {
            below(inner, tasks, reports, depth + 1, rows);
        }
        if let Some(report) = reports.iter().find(|report| report.name == *member) {
            of_task(report, depth + 1, rows);
        }
    }
}

fn of_task(report: &TaskReport, depth: usize, rows: &mut Vec<Row>) {
    for score in &report.scores {
        rows.push(Row {
            name: report.alias.clone(),
            num_fewshot: report.num_fewshot,
            filter: score.filter.clone(),
            metric: score.metric.clone(),
            value: score.value,
            error: score.error,
            higher_is_better: score.higher_is_better,
            depth,
        });
    }
}
