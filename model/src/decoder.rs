//! The decoder: embedding, blocks, norm, head.

use std::sync::{Arc, OnceLock};

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ft_adapters::{ParameterKind, Pass, Projection};
use ft_kernels::host::{Floats, Precision, is_host};
use ft_kernels::{
    Angles, Compute, Head, KeyValues, Packed, Segments, Targets, linear_cross_entropy,
    log_likelihoods, packed_embedding, packed_matmul,
};

use crate::family::{Blueprint, Family};
use crate::host::{self, Vectors};
use crate::layers::{Block, Frequencies, Norm};

/// Tokens of one pass: documents laid end to end, which may share how they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// `T` ids.
    pub ids: Vec<u32>,
    /// Which tokens see which.
    pub segments: Segments,
    /// Position of each token in its document.
    pub positions: Vec<u32>,
}

impl Input {
    /// Documents that begin at `starts` (ascending, the first at 0).
    pub fn new(ids: Vec<u32>, starts: &[usize]) -> Self {
        let boundaries = starts.iter().copied().chain([ids.len()]).collect();
        Self::of(ids, Segments::documents(boundaries))
    }

    /// The tokens of these segments.
    pub fn of(ids: Vec<u32>, segments: Segments) -> Self {
        let positions = segments.positions().map(index).collect();
        Self { ids, segments, positions }
    }

    /// One document.
    pub fn one(ids: Vec<u32>) -> Self {
        Self::new(ids, &[0])
    }
}

pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a document has fewer than 2³² tokens")
}

/// What all blocks of one pass share.
#[derive(Debug, Clone)]
pub struct Context {
    /// Training or inference.
    pub pass: Pass,
    /// Which tokens see which.
    pub segments: Segments,
    global_angles: Arc<Angles>,
    local_angles: Arc<Angles>,
}

impl Context {
    /// The angles of a layer.
    pub fn angles(&self, local: bool) -> &Arc<Angles> {
        if local { &self.local_angles } else { &self.global_angles }
    }
}

/// The keys and values of one sequence in all layers.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) layers: Vec<KeyValues>,
    /// Numbers of a token's keys in one layer.
    width: usize,
    pub(crate) tokens: usize,
}

impl Cache {
    /// Tokens it holds.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Forgets all tokens after the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        if tokens < self.tokens {
            self.layers.iter_mut().for_each(|layer| layer.truncate(tokens, self.width));
            self.tokens = tokens;
        }
    }

    /// Makes room for `capacity_tokens` in all.
    pub fn reserve(&mut self, capacity_tokens: usize) {
        self.layers.iter_mut().for_each(|layer| layer.reserve(capacity_tokens, self.width));
    }

    /// Gives back the room that is not used.
    pub fn shrink(&mut self) {
        self.layers.iter_mut().for_each(KeyValues::shrink);
    }

    /// A copy of the first `tokens`, with room for `capacity_tokens`.
    ///
    /// # Panics
    ///
    /// If there are fewer: a bug in the caller.
    #[must_use]
    pub fn prefix(&self, tokens: usize, capacity_tokens: usize) -> Self {
        assert!(tokens <= self.tokens, "a prefix is not longer than the whole");
        let layer = |layer: &KeyValues| layer.prefix(tokens, capacity_tokens, self.width);
        Self { layers: self.layers.iter().map(layer).collect(), width: self.width, tokens }
    }
}

/// A table `[V, D]`: the embedding or the head.
#[derive(Debug, Clone)]
pub struct Table {
    /// The checkpoint's name: `model.embed_tokens` or `lm_head`.
    pub name: String,
    /// Frozen.
    pub weight: Packed,
    /// Trained in its place (`lora_modules_to_save`).
    pub trained: Option<Tensor<2>>,
}

/// A table that cannot be trained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The decoder has none of that name.
    #[error(
        "`{name}` cannot be trained whole: expected {}",
        if *tied { "`embed_tokens` (the head is the same table here)" } else { "`embed_tokens` or `lm_head`" }
    )]
    NoSuch {
        /// What was named.
        name: String,
        /// Whether the head is the embedding.
        tied: bool,
    },
    /// A table of another model.
    #[error("`{name}` is {found:?}, but the model has {model:?}")]
    Shape {
        /// What was named.
        name: String,
        /// Its shape.
        found: [usize; 2],
        /// The model's.
        model: [usize; 2],
    },
}

/// A decoder-only language model. Shape letters: see the crate's documentation.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Of what kind.
    pub family: &'static Family,
    /// What it is.
    pub blueprint: Blueprint,
    /// Where its tensors are, without autodiff.
    pub device: Device,
    /// The embedding.
    pub embed_tokens: Table,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub norm: Norm,
    /// The head, if it is not the embedding.
    pub lm_head: Option<Table>,
    /// How activations meet packed weights in [`Decoder::read`] and [`Decoder::next_logits`] on a CPU. Everything else is
    /// exact.
    pub precision: Precision,
    /// Frozen vectors for the CPU, made at the first read.
    pub(crate) vectors: OnceLock<Arc<Vectors>>,
    pub(crate) global_frequencies: Frequencies,
    pub(crate) local_frequencies: Frequencies,
}

impl Decoder {
    /// What the blocks of a pass over this input share.
    pub fn context(&self, input: &Input, pass: Pass) -> Context {
        let angles = |of: &Frequencies| of.angles(&input.positions, &input.segments);
        let global_angles = angles(&self.global_frequencies);
        let local_angles = if self.local_frequencies == self.global_frequencies {
            Arc::clone(&global_angles)
        } else {
            angles(&self.local_frequencies)
        };
        Context { pass, segments: input.segments.clone(), global_angles, local_angles }
    }

    /// Whether documents that begin alike can share their beginning in a pass. They cannot where dropout is drawn for each, and
    /// not where angles depend on how long the whole document is.
    pub fn shares_prefixes(&self, pass: Pass) -> bool {
        let drops = |projection: &&Projection| {
            projection.adapter.as_ref().is_some_and(|adapter| adapter.dropout > 0.0)
        };
        (pass == Pass::Inference || !self.projections().iter().any(drops))
            && self.global_frequencies.beyond.is_none()
            && self.local_frequencies.beyond.is_none()
    }

    /// Ids to `[T, D]`.
    pub fn embed(&self, ids: &[u32], pass: Pass) -> Tensor<2> {
        let scale = self.blueprint.embedding_scale;
        match &self.embed_tokens.trained {
            None => packed_embedding(ids, &self.embed_tokens.weight, scale, &self.device),
            Some(table) => {
                let table = if pass.is_training() {
                    table.clone()
                } else {
                    table.clone().without_autodiff()
                };
                table.select(0, int_tensor(ids, &self.device)) * scale
            }
        }
    }

    /// `[T, D]` through all blocks and the last norm.
    pub fn hidden(&self, input: &Input, pass: Pass) -> Tensor<2> {
        let context = self.context(input, pass);
        let embedded = self.embed(&input.ids, pass);
        self.hidden_from(embedded, &context)
    }

    /// Embedded tokens `[T, D]` through all blocks and the last norm.
    pub fn hidden_from(&self, embedded: Tensor<2>, context: &Context) -> Tensor<2> {
        let x = self.blocks.iter().fold(embedded, |x, block| block.forward(x, context, None));
        self.norm.forward(x)
    }

    /// Whether the head is a trained table, which is multiplied by plain operations.
    pub(crate) fn head_is_trained(&self) -> bool {
        self.head_table().trained.is_some()
    }

    pub(crate) fn head_table(&self) -> &Table {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// The frozen head.
    fn head(&self) -> Head {
        Head { weight: self.head_table().weight.clone(), softcap: self.blueprint.logit_softcap }
    }

    /// The weighted sum of next-token losses over the targets, `[1]`; see [`linear_cross_entropy`].
    pub fn loss(&self, hidden: Tensor<2>, targets: &Arc<Targets>, pass: Pass) -> Tensor<1> {
        match &self.head_table().trained {
            None => linear_cross_entropy(hidden, &self.head(), targets),
            Some(table) => {
                let table = if pass.is_training() {
                    table.clone()
                } else {
                    table.clone().without_autodiff()
                };
                let weights = TensorData::new(targets.weights.clone(), [targets.weights.len()]);
                let weights = Tensor::<1>::from_data(weights, &self.device);
                -(self.trained_log_likelihoods(hidden, table, targets) * weights).sum()
            }
        }
    }

    /// The natural logarithm of each target's probability, `[targets]`. No gradient.
    pub fn log_likelihoods(&self, hidden: Tensor<2>, targets: &Arc<Targets>) -> Tensor<1> {
        match &self.head_table().trained {
            None => log_likelihoods(hidden, &self.head(), targets),
            Some(table) => {
                self.trained_log_likelihoods(hidden, table.clone().without_autodiff(), targets)
            }
        }
    }

    /// With a head that is trained: plain operations, because its gradient is wanted too.
    fn trained_log_likelihoods(
        &self,
        hidden: Tensor<2>,
        table: Tensor<2>,
        targets: &Targets,
    ) -> Tensor<1> {
        let count = targets.ids.len();
        let rows = hidden.select(0, int_tensor(&targets.rows, &self.device));
        let logits = self.capped(rows.matmul(table.transpose())); // [targets, V]
        let ids = int_tensor(&targets.ids, &self.device).reshape([count, 1]);
        log_softmax(logits, 1).gather(1, ids).reshape([count])
    }

    fn capped(&self, logits: Tensor<2>) -> Tensor<2> {
        match self.blueprint.logit_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// Hidden states `[T, D]` to logits `[T, V]`, for inference.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let table = self.head_table();
        let logits = match &table.trained {
            None => packed_matmul(hidden, &table.weight),
            Some(trained) => hidden.matmul(trained.clone().without_autodiff().transpose()),
        };
        self.capped(logits)
    }

    /// As [`Decoder::logits`], in the precision of [`Decoder::read`].
    pub fn next_logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let mut logits = Vec::new();
        let rows = hidden.dims()[0];
        match Floats::of(&hidden) {
            Some(floats) if host::logits(self, &floats, &mut logits) => {
                let shape = [rows, self.blueprint.vocabulary];
                Tensor::from_data(TensorData::new(logits, shape), &self.device)
            }
            _ => self.logits(hidden),
        }
    }

    /// As [`Decoder::next_logits`], from `hidden [rows, D]` into `logits [rows, V]` in host memory.
    pub(crate) fn next_logits_to(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        if !host::logits(self, hidden, logits) {
            let shape = [hidden.len() / self.blueprint.width, self.blueprint.width];
            let hidden = TensorData::new(hidden.to_vec(), shape);
            *logits = floats(self.logits(Tensor::from_data(hidden, &self.device)));
        }
    }

    /// As [`Decoder::read_rows`], into `hidden [rows, D]` in host memory.
    pub(crate) fn read_rows_to(
        &self,
        sequences: &mut [(&mut Cache, &[u32])],
        rows: &[u32],
        hidden: &mut Vec<f32>,
    ) {
        if !host::read_rows(self, sequences, rows, hidden) {
            *hidden = floats(self.read_rows(sequences, rows));
        }
    }

    /// Whether activations are rounded on their way through [`Decoder::read`].
    pub fn rounds(&self) -> bool {
        self.precision == Precision::EightBit
            && is_host(&self.device)
            && (self.head_table().weight.lay()
                || self.projections().iter().any(|projection| projection.weight.lay()))
    }

    /// Whether what a token is read as depends on the tokens before it alone: not on those that are read beside it, nor on the
    /// pieces in which its text is read. So it is on a CPU in eight bits; sums of few rows and of many differ otherwise.
    pub fn reads_alike_in_any_pieces(&self) -> bool {
        self.precision == Precision::EightBit
            && is_host(&self.device)
            && self.embed_tokens.trained.is_none()
            // Divisors that are chosen by how far a piece goes.
            && self.global_frequencies.beyond.is_none()
            && self.local_frequencies.beyond.is_none()
            && self.head_table().weight.lay()
            && self.projections().iter().all(|projection| projection.weight.lay())
    }

    /// An empty cache.
    pub fn cache(&self, capacity_tokens: usize) -> Cache {
        let width = self.blueprint.kv_heads * self.blueprint.head_dim;
        let layer = || KeyValues::with_capacity(capacity_tokens, width);
        Cache { layers: self.blocks.iter().map(|_| layer()).collect(), width, tokens: 0 }
    }

    /// Reads new tokens into the caches of their sequences and returns the hidden state of each
    /// sequence's last token, `[sequences, D]`.
    pub fn read(&self, sequences: &mut [(&mut Cache, &[u32])]) -> Tensor<2> {
        let mut end = 0;
        let mut last = |(_, new): &(&mut Cache, &[u32])| {
            end += new.len();
            index(end - 1)
        };
        let rows: Vec<u32> = sequences.iter().map(&mut last).collect();
        self.read_rows(sequences, &rows)
    }

    /// Reads new tokens as [`Decoder::read_rows`] does and puts the [`Decoder::next_logits`] of these rows into `logits`, `[rows, V]`.
    ///
    /// On a CPU nothing is allocated for a token if `logits` and the caches have room and passes of the size were made before.
    pub fn read_logits(
        &self,
        sequences: &mut [(&mut Cache, &[u32])],
        rows: &[u32],
        logits: &mut Vec<f32>,
    ) {
        if !host::read_logits(self, sequences, rows, logits) {
            let data = self.next_logits(self.read_rows(sequences, rows)).into_data();
            logits.clear();
            logits
                .extend_from_slice(data.as_slice::<f32>().expect("logits are f32 on every device"));
        }
    }

    /// As [`Decoder::read`], but returns the hidden states of any of the new tokens, `[rows, D]`:
    /// row 0 is the first sequence's first new token.
    ///
    /// On a CPU in the decoder's own precision; elsewhere as [`Decoder::hidden`].
    pub fn read_rows(&self, sequences: &mut [(&mut Cache, &[u32])], rows: &[u32]) -> Tensor<2> {
        let mut hidden = Vec::new();
        if host::read_rows(self, sequences, rows, &mut hidden) {
            let shape = [rows.len(), self.blueprint.width];
            return Tensor::from_data(TensorData::new(hidden, shape), &self.device);
        }
        let mut ids = Vec::new();
        let mut starts = Vec::with_capacity(sequences.len());
        let mut positions = Vec::new();
        for (cache, new) in &*sequences {
            assert!(!new.is_empty(), "a sequence reads at least one token");
            starts.push(ids.len());
            ids.extend_from_slice(new);
            positions.extend((cache.tokens..cache.tokens + new.len()).map(index));
        }
        let input = Input { positions, ..Input::new(ids, &starts) };
        let context = self.context(&input, Pass::Inference);
        let mut x = self.embed(&input.ids, Pass::Inference);
        for (layer, block) in self.blocks.iter().enumerate() {
            let mut caches: Vec<(&mut KeyValues, usize)> = sequences
                .iter_mut()
                .map(|(cache, new)| (&mut cache.layers[layer], new.len()))
                .collect();
            x = block.forward(x, &context, Some(&mut caches));
        }
        for (cache, new) in sequences {
            cache.tokens += new.len();
        }
        self.norm.forward(x.select(0, int_tensor(rows, &self.device)))
    }

    /// All projections, in order.
    pub fn projections(&self) -> Vec<&Projection> {
        self.blocks.iter().flat_map(Block::projections).collect()
    }

    /// All projections, to attach to.
    pub fn projections_mut(&mut self) -> Vec<&mut Projection> {
        self.blocks.iter_mut().flat_map(Block::projections_mut).collect()
    }

    /// Chooses the numbers in which activations are multiplied with the frozen matrices on a CPU.
    pub fn set_compute(&mut self, compute: Compute) {
        for projection in self.projections_mut() {
            projection.weight = projection.weight.with_compute(compute);
        }
        for table in self.tables_mut() {
            table.weight = table.weight.with_compute(compute);
        }
    }

    /// Embedding and head.
    pub fn tables_mut(&mut self) -> Vec<&mut Table> {
        std::iter::once(&mut self.embed_tokens).chain(self.lm_head.as_mut()).collect()
    }

    /// Name, kind and value of each trained tensor, in a fixed order.
    pub fn trained(&self) -> Vec<(&str, ParameterKind, &Tensor<2>)> {
        let mut all = Vec::new();
        for table in std::iter::once(&self.embed_tokens).chain(self.lm_head.as_ref()) {
            if let Some(trained) = &table.trained {
                all.push((table.name.as_str(), ParameterKind::Whole, trained));
            }
        }
        for projection in self.projections() {
            if let Some(adapter) = &projection.adapter {
                let name = projection.name.as_str();
                all.push((name, ParameterKind::A, &adapter.a));
                all.push((name, ParameterKind::B, &adapter.b));
                if let Some(magnitude) = &adapter.magnitude {
                    all.push((name, ParameterKind::Magnitude, magnitude));
                }
            }
        }
        all
    }

    /// Calls `f` with each trained tensor, in the order of [`Decoder::trained`], to change it.
    pub fn update_trained(&mut self, f: &mut dyn FnMut(&str, ParameterKind, &mut Tensor<2>)) {
        for table in std::iter::once(&mut self.embed_tokens).chain(self.lm_head.as_mut()) {
            if let Some(trained) = &mut table.trained {
                f(&table.name, ParameterKind::Whole, trained);
            }
        }
        for block in &mut self.blocks {
            for projection in block.projections_mut() {
                let Projection { name, weight, adapter, .. } = projection;
                if let Some(adapter) = adapter {
                    adapter.visit(&mut |kind, tensor| f(name, kind, tensor));
                    adapter.refresh(weight);
                }
            }
        }
    }

    /// Lets embedding or head be trained whole, by their last names (`embed_tokens`, `lm_head`).
    ///
    /// # Errors
    ///
    /// If the decoder has no such table.
    pub fn train_tables(&mut self, names: &[&str]) -> Result<(), TableError> {
        for name in names {
            let table = self.table(name)?;
            let (rows, cols) = (table.weight.rows(), table.weight.cols());
            let mut values = vec![0.0; rows * cols];
            table.weight.decode_rows(0..rows, &mut values);
            let name = table.name.clone();
            self.set_table(&name, [rows, cols], values)?;
        }
        Ok(())
    }

    /// Replaces embedding or head by a trained table.
    ///
    /// # Errors
    ///
    /// If the decoder has no such table, or one of another shape.
    pub fn set_table(
        &mut self,
        name: &str,
        shape: [usize; 2],
        values: Vec<f32>,
    ) -> Result<(), TableError> {
        let device = self.device.clone().autodiff();
        let table = self.table(name)?;
        let model = [table.weight.rows(), table.weight.cols()];
        if shape != model {
            return Err(TableError::Shape { name: name.to_owned(), found: shape, model });
        }
        let data = TensorData::new(values, shape);
        table.trained = Some(Tensor::from_data(data, &device).require_grad());
        Ok(())
    }

    /// Puts trained tables, by name, in the place of the frozen ones.
    ///
    /// Where the head is the embedding, both names may be given with the same numbers: PEFT keeps
    /// two modules there.
    ///
    /// # Errors
    ///
    /// As [`Decoder::set_table`].
    pub fn set_tables(
        &mut self,
        tables: &[(String, [usize; 2], Vec<f32>)],
    ) -> Result<(), TableError> {
        let is_head = |name: &str| name.rsplit('.').next() == Some("lm_head");
        let tied = self.lm_head.is_none();
        for (name, shape, values) in tables {
            let twin = tables.iter().any(|(other, _, twin)| !is_head(other) && twin == values);
            if !(tied && is_head(name) && twin) {
                self.set_table(name, *shape, values.clone())?;
            }
        }
        Ok(())
    }

    /// A table by its name, or the last part of it.
    fn table(&mut self, name: &str) -> Result<&mut Table, TableError> {
        let last = name.rsplit('.').next().unwrap_or(name).to_owned();
        let tied = self.lm_head.is_none();
        self.tables_mut()
            .into_iter()
            .find(|table| table.name.rsplit('.').next() == Some(last.as_str()))
            .ok_or(TableError::NoSuch { name: name.to_owned(), tied })
    }

    /// Lays the frozen matrices for reading tokens, which else the first read does. Nothing on other devices, and nothing if
    /// activations are exact.
    pub fn prepare(&self) {
        if self.precision == Precision::Exact || !is_host(&self.device) {
            return;
        }
        for projection in self.projections() {
            projection.weight.lay();
        }
        self.head_table().weight.lay();
    }

    /// Bytes of the frozen matrices as they are kept.
    pub fn base_bytes(&self) -> usize {
        let tables = std::iter::once(&self.embed_tokens).chain(self.lm_head.as_ref());
        tables.map(|table| table.weight.bytes()).sum::<usize>()
            + self.projections().iter().map(|p| p.weight.bytes()).sum::<usize>()
    }
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("activations are f32 on every device")
}

pub(crate) fn int_tensor(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.iter().map(|v| i32::try_from(*v).expect("ids and rows fit in an i32")).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}
