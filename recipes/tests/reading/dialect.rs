//! Axolotl's meaning of keys, and the rules between them.

use ft_recipes::*;
use std::path::Path;

use super::{LEAST, complaint, complaint_about, notes, parse, with};

#[test]
fn defaults_are_axolotls() {
    let Recipe { model, adapter, data, clean, train, eval } = with("").recipe;
    assert_eq!(clean, None);
    assert_eq!(model.quantize, Quantize::Keep);
    assert_eq!((model.precision, model.device), (Precision::Auto, DeviceChoice::Auto));
    assert_eq!((adapter.dropout, adapter.use_dora, adapter.use_rslora), (0.0, false, false));
    assert_eq!((adapter.init, adapter.targets), (AdapterInit::Default, Targets::AllLinear));
    assert_eq!((data.sequence_len, data.min_row_len), (512, 2));
    assert_eq!((data.pack_rows, data.pack_group), (200, 100_000));
    assert_eq!((data.sample_packing, data.eval_sample_packing), (false, false));
    assert_eq!((data.long_rows, data.held_out), (LongRows::Drop, HeldOut::Nothing));
    assert!(data.shuffle_merged && !data.train_on_inputs);
    assert_eq!(data.chat_template, ChatTemplate::Tokenizer);
    assert_eq!((train.seed, data.seed), (42, 42));
    assert_eq!((train.num_epochs, train.max_steps), (1.0, None));
    assert_eq!((train.micro_batch_size, train.gradient_accumulation_steps), (1, 1));
    assert_eq!(train.eval_batch_size, 1);
    assert_eq!((train.save, train.save_total_limit), (Cadence::EachEpoch, 4));
    assert_eq!((train.evaluate, train.keep_best), (Cadence::Never, false));
    assert_eq!((train.max_grad_norm, train.logging_steps), (1.0, None));
    let optimizer = &train.optimizer;
    assert_eq!(
        (optimizer.kind, optimizer.spelling.as_str()),
        (OptimizerKind::AdamW, "adamw_torch_fused")
    );
    assert_eq!((optimizer.beta1, optimizer.beta2, optimizer.epsilon), (0.9, 0.999, 1e-8));
    assert_eq!((optimizer.weight_decay, optimizer.embedding_learning_rate), (0.0, None));
    assert_eq!(train.schedule.kind, ScheduleKind::Cosine { min_ratio: 0.0, constant_ratio: None });
    assert_eq!(train.schedule.warmup, Warmup::Default);
    assert_eq!((train.output_dir.to_str(), train.resume), (Some("./model-out"), Resume::No));
    assert!(train.tensorboard && eval.tasks.is_empty());
}

#[test]
fn words_are_read_as_the_key_wants_them() {
    let rate = |word: &str| {
        let text = LEAST.replace("2e-4", word);
        parse(&text).unwrap().recipe.train.optimizer.learning_rate
    };
    for word in ["2e-4", "2.0e-4", "0.0002", "'2e-4'", "\"0.0002\"", "2E-4", ".0002"] {
        assert_eq!(rate(word).to_bits(), 2e-4f64.to_bits(), "{word}");
    }
    for (word, on) in [("yes", true), ("On", true), ("TRUE", true), ("'yes'", true), ("off", false)]
    {
        assert_eq!(
            with(&format!("sample_packing: {word}\n")).recipe.data.sample_packing,
            on,
            "{word}"
        );
    }
    assert_eq!(with("save_strategy: no\n").recipe.train.save, Cadence::Never);
    assert_eq!(with("save_strategy: false\n").recipe.train.save, Cadence::Never);
    assert_eq!(with("output_dir: no\n").recipe.train.output_dir, Path::new("no"));
    assert_eq!(
        with("revision_of_model: 6299e5\n").recipe.model.revision.as_deref(),
        Some("6299e5")
    );
    assert_eq!(with("sequence_len: 2_048\n").recipe.data.sequence_len, 2048);
    assert_eq!(with("micro_batch_size: '4'\n").recipe.train.micro_batch_size, 4);
}

#[test]
fn a_set_changes_one_key_and_is_recorded() {
    let sets = [
        ("lora_r", "32"),
        ("datasets.0.path", "other.jsonl"),
        ("special_tokens.pad_token", "<pad>"),
        ("lora_target_modules", "[q_proj, v_proj]"),
        ("lora_target_linear", ""),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let loaded = Recipe::parse(LEAST, Path::new("r.yaml"), &sets).unwrap();
    assert_eq!(loaded.recipe.adapter.r, 32);
    assert_eq!(loaded.recipe.data.datasets[0].path, "other.jsonl");
    assert_eq!(loaded.recipe.model.special_tokens["pad_token"], "<pad>");
    let names = ["q_proj", "v_proj"].map(str::to_owned).to_vec();
    assert_eq!(loaded.recipe.adapter.targets, Targets::Names(names));
    assert_eq!((loaded.overrides.as_slice(), loaded.source.as_str()), (&sets[..], LEAST));
    for (key, value, wanted) in [
        ("datasets.7.path", "x", "there is no item 7; the list has 1, counted from 0"),
        ("datasets.path", "x", "`path` must be the number of an item, counted from 0"),
        ("lora_r.x", "1", "`x` cannot be set inside `8`"),
        ("lora_r", "[", "not YAML: "),
        ("", "1", "`` is no key"),
    ] {
        let set = [(key.to_owned(), value.to_owned())];
        let said = Recipe::parse(LEAST, Path::new("r.yaml"), &set).unwrap_err().to_string();
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn the_canonical_form_is_the_same_for_recipes_that_mean_the_same() {
    let a = with("warmup_ratio: 0.1\nseed: 42\nbf16: auto\n");
    let b = with("bf16:    'auto' # as ever\nwarmup_ratio: 1e-1\nflash_attention: true\n");
    assert_eq!(a.canonical(), b.canonical());
    assert_ne!(a.canonical(), with("seed: 43\n").canonical());
}

#[test]
fn qlora_needs_a_packed_base() {
    let qlora = LEAST.replace("adapter: lora", "adapter: qlora");
    assert_eq!(
        complaint_about(&qlora),
        "\
`adapter: qlora` needs `load_in_4bit: true`
 --> r.yaml:2:10
  |
2 | adapter: qlora
  |          ^^^^^
  = help: add it, or use `adapter: lora` to keep the base as it is"
    );
    let quantize = |text: String| parse(&text).unwrap().recipe.model.quantize;
    assert_eq!(
        quantize(format!("{qlora}load_in_4bit: true\n")),
        Quantize::Nf4 { double_quant: true }
    );
    assert_eq!(quantize(format!("{qlora}base_format: q4_k\n")), Quantize::Gguf("q4_k".to_owned()));
    let gguf = qlora.replace("base_model: m", "base_model: m.gguf");
    let loaded = parse(&gguf).unwrap();
    assert_eq!(loaded.recipe.model.quantize, Quantize::Keep);
    assert_eq!(
        notes(&loaded, NoteKind::Derived)[0],
        "`adapter`: `qlora` needs no `load_in_4bit` here: a GGUF base is packed already"
    );
    let loaded = parse(&format!("{gguf}load_in_4bit: true\n")).unwrap();
    assert_eq!(loaded.recipe.model.quantize, Quantize::Keep);
    assert_eq!(
        notes(&loaded, NoteKind::NoEffect),
        ["no effect here: `load_in_4bit`: the base is a GGUF; its blocks are kept as they are"]
    );
    let said = complaint_about(&format!("{qlora}load_in_8bit: true\n"));
    assert!(
        said.starts_with("`adapter: qlora` is for a 4-bit base, this one is loaded in 8 bits\n")
    );
    let said = complaint("load_in_4bit: true\nload_in_8bit: true\n");
    assert!(said.starts_with("the base is loaded in 4 bits or in 8, not in both\n"), "{said}");
    let said = complaint("load_in_4bit: true\nbase_format: q8_0\n");
    assert!(said.starts_with("`base_format` and `load_in_4bit` both say how the base is kept\n"));
}

#[test]
fn the_4_bit_numbers_are_those_of_bitsandbytes() {
    let kwargs = "load_in_4bit: true\nbnb_config_kwargs:\n  bnb_4bit_quant_type: fp4\n  \
                  bnb_4bit_use_double_quant: false\n  bnb_4bit_compute_dtype: bfloat16\n";
    let loaded = with(kwargs);
    assert_eq!(loaded.recipe.model.quantize, Quantize::Fp4 { double_quant: false });
    assert_eq!(notes(&loaded, NoteKind::NoEffect).len(), 1);
    assert_eq!(with("load_in_8bit: true\n").recipe.model.quantize, Quantize::Int8);
}

#[test]
fn a_full_fine_tune_is_refused_with_what_to_do() {
    let said = complaint_about(&LEAST.replace("adapter: lora\n", ""));
    assert_eq!(
        said,
        "\
`adapter` is missing, and training every weight of the base is not done here
 --> r.yaml
 = help: add `adapter: lora`, or `adapter: qlora` with `load_in_4bit: true`"
    );
    let said = complaint_about(&LEAST.replace("adapter: lora\n", "adapter: dora\n"));
    assert!(said.ends_with("= help: `adapter: lora` and `peft_use_dora: true`"), "{said}");
}

#[test]
fn targets_are_names_a_regex_or_everything() {
    let targets = |lines: &str| {
        let text = LEAST.replace("lora_target_linear: true\n", lines);
        parse(&text).map(|loaded| loaded.recipe.adapter.targets).map_err(|error| error.to_string())
    };
    let names = vec!["q_proj".to_owned(), "mlp.up_proj".to_owned()];
    assert_eq!(targets("lora_target_modules: [q_proj, mlp.up_proj]\n"), Ok(Targets::Names(names)));
    let regex = r"model.layers.[\d]+.(mlp|self_attn).(up|q)_proj";
    let read = targets(&format!("lora_target_modules: '{regex}'\n"));
    assert_eq!(read, Ok(Targets::Regex(regex.to_owned())));
    assert_eq!(targets("lora_target_modules: all-linear\n"), Ok(Targets::AllLinear));
    let said = targets("lora_target_modules: '(q_proj'\n").unwrap_err();
    assert!(said.contains("is a regex, and this is none: unclosed group"), "{said}");
    let said = targets("lora_target_modules: []\n").unwrap_err();
    assert!(said.starts_with("`lora_target_modules` names nothing"), "{said}");
    let said = complaint("lora_target_modules: [lm_head]\n");
    assert!(said.contains("`lm_head` is none"), "{said}");
    let both = with("lora_target_modules: [q_proj]\n");
    assert_eq!(both.recipe.adapter.targets, Targets::AllLinear);
    assert_eq!(notes(&both, NoteKind::NoEffect).len(), 1);
}

#[test]
fn starts_of_the_factors_are_pefts() {
    let init = |word: &str| with(&format!("peft_init_lora_weights: {word}\n")).recipe.adapter.init;
    assert_eq!(init("true"), AdapterInit::Default);
    assert_eq!(init("gaussian"), AdapterInit::Gaussian);
    assert_eq!(init("pissa"), AdapterInit::Pissa { iterations: None });
    assert_eq!(init("pissa_niter_16"), AdapterInit::Pissa { iterations: Some(16) });
    assert_eq!(init("olora"), AdapterInit::Olora);
    for word in ["false", "eva", "loftq", "pissa_niter_x", "corda"] {
        let said = complaint(&format!("peft_init_lora_weights: {word}\n"));
        assert!(said.contains("use `true`, `gaussian`, `pissa`"), "{said}");
    }
}

#[test]
fn gradient_accumulation_follows_from_the_batch() {
    let loaded = with("micro_batch_size: 2\nbatch_size: 8\n");
    assert_eq!(loaded.recipe.train.gradient_accumulation_steps, 4);
    assert_eq!(loaded.recipe.train.eval_batch_size, 2);
    assert_eq!(
        notes(&loaded, NoteKind::Mapped),
        ["`batch_size`: gradient_accumulation_steps = 8 / 2 = 4"]
    );
    let said = complaint("micro_batch_size: 3\nbatch_size: 8\n");
    assert!(
        said.starts_with("`batch_size: 8` is no multiple of `micro_batch_size: 3`\n"),
        "{said}"
    );
    assert!(said.ends_with("= help: use 6 or 9"), "{said}");
    let said = complaint("batch_size: 8\ngradient_accumulation_steps: 4\n");
    assert!(said.starts_with("`batch_size` and `gradient_accumulation_steps` both say"), "{said}");
}

#[test]
fn evaluations_happen_where_axolotl_forgets_them() {
    let loaded = with("val_set_size: 0.05\nevals_per_epoch: 1\nnum_epochs: 1\n");
    assert_eq!(loaded.recipe.train.evaluate, Cadence::PerEpoch(1));
    assert_eq!(
        notes(&loaded, NoteKind::Mapped),
        [
            "`evals_per_epoch`: with 1 an epoch and num_epochs 1 Axolotl never evaluates; here it does, at the end"
        ]
    );
    assert!(notes(&with("val_set_size: 9\nevals_per_epoch: 2\n"), NoteKind::Mapped).is_empty());
    let loaded = with("val_set_size: 0.05\n");
    assert_eq!(loaded.recipe.train.evaluate, Cadence::Never);
    assert_eq!(
        notes(&loaded, NoteKind::Warning),
        ["warning: `val_set_size`: rows are held out, and no key asks for an evaluation; \
          `evals_per_epoch: 1` does"]
    );
    let loaded = with("val_set_size: 0\nevals_per_epoch: 4\n");
    assert_eq!(loaded.recipe.train.evaluate, Cadence::Never);
    let said = complaint("eval_steps: 10\n");
    assert!(
        said.starts_with("`eval_steps` asks for evaluations, and no rows are held out\n"),
        "{said}"
    );
}

#[test]
fn cadences_are_steps_shares_times_or_epochs() {
    let save = |lines: &str| with(lines).recipe.train.save;
    assert_eq!(save("save_steps: 20\n"), Cadence::Steps(20));
    assert_eq!(save("save_steps: 0.25\n"), Cadence::Share(0.25));
    assert_eq!(save("save_strategy: steps\nsave_steps: 5\n"), Cadence::Steps(5));
    assert_eq!(save("saves_per_epoch: 3\n"), Cadence::PerEpoch(3));
    assert_eq!(save("saves_per_epoch: 0\n"), Cadence::EachEpoch);
    assert_eq!(save("save_strategy: epoch\n"), Cadence::EachEpoch);
    let loaded = with("evaluation_strategy: epoch\nval_set_size: 0.1\n");
    assert_eq!(loaded.recipe.train.evaluate, Cadence::EachEpoch);
    assert_eq!(
        notes(&loaded, NoteKind::Mapped),
        ["`evaluation_strategy`: another spelling of `eval_strategy`, taken as such"]
    );
    for (lines, wanted) in [
        ("save_steps: 5\nsaves_per_epoch: 1\n", "`save_steps` and `saves_per_epoch` both say when"),
        ("save_strategy: no\nsave_steps: 5\n", "`save_strategy: no` contradicts `save_steps`"),
        ("save_strategy: steps\n", "`save_strategy: steps` needs `save_steps`"),
        ("save_steps: 1.5\n", "`save_steps` must be a whole number of at least 1, found `1.5`"),
        ("save_strategy: best\n", "`save_strategy` must be one of `no`, `epoch`, `steps`"),
    ] {
        let said = complaint(lines);
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn the_best_checkpoint_is_kept_when_each_save_follows_an_evaluation() {
    let keep = |lines: &str| with(&format!("val_set_size: 0.1\n{lines}")).recipe.train.keep_best;
    assert!(keep("evals_per_epoch: 4\nsaves_per_epoch: 1\n"));
    assert!(keep("eval_steps: 10\nsave_steps: 20\n"));
    assert!(!keep("eval_steps: 20\nsave_steps: 10\n"));
    assert!(!keep("evals_per_epoch: 4\nsaves_per_epoch: 1\nload_best_model_at_end: false\n"));
    assert!(!keep("evals_per_epoch: 4\n"));
    let said = complaint("load_best_model_at_end: true\n");
    assert!(said.starts_with("`load_best_model_at_end` needs evaluations"), "{said}");
    let said = complaint("early_stopping_patience: 3\n");
    assert!(said.starts_with("`early_stopping_patience` counts evaluations"), "{said}");
}

#[test]
fn the_rate_rises_for_steps_or_a_share() {
    let warmup = |lines: &str| with(lines).recipe.train.schedule.warmup;
    assert_eq!(warmup("warmup_steps: 10\n"), Warmup::Steps(10));
    assert_eq!(warmup("warmup_steps: 0\n"), Warmup::Steps(0));
    assert_eq!(warmup("warmup_steps: 0.1\n"), Warmup::Ratio(0.1));
    assert_eq!(warmup("warmup_ratio: 0.1\n"), Warmup::Ratio(0.1));
    assert_eq!(warmup("warmup_steps: 0\nwarmup_ratio: 0.1\n"), Warmup::Ratio(0.1));
    let said = complaint("warmup_steps: 10\nwarmup_ratio: 0.1\n");
    assert!(said.starts_with("`warmup_steps` and `warmup_ratio` both say how long"), "{said}");
    let said = complaint("warmup_steps: 1.5\n");
    assert!(said.contains("must be a whole number"), "{said}");
}

#[test]
fn schedules_are_known_by_name() {
    let kind = |lines: &str| with(lines).recipe.train.schedule.kind;
    assert_eq!(kind("lr_scheduler: constant_with_warmup\n"), ScheduleKind::ConstantWithWarmup);
    assert_eq!(
        kind("lr_scheduler: polynomial\nlr_scheduler_kwargs: {power: 2, lr_end: 1e-7}\n"),
        ScheduleKind::Polynomial { power: 2.0 }
    );
    let floor = |min_ratio| ScheduleKind::Cosine { min_ratio, constant_ratio: None };
    assert_eq!(kind("cosine_min_lr_ratio: 0.1\n"), floor(0.1));
    let min_lr = "lr_scheduler: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 2e-5}\n";
    assert_eq!(kind(min_lr), floor(2e-5 / 2e-4));
    for (lines, wanted) in [
        ("lr_scheduler: one_cycle\n", "schedule `one_cycle` is not done here; there are `linear`"),
        ("lr_scheduler: cosin\n", "no schedule is called `cosin`"),
        ("lr_scheduler: cosine_with_min_lr\n", "`cosine_with_min_lr` needs its floor"),
        ("lr_scheduler_kwargs: {power: 2}\n", "schedule `cosine` takes no `power`"),
    ] {
        let said = complaint(lines);
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[test]
fn optimisers_say_what_is_kept_for_them() {
    let loaded = with("optimizer: paged_adamw_8bit\n");
    assert_eq!(loaded.recipe.train.optimizer.kind, OptimizerKind::AdamW8bit);
    assert_eq!(loaded.recipe.train.optimizer.spelling, "paged_adamw_8bit");
    assert_eq!(
        notes(&loaded, NoteKind::Mapped),
        ["`optimizer`: `paged_adamw_8bit`: AdamW with block-wise 8-bit state, not paged"]
    );
    let kind = |word: &str| with(&format!("optimizer: {word}\n")).recipe.train.optimizer.kind;
    assert_eq!(kind("adamw_torch"), OptimizerKind::AdamW);
    assert_eq!(kind("paged_adamw_32bit"), OptimizerKind::AdamW);
    assert_eq!(kind("adamw_torch_4bit"), OptimizerKind::AdamW8bit);
    assert_eq!(kind("lion_pytorch"), OptimizerKind::Lion);
    assert_eq!((kind("muon"), kind("sgd")), (OptimizerKind::Muon, OptimizerKind::Sgd));
    let said = complaint("optimizer: adafactor\n");
    assert!(said.starts_with("optimiser `adafactor` is not done here"), "{said}");
    let said = complaint("optimizer: adamw_toch\n");
    assert!(said.ends_with("= help: did you mean `adamw_torch`?"), "{said}");
}

#[test]
fn embeddings_learn_at_their_own_rate() {
    let rate = |lines: &str| with(lines).recipe.train.optimizer.embedding_learning_rate;
    assert_eq!(rate("embedding_lr: 1e-5\n"), Some(1e-5));
    assert_eq!(rate("embedding_lr_scale: 0.5\n"), Some(1e-4));
    assert_eq!(rate("loraplus_lr_ratio: 16\n"), Some(1e-6));
    assert_eq!(rate("loraplus_lr_ratio: 16\nloraplus_lr_embedding: 1e-5\n"), Some(1e-5));
    assert_eq!(rate("loraplus_lr_embedding: 1e-5\n"), None);
    let said = complaint("embedding_lr: 1e-5\nembedding_lr_scale: 2\n");
    assert!(said.starts_with("`embedding_lr` and `embedding_lr_scale` both"), "{said}");
}

#[test]
fn number_types_do_not_contradict_each_other() {
    let precision = |lines: &str| with(lines).recipe.model.precision;
    assert_eq!(precision("bf16: auto\nfp16: false\n"), Precision::Auto);
    assert_eq!(precision("bf16: auto\nfp16: true\n"), Precision::F16);
    assert_eq!(precision("bf16: false\nfp16: true\n"), Precision::F16);
    assert_eq!(precision("bf16: yes\n"), Precision::Bf16);
    assert_eq!(precision("bf16: false\n"), Precision::F32);
    assert_eq!(precision("bfloat16: true\n"), Precision::Bf16);
    let said = complaint("bf16: true\nfp16: true\n");
    assert!(said.ends_with("= help: keep `bf16: true` and remove `fp16`"), "{said}");
}

#[test]
fn plugins_that_only_execute_are_noted_and_others_refused_by_name() {
    let loaded = with(
        "plugins:\n  - axolotl.integrations.liger.LigerPlugin\n  - \
         axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n",
    );
    assert_eq!(
        notes(&loaded, NoteKind::NoEffect),
        [
            "no effect here: `plugins[0]`: `liger`: ft's norms, rotary embedding, gated activation \
             and loss are fused already",
            "no effect here: `plugins[1]`: `cut_cross_entropy`: the loss never holds more than a \
             chunk of the logits",
        ]
    );
    let said = complaint("plugins: [axolotl.integrations.spectrum.SpectrumPlugin]\n");
    assert!(said.starts_with("plugin `spectrum` changes the training"), "{said}");
    let said = complaint("plugins: [mine.Plugin]\n");
    assert!(
        said.starts_with("unknown plugin `mine.Plugin`; a recipe cannot load Python code\n"),
        "{said}"
    );
}

#[test]
fn unfrozen_parameters_of_the_language_model_stay_frozen_beside_an_adapter() {
    let loaded = with("unfrozen_parameters: ['^model.language_model.*', '^lm_head.*']\n");
    assert_eq!(notes(&loaded, NoteKind::NoEffect).len(), 1);
    let said = complaint("unfrozen_parameters: ['^visual.*']\n");
    assert!(said.starts_with("`unfrozen_parameters` names parameters outside the language model"));
}

#[test]
fn several_devices_are_one_and_it_is_said() {
    let loaded =
        with("deepspeed: deepspeed_configs/zero2.json\nfsdp_config: {offload_params: true}\n");
    assert_eq!(
        notes(&loaded, NoteKind::OneDevice),
        [
            "`deepspeed`: runs on 1 device; global batch = micro_batch_size × \
             gradient_accumulation_steps",
            "`fsdp_config`: runs on 1 device; global batch = micro_batch_size × \
             gradient_accumulation_steps",
        ]
    );
}

#[test]
fn attention_is_noted_as_the_house_says_it() {
    let loaded = with("attn_implementation: flash_attention_2\n");
    assert_eq!(
        notes(&loaded, NoteKind::NoEffect),
        ["no effect here: `attn_implementation`: ft has one attention kernel"]
    );
}

#[test]
fn axolotls_own_dead_keys_are_warnings_with_what_was_meant() {
    let loaded = with("context_parapllel_size: 2\n");
    assert_eq!(
        notes(&loaded, NoteKind::Warning),
        ["warning: `context_parapllel_size`: Axolotl has no such key and ignores it, and so does \
          ft; `context_parallel_size` is meant; on one device it changes nothing"]
    );
}

#[test]
fn resuming_is_asked_for_by_path_or_in_general() {
    let resume = |lines: &str| with(lines).recipe.train.resume;
    assert_eq!(resume("auto_resume_from_checkpoints: true\n"), Resume::Auto);
    assert_eq!(resume("resume_from_checkpoint: true\n"), Resume::Auto);
    assert_eq!(resume("resume_from_checkpoint: runs/a\n"), Resume::From("runs/a".into()));
    assert_eq!(resume("resume_from_checkpoint: false\n"), Resume::No);
}

#[test]
fn tasks_of_eval_are_ours() {
    let eval = with("eval:\n  tasks:\n    - json_fields: {path: h.jsonl, max_new_tokens: 64}\n");
    let task = EvalTask::JsonFields { path: "h.jsonl".into(), max_new_tokens: 64 };
    assert_eq!(eval.recipe.eval.tasks, [task]);
    let said = complaint("eval:\n  tasks:\n    - json_field: {path: h.jsonl}\n");
    assert!(said.ends_with("= help: did you mean `json_fields`?"), "{said}");
    let said = complaint("eval:\n  tasks:\n    - json_fields: {max_new_tokens: 64}\n");
    assert!(said.starts_with("`eval.tasks[0].json_fields` has no `path`\n"), "{said}");
}

#[test]
fn sections_that_do_not_exist_say_what_to_use() {
    let said = complaint("export: gguf\n");
    assert!(said.contains("the run folder's `adapter/` is in PEFT's layout"), "{said}");
}

#[test]
fn activations_are_multiplied_in_floats_unless_eight_bits_are_asked_for() {
    assert_eq!(with("").recipe.model.compute, Compute::F32);
    assert_eq!(with("compute: int8\n").recipe.model.compute, Compute::Int8);
    let said = complaint("compute: int4\n");
    assert!(said.starts_with("`compute` must be one of `f32`, `int8`, found `int4`"), "{said}");
}
