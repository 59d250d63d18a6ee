//! What is served: a base, its adapters, its text side.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use ft_datasets::chat::Conversation;
use ft_datasets::encode::{ChatEncoder, Masking, Prompt};
use ft_datasets::template::{RenderOptions, Template};
use ft_datasets::tokenizer::Tokenizer;
use ft_model::Decoder;
use ft_model::engine::{Service, Submit};
use serde_json::{Map, Value};

use crate::error::Refusal;
use crate::grammar::Grammars;

/// An adapter as it is known to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// What clients call it.
    pub name: String,
    /// SHA-256 of its files.
    pub digest: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
}

/// Puts the adapter of a folder beside the base: the decoder, and the hash of the adapter's files.
pub type Loader = Box<dyn Fn(&Path) -> Result<(Decoder, String), String> + Send + Sync>;

/// A model that answers.
pub struct Model {
    /// What clients call the base.
    pub name: String,
    /// SHA-256 of what was loaded.
    pub digest: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Bytes of its weights.
    pub bytes: usize,
    /// Its family, as its files name it.
    pub family: String,
    /// Where requests go.
    pub engine: Submit,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// What makes conversations into text, or why there is none.
    pub template: Result<Template, String>,
    /// Loads adapters.
    pub loader: Loader,
    /// The only folder that adapters are loaded from while serving.
    pub adapter_root: Option<PathBuf>,
    /// Most tokens of an answer whose request does not say.
    pub default_max_tokens: usize,
    /// Ends with the model.
    _service: Service,
    adapters: RwLock<Vec<Adapter>>,
    grammars: OnceLock<Result<Arc<Grammars>, String>>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a model is made of.
#[expect(missing_debug_implementations, reason = "parts on their way into a model")]
pub struct Parts {
    /// See [`Model`].
    pub name: String,
    /// See [`Model`].
    pub digest: String,
    /// See [`Model`].
    pub bytes: usize,
    /// See [`Model`].
    pub family: String,
    /// What answers.
    pub service: Service,
    /// See [`Model`].
    pub tokenizer: Tokenizer,
    /// See [`Model`].
    pub template: Result<Template, String>,
    /// See [`Model`].
    pub loader: Loader,
    /// See [`Model`].
    pub adapter_root: Option<PathBuf>,
    /// See [`Model`].
    pub default_max_tokens: usize,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Model {
    /// From its parts.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            name,
            digest,
            bytes,
            family,
            service,
            tokenizer,
            template,
            loader,
            adapter_root,
            default_max_tokens,
        } = parts;
        Self {
            name,
            digest,
            created: now(),
            bytes,
            family,
            engine: service.submit().clone(),
            _service: service,
            tokenizer,
            template,
            loader,
            adapter_root,
            default_max_tokens,
            adapters: RwLock::default(),
            grammars: OnceLock::new(),
        }
    }

    /// Loads the adapter of a folder under a name.
    ///
    /// # Errors
    ///
    /// In words, if the name is none or the adapter does not fit.
    pub fn load_adapter(&self, name: &str, folder: &Path) -> Result<(), String> {
        check_name(name)?;
        if name == self.name {
            return Err(format!("`{name}` is the base's name"));
        }
        let (decoder, digest) = (self.loader)(folder)?;
        let adapter = Adapter { name: name.to_owned(), digest, created: now() };
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        adapters.retain(|known| known.name != name);
        adapters.push(adapter);
        self.engine.load(name, decoder);
        Ok(())
    }

    /// Loads an adapter while serving: a folder by its name inside the folder for adapters.
    pub(crate) fn load_beside(&self, name: &str, folder: &str) -> Result<(), Refusal> {
        let Some(root) = &self.adapter_root else {
            let message =
                "this server was started without `--adapter-root`, so it loads no adapters";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        };
        check_name(folder).map_err(|what| Refusal::field("lora_path", what))?;
        let path = root.join(folder);
        let inside = path.canonicalize().ok().zip(root.canonicalize().ok());
        if !inside.is_some_and(|(path, root)| path.starts_with(root)) {
            return Err(Refusal::field(
                "lora_path",
                format_args!("there is no adapter `{folder}`"),
            ));
        }
        self.load_adapter(name, &path).map_err(|what| Refusal::field("lora_path", what))
    }

    /// Removes an adapter; false if there is none of that name.
    pub(crate) fn unload_adapter(&self, name: &str) -> bool {
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        adapters.retain(|known| known.name != name);
        self.engine.unload(name)
    }

    /// The adapters, in the order in which they were loaded.
    pub fn adapters(&self) -> Vec<Adapter> {
        self.adapters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All names that clients may ask for.
    pub(crate) fn names(&self) -> Vec<String> {
        let adapters = self.adapters().into_iter().map(|adapter| adapter.name);
        std::iter::once(self.name.clone()).chain(adapters).collect()
    }

    /// The adapter that a client means, or none for the base; Ollama's clients add `:latest`.
    pub(crate) fn adapter(&self, name: &str) -> Result<Option<Adapter>, Refusal> {
        for name in [name, name.strip_suffix(":latest").unwrap_or(name)] {
            if name == self.name {
                return Ok(None);
            }
            if let Some(adapter) = self.adapters().into_iter().find(|known| known.name == name) {
                return Ok(Some(adapter));
            }
        }
        Err(Refusal::no_model(name, &self.names()))
    }

    /// The grammars of this vocabulary; made when first needed.
    pub(crate) fn grammars(&self) -> Result<&Arc<Grammars>, Refusal> {
        let vocabulary = self.engine.blueprint().vocabulary;
        let made =
            self.grammars.get_or_init(|| Grammars::new(&self.tokenizer, vocabulary).map(Arc::new));
        made.as_ref().map_err(|what| Refusal::field("response_format", what))
    }

    /// The prompt of a conversation's next turn.
    pub(crate) fn prompt(
        &self,
        conversation: &Conversation,
        variables: Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<Prompt, Refusal> {
        let template = self.template.as_ref().map_err(|what| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("this model is not made for chat: {what}"),
            )
        })?;
        // The template's clock stands still, as in training: the same conversation is the same
        // prompt on any day.
        let options = RenderOptions { variables, ..RenderOptions::default() };
        let refused = |error: ft_datasets::encode::EncodeError| Refusal::field("messages", error);
        let encoder = ChatEncoder::new(&self.tokenizer, template, options, Masking::default())
            .map_err(refused)?;
        encoder.render_prompt(conversation, add_generation_prompt).map_err(refused)
    }
}

/// Names of adapters and of their folders are plain: no path leads out of anywhere.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!(
            "`{}` is no name: expected letters, digits and `-_.:@`, not beginning with a point",
            name.chars().take(64).collect::<String>()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_lead_nowhere() {
        assert!(check_name("support-v2.1").is_ok());
        for wrong in ["", "../x", "a/b", ".hidden", "a\\b", "a b", "ä"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
