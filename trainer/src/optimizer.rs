//! Optimisers over host numbers: values and gradients in, values out.
//!
//! Each kind has its formula, its source and its state in a file of its own. What they share is
//! here: which parameter learns how fast ([`Optimizer::rate`]) and which one decays, as PyTorch
//! with PEFT's and Axolotl's parameter groups would have it. Nothing here knows a tensor library,
//! a file or a schedule: the rate of a step comes from outside.
//!
//! Work is cut into fixed chunks whose results do not depend on each other, so one thread and
//! many give the same bytes.

mod adamw;
mod clip;
mod eight_bit;
mod lion;
mod muon;
mod sgd;
mod state;
#[cfg(test)]
mod tests;

use ft_adapters::ParameterKind;
use ft_recipes::{OptimizerKind, OptimizerSection};

use adamw::Adam;
use eight_bit::Blocks;
use lion::Lion;

pub use clip::clip;
pub use state::{StateData, StateError, StateTensor, state_from_file, state_to_file};

/// Numbers that one task updates: enough to be worth a task, a multiple of a block of 8-bit state,
/// and the same for every number of threads.
const CHUNK: usize = 1 << 14;

/// Parameters with fewer numbers keep their state in 32 bits under the 8-bit optimiser, as
/// bitsandbytes' `min_8bit_size` does.
const LEAST_8BIT: usize = 4096;

/// What the optimiser must know of a trained tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterMeta {
    /// The name in the adapter file; no two are equal.
    pub name: String,
    /// What it is to its projection.
    pub kind: ParameterKind,
    /// Rows and columns.
    pub shape: [usize; 2],
}

impl ParameterMeta {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An embedding or the head, trained whole: the modules that Axolotl's `embedding_lr` names.
    fn is_embedding(&self) -> bool {
        self.kind == ParameterKind::Whole
            && (self.name.contains("embed_tokens") || self.name.contains("lm_head"))
    }

    /// Whether weight decay applies: to everything but biases and norms trained whole, which
    /// transformers' `get_decay_parameter_names` leaves out.
    fn decays(&self) -> bool {
        let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
        if self.kind != ParameterKind::Whole {
            return true;
        }
        let module = self.name.strip_suffix(".weight").unwrap_or(&self.name);
        let is_norm = last(module).is_some_and(|module| module.ends_with("norm"));
        !is_norm && !self.name.ends_with("bias")
    }
}

/// What is remembered of one parameter between steps.
#[derive(Debug, Clone, PartialEq)]
enum Memory {
    /// AdamW: means of the gradient and of its square.
    Adam { first: Vec<f32>, second: Vec<f32> },
    /// The same in 8 bits.
    Adam8bit { first: Blocks, second: Blocks },
    /// Lion: the mean of the gradient.
    Lion { momentum: Vec<f32> },
    /// Muon: the mean of the gradient.
    Muon { momentum: Vec<f32> },
    /// Plain descent remembers nothing.
    Sgd,
}

/// An optimiser with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    section: OptimizerSection,
    parameters: Vec<ParameterMeta>,
    memories: Vec<Memory>,
    steps: u64,
}

impl Optimizer {
    /// A fresh optimiser for `parameters`, in the order in which values and gradients will come.
    pub fn new(section: &OptimizerSection, parameters: &[ParameterMeta]) -> Self {
        let memories = parameters.iter().map(|meta| memory(section.kind, meta)).collect();
        Self { section: section.clone(), parameters: parameters.to_vec(), memories, steps: 0 }
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The bytes of the state in memory.
    pub fn state_bytes(&self) -> usize {
        self.memories.iter().map(Memory::bytes).sum()
    }

    /// The rate of a parameter when the run's is `learning_rate`.
    ///
    /// With `loraplus_lr_ratio`, `B` and magnitudes learn `ratio` times faster (LoRA+,
    /// arXiv:2402.12354; PEFT's `create_loraplus_optimizer` puts everything one-dimensional with
    /// `B`). Embeddings and heads trained whole follow the same course from `embedding_lr`.
    pub fn rate(&self, learning_rate: f64, meta: &ParameterMeta) -> f64 {
        let peak = self.section.learning_rate;
        match (meta.kind, self.section.loraplus_ratio, self.section.embedding_learning_rate) {
            (ParameterKind::B | ParameterKind::Magnitude, Some(ratio), _) => learning_rate * ratio,
            (ParameterKind::Whole, _, Some(embedding)) if meta.is_embedding() && peak > 0.0 => {
                learning_rate * (embedding / peak)
            }
            _ => learning_rate,
        }
    }

    /// Moves `values` one step against `gradients`; both in the order of [`Optimizer::new`].
    ///
    /// `learning_rate` is the recipe's rate times the schedule's multiplier of this step.
    ///
    /// # Panics
    ///
    /// The numbers do not fit the parameters: a bug of the caller.
    pub fn step(&mut self, learning_rate: f64, values: &mut [Vec<f32>], gradients: &[Vec<f32>]) {
        assert_eq!(values.len(), self.parameters.len(), "one slice of values a parameter");
        assert_eq!(gradients.len(), self.parameters.len(), "one gradient a parameter");
        self.steps += 1;
        for (index, meta) in self.parameters.iter().enumerate() {
            let (value, gradient) = (values[index].as_mut_slice(), gradients[index].as_slice());
            assert_eq!(value.len(), meta.len(), "values of `{}`", meta.name);
            assert_eq!(gradient.len(), meta.len(), "gradient of `{}`", meta.name);
            let rate = self.rate(learning_rate, meta);
            let decay = if meta.decays() { self.section.weight_decay } else { 0.0 };
            let (beta1, beta2) = (self.section.beta1, self.section.beta2);
            let adam = || Adam::new(rate, decay, [beta1, beta2], self.section.epsilon, self.steps);
            match &mut self.memories[index] {
                Memory::Adam { first, second } => {
                    adamw::step(&adam(), value, gradient, first, second);
                }
                Memory::Adam8bit { first, second } => {
                    eight_bit::step(&adam(), value, gradient, first, second);
                }
                Memory::Lion { momentum } => {
                    lion::step(&Lion::new(rate, decay, [beta1, beta2]), value, gradient, momentum);
                }
                Memory::Muon { momentum } => {
                    muon::step(rate, decay, meta.shape, value, gradient, momentum);
                }
                Memory::Sgd => sgd::step(rate, decay, value, gradient),
            }
        }
    }

    /// Everything that must be written down to go on as if never stopped: `step`, then the state
    /// of each parameter under PyTorch's (or bitsandbytes') name for it, `exp_avg.NAME`.
    pub fn state(&self) -> Vec<(String, StateTensor<'_>)> {
        let mut state = vec![("step".to_owned(), StateTensor::counter(self.steps))];
        for (meta, memory) in self.parameters.iter().zip(&self.memories) {
            memory.state(meta, &mut state);
        }
        state
    }

    /// Takes over what [`Optimizer::state`] gave, bit for bit.
    ///
    /// # Errors
    ///
    /// A tensor is missing, left over, or of another shape or number type; the optimiser is then
    /// as it was.
    pub fn restore(&mut self, state: Vec<(String, StateTensor<'_>)>) -> Result<(), StateError> {
        let mut given = state::Given::new(state);
        let steps = given.counter("step")?;
        let mut memories = Vec::with_capacity(self.parameters.len());
        for meta in &self.parameters {
            memories.push(Memory::restored(memory(self.section.kind, meta), meta, &mut given)?);
        }
        given.finish()?;
        self.steps = steps;
        self.memories = memories;
        Ok(())
    }
}

/// Nothing remembered yet.
fn memory(kind: OptimizerKind, meta: &ParameterMeta) -> Memory {
    let zeros = || vec![0.0; meta.len()];
    let is_factor = matches!(meta.kind, ParameterKind::A | ParameterKind::B);
    match kind {
        OptimizerKind::AdamW8bit if meta.len() >= LEAST_8BIT && !meta.is_embedding() => {
            Memory::Adam8bit {
                first: Blocks::zeros(meta.len(), eight_bit::Map::Signed),
                second: Blocks::zeros(meta.len(), eight_bit::Map::Unsigned),
            }
        }
        OptimizerKind::Muon if is_factor => Memory::Muon { momentum: zeros() },
        OptimizerKind::AdamW | OptimizerKind::AdamW8bit | OptimizerKind::Muon => {
            Memory::Adam { first: zeros(), second: zeros() }
        }
        OptimizerKind::Lion => Memory::Lion { momentum: zeros() },
        OptimizerKind::Sgd => Memory::Sgd,
    }
}

impl Memory {
    fn bytes(&self) -> usize {
        match self {
            Self::Adam { first, second } => 4 * (first.len() + second.len()),
            Self::Adam8bit { first, second } => first.bytes() + second.bytes(),
            Self::Lion { momentum } | Self::Muon { momentum } => 4 * momentum.len(),
            Self::Sgd => 0,
        }
    }

    fn state<'a>(&'a self, meta: &ParameterMeta, into: &mut Vec<(String, StateTensor<'a>)>) {
        let name = |what: &str| format!("{what}.{}", meta.name);
        let floats = |values: &'a [f32]| StateTensor::floats(meta.shape.to_vec(), values);
        match self {
            Self::Adam { first, second } => {
                into.push((name("exp_avg"), floats(first)));
                into.push((name("exp_avg_sq"), floats(second)));
            }
            Self::Adam8bit { first, second } => {
                for (number, blocks) in [(1, first), (2, second)] {
                    let codes = StateTensor::bytes(meta.shape.to_vec(), &blocks.codes);
                    into.push((name(&format!("state{number}")), codes));
                    let maxima = StateTensor::floats(vec![blocks.absmax.len()], &blocks.absmax);
                    into.push((name(&format!("absmax{number}")), maxima));
                }
            }
            Self::Lion { momentum } => into.push((name("exp_avg"), floats(momentum))),
            Self::Muon { momentum } => into.push((name("momentum_buffer"), floats(momentum))),
            Self::Sgd => {}
        }
    }

    /// `fresh` with its numbers replaced by the given ones.
    fn restored(
        fresh: Self,
        meta: &ParameterMeta,
        given: &mut state::Given<'_>,
    ) -> Result<Self, StateError> {
        let shape = meta.shape.to_vec();
        let name = |what: &str| format!("{what}.{}", meta.name);
        Ok(match fresh {
            Self::Adam { .. } => Self::Adam {
                first: given.floats(&name("exp_avg"), &shape)?,
                second: given.floats(&name("exp_avg_sq"), &shape)?,
            },
            Self::Adam8bit { mut first, mut second } => {
                for (number, blocks) in [(1, &mut first), (2, &mut second)] {
                    blocks.codes = given.bytes(&name(&format!("state{number}")), &shape)?;
                    let count = vec![blocks.absmax.len()];
                    blocks.absmax = given.floats(&name(&format!("absmax{number}")), &count)?;
                }
                Self::Adam8bit { first, second }
            }
            Self::Lion { .. } => Self::Lion { momentum: given.floats(&name("exp_avg"), &shape)? },
            Self::Muon { .. } => {
                Self::Muon { momentum: given.floats(&name("momentum_buffer"), &shape)? }
            }
            Self::Sgd => Self::Sgd,
        })
    }
}
