//! Folders of PEFT's, folders of ours, and folders of nobody's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use ft_kernels::{Format, Packed};
use ft_recipes::{AdapterInit, AdapterSection, Targets};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use super::{AdapterFileError, PeftAdapter, SaveMeta, save};
use crate::attach::{factor, floats};
use crate::testing::{close, numbers, packed, section};
use crate::{Pass, Projection, attach, initial_factors, merged};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Tensors by name, with their shapes.
fn answers() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(fixture("answers.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let read = |(name, view): (&str, TensorView<'_>)| {
        let values = view.data().chunks_exact(4).map(number).collect();
        (name.to_owned(), (view.shape().to_vec(), values))
    };
    tensors.iter().map(read).collect()
}

/// The toy model of `make.py`.
fn toy() -> Vec<Projection> {
    let answers = answers();
    let mut projections = Vec::new();
    for block in 0..2 {
        for name in ["q_proj", "o_proj"] {
            let path = format!("model.layers.{block}.self_attn.{name}");
            let (shape, weight) = &answers[&format!("{path}.weight")];
            let packed = Packed::quantize(Format::F32, shape[0], shape[1], weight).unwrap();
            let bias = answers
                .get(&format!("{path}.bias"))
                .map(|(_, bias)| Tensor::<1>::from_floats(bias.as_slice(), &Device::flex()));
            projections.push(Projection::new(path, packed, bias));
        }
    }
    projections
}

fn load(folder: &Path, model: &mut [Projection]) -> Result<super::Installed, AdapterFileError> {
    let mut projections: Vec<&mut Projection> = model.iter_mut().collect();
    PeftAdapter::load(folder)?.install(&mut projections, &Device::flex(), false)
}

fn outputs(model: &[Projection]) -> Vec<Vec<f32>> {
    let run = |projection: &Projection| {
        let shape = [3, projection.inputs()];
        let x = factor(numbers("x", 3 * shape[1]), shape, &Device::flex(), false);
        floats(projection.forward(x, Pass::Inference))
    };
    model.iter().map(run).collect()
}

#[test]
fn adapters_that_peft_wrote_compute_what_peft_computes() {
    let answers = answers();
    for (name, count) in [("lora", 4), ("rslora", 2), ("dora", 4)] {
        let mut model = toy();
        let installed = load(&fixture(name), &mut model).unwrap();
        assert_eq!(installed.count, count, "{name}");
        for projection in &model {
            let (shape, x) = &answers[&format!("{}.x", projection.name)];
            let x = factor(x.clone(), [shape[0], shape[1]], &Device::flex(), false);
            let y = floats(projection.forward(x, Pass::Inference));
            let (_, expected) = &answers[&format!("{name}.{}.y", projection.name)];
            close(&y, expected, 2e-6, &format!("{name} {}", projection.name));
        }
        let whole: Vec<_> = installed.whole.iter().map(|w| (w.name.as_str(), w.shape)).collect();
        let expected: &[_] = if name == "lora" { &[("lm_head", [9, 12])] } else { &[] };
        assert_eq!(whole, expected, "{name}");
    }
}

#[test]
fn peft_computes_from_a_folded_adapter_of_ours_what_we_compute() {
    let answers = answers();
    let section = AdapterSection { init: AdapterInit::Olora, use_rslora: true, ..section(3, 4.0) };
    let mut model = toy();
    let mut projections: Vec<&mut Projection> = model.iter_mut().collect();
    attach(&mut projections, &section, 3, &Device::flex()).unwrap();
    move_factors(&mut model);
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &model, &section);
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let (ours, kept) = (folder.path().join(name), fixture("folded").join(name));
        // PEFT has read exactly these bytes when it made the answers.
        assert!(fs::read(ours).unwrap() == fs::read(kept).unwrap(), "{name} has other bytes");
    }
    for projection in &model {
        let (shape, x) = &answers[&format!("{}.x", projection.name)];
        let x = factor(x.clone(), [shape[0], shape[1]], &Device::flex(), false);
        let y = floats(projection.forward(x, Pass::Inference));
        let (_, expected) = &answers[&format!("folded.{}.y", projection.name)];
        close(&y, expected, 5e-6, &projection.name);
    }
}

#[test]
fn factors_taken_out_of_the_weight_are_pefts() {
    let answers = answers();
    for projection in toy() {
        let [n, k] = [projection.outputs(), projection.inputs()];
        let start = |init| initial_factors(init, &projection.weight, 3, 2.0, 1, &projection.name);
        let of = |name: &str| answers[&format!("{name}.{}.a", projection.name)].1.clone();
        let and = |name: &str| answers[&format!("{name}.{}.b", projection.name)].1.clone();
        let olora = start(AdapterInit::Olora);
        close(&olora.a, &of("olora"), 2e-6, "A of OLoRA");
        close(&olora.b, &and("olora"), 2e-6, "B of OLoRA");
        // Singular vectors have no sign of their own; the product does.
        let product = |a: &[f32], b: &[f32]| -> Vec<f32> {
            let entry = |at: usize| (0..3).map(|r| b[at / k * 3 + r] * a[r * k + at % k]).sum();
            (0..n * k).map(entry).collect()
        };
        let expected = product(&of("pissa"), &and("pissa"));
        // So many iterations that even neighbouring values are told apart.
        for iterations in [None, Some(256)] {
            let pissa = start(AdapterInit::Pissa { iterations });
            let found = product(&pissa.a, &pissa.b);
            close(&found, &expected, 1e-5, &format!("product of PiSSA, {iterations:?}"));
        }
    }
}

/// Trained adapters beside two blocks of two matrices.
fn model(section: &AdapterSection) -> Vec<Projection> {
    let mut model = Vec::new();
    for block in 0..2 {
        for (name, rows, cols) in [("self_attn.q_proj", 20, 12), ("mlp.down_proj", 12, 20)] {
            let name = format!("model.layers.{block}.{name}");
            model.push(Projection::new(name.clone(), packed(&name, Format::F32, rows, cols), None));
        }
    }
    let mut projections: Vec<&mut Projection> = model.iter_mut().collect();
    attach(&mut projections, section, 3, &Device::flex()).unwrap();
    move_factors(&mut model);
    model
}

/// Moves each trained tensor, as an optimiser does.
fn move_factors(model: &mut [Projection]) {
    for projection in model {
        let Some(adapter) = &mut projection.adapter else { continue };
        let name = projection.name.clone();
        adapter.visit(&mut |kind, tensor| {
            let shape = tensor.dims();
            let step = numbers(&format!("{name}{kind:?}"), shape[0] * shape[1]);
            let step = step.iter().map(|x| 0.2 * x).collect();
            let moved = tensor.clone().without_autodiff();
            *tensor = moved + factor(step, shape, &Device::flex(), false);
        });
        adapter.refresh(&projection.weight);
    }
}

fn bare(model: &[Projection]) -> Vec<Projection> {
    model.iter().map(|p| Projection { adapter: None, ..p.clone() }).collect()
}

fn saved(folder: &Path, model: &[Projection], section: &AdapterSection) -> Value {
    let projections: Vec<&Projection> = model.iter().collect();
    save(folder, &projections, &[], &SaveMeta::new("toy/base", section)).unwrap();
    serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn what_is_saved_is_read_as_the_same_layers_for_every_kind_of_adapter() {
    for init in [AdapterInit::Default, AdapterInit::Olora, AdapterInit::Pissa { iterations: None }]
    {
        for (use_dora, use_rslora) in [(false, false), (true, false), (false, true)] {
            let mut section = AdapterSection { init, use_dora, use_rslora, ..section(3, 7.0) };
            section.rank_pattern.insert("down_proj".to_owned(), 2);
            section.alpha_pattern.insert(r"layers\.1\..*q_proj".to_owned(), 5.0);
            let model = model(&section);
            let folder = tempfile::tempdir().unwrap();
            saved(folder.path(), &model, &section);
            let mut again = bare(&model);
            assert_eq!(load(folder.path(), &mut again).unwrap().count, 4);
            for (first, second) in model.iter().zip(&again) {
                close(&merged(second), &merged(first), 1e-6, &format!("{section:?}"));
                let (first, second) = (first.adapter.as_ref(), second.adapter.as_ref());
                let (first, second) = (first.unwrap(), second.unwrap());
                assert_eq!(first.scale.to_bits(), second.scale.to_bits(), "{section:?}");
                assert_eq!(first.folded_rank(), second.rank());
            }
            for (first, second) in outputs(&model).iter().zip(outputs(&again)) {
                close(&second, first, 1e-5, &format!("{section:?}"));
            }
        }
    }
}

#[test]
fn the_same_adapters_are_the_same_bytes_and_leave_nothing_beside_them() {
    let section = section(3, 7.0);
    let model = model(&section);
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    saved(folder.path(), &model, &section);
    let first = (read("adapter_config.json"), read("adapter_model.safetensors"));
    saved(folder.path(), &model, &section);
    assert_eq!(first, (read("adapter_config.json"), read("adapter_model.safetensors")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let tensors = SafeTensors::deserialize(&first.1).unwrap();
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj";
    assert_eq!(tensors.tensor(&format!("{prefix}.lora_A.weight")).unwrap().shape(), [3, 12]);
    assert_eq!(tensors.tensor(&format!("{prefix}.lora_B.weight")).unwrap().shape(), [20, 3]);
}

#[test]
fn the_configuration_has_pefts_keys_and_says_what_was_trained() {
    let mut section = AdapterSection { dropout: 0.05, ..section(3, 7.0) };
    section.targets = Targets::Names(vec!["q_proj".to_owned(), "down_proj".to_owned()]);
    section.rank_pattern.insert("down_proj".to_owned(), 2);
    section.alpha_pattern.insert(r"layers\.1\..*q_proj".to_owned(), 5.5);
    let model = model(&section);
    let folder = tempfile::tempdir().unwrap();
    let ours = saved(folder.path(), &model, &section);
    let pefts = fs::read(fixture("lora/adapter_config.json")).unwrap();
    let pefts: Value = serde_json::from_slice(&pefts).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&pefts), "and in their order");
    assert_eq!(ours["base_model_name_or_path"], "toy/base");
    assert_eq!(ours["target_modules"], json!(["q_proj", "down_proj"]));
    assert_eq!(ours["lora_alpha"].to_string(), "7", "a whole number has no point");
    assert_eq!(ours["lora_dropout"], 0.05);
    let ranks = [ours["r"].as_u64(), ours["rank_pattern"]["down_proj"].as_u64()];
    assert!(ranks == [Some(3), Some(2)] || ours["rank_pattern"] == json!({"q_proj": 3}), "{ours}");
    let exception = r"model\.layers\.1\.self_attn\.q_proj";
    assert_eq!(ours["alpha_pattern"], json!({ exception: 5.5 }));
}

#[test]
fn saved_targets_choose_exactly_what_has_an_adapter() {
    let everything = AdapterSection { targets: Targets::AllLinear, ..section(3, 7.0) };
    let folder = tempfile::tempdir().unwrap();
    let targets = |change: &dyn Fn(&mut AdapterSection)| {
        let mut section = everything.clone();
        change(&mut section);
        let config = saved(folder.path(), &model(&section), &section);
        (config["target_modules"].clone(), config["layers_to_transform"].clone())
    };
    assert_eq!(targets(&|_| ()), (json!(["down_proj", "q_proj"]), Value::Null));
    let first = targets(&|section| section.layers_to_transform = Some(vec![0]));
    assert_eq!(first, (json!(["down_proj", "q_proj"]), json!([0])));
    let regex = r".*\.0\..*_proj";
    let by_regex = targets(&|section| section.targets = Targets::Regex(regex.to_owned()));
    assert_eq!(by_regex, (json!(regex), Value::Null));
    // An adapter taken away by hand leaves what no short list says.
    let mut model = model(&everything);
    model[0].adapter = None;
    let config = saved(folder.path(), &model, &everything);
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 3);
    assert_eq!(config["target_modules"][0], "model.layers.0.mlp.down_proj");
}

#[test]
fn modules_trained_whole_go_there_and_back() {
    let section = section(3, 7.0);
    let model = model(&section);
    let projections: Vec<&Projection> = model.iter().collect();
    let whole = [("lm_head".to_owned(), [4, 3], numbers("head", 12))];
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &projections, &whole, &SaveMeta::new("toy", &section)).unwrap();
    let adapter = PeftAdapter::load(folder.path()).unwrap();
    assert_eq!(adapter.config.modules_to_save, ["lm_head"]);
    assert_eq!((adapter.whole.len(), &adapter.whole[0].values), (1, &whole[0].2));
    let nothing = save(folder.path(), &[], &[], &SaveMeta::new("toy", &section));
    assert!(matches!(nothing, Err(AdapterFileError::NothingToSave)), "{nothing:?}");
    assert_eq!(PeftAdapter::load(folder.path()).unwrap(), adapter, "the old files are still there");
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A good folder for one projection, then changed.
fn changed(change: impl FnOnce(&mut Value, &mut Tensors)) -> tempfile::TempDir {
    let bytes = |name: &str, len| {
        numbers(name, len).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()
    };
    let mut tensors = Tensors::from([
        (A.to_owned(), (Dtype::F32, vec![3, 12], bytes("a", 36))),
        (B.to_owned(), (Dtype::F32, vec![20, 3], bytes("b", 60))),
    ]);
    let mut config = json!({"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj"],
        "base_model_name_or_path": "toy/base"});
    change(&mut config, &mut tensors);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("adapter_model.safetensors"), file).unwrap();
    folder
}

const PATH: &str = "model.layers.0.self_attn.q_proj";
const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

fn complaint(change: impl FnOnce(&mut Value, &mut Tensors)) -> String {
    let folder = changed(change);
    let mut model = [Projection::new(PATH, packed("w", Format::F32, 20, 12), None)];
    let error = load(folder.path(), &mut model).expect_err("a bad folder").to_string();
    assert!(model[0].adapter.is_none(), "{error}: the model was changed");
    let at = folder.path().display().to_string();
    assert!(error.contains(&at), "`{error}` names the file");
    error.replace(&at, "DIR")
}

fn said(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{error}` says `{part}`");
    }
}

#[test]
fn halves_and_number_types_are_read_as_single_precision() {
    let half = |tensors: &mut Tensors| {
        // 1.0 and -2.0 in BF16 (A) and F16 (B).
        let (a, b) = ([0x80, 0x3f, 0x00, 0xc0].repeat(18), [0x00, 0x3c, 0x00, 0xc0].repeat(30));
        tensors.insert(A.to_owned(), (Dtype::BF16, vec![3, 12], a));
        tensors.insert(B.to_owned(), (Dtype::F16, vec![20, 3], b));
    };
    let folder = changed(|_, tensors| half(tensors));
    let adapter = PeftAdapter::load(folder.path()).unwrap();
    assert_eq!(adapter.factors[0].a, [1.0, -2.0].repeat(18));
    assert_eq!(adapter.factors[0].b, [1.0, -2.0].repeat(30));
    let error = complaint(|_, tensors| {
        tensors.insert(A.to_owned(), (Dtype::I32, vec![3, 12], vec![0; 144]));
    });
    said(&error, &[A, "expected F32, F16 or BF16, found I32"]);
}

#[test]
fn names_with_the_adapters_own_and_magnitudes_in_either_form_are_read() {
    for magnitude in ["", ".weight", ".default", ".default.weight"] {
        let folder = changed(|config, tensors| {
            config["use_dora"] = json!(true);
            for name in [A, B] {
                let tensor = tensors.remove(name).unwrap();
                tensors.insert(name.replace(".weight", ".default.weight"), tensor);
            }
            let name = A.replace(".lora_A.weight", &format!(".lora_magnitude_vector{magnitude}"));
            tensors.insert(name, (Dtype::F32, vec![20], 1f32.to_le_bytes().repeat(20)));
        });
        let adapter = PeftAdapter::load(folder.path()).unwrap();
        assert_eq!(adapter.factors[0].name, PATH);
        assert_eq!(adapter.factors[0].magnitude, Some(vec![1.0; 20]), "{magnitude}");
    }
    let error = complaint(|_, tensors| {
        let twice = tensors[A].clone();
        tensors.insert(A.replace(".weight", ".default.weight"), twice);
    });
    said(&error, &["twice"]);
}

#[test]
fn a_tensor_of_no_projection_is_named_with_the_one_that_may_be_meant() {
    let error = complaint(|_, tensors| {
        for name in [A, B] {
            let tensor = tensors.remove(name).unwrap();
            tensors.insert(name.replace("q_proj", "q_porj"), tensor);
        }
    });
    let meant = format!("did you mean `{PATH}`?");
    said(&error, &["no projection `model.layers.0.self_attn.q_porj`", &meant]);
    for name in ["x.lora_A.weight", "base_model.model.x.lora_C.weight", "base_model.model.x.bias"] {
        let error = complaint(|_, tensors| {
            let tensor = tensors[A].clone();
            tensors.insert(name.to_owned(), tensor);
        });
        said(&error, &[&format!("tensor `{name}`: expected ")]);
    }
    let embedding = complaint(|_, tensors| {
        let tensor = tensors[A].clone();
        tensors.insert("base_model.model.embed.lora_embedding_A".to_owned(), tensor);
    });
    said(&embedding, &["lora_embedding_A", "trained whole"]);
}

#[test]
fn an_adapter_for_another_base_is_refused_with_both_shapes() {
    let error = complaint(|_, tensors| {
        tensors.insert(A.to_owned(), (Dtype::F32, vec![3, 16], vec![0; 192]));
    });
    said(&error, &[PATH, "`[20, 16]`", "`[20, 12]`", "another base (`toy/base`)"]);
}

#[test]
fn halves_and_ranks_that_do_not_fit_are_named() {
    said(&complaint(|_, tensors| drop(tensors.remove(A))), &[PATH, "has `lora_B` and no `lora_A`"]);
    said(&complaint(|_, tensors| drop(tensors.remove(B))), &[PATH, "has `lora_A` and no `lora_B`"]);
    said(&complaint(|_, tensors| tensors.clear()), &["no tensors"]);
    let dora = complaint(|config, _| config["use_dora"] = json!(true));
    said(&dora, &[PATH, "no `lora_magnitude_vector`"]);
    let magnitude = A.replace(".lora_A.weight", ".lora_magnitude_vector");
    let plain = complaint(|_, tensors| {
        tensors.insert(magnitude.clone(), (Dtype::F32, vec![20], vec![0; 80]));
    });
    said(&plain, &[&magnitude, "`use_dora` is false"]);
    let short = complaint(|config, tensors| {
        config["use_dora"] = json!(true);
        tensors.insert(magnitude.clone(), (Dtype::F32, vec![19], vec![0; 76]));
    });
    said(&short, &[&magnitude, "expected `[20]`", "found `[19]`"]);
    let columns = complaint(|_, tensors| {
        tensors.insert(B.to_owned(), (Dtype::F32, vec![20, 4], vec![0; 320]));
    });
    said(&columns, &[B, "expected `[n, 3]`", "found `[20, 4]`"]);
    let flat = complaint(|_, tensors| {
        tensors.insert(A.to_owned(), (Dtype::F32, vec![36], vec![0; 144]));
    });
    said(&flat, &[A, "two dimensions", "`[36]`"]);
    said(&complaint(|config, _| config["r"] = json!(8)), &[PATH, "rank 3", "says 8"]);
    let pattern = complaint(|config, _| config["rank_pattern"] = json!({"q_proj": 2}));
    said(&pattern, &[PATH, "rank 3", "says 2"]);
    for rank in [json!(1_000_000), json!(0), json!(-1), json!("8"), json!(2.5), Value::Null] {
        said(&complaint(|config, _| config["r"] = rank.clone()), &["`r`: expected "]);
    }
}

#[test]
fn numbers_that_are_none_are_named_with_their_place() {
    for value in [f32::NAN, f32::INFINITY] {
        let error = complaint(|_, tensors| {
            let bytes = &mut tensors.get_mut(B).unwrap().2;
            bytes[28..32].copy_from_slice(&value.to_le_bytes());
        });
        said(&error, &[B, &format!("found {value} at index 7")]);
    }
}

#[test]
fn features_that_change_the_meaning_of_tensors_are_refused_by_name() {
    for (field, value) in [
        ("peft_type", json!("VERA")),
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("layer_replication", json!([[0, 2]])),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("trainable_token_indices", json!([7])),
        ("use_qalora", json!(true)),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("loftq")),
    ] {
        let error = complaint(|config, _| config[field] = value.clone());
        said(&error, &[&format!("`{field}: {value}` is not supported")]);
    }
    for (field, value) in [
        ("lora_dropout", json!(1.0)),
        ("lora_alpha", json!("16")),
        ("target_modules", json!([1])),
        ("use_dora", json!("yes")),
        ("rank_pattern", json!({"q_proj": 0})),
        ("layers_to_transform", json!(["0"])),
        ("base_model_name_or_path", json!(3)),
    ] {
        let error = complaint(|config, _| config[field] = value.clone());
        said(&error, &[&format!("`{field}`: expected ")]);
    }
    let look = complaint(|config, _| config["alpha_pattern"] = json!({"(?=q).*": 3}));
    said(&look, &["alpha_pattern", "lookaround"]);
}

#[test]
fn keys_of_no_meaning_are_passed_over_and_unknown_ones_are_reported() {
    let folder = changed(|config, _| {
        config["eva_config"] = Value::Null;
        config["a_new_switch"] = json!(false);
        config["a_new_method"] = json!({"x": 1});
        config["layers_to_transform"] = json!(0);
    });
    let config = PeftAdapter::load(folder.path()).unwrap().config;
    assert_eq!(config.unknown, ["a_new_method"]);
    assert_eq!(config.layers_to_transform, Some(vec![0]));
}

#[test]
fn pickles_missing_files_and_damaged_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = || PeftAdapter::load(folder.path()).unwrap_err().to_string();
    said(&error(), &["adapter_config.json", "no such file"]);
    let good = changed(|_, _| ());
    let copy = |name: &str| fs::read(good.path().join(name)).unwrap();
    fs::write(folder.path().join("adapter_config.json"), copy("adapter_config.json")).unwrap();
    said(&error(), &["adapter_model.safetensors", "no such file"]);
    fs::write(folder.path().join("adapter_model.bin"), b"\x80\x02}.").unwrap();
    said(&error(), &["adapter_model.bin", "pickle", "save_pretrained"]);
    let weights = copy("adapter_model.safetensors");
    for len in [0, 4, 8, 40, weights.len() - 1] {
        fs::write(folder.path().join("adapter_model.safetensors"), &weights[..len]).unwrap();
        said(&error(), &["expected a safetensors file"]);
    }
    let mut huge = weights.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(folder.path().join("adapter_model.safetensors"), &huge).unwrap();
    said(&error(), &["expected a safetensors file"]);
    for text in ["", "[]", "{", "{\"r\": 1e999}"] {
        fs::write(folder.path().join("adapter_config.json"), text).unwrap();
        said(&error(), &["adapter_config.json"]);
    }
    fs::write(folder.path().join("adapter_config.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    said(&error(), &["1 MiB"]);
}
