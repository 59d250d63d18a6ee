//! Keys as they are kept: a line for each, with its hash and never itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::sha256;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask.
    User,
    /// Ask, and load and unload adapters.
    Admin,
}

/// A line of the file of keys: the key itself is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLine {
    /// Whose it is, in the audit log.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// Hashed before the key.
    pub salt: String,
    /// SHA-256 of salt and key, in hexadecimal.
    pub sha256: String,
    /// Requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<usize>,
}

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or written.
    #[error("keys `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is none.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// No keys at all.
    #[error("`{}` has no keys\n  = help: `ft serve --keys {} --add-key NAME` makes one", path.display(), path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl KeyLine {
    /// The line of a key.
    pub fn new(user: &str, role: Role, salt: &str, key: &str) -> Self {
        Self {
            user: user.to_owned(),
            role,
            salt: salt.to_owned(),
            sha256: sha256(format!("{salt}{key}").as_bytes()),
            requests_per_minute: None,
            concurrent: None,
        }
    }
}

/// Reads a file of keys: JSON, one a line.
///
/// # Errors
///
/// [`KeyError`], naming the line.
pub fn read_keys(path: &Path) -> Result<Vec<KeyLine>, KeyError> {
    let text = fs::read_to_string(path)
        .map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    let mut keys: Vec<KeyLine> = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what| KeyError::Line { path: path.to_owned(), line: at + 1, what };
        let key: KeyLine = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if key.sha256.len() != 64 {
            return Err(wrong("`sha256` is no hash of 64 digits".to_owned()));
        }
        if keys.iter().any(|known| known.user == key.user) {
            return Err(wrong(format!("there is a key of `{}` already", key.user)));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(KeyError::Empty { path: path.to_owned() });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::{KeyLine, Role, read_keys};

    #[test]
    fn a_file_of_keys_holds_no_key_and_is_read_strictly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let line = serde_json::to_string(&KeyLine::new("anna", Role::User, "s", "secret")).unwrap();
        assert!(!line.contains("secret"));
        std::fs::write(&path, format!("{line}\n")).unwrap();
        assert_eq!(read_keys(&path).unwrap()[0].user, "anna");
        std::fs::write(&path, format!("{line}\n{line}\n")).unwrap();
        assert!(read_keys(&path).unwrap_err().to_string().contains(":2: there is a key of `anna`"));
        std::fs::write(&path, line.replace("\"role\"", "\"rule\"")).unwrap();
        assert!(read_keys(&path).unwrap_err().to_string().contains(":1: unknown field `rule`"));
        std::fs::write(&path, "\n").unwrap();
        assert!(read_keys(&path).unwrap_err().to_string().contains("has no keys"));
    }
}
