//! Older and other spellings of keys that are implemented.

use super::{Key, renamed};

pub(super) const KEYS: &[Key] = &[
    renamed("revision_of_model", "model_revision"),
    renamed("overrides_of_model_config", "model_config"),
    renamed("noisy_embedding_alpha", "neftune_noise_alpha"),
    renamed("evaluation_strategy", "eval_strategy"),
];
