//! An adapter alone, as llama.cpp loads it over a GGUF base.
//!
//! For each adapted matrix `NAME.weight.lora_a` (`[r, k]`) and `NAME.weight.lora_b` (`[n, r]`). The reader
//! multiplies by `adapter.lora.alpha / r`, r of each matrix its own; where one number cannot say all scales, the rest
//! is folded into B.
//!
//! Source: `convert_lora_to_gguf.py` and `llama-adapter.cpp`, for what is read.

use std::path::Path;

use ft_adapters::Projection;
use ft_gguf::{Kind, Metadata, TensorSpec, Writer};
use ft_kernels::{Format, Packed};

use super::ExportError;
use super::gguf::encoded;
use super::pieces::{floats, turned};
use crate::decoder::Decoder;
use crate::weights::names::gguf_name;

/// The tensors of an adapter's file.
#[derive(Debug)]
pub struct AdapterPlan {
    /// `adapter.lora.alpha`.
    pub alpha: f32,
    /// Name, dimensions (row length first) and numbers.
    tensors: Vec<(String, [usize; 2], Vec<f32>)>,
}

impl AdapterPlan {
    /// Adapted matrices.
    pub fn len(&self) -> usize {
        self.tensors.len() / 2
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// Takes the adapter off a decoder.
///
/// # Errors
///
/// [`ExportError::Adapter`] for what such a file cannot hold: DoRA, whole tables, nothing at all.
pub fn adapter_plan(decoder: &Decoder) -> Result<AdapterPlan, ExportError> {
    let whole = [Some(&decoder.embed_tokens), decoder.lm_head.as_ref()].into_iter().flatten();
    if let Some(table) = whole.into_iter().find(|table| table.trained.is_some()) {
        return Err(ExportError::Adapter {
            what: format!("`{}`, which was trained whole", table.name),
            help: "export the merged model: leave `--adapter-only` out",
        });
    }
    let adapted: Vec<&Projection> =
        decoder.projections().into_iter().filter(|it| it.adapter.is_some()).collect();
    let scales = adapted.iter().filter_map(|projection| projection.adapter.as_ref());
    if scales.clone().any(|adapter| adapter.magnitude.is_some()) {
        return Err(ExportError::Adapter {
            what: "DoRA's magnitudes".to_owned(),
            help: "export the merged model (leave `--adapter-only` out), or serve base and adapter with `ft`",
        });
    }
    let times_rank = |scale: f32, rank: usize| scale * rank as f32;
    let Some(alpha) = scales.map(|it| times_rank(it.scale, it.folded_rank())).next() else {
        return Err(ExportError::Adapter {
            what: "nothing: no matrix is adapted".to_owned(),
            help: "name a run or an adapter",
        });
    };
    // A reader takes alpha 0 as scale 1.
    let alpha = if alpha == 0.0 { 1.0 } else { alpha };
    let mut tensors = Vec::new();
    for projection in adapted {
        let Some(adapter) = &projection.adapter else { continue };
        let name = format!("{}.weight", projection.name);
        let own =
            gguf_name(&name, decoder.blueprint.post_norms).ok_or_else(|| ExportError::Adapter {
                what: format!("`{name}`, which GGUF has no name for"),
                help: "export the merged model",
            })?;
        let rank = adapter.folded_rank();
        let (a, b) = adapter.folded();
        let (a, mut b) = (floats(a), floats(b));
        let rest = times_rank(adapter.scale, rank) / alpha;
        if (rest - 1.0).abs() > f32::EPSILON {
            for value in &mut b {
                *value *= rest;
            }
        }
        let heads = match projection.name.rsplit('.').next() {
            Some("q_proj") => Some(decoder.blueprint.heads),
            Some("k_proj") => Some(decoder.blueprint.kv_heads),
            _ => None,
        };
        if let Some(heads) = heads.filter(|_| decoder.family.written.turned_heads) {
            b = turned(&b, rank, projection.outputs() / heads);
        }
        tensors.push((format!("{own}.lora_a"), [projection.inputs(), rank], a));
        tensors.push((format!("{own}.lora_b"), [rank, projection.outputs()], b));
    }
    Ok(AdapterPlan { alpha, tensors })
}

/// Writes the file; `keys` are completed with what an adapter's must say.
///
/// # Errors
///
/// If a number is beyond `kind` (F32, F16 or BF16), or the disk refuses.
pub fn write_adapter(
    path: &Path,
    mut keys: Metadata,
    architecture: &str,
    plan: &AdapterPlan,
    format: Format,
) -> Result<(), ExportError> {
    keys.insert("general.architecture", architecture);
    keys.insert("general.type", "adapter");
    keys.insert("adapter.type", "lora");
    keys.insert("adapter.lora.alpha", plan.alpha);
    let kind = format.ggml_type().and_then(Kind::from_u32).unwrap_or(Kind::F32);
    let spec = |(name, dims, _): &(String, [usize; 2], Vec<f32>)| {
        TensorSpec::new(name.clone(), dims.map(|dim| dim as u64), kind)
    };
    let specs: Vec<TensorSpec> = plan.tensors.iter().map(spec).collect();
    let mut writer = Writer::create(path, &keys, &specs)?;
    for (name, [cols, rows], values) in &plan.tensors {
        let packed: Packed = encoded(format, *rows, *cols, values, None, name)?;
        writer.write(name, packed.blocks().expect("plain numbers are blocks"))?;
    }
    Ok(writer.finish()?)
}
