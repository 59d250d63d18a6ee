//! `--set key=value`: changes to the tree before it is read.

use crate::log::Log;
use crate::yaml::{self, Key, Kind, Node, Spot};

/// Puts each value where its dotted key points.
pub(crate) fn apply(root: &mut Node, overrides: &[(String, String)], log: &Log<'_>) {
    for (i, (key, value)) in overrides.iter().enumerate() {
        let at = Spot { set: Some(i), line: 1, column: 1, width: 1 };
        let node = match yaml::parse(value, Some(i)) {
            Ok(node) => node,
            Err(faults) => {
                for fault in faults {
                    log.problem(at, fault.what, fault.help);
                }
                continue;
            }
        };
        let parts: Vec<&str> = key.split('.').collect();
        if parts.iter().any(|part| part.trim().is_empty()) {
            let help = "`--set lora_r=8`, `--set datasets.0.path=rows.jsonl`".to_owned();
            log.problem(at, format!("`{key}` is no key"), Some(help));
            continue;
        }
        if let Err(what) = put(root, &parts, node, at) {
            log.problem(at, what, None);
        }
    }
}

fn put(into: &mut Node, parts: &[&str], value: Node, at: Spot) -> Result<(), String> {
    let Some((first, rest)) = parts.split_first() else {
        *into = value;
        return Ok(());
    };
    if into.is_null() {
        *into = Node { at, kind: Kind::Map(Vec::new()) };
    }
    match &mut into.kind {
        Kind::Map(entries) => {
            let place = entries.iter().position(|(key, _)| key.text == *first);
            let place = place.unwrap_or_else(|| {
                let key = Key { text: (*first).to_owned(), at };
                let null = Kind::Scalar { text: String::new(), plain: true };
                entries.push((key, Node { at, kind: null }));
                entries.len() - 1
            });
            let (key, node) = &mut entries[place];
            if rest.is_empty() {
                key.at = at;
            }
            put(node, rest, value, at)
        }
        Kind::List(items) => match first.parse::<usize>() {
            Ok(i) if i < items.len() => put(&mut items[i], rest, value, at),
            Ok(i) => {
                Err(format!("there is no item {i}; the list has {}, counted from 0", items.len()))
            }
            Err(_) => Err(format!("`{first}` must be the number of an item, counted from 0")),
        },
        Kind::Scalar { text, .. } => Err(format!("`{first}` cannot be set inside `{text}`")),
    }
}
