//! The optimiser under Axolotl's many spellings.

use crate::fields::{BELOW_ONE, Field, Fields, NOT_NEGATIVE, POSITIVE};
use crate::log::Log;
use crate::note::NoteKind;
use crate::sections::{OptimizerKind, OptimizerSection};
use crate::suggest::did_you_mean;

/// Spelling, what is kept for it, and a note if that is not what the spelling says.
#[rustfmt::skip] // one spelling a line
pub(crate) const SPELLINGS: &[(&str, OptimizerKind, &str)] = &[
    ("adamw_torch", OptimizerKind::AdamW, ""),
    ("adamw_torch_fused", OptimizerKind::AdamW, ""),
    ("adamw", OptimizerKind::AdamW, ""),
    ("adamw_hf", OptimizerKind::AdamW, ""),
    ("adamw_apex_fused", OptimizerKind::AdamW, ""),
    ("adamw_torch_xla", OptimizerKind::AdamW, ""),
    ("adamw_torch_npu_fused", OptimizerKind::AdamW, ""),
    ("adamw_anyprecision", OptimizerKind::AdamW, "AdamW with 32-bit state"),
    ("optimi_adamw", OptimizerKind::AdamW, "AdamW with 32-bit state; adapters are 32-bit floats and need no Kahan sums"),
    ("flash_adamw", OptimizerKind::AdamW, "AdamW with 32-bit state"),
    ("paged_adamw", OptimizerKind::AdamW, "AdamW with 32-bit state, which is small for an adapter and is not paged"),
    ("paged_adamw_32bit", OptimizerKind::AdamW, "AdamW with 32-bit state, which is small for an adapter and is not paged"),
    ("adamw_bnb_8bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state"),
    ("adamw_8bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state"),
    ("adamw_torch_8bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state"),
    ("ao_adamw_8bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state"),
    ("paged_adamw_8bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state, not paged"),
    ("adamw_torch_4bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state; state in 4 bits is not kept"),
    ("ao_adamw_4bit", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state; state in 4 bits is not kept"),
    ("ao_adamw_fp8", OptimizerKind::AdamW8bit, "AdamW with block-wise 8-bit state"),
    ("lion", OptimizerKind::Lion, ""),
    ("lion_pytorch", OptimizerKind::Lion, ""),
    ("lion_32bit", OptimizerKind::Lion, ""),
    ("flash_lion", OptimizerKind::Lion, "Lion with 32-bit state"),
    ("lion_8bit", OptimizerKind::Lion, "Lion with 32-bit state"),
    ("paged_lion_32bit", OptimizerKind::Lion, "Lion with 32-bit state, not paged"),
    ("paged_lion_8bit", OptimizerKind::Lion, "Lion with 32-bit state, not paged"),
    ("muon", OptimizerKind::Muon, ""),
    ("sgd", OptimizerKind::Sgd, ""),
    ("flash_sgd", OptimizerKind::Sgd, ""),
];

/// Optimisers of Axolotl and transformers that are not built: refused by name.
#[rustfmt::skip] // a list of words
pub(crate) const REFUSED: &[&str] = &[
    "adafactor", "adagrad", "adalomo", "ademamix", "ademamix_8bit", "adopt_adamw", "apollo_adamw",
    "apollo_adamw_layerwise", "came_pytorch", "dion", "flash_adam", "flash_sgdw",
    "galore_adafactor", "galore_adafactor_layerwise", "galore_adamw", "galore_adamw_8bit",
    "galore_adamw_8bit_layerwise", "galore_adamw_layerwise", "grokadamw", "lomo",
    "paged_ademamix_32bit", "paged_ademamix_8bit", "q_galore_adamw8bit", "rmsprop", "rmsprop_bnb",
    "rmsprop_bnb_32bit", "rmsprop_bnb_8bit", "schedule_free_adamw", "schedule_free_radam",
    "schedule_free_sgd", "sinkgd", "stable_adamw",
];

pub(super) fn read(fields: &Fields<'_>, log: &Log<'_>) -> OptimizerSection {
    let (kind, spelling) = fields
        .get("optimizer")
        .and_then(kind)
        .unwrap_or((OptimizerKind::AdamW, "adamw_torch_fused".to_owned()));
    if fields.get("learning_rate").is_none() {
        log.missing(
            "`learning_rate` is missing",
            Some("`learning_rate: 2e-4` is usual for LoRA".to_owned()),
        );
    }
    let learning_rate = fields.number("learning_rate", POSITIVE).unwrap_or(2e-4);
    let loraplus_ratio = fields.number("loraplus_lr_ratio", POSITIVE);
    OptimizerSection {
        kind,
        spelling,
        learning_rate,
        weight_decay: fields.number("weight_decay", NOT_NEGATIVE).unwrap_or(0.0),
        beta1: fields.number("adam_beta1", BELOW_ONE).unwrap_or(0.9),
        beta2: fields.number("adam_beta2", BELOW_ONE).unwrap_or(0.999),
        epsilon: fields.number("adam_epsilon", POSITIVE).unwrap_or(1e-8),
        embedding_learning_rate: embedding_rate(fields, learning_rate, loraplus_ratio.is_some()),
        loraplus_ratio,
    }
}

fn kind(field: &Field<'_>) -> Option<(OptimizerKind, String)> {
    let word = field.text()?;
    if let Some((spelling, kind, kept)) = SPELLINGS.iter().find(|(name, ..)| *name == word) {
        if !kept.is_empty() {
            field.note(NoteKind::Mapped, format!("`{word}`: {kept}"));
        }
        return Some((*kind, (*spelling).to_owned()));
    }
    if REFUSED.contains(&word) {
        field.wrong(
            format!("optimiser `{word}` is not done here; there are AdamW, Lion, Muon and SGD"),
            Some("use `adamw_torch`, or `adamw_bnb_8bit` to save memory".to_owned()),
        );
    } else {
        let known = SPELLINGS.iter().map(|(name, ..)| *name).chain(REFUSED.iter().copied());
        field.wrong(
            format!("no optimiser is called `{word}`"),
            did_you_mean(word, known)
                .or_else(|| Some("use `adamw_torch`, `lion`, `muon` or `sgd`".to_owned())),
        );
    }
    None
}

/// The rate of embeddings that are trained, if it differs from the others'.
fn embedding_rate(fields: &Fields<'_>, learning_rate: f64, loraplus: bool) -> Option<f64> {
    let direct = fields.number("embedding_lr", POSITIVE);
    let scaled = fields.number("embedding_lr_scale", POSITIVE).map(|scale| scale * learning_rate);
    let of_loraplus = fields.number("loraplus_lr_embedding", POSITIVE);
    if let Some(field) = fields.get("loraplus_lr_embedding").filter(|_| !loraplus) {
        field.note(NoteKind::NoEffect, "it goes with `loraplus_lr_ratio`, which is not set");
    }
    if let Some(field) = fields.get("embedding_lr_scale").filter(|_| direct.is_some()) {
        field.unwanted(
            "`embedding_lr` and `embedding_lr_scale` both set the embeddings' rate",
            Some("keep one".to_owned()),
        );
    }
    if loraplus {
        for key in ["embedding_lr", "embedding_lr_scale"] {
            if let Some(field) = fields.get(key) {
                field.unwanted(
                    format!("with `loraplus_lr_ratio` the embeddings' rate is `loraplus_lr_embedding`, not `{key}`"),
                    Some(format!("remove `{key}`")),
                );
            }
        }
        return Some(of_loraplus.unwrap_or(1e-6));
    }
    direct.or(scaled)
}
