//! A decoder from a source of tensors and a blueprint.

use std::sync::OnceLock;

use burn::tensor::{Device, Tensor, TensorData};
use ft_adapters::Projection;
use ft_kernels::host::Precision;
use ft_kernels::{AttentionOptions, Format, Packed, SharedBytes};

use super::gguf::GgufSource;
use super::safetensors::Folder;
use super::{Keep, LoadError, Source};
use crate::config::Config;
use crate::decoder::{Decoder, Table};
use crate::families::{FAMILIES, by_gguf, by_hf};
use crate::family::{Blueprint, Family, Layout, RopeScaling};
use crate::layers::{Attention, Block, GateUp, Mlp, Norm, QueryKeyValue, frequencies};

pub(super) fn from_hf(
    source: &Folder,
    config: &Config,
    keep: Keep,
    device: &Device,
) -> Result<Decoder, LoadError> {
    let architecture = config.architecture().unwrap_or("none");
    let family = by_hf(architecture).ok_or_else(|| LoadError::Architecture {
        file: source.file().join("config.json"),
        found: architecture.to_owned(),
        known: known(FAMILIES.iter().flat_map(|family| family.hf)),
    })?;
    let blueprint = (family.blueprint)(config)?;
    check_divisors(config, &blueprint)?;
    // A checkpoint that carries its own head has one, whatever its configuration says.
    let build = Build { source, family, blueprint, keep, device, turn_heads: false };
    build.decoder()
}

/// `LongRoPE` names a divisor for each rotated pair.
fn check_divisors(config: &Config, blueprint: &Blueprint) -> Result<(), LoadError> {
    let pairs = blueprint.rotary_dim / 2;
    for rope in std::iter::once(&blueprint.rope).chain(&blueprint.local_rope) {
        let RopeScaling::LongRope { short, long, .. } = &rope.scaling else { continue };
        for (key, divisors) in [("short_factor", short), ("long_factor", long)] {
            if divisors.len() != pairs {
                let expected = format!("{pairs} numbers, one for each rotated pair");
                return Err(config.wrong(key, expected, divisors.len().to_string()).into());
            }
        }
    }
    Ok(())
}

fn known<'a>(names: impl Iterator<Item = &'a &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

pub(super) fn from_gguf(
    mut source: GgufSource,
    keep: Keep,
    device: &Device,
) -> Result<Decoder, LoadError> {
    let metadata = source.file.metadata();
    let architecture = metadata.require::<&str>("general.architecture")?;
    let path = &source.file().to_owned();
    if metadata.u64("split.count")?.is_some_and(|count| count > 1) {
        return Err(LoadError::Json {
            file: path.to_owned(),
            expected: "a whole model in one file".to_owned(),
            found:
                "one part of a split model; merge the parts with llama.cpp's `gguf-split --merge`"
                    .to_owned(),
        });
    }
    let family = by_gguf(architecture).ok_or_else(|| LoadError::Architecture {
        file: path.to_owned(),
        found: architecture.to_owned(),
        known: known(FAMILIES.iter().map(|family| &family.gguf)),
    })?;
    let missing = |name: &str| LoadError::Missing { file: path.to_owned(), name: name.to_owned() };
    let table =
        source.file.tensor("token_embd.weight").ok_or_else(|| missing("token_embd.weight"))?;
    let vocabulary = usize::try_from(table.rows()).unwrap_or(usize::MAX);
    let tied = source.file.tensor("output.weight").is_none();
    let config = Config::from_gguf(metadata, architecture, tied, vocabulary)?;
    let mut blueprint = (family.blueprint)(&config)?;
    let half = blueprint.rotary_dim / 2;
    if source.file.tensor("rope_freqs.weight").is_some() {
        let factors = source.own_vector("rope_freqs.weight", half)?;
        blueprint.rope.scaling = RopeScaling::Factors(factors);
    }
    if source.file.tensor("rope_factors_short.weight").is_some() {
        let short = source.own_vector("rope_factors_short.weight", half)?;
        let long = source.own_vector("rope_factors_long.weight", half)?;
        blueprint.rope.scaling = config.gguf_long_rope(short, long)?;
    }
    source.post_norms = blueprint.post_norms;
    // llama.cpp keeps the rows of q and k of its `llama` in the order of interleaved pairs.
    let turn_heads = family.written.turned_heads && family.gguf == family.written.gguf;
    Build { source: &source, family, blueprint, keep, device, turn_heads }.decoder()
}

struct Build<'a, S: Source> {
    source: &'a S,
    family: &'static Family,
    blueprint: Blueprint,
    keep: Keep,
    device: &'a Device,
    turn_heads: bool,
}

impl<S: Source> Build<'_, S> {
    fn decoder(self) -> Result<Decoder, LoadError> {
        let blueprint = &self.blueprint;
        let (vocabulary, width) = (blueprint.vocabulary, blueprint.width);
        let table = |name: &str| -> Result<Table, LoadError> {
            let weight = self.source.matrix(&format!("{name}.weight"), vocabulary, width)?;
            Ok(Table { name: name.to_owned(), weight, trained: None })
        };
        let embed_tokens = table("model.embed_tokens")?;
        let lm_head = if blueprint.tied { None } else { Some(table("lm_head")?) };
        let blocks =
            (0..blueprint.layers()).map(|layer| self.block(layer)).collect::<Result<_, _>>()?;
        let norm = self.norm("model.norm", width)?;
        let global_frequencies = frequencies(&blueprint.rope, blueprint.rotary_dim);
        let local_frequencies = match &blueprint.local_rope {
            Some(rope) => frequencies(rope, blueprint.rotary_dim),
            None => global_frequencies.clone(),
        };
        Ok(Decoder {
            family: self.family,
            device: self.device.clone(),
            embed_tokens,
            blocks,
            norm,
            lm_head,
            precision: Precision::EightBit,
            vectors: OnceLock::new(),
            global_frequencies,
            local_frequencies,
            blueprint: self.blueprint,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, LoadError> {
        let mut weight = self.source.vector(&format!("{name}.weight"), width)?;
        if self.blueprint.norm_plus_one {
            for w in &mut weight {
                *w += 1.0;
            }
        }
        let weight = Tensor::from_data(TensorData::new(weight, [width]), self.device);
        Ok(Norm { weight, epsilon: self.blueprint.norm_epsilon })
    }

    /// A projection `[n, k]`; `heads`: its rows are heads that GGUF may have turned.
    fn projection(
        &self,
        name: &str,
        [n, k]: [usize; 2],
        bias: bool,
        heads: Option<usize>,
    ) -> Result<Projection, LoadError> {
        let file_name = format!("{name}.weight");
        let mut weight = self.source.matrix(&file_name, n, k)?;
        let packed = |source| LoadError::Packed {
            file: self.source.file().to_owned(),
            name: file_name.clone(),
            source,
        };
        let order = heads.filter(|_| self.turn_heads).map(|heads| untwisted(n, heads));
        if let Some(order) = &order {
            weight = reordered(&weight, order).map_err(packed)?;
        }
        let is_wide = matches!(weight.format(), Format::F32 | Format::F16 | Format::Bf16);
        if let (Keep::Quantized(format), true) = (self.keep, is_wide) {
            let mut dense = vec![0.0; n * k];
            weight.decode_rows(0..n, &mut dense);
            weight = Packed::quantize(format, n, k, &dense).map_err(packed)?;
        }
        let bias_name = format!("{name}.bias");
        let bias = if bias || self.source.has(&bias_name) {
            let mut values = self.source.vector(&bias_name, n)?;
            if let Some(order) = &order {
                values = order.iter().map(|row| values[*row]).collect();
            }
            Some(Tensor::from_data(TensorData::new(values, [n]), self.device))
        } else {
            None
        };
        Ok(Projection::new(name, weight, bias))
    }

    fn block(&self, layer: usize) -> Result<Block, LoadError> {
        let b = &self.blueprint;
        let (d, f, k) = (b.width, b.mlp_width, b.head_dim);
        let (q_width, kv_width) = (b.heads * k, b.kv_heads * k);
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        let projection = |name: &str, shape| self.projection(&at(name), shape, false, None);
        let norm = |name: &str| self.norm(&at(name), d);
        let head_norm = |name: &str| {
            if b.qk_norm { self.norm(&at(name), k).map(Some) } else { Ok(None) }
        };
        let (qkv, gate_up) = match b.layout {
            Layout::Split => {
                let part = |name: &str, width: usize, heads: Option<usize>| {
                    self.projection(&at(name), [width, d], b.qkv_bias, heads)
                };
                let qkv = QueryKeyValue::Split {
                    q_proj: part("self_attn.q_proj", q_width, Some(b.heads))?,
                    k_proj: part("self_attn.k_proj", kv_width, Some(b.kv_heads))?,
                    v_proj: part("self_attn.v_proj", kv_width, None)?,
                };
                let gate_up = GateUp::Split {
                    gate_proj: projection("mlp.gate_proj", [f, d])?,
                    up_proj: projection("mlp.up_proj", [f, d])?,
                };
                (qkv, gate_up)
            }
            Layout::Fused => (
                QueryKeyValue::Fused {
                    qkv_proj: projection("self_attn.qkv_proj", [q_width + 2 * kv_width, d])?,
                },
                GateUp::Fused { gate_up_proj: projection("mlp.gate_up_proj", [2 * f, d])? },
            ),
        };
        let window = b.windows[layer];
        Ok(Block {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention {
                qkv,
                o_proj: projection("self_attn.o_proj", [d, q_width])?,
                q_norm: head_norm("self_attn.q_norm")?,
                k_norm: head_norm("self_attn.k_norm")?,
                options: AttentionOptions {
                    heads: b.heads,
                    kv_heads: b.kv_heads,
                    head_dim: k,
                    scale: b.attention_scale,
                    window,
                    softcap: b.attention_softcap,
                },
                local: window.is_some(),
            },
            post_attention_norm: b
                .post_norms
                .then(|| norm("post_attention_layernorm"))
                .transpose()?,
            pre_mlp_norm: norm(if b.post_norms {
                "pre_feedforward_layernorm"
            } else {
                "post_attention_layernorm"
            })?,
            mlp: Mlp {
                gate_up,
                down_proj: projection("mlp.down_proj", [d, f])?,
                activation: b.activation,
            },
            post_mlp_norm: b.post_norms.then(|| norm("post_feedforward_layernorm")).transpose()?,
        })
    }
}

/// For each row in half-split order, the row where llama.cpp keeps it: it stores the pairs `(i, i + half)` of
/// a head side by side.
pub(crate) fn untwisted(rows: usize, heads: usize) -> Vec<usize> {
    let head = rows / heads;
    let half = head / 2;
    (0..rows)
        .map(|row| {
            let (base, within) = (row / head * head, row % head);
            base + (within % half) * 2 + within / half
        })
        .collect()
}

/// The same blocks with whole rows in another order.
fn reordered(weight: &Packed, order: &[usize]) -> Result<Packed, ft_kernels::PackedError> {
    let blocks = weight.blocks().expect("a file's own formats are blocks");
    let row = blocks.len() / order.len();
    let mut bytes = Vec::with_capacity(blocks.len());
    for from in order {
        bytes.extend_from_slice(&blocks[from * row..(from + 1) * row]);
    }
    Packed::from_blocks(weight.format(), weight.rows(), weight.cols(), SharedBytes::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::untwisted;

    #[test]
    fn rows_of_a_head_come_back_from_side_by_side_to_halves() {
        // Two heads of six rows: llama.cpp's order of a head is 0 3 1 4 2 5.
        let stored = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
        let back: Vec<usize> = untwisted(12, 2).into_iter().map(|at| stored[at]).collect();
        assert_eq!(back, (0..12).collect::<Vec<_>>());
    }
}
