//! Keys that ask for what is not done here: off is accepted, on is refused with a way out.

use super::{Key, refused};

const RL: &str = "ft trains on answers, not on preferences or rewards";
const RL_HELP: &str = "train on the chosen answers with `type: chat_template`";
const MOE: &str = "mixture-of-experts models are not among ft's families";
const MOE_HELP: &str =
    "choose a dense model of llama, mistral, qwen2, qwen3, phi3, gemma2 or gemma3";
const EMBEDDING: &str = "the base keeps its vocabulary and its size";
const EMBEDDING_HELP: &str = "use tokens that the tokenizer has (`special_tokens`, `eot_tokens`)";
const PRETRAIN: &str = "ft tunes on finished data sets, it does not stream";
const PRETRAIN_HELP: &str = "list the files under `datasets` with `type: completion`";
const OPTIMIZER: &str = "AdamW, Lion, Muon and SGD take one rate and the `adam_*` constants";
const SCHEDULE: &str = "not a part of the five schedules";
const SCHEDULE_HELP: &str = "`lr_scheduler: cosine` with `warmup_ratio` comes closest";
const REMOVED: &str = "removed from Axolotl as well";
const QUANTIZED: &str = "the base is packed once, on load, and frozen";
const LOSS: &str = "the loss is the token mean of the cross entropy";
const METHOD: &str = "ft trains LoRA and DoRA adapters";
const METHOD_HELP: &str = "use `adapter: lora` or `qlora`, with `peft_use_dora: true` for DoRA";
const TEXT: &str = "only the language model is trained";
const TEXT_HELP: &str = "use rows of text";

#[rustfmt::skip] // one key a line, whatever its length
pub(super) const KEYS: &[Key] = &[
    // Other kinds of training.
    refused("rl", RL, RL_HELP),
    refused("trl", RL, RL_HELP),
    refused("ebft", RL, RL_HELP),
    refused("reward_model", RL, RL_HELP),
    refused("process_reward_model", RL, RL_HELP),
    refused("num_labels", RL, RL_HELP),
    refused("rpo_alpha", REMOVED, "remove it"),
    refused("dpo_use_logits_to_keep", REMOVED, "remove it"),
    refused("dpo_generate_during_eval", REMOVED, "remove it"),
    refused("dpo_norm_loss", REMOVED, "remove it"),
    refused("trainer_cls", "a Python class cannot be loaded", "remove it"),
    refused("kd_trainer", "ft does not distil", "write the teacher's answers into the rows and train on them"),
    refused("diffusion", "ft trains causal models", METHOD_HELP),
    refused("hatchery", "ft trains on this machine", "remove it"),
    refused("nemo_gym_enabled", RL, RL_HELP),
    refused("pretraining_dataset", PRETRAIN, PRETRAIN_HELP),
    refused("streaming", PRETRAIN, PRETRAIN_HELP),
    refused("cls_model_config", "the architecture is read from the model's configuration", "remove it"),
    refused("tokenizer_config", "the tokenizer is read beside the weights", "copy the wanted tokenizer.json into the model's folder"),

    // Other ways to keep the base.
    refused("gptq", "a GPTQ base is not read", "use the model's 16-bit weights with `load_in_4bit: true`, or its GGUF"),
    refused("awq", "an AWQ base is not read", "use the model's 16-bit weights with `load_in_4bit: true`, or its GGUF"),
    refused("fp8", "training in 8-bit floats is for GPUs with such units", "use `bf16: auto`"),
    refused("qat", QUANTIZED, "tune on the GGUF that will be served: its numbers are then trained on as they are"),
    refused("quantization", QUANTIZED, "use `load_in_4bit`, `load_in_8bit` or `base_format`"),
    refused("model_quantization_config", QUANTIZED, "use `load_in_4bit`, `load_in_8bit` or `base_format`; a GGUF base in MXFP4 is trained on as it is"),
    refused("model_quantization_config_kwargs", QUANTIZED, "use `load_in_4bit`, `load_in_8bit` or `base_format`"),
    refused("use_onebitllms", QUANTIZED, "use `load_in_4bit`, `load_in_8bit` or `base_format`"),
    refused("llmcompressor", QUANTIZED, "use `load_in_4bit`, `load_in_8bit` or `base_format`"),
    refused("nonexpert_quantization", QUANTIZED, "use `base_format`"),
    refused("gemma4_fp8_nonexpert", QUANTIZED, "use `base_format`"),
    refused("gemma4_nf4_nonexpert", QUANTIZED, "use `load_in_4bit: true`"),
    refused("quantize_moe_experts", MOE, MOE_HELP),
    refused("lora_target_parameters", MOE, MOE_HELP),
    refused("llama4_linearized_experts", MOE, MOE_HELP),
    refused("nvfp4_merge_aware", MOE, MOE_HELP),
    refused("use_dsv4_kernels", MOE, MOE_HELP),
    refused("use_glm_dsa_kernels", MOE, MOE_HELP),
    refused("dense_mixer", MOE, MOE_HELP),

    // Other things to train.
    refused("relora", METHOD, "train one adapter, with a higher `lora_r` if it is too small"),
    refused("mora", METHOD, METHOD_HELP),
    refused("lisa_n_layers", METHOD, METHOD_HELP),
    refused("spectrum_top_fraction", METHOD, "use `peft_layers_to_transform` to tune some blocks only"),
    refused("peft_layer_replication", "blocks are not repeated", "raise `lora_r` instead"),
    refused("peft_trainable_token_indices", "embeddings are trained whole or not at all", "use `lora_modules_to_save: [embed_tokens]`"),
    refused("peft_ensure_weight_tying", "a head tied to the embedding is named by `embed_tokens`", "remove it, and name `embed_tokens` in `lora_modules_to_save`"),
    refused("merge_lora", "a recipe trains", "the run folder's `adapter/` is in PEFT's layout, which other tools merge"),

    // Vocabulary.
    refused("tokens", EMBEDDING, EMBEDDING_HELP),
    refused("added_tokens_overrides", EMBEDDING, EMBEDDING_HELP),
    refused("mean_resizing_embeddings", EMBEDDING, EMBEDDING_HELP),
    refused("shrink_embeddings", EMBEDDING, EMBEDDING_HELP),
    refused("reinit_weights", "the base is never written", "remove it"),

    // Numbers of the loop.
    refused("auto_find_batch_size", "a batch found by trial would change the result from machine to machine", "`ft check` prints what fits; set `micro_batch_size`"),
    refused("optim_args", OPTIMIZER, "use `weight_decay`, `adam_beta1`, `adam_beta2` and `adam_epsilon`"),
    refused("lr_groups", OPTIMIZER, "use `loraplus_lr_ratio` or `embedding_lr`"),
    refused("lr_quadratic_warmup", SCHEDULE, SCHEDULE_HELP),
    refused("jagged_restart_steps", SCHEDULE, SCHEDULE_HELP),
    refused("grokfast_alpha", OPTIMIZER, "remove it"),
    refused("grokfast_lamb", OPTIMIZER, "remove it"),
    refused("use_eaft", LOSS, "remove it"),
    refused("scaling_softmax", "attention is the model's own", "remove it"),
    refused("use_pose", "positions are the model's own", "remove it"),
    refused("s2_attention", REMOVED, "remove it"),
    refused("rope_scaling", "removed from Axolotl as well; RoPE scaling is part of the model's configuration", "set `rope_scaling` in the model's config.json"),
    refused("max_packed_sequence_len", REMOVED, "use `sequence_len` with `sample_packing: true`"),
    refused("flash_attn_rms_norm", REMOVED, "remove it: norms are fused already"),
    refused("eval_sequence_len", "held-out rows are cut as training rows are", "use `sequence_len`"),
    refused("shuffle_before_merging_datasets", "rows are shuffled once, after merging", "use `shuffle_merged_datasets: true`"),
    refused("skip_prepare_dataset", "rows are always tokenised and audited before the first step", "remove it; rows with `input_ids` are taken as they are if `type` is absent"),
    refused("chat_template_kwargs", "a template is rendered with the row's own fields", "put the variables into a template of your own (`chat_template_jinja`)"),

    // Pictures.
    refused("processor_type", TEXT, TEXT_HELP),
    refused("processor_kwargs", TEXT, TEXT_HELP),
    refused("role_boundaries", TEXT, "use `type: chat_template`, whose masks come from the rendered turns"),

    // Sections of ours that a recipe does not have.
    refused("export", "a recipe ends with the adapter", "the run folder's `adapter/` is in PEFT's layout, which other tools read"),
    refused("serve", "a recipe does not serve", "`sample_prompts` prints answers at each evaluation"),
];
