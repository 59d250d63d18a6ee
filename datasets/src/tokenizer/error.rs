//! What can be wrong with a tokenizer's files. Every error names the file.

use std::path::PathBuf;

/// A tokenizer that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", file.display())]
pub struct TokenizerError {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: TokenizerFault,
}

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerFault {
    /// The operating system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is not the JSON that it should be.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A key of a GGUF is missing or has the wrong type.
    #[error("{0}")]
    Gguf(#[from] Box<ft_gguf::GgufError>),
    /// The `tokenizers` library refused the file.
    #[error("not a tokenizer: {0}")]
    Library(String),
    /// The folder has no tokenizer.
    #[error(
        "no `tokenizer.json` here\n  = help: SentencePiece models and `vocab.json` with `merges.txt` have to be converted to `tokenizer.json` first"
    )]
    NoTokenizer,
    /// The file is larger than any tokenizer.
    #[error("{bytes} bytes; a tokenizer file has at most {most}")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
        /// The largest that is read.
        most: u64,
    },
    /// An id is no row of any embedding.
    #[error("token `{token}` has id {id}; ids end at {most}")]
    IdTooLarge {
        /// Its text.
        token: String,
        /// Its id.
        id: u64,
        /// The largest allowed.
        most: u64,
    },
    /// Two tokens share an id.
    #[error("tokens `{first}` and `{second}` both have id {id}")]
    DuplicateId {
        /// The id.
        id: u32,
        /// The token that had it.
        first: String,
        /// The token that wanted it too.
        second: String,
    },
    /// A byte-pair vocabulary without its merges.
    #[error("a byte-pair vocabulary of {tokens} tokens without merges")]
    NoMerges {
        /// How many tokens there are.
        tokens: usize,
    },
    /// A merge makes a token that does not exist.
    #[error("merge `{merge}` (number {index}) makes no token of the vocabulary")]
    BadMerge {
        /// As it stands in the file.
        merge: String,
        /// Its position.
        index: usize,
    },
    /// A pattern that nobody can need.
    #[error("a pattern of {bytes} bytes; at most {most} are compiled")]
    LongPattern {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        most: usize,
    },
    /// A pattern that may take time exponential in the length of the text.
    #[error("the pattern `{pattern}` repeats a group that itself repeats, which can take for ever")]
    SlowPattern {
        /// The pattern, cut if long.
        pattern: String,
    },
    /// A kind of tokenizer that is not read here.
    #[error("tokenizer model `{found}`; expected one of {expected}")]
    UnknownModel {
        /// The kind found.
        found: String,
        /// The kinds that are read.
        expected: &'static str,
    },
    /// A pre-tokenizer that is not known here.
    #[error("`tokenizer.ggml.pre` is `{found}`; known are {known}{}", help(nearest.as_deref()))]
    UnknownPre {
        /// The name found.
        found: String,
        /// All known names.
        known: String,
        /// The nearest known name, if near.
        nearest: Option<String>,
    },
    /// Arrays that should run along the vocabulary do not.
    #[error("`{key}` has {found} entries for {expected} tokens")]
    ArrayLength {
        /// The key of the array.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The length of the vocabulary.
        expected: usize,
    },
    /// A special token's id is outside of the vocabulary.
    #[error("`{key}` is {id}, but the vocabulary has {tokens} tokens")]
    SpecialId {
        /// The key.
        key: String,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        tokens: usize,
    },
    /// A special token is not in the vocabulary.
    #[error("`{key}` is `{token}`, which is not in the vocabulary of {tokens} tokens{}", help(nearest.as_deref()))]
    SpecialToken {
        /// The key, `eos_token` for example.
        key: String,
        /// The text wanted.
        token: String,
        /// Size of the vocabulary.
        tokens: usize,
        /// The nearest special token, if near.
        nearest: Option<String>,
    },
    /// A key of `special_tokens` that no tokenizer has.
    #[error(
        "unknown special token `{key}`; known are `bos_token`, `eos_token`, `pad_token`, `unk_token`"
    )]
    SpecialKey {
        /// The key.
        key: String,
    },
    /// A tokenizer that llama.cpp has nothing for.
    #[error(
        "a GGUF cannot express this tokenizer: {what}\n  = help: keep the folder that `ft merge` writes, which has \
         the tokenizer as it is"
    )]
    Inexpressible {
        /// What it has that others have not.
        what: String,
    },
    /// The model has fewer embedding rows than the vocabulary has ids.
    #[error(
        "token `{token}` has id {id}, but the model has {rows} embedding rows\n  = help: this tokenizer belongs to another model, or tokens were added to it"
    )]
    BeyondRows {
        /// The first token without a row.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding.
        rows: usize,
    },
}

/// The help line of a near name.
fn help(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("\n  = help: did you mean `{name}`?")).unwrap_or_default()
}

impl TokenizerFault {
    /// The fault with its file.
    pub(crate) fn at(self, file: impl Into<PathBuf>) -> TokenizerError {
        TokenizerError { file: file.into(), fault: self }
    }
}

impl From<ft_gguf::GgufError> for TokenizerFault {
    fn from(error: ft_gguf::GgufError) -> Self {
        Self::Gguf(Box::new(error))
    }
}
