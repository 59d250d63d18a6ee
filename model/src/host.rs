//! New tokens through the decoder on a CPU: the same steps as in `decoder.rs` and `layers/`, on slices.
//!
//! A token alone is some hundred small steps. Here they write into buffers that stay, and the threads wait for the next one
//! instead of being woken for it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use ft_adapters::{Adapter, Projection};
use ft_kernels::KeyValues;
use ft_kernels::host::{
    Floats, LowRank, Multiplier, Precision, Product, add, add_low_rank, add_to_rows, attend, embed,
    gated_activation, is_host, rms_norm, rope, scale_rows, softcap,
};

use crate::decoder::{Cache, Decoder};
use crate::layers::{Block, Frequencies, GateUp, Norm, QueryKeyValue};

/// The frozen vectors of a decoder.
#[derive(Debug)]
pub(crate) struct Vectors {
    layers: Vec<LayerVectors>,
    norm: NormVector,
}

#[derive(Debug)]
struct LayerVectors {
    input: NormVector,
    q_norm: Option<NormVector>,
    k_norm: Option<NormVector>,
    post_attention: Option<NormVector>,
    pre_mlp: NormVector,
    post_mlp: Option<NormVector>,
    /// Of all projections, in their order.
    biases: Vec<Option<Vec<f32>>>,
}

#[derive(Debug)]
struct NormVector {
    weight: Vec<f32>,
    epsilon: f32,
}

/// A tensor lies on another device.
#[derive(Debug)]
struct Elsewhere;

fn vector(tensor: &Tensor<1>) -> Result<Vec<f32>, Elsewhere> {
    Ok(Floats::of(tensor).ok_or(Elsewhere)?.to_vec())
}

impl NormVector {
    fn of(norm: &Norm) -> Result<Self, Elsewhere> {
        Ok(Self { weight: vector(&norm.weight)?, epsilon: norm.epsilon })
    }

    fn apply(&self, x: &[f32], y: &mut Vec<f32>) {
        y.resize(x.len(), 0.0);
        rms_norm(x, &self.weight, self.epsilon, y);
    }

    fn apply_in_place(&self, x: &mut Vec<f32>, spare: &mut Vec<f32>) {
        self.apply(x, spare);
        std::mem::swap(x, spare);
    }
}

impl Vectors {
    fn of(decoder: &Decoder) -> Result<Self, Elsewhere> {
        let maybe = |norm: &Option<Norm>| norm.as_ref().map(NormVector::of).transpose();
        let layer = |block: &Block| {
            let bias = |projection: &&Projection| projection.bias.as_ref().map(vector).transpose();
            Ok(LayerVectors {
                input: NormVector::of(&block.input_layernorm)?,
                q_norm: maybe(&block.self_attn.q_norm)?,
                k_norm: maybe(&block.self_attn.k_norm)?,
                post_attention: maybe(&block.post_attention_norm)?,
                pre_mlp: NormVector::of(&block.pre_mlp_norm)?,
                post_mlp: maybe(&block.post_mlp_norm)?,
                biases: block.projections().iter().map(bias).collect::<Result<_, _>>()?,
            })
        };
        let layers = decoder.blocks.iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Self { layers, norm: NormVector::of(&decoder.norm)? })
    }
}

/// A part of the time of a pass.
#[derive(Clone, Copy)]
enum Part {
    Products,
    Attention,
    Between,
    Head,
}

/// Their names.
const PARTS: [&str; 4] = ["products of blocks", "attention", "norms, gates and the like", "head"];

/// Measures parts one after another.
struct Clock {
    last: Instant,
    parts: [Duration; PARTS.len()],
}

/// Ends a part of the time, if it is measured.
fn lap(clock: &mut Option<Clock>, part: Part) {
    if let Some(clock) = clock {
        let now = Instant::now();
        clock.parts[part as usize] += now - clock.last;
        clock.last = now;
    }
}

/// Does some work and says how long this thread was in each part of reading tokens on a CPU.
pub fn measured<R>(work: impl FnOnce() -> R) -> (R, Vec<(&'static str, Duration)>) {
    let clock = Clock { last: Instant::now(), parts: [Duration::ZERO; PARTS.len()] };
    WORKSPACE.with_borrow_mut(|workspace| workspace.clock = Some(clock));
    let done = work();
    let clock = WORKSPACE.with_borrow_mut(|workspace| workspace.clock.take());
    let parts = clock.map_or([Duration::ZERO; PARTS.len()], |clock| clock.parts);
    (done, PARTS.into_iter().zip(parts).collect())
}

/// Buffers of a pass.
#[derive(Default)]
struct Workspace {
    ids: Vec<u32>,
    /// Cosines and sines `[T, half]` of layers that see everything, and of those with a window.
    angles: [[Vec<f32>; 2]; 2],
    /// The residual stream, `[T, D]`.
    x: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// What a fused projection writes, before it is taken apart.
    fused: Vec<f32>,
    y: Vec<f32>,
    spare: Vec<f32>,
    /// Of the rows whose logits are wanted, after the last norm.
    hidden: Vec<f32>,
    multiplier: Multiplier,
    clock: Option<Clock>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// [`Decoder::read_rows`] into `hidden [rows, D]`. False, and nothing done, if the decoder does not lie in host memory.
pub(crate) fn read_rows(
    decoder: &Decoder,
    sequences: &mut [(&mut Cache, &[u32])],
    rows: &[u32],
    hidden: &mut Vec<f32>,
) -> bool {
    let Some(vectors) = vectors(decoder) else { return false };
    // A table that is trained is a tensor of the graph's.
    if decoder.embed_tokens.trained.is_some() {
        return false;
    }
    WORKSPACE.with_borrow_mut(|workspace| {
        if let Some(clock) = &mut workspace.clock {
            clock.last = Instant::now();
        }
        let pass = Pass { decoder, vectors: &vectors, rows, ends_early: ends_early(decoder) };
        pass.read(sequences, workspace);
        vectors.norm.apply(&workspace.x, hidden);
        lap(&mut workspace.clock, Part::Between);
    });
    true
}

/// [`Decoder::read_logits`]. False, and nothing done, where [`read_rows`] or [`logits`] would do nothing.
pub(crate) fn read_logits(
    decoder: &Decoder,
    sequences: &mut [(&mut Cache, &[u32])],
    rows: &[u32],
    out: &mut Vec<f32>,
) -> bool {
    if decoder.head_is_trained() {
        return false;
    }
    let mut hidden = WORKSPACE.with_borrow_mut(|workspace| std::mem::take(&mut workspace.hidden));
    let done = read_rows(decoder, sequences, rows, &mut hidden) && logits(decoder, &hidden, out);
    WORKSPACE.with_borrow_mut(|workspace| workspace.hidden = hidden);
    done
}

/// [`Decoder::next_logits`] of `hidden [rows, D]`. False, and nothing done, if the head is trained.
pub(crate) fn logits(decoder: &Decoder, hidden: &[f32], logits: &mut Vec<f32>) -> bool {
    let table = decoder.head_table();
    if table.trained.is_some() {
        return false;
    }
    let rows = hidden.len() / decoder.blueprint.width;
    logits.resize(rows * table.weight.rows(), 0.0);
    WORKSPACE.with_borrow_mut(|workspace| {
        let mut products = [Product { weight: &table.weight, y: logits }];
        if let Some(clock) = &mut workspace.clock {
            clock.last = Instant::now();
        }
        workspace.multiplier.multiply(hidden, decoder.precision, &mut products);
        lap(&mut workspace.clock, Part::Head);
    });
    if let Some(cap) = decoder.blueprint.logit_softcap {
        softcap(cap, logits);
    }
    true
}

fn vectors(decoder: &Decoder) -> Option<Arc<Vectors>> {
    if !is_host(&decoder.device) {
        return None;
    }
    if let Some(vectors) = decoder.vectors.get() {
        return Some(Arc::clone(vectors));
    }
    let vectors = Arc::new(Vectors::of(decoder).ok()?);
    Some(Arc::clone(decoder.vectors.get_or_init(|| vectors)))
}

struct Pass<'a> {
    decoder: &'a Decoder,
    vectors: &'a Vectors,
    /// The tokens whose hidden states are wanted.
    rows: &'a [u32],
    /// Whether the others only give their keys and values in the last block.
    ends_early: bool,
}

/// Whether the last block may go on with some tokens alone: numbers do not depend on how many there are. Exact sums of few rows and
/// of many differ.
fn ends_early(decoder: &Decoder) -> bool {
    let lays = |projection: &Projection| projection.weight.lay();
    decoder.precision == Precision::EightBit
        && decoder.blocks.last().is_some_and(|block| {
            let gate_up = match &block.mlp.gate_up {
                GateUp::Split { gate_proj, up_proj } => lays(gate_proj) && lays(up_proj),
                GateUp::Fused { gate_up_proj } => lays(gate_up_proj),
            };
            lays(&block.self_attn.o_proj) && gate_up && lays(&block.mlp.down_proj)
        })
}

/// Keeps these rows of `x [T, width]`.
fn keep(rows: &[u32], width: usize, x: &mut Vec<f32>, spare: &mut Vec<f32>) {
    spare.clear();
    for row in rows {
        let at = *row as usize * width;
        spare.extend_from_slice(&x[at..at + width]);
    }
    // Not swapped: each buffer keeps its room for the next pass.
    x.clear();
    x.extend_from_slice(spare);
}

/// A buffer of so many numbers, of which the old ones are of no meaning.
fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

impl Pass<'_> {
    /// All blocks: leaves the residual stream of the wanted tokens in `x`.
    fn read(&self, sequences: &mut [(&mut Cache, &[u32])], workspace: &mut Workspace) {
        let decoder = self.decoder;
        let blueprint = &decoder.blueprint;
        let frequencies = [&decoder.global_frequencies, &decoder.local_frequencies];
        workspace.ids.clear();
        for (angles, frequencies) in workspace.angles.iter_mut().zip(frequencies) {
            let [cos, sin] = angles;
            cos.clear();
            sin.clear();
            for (cache, new) in &*sequences {
                frequencies.add_angles(cache.tokens..cache.tokens + new.len(), cos, sin);
            }
        }
        for (_, new) in &*sequences {
            assert!(!new.is_empty(), "a sequence reads at least one token");
            workspace.ids.extend_from_slice(new);
        }
        let x = fit(&mut workspace.x, workspace.ids.len() * blueprint.width);
        embed(&workspace.ids, &decoder.embed_tokens.weight, blueprint.embedding_scale, x);
        for layer in 0..decoder.blocks.len() {
            self.block(layer, sequences, workspace);
        }
        if !self.ends_early {
            keep(self.rows, blueprint.width, &mut workspace.x, &mut workspace.spare);
        }
        for (cache, new) in sequences {
            cache.tokens += new.len();
        }
    }

    fn block(&self, layer: usize, sequences: &mut [(&mut Cache, &[u32])], w: &mut Workspace) {
        let (block, vectors) = (&self.decoder.blocks[layer], &self.vectors.layers[layer]);
        vectors.input.apply(&w.x, &mut w.normed);
        self.attention(layer, sequences, w);
        if let Some(norm) = &vectors.post_attention {
            norm.apply_in_place(&mut w.y, &mut w.spare);
        }
        add(&w.y, &mut w.x);

        vectors.pre_mlp.apply(&w.x, &mut w.normed);
        let tokens = w.x.len() / self.decoder.blueprint.width;
        let width = block.mlp.down_proj.inputs();
        lap(&mut w.clock, Part::Between);
        let (gate, up) = (fit(&mut w.gate, tokens * width), fit(&mut w.up, tokens * width));
        let (x, multiplier, precision) = (&w.normed, &mut w.multiplier, self.decoder.precision);
        let biases = vectors.biases.as_slice();
        let first = block.projections_before_mlp();
        let down_bias = match &block.mlp.gate_up {
            GateUp::Split { gate_proj, up_proj } => {
                let mut products = [
                    Product { weight: &gate_proj.weight, y: gate },
                    Product { weight: &up_proj.weight, y: up },
                ];
                multiplier.multiply(x, precision, &mut products);
                let [gate, up] = products;
                beside(gate_proj, biases[first].as_deref(), x, tokens, gate.y);
                beside(up_proj, biases[first + 1].as_deref(), x, tokens, up.y);
                &biases[first + 2]
            }
            GateUp::Fused { gate_up_proj } => {
                let both = fit(&mut w.fused, 2 * tokens * width);
                multiplier.multiply(
                    x,
                    precision,
                    &mut [Product { weight: &gate_up_proj.weight, y: both }],
                );
                beside(gate_up_proj, biases[first].as_deref(), x, tokens, both);
                take_apart(both, &mut [(width, gate), (width, up)]);
                &biases[first + 1]
            }
        };
        lap(&mut w.clock, Part::Products);
        let mixed = fit(&mut w.mixed, tokens * width);
        gated_activation(&w.gate, &w.up, block.mlp.activation, mixed);
        lap(&mut w.clock, Part::Between);
        let y = fit(&mut w.y, w.x.len());
        let down = &block.mlp.down_proj;
        w.multiplier.multiply(mixed, precision, &mut [Product { weight: &down.weight, y }]);
        beside(down, down_bias.as_deref(), mixed, tokens, y);
        lap(&mut w.clock, Part::Products);
        if let Some(norm) = &vectors.post_mlp {
            norm.apply_in_place(&mut w.y, &mut w.spare);
        }
        add(&w.y, &mut w.x);
    }

    /// From `normed` to `y`; where a pass ends early, `x` is that of the wanted tokens alone after the last block's.
    fn attention(&self, layer: usize, sequences: &mut [(&mut Cache, &[u32])], w: &mut Workspace) {
        let (attention, vectors) =
            (&self.decoder.blocks[layer].self_attn, &self.vectors.layers[layer]);
        let options = &attention.options;
        let tokens = w.ids.len();
        let widths @ [q_width, kv_width] =
            [options.heads, options.kv_heads].map(|heads| heads * options.head_dim);
        lap(&mut w.clock, Part::Between);
        let q = fit(&mut w.q, tokens * q_width);
        let (k, v) = (fit(&mut w.k, tokens * kv_width), fit(&mut w.v, tokens * kv_width));
        let (x, multiplier, precision) = (&w.normed, &mut w.multiplier, self.decoder.precision);
        let biases = vectors.biases.as_slice();
        let o_bias = match &attention.qkv {
            QueryKeyValue::Split { q_proj, k_proj, v_proj } => {
                let mut products = [
                    Product { weight: &q_proj.weight, y: q },
                    Product { weight: &k_proj.weight, y: k },
                    Product { weight: &v_proj.weight, y: v },
                ];
                multiplier.multiply(x, precision, &mut products);
                let projections = [q_proj, k_proj, v_proj].into_iter().zip(biases);
                for (product, (projection, bias)) in products.into_iter().zip(projections) {
                    beside(projection, bias.as_deref(), x, tokens, product.y);
                }
                &biases[3]
            }
            QueryKeyValue::Fused { qkv_proj } => {
                let all = fit(&mut w.fused, tokens * (q_width + 2 * kv_width));
                multiplier.multiply(
                    x,
                    precision,
                    &mut [Product { weight: &qkv_proj.weight, y: all }],
                );
                beside(qkv_proj, biases[0].as_deref(), x, tokens, all);
                take_apart(all, &mut [(q_width, q), (kv_width, k), (kv_width, v)]);
                &biases[1]
            }
        };
        lap(&mut w.clock, Part::Products);
        let [cos, sin] = &w.angles[usize::from(attention.local)];
        let half = frequencies_of(self.decoder, attention.local).inverse.len();
        let norms = [&vectors.q_norm, &vectors.k_norm];
        for ((x, width), norm) in [&mut w.q, &mut w.k].into_iter().zip(widths).zip(norms) {
            if let Some(norm) = norm {
                norm.apply_in_place(x, &mut w.spare);
            }
            rope(x, width, options.head_dim, cos, sin, half);
        }
        lap(&mut w.clock, Part::Between);
        let mixed = fit(&mut w.mixed, tokens * q_width);
        // One sequence is the common case; it needs no list.
        if let [(cache, new)] = sequences {
            let mut one = [(&mut cache.layers[layer], new.len())];
            attend(&w.q, &w.k, &w.v, &mut one, options, mixed);
        } else {
            let caches = sequences.iter_mut();
            let mut all: Vec<(&mut KeyValues, usize)> =
                caches.map(|(cache, new)| (&mut cache.layers[layer], new.len())).collect();
            attend(&w.q, &w.k, &w.v, &mut all, options, mixed);
        }
        if self.ends_early && layer + 1 == self.decoder.blocks.len() {
            keep(self.rows, q_width, &mut w.mixed, &mut w.spare);
            keep(self.rows, self.decoder.blueprint.width, &mut w.x, &mut w.spare);
        }
        lap(&mut w.clock, Part::Attention);
        let y = fit(&mut w.y, w.x.len());
        let (o_proj, mixed, tokens) =
            (&attention.o_proj, &w.mixed, w.x.len() / self.decoder.blueprint.width);
        w.multiplier.multiply(mixed, precision, &mut [Product { weight: &o_proj.weight, y }]);
        beside(o_proj, o_bias.as_deref(), mixed, tokens, y);
        lap(&mut w.clock, Part::Products);
    }
}

fn frequencies_of(decoder: &Decoder, local: bool) -> &Frequencies {
    if local { &decoder.local_frequencies } else { &decoder.global_frequencies }
}

/// What stands beside the frozen product: adapter and bias.
fn beside(projection: &Projection, bias: Option<&[f32]>, x: &[f32], tokens: usize, y: &mut [f32]) {
    if let Some(adapter) = &projection.adapter {
        adapt(adapter, x, tokens, y);
    }
    if let Some(bias) = bias {
        add_to_rows(bias, y);
    }
}

fn adapt(adapter: &Adapter, x: &[f32], tokens: usize, y: &mut [f32]) {
    let mut low = |a: &Tensor<2>, b: &Tensor<2>, scale: f32| {
        let rank = a.dims()[0];
        let [a, b] = [a, b].map(host);
        add_low_rank(x, tokens, LowRank { a: &a, b: &b, rank, scale }, y);
    };
    low(&adapter.a, &adapter.b, adapter.scale);
    if let Some((a, b)) = &adapter.origin {
        low(a, b, -adapter.scale);
    }
    if let Some(multipliers) = adapter.multipliers() {
        scale_rows(&host(&multipliers), y);
    }
}

fn host(tensor: &Tensor<2>) -> Floats {
    Floats::of(tensor).expect("an adapter lies where its decoder does")
}

/// Rows of several parts beside each other into the parts, each with its width.
fn take_apart(all: &[f32], parts: &mut [(usize, &mut [f32])]) {
    let width: usize = parts.iter().map(|(width, _)| width).sum();
    let mut from = 0;
    for (own, part) in parts {
        let range = from..from + *own;
        for (row, part) in all.chunks_exact(width).zip(part.chunks_exact_mut(*own)) {
            part.copy_from_slice(&row[range.clone()]);
        }
        from = range.end;
    }
}
