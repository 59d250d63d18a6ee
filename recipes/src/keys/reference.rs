//! The reference of all keys, as Markdown.

/// `recipes/README.md`.
pub fn reference() -> String {
    String::new()
}
