//! Documents to passages of a size that one request can hold.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::SynthError;

/// Characters of a passage, about: some 400 tokens.
const SIZE: usize = 1600;
/// Characters below which a passage says too little.
const LEAST: usize = 40;
/// Largest document.
const MOST_BYTES: u64 = 64 << 20;

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The file, and which part of it, counted from 1.
    pub at: String,
    /// The headings above it.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// The passages of documents; folders stand for the documents below them.
///
/// # Errors
///
/// A file cannot be read, or there is no text in any.
pub fn passages(paths: &[PathBuf]) -> Result<Vec<Passage>, SynthError> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut found = Vec::new();
    for file in &files {
        let fault = |source| SynthError::Io { path: file.clone(), source };
        if fs::metadata(file).map_err(fault)?.len() > MOST_BYTES {
            let problem = format!("document is larger than {MOST_BYTES} bytes");
            return Err(SynthError::Row { path: file.clone(), line: 1, problem });
        }
        let bytes = fs::read(file).map_err(fault)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n");
        let parts = match kind(file) {
            Kind::Markdown => markdown(&text),
            Kind::Text => pack(blocks(&text).map(|block| (String::new(), block.to_owned()))),
            Kind::Rows => rows(file, &text)?,
        };
        let name = file.display();
        let parts = parts.into_iter().filter(|(_, text)| text.chars().count() >= LEAST);
        found.extend(parts.zip(1..).map(|((title, text), part)| Passage {
            at: format!("{name}#{part}"),
            title,
            text,
        }));
    }
    if found.is_empty() {
        return Err(SynthError::Nothing {
            path: paths.first().cloned().unwrap_or_default(),
            what: "holds no passage of text",
            help: "name Markdown (`.md`), text (`.txt`) or `.jsonl` with `text`, or folders of them",
        });
    }
    Ok(found)
}

enum Kind {
    Markdown,
    Text,
    Rows,
}

fn kind(path: &Path) -> Kind {
    match path.extension().and_then(|it| it.to_str()).map(str::to_lowercase).as_deref() {
        Some("md" | "markdown") => Kind::Markdown,
        Some("jsonl" | "ndjson") => Kind::Rows,
        _ => Kind::Text,
    }
}

/// Files below a path, by name. A file that is named itself is read whatever its name.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), SynthError> {
    let fault = |source| SynthError::Io { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(fault)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = fs::read_dir(path).map_err(fault)?.collect();
    let mut entries: Vec<PathBuf> =
        entries.map_err(fault)?.into_iter().map(|it| it.path()).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A link to a folder above would never end.
        let link = fs::symlink_metadata(&entry).is_ok_and(|it| it.is_symlink());
        let ends = ["md", "markdown", "txt", "jsonl", "ndjson"];
        let fits = entry.extension().and_then(|it| it.to_str());
        let fits = fits.is_some_and(|it| ends.contains(&it.to_lowercase().as_str()));
        if !hidden && ((entry.is_dir() && !link) || (entry.is_file() && fits)) {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

/// Blocks of text between blank lines.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(str::trim).filter(|block| !block.is_empty())
}

/// Blocks of Markdown with the headings above them; fenced code stays in one block.
fn markdown(text: &str) -> Vec<(String, String)> {
    let mut headings: Vec<(usize, String)> = Vec::new();
    let mut found = Vec::new();
    let mut block = String::new();
    let mut fence: Option<&str> = None;
    let title = |headings: &[(usize, String)]| {
        headings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" > ")
    };
    for line in text.lines() {
        let bare = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| bare.starts_with(mark));
        let level = bare.bytes().take_while(|byte| *byte == b'#').count();
        let heading = fence.is_none() && (1..=6).contains(&level) && bare[level..].starts_with(' ');
        if heading || (fence.is_none() && bare.is_empty()) {
            if !block.trim().is_empty() {
                found.push((title(&headings), std::mem::take(&mut block)));
            }
            block.clear();
        }
        if heading {
            headings.retain(|(above, _)| *above < level);
            let text = bare[level..].trim().trim_end_matches('#').trim();
            headings.push((level, text.to_owned()));
            continue;
        }
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        block.push_str(line);
        block.push('\n');
    }
    if !block.trim().is_empty() {
        found.push((title(&headings), block));
    }
    pack(found.into_iter())
}

/// Sets blocks of the same title together up to the size of a passage, and cuts what is longer.
fn pack(blocks: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut packed: Vec<(String, String)> = Vec::new();
    for (title, block) in blocks {
        for part in cut(block.trim_end()) {
            if let Some((open, text)) = packed.last_mut()
                && *open == title
                && text.chars().count() + part.chars().count() <= SIZE
            {
                text.push_str("\n\n");
                text.push_str(part);
            } else {
                packed.push((title.clone(), part.to_owned()));
            }
        }
    }
    packed
}

/// Parts of a text of at most a passage's size, cut behind a sentence or a word where there is one.
fn cut(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((most, _)) = rest.char_indices().nth(SIZE) {
        let window = &rest[..most];
        let ends = |marks: &[char]| {
            window.rmatch_indices(marks).map(|(at, mark)| at + mark.len()).find(|at| *at > most / 2)
        };
        let end = ends(&['。', '！', '？', '.', '!', '?', '\n']).or_else(|| ends(&[' ', '、']));
        let (part, after) = rest.split_at(end.unwrap_or(most));
        parts.push(part.trim());
        rest = after;
    }
    parts.push(rest.trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Texts of rows.
fn rows(file: &Path, text: &str) -> Result<Vec<(String, String)>, SynthError> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong =
            |problem: String| SynthError::Row { path: file.to_owned(), line: number + 1, problem };
        let row: Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let field = |name: &str| row.get(name).and_then(Value::as_str);
        let Some(text) =
            ["text", "content", "body", "passage", "document"].iter().find_map(|it| field(it))
        else {
            return Err(wrong(
                "the row has no `text`, `content`, `body`, `passage` or `document`".into(),
            ));
        };
        let title = field("title").unwrap_or_default().to_owned();
        found.extend(pack(blocks(text).map(|block| (title.clone(), block.to_owned()))));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_keeps_headings_and_whole_fences() {
        let text = "# Kettle\n\nIt boils water.\n\n## Care ##\n\nDo this:\n\n```sh\nfirst\n\n# no heading\n```\n\nThen rest.\n";
        let found = markdown(text);
        assert_eq!(found[0], ("Kettle".to_owned(), "It boils water.".to_owned()));
        assert_eq!(found[1].0, "Kettle > Care");
        assert!(found[1].1.contains("first\n\n# no heading\n```\n\nThen rest."), "{found:?}");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn long_text_is_cut_behind_a_sentence_and_nothing_is_lost() {
        for sentence in ["This is a sentence of some words. ", "これは日本語の文です。"]
        {
            let text = sentence.repeat(300);
            let parts = cut(text.trim());
            assert!(parts.len() > 1);
            assert!(parts.iter().all(|part| part.chars().count() <= SIZE));
            assert!(parts.iter().all(|part| part.ends_with(['.', '。'])), "{parts:?}");
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
            assert_eq!(parts.iter().map(|part| letters(part)).sum::<usize>(), letters(&text));
        }
        assert_eq!(cut(&"x".repeat(SIZE * 2 + 5)).len(), 3);
    }

    #[test]
    fn a_folder_gives_its_documents_in_order_and_an_empty_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        assert!(matches!(passages(std::slice::from_ref(&path)), Err(SynthError::Nothing { .. })));
        let words = "words enough to make a passage out of this line";
        fs::write(path.join("b.txt"), words).unwrap();
        fs::write(path.join("a.md"), format!("# A\n{words}")).unwrap();
        fs::write(path.join("c.jsonl"), format!("{{\"text\": \"{words}\", \"title\": \"C\"}}\n"))
            .unwrap();
        fs::write(path.join("d.png"), [0xFF; 50]).unwrap();
        let found = passages(&[path]).unwrap();
        let titles: Vec<&str> = found.iter().map(|it| it.title.as_str()).collect();
        assert_eq!(titles, ["A", "", "C"]);
        assert!(found[0].at.ends_with("a.md#1"));
    }
}
