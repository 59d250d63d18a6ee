//! `ft inspect PATH`

mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ft_adapters::PeftAdapter;
use ft_datasets::tokenizer::Tokenizer;
use ft_model::{Listed, check_numbers, list};
use ft_trainer::manifest::{FileDigest, RunManifest, sha256};
use serde_json::{Map, Value, json};

use crate::export::shown;
use crate::report::out;
use text::text;

/// Endings of files that run code when they are read.
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "pkl", "ckpt", "pickle"];

/// A GGUF or safetensors file, a folder in Hugging Face's form, an adapter, or a run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file or folder
    path: PathBuf,
    /// Compare hashes with what is written down, and look at every number
    #[arg(long)]
    verify: bool,
    /// As JSON, with every tensor
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let path = &args.path;
    if !path.exists() {
        bail!("there is nothing at `{}`", path.display());
    }
    let found = look(path, args.verify)?;
    if args.json {
        return out(serde_json::to_string_pretty(&Value::Object(found))?);
    }
    out(text(&found).trim_end())
}

fn look(path: &Path, verify: bool) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    found.insert("path".to_owned(), path.display().to_string().into());
    if path.is_dir() {
        folder(path, verify, &mut found)?;
    } else {
        file(path, verify, &mut found)?;
    }
    Ok(found)
}

fn file(path: &Path, verify: bool, found: &mut Map<String, Value>) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if PICKLES.contains(&ending) {
        bail!(
            "`{}` is a pickle by its name, which can run code when it is read\n  = help: convert it to safetensors \
             where you trust its source",
            path.display()
        );
    }
    let kind = match ending {
        "gguf" => gguf(path, found)?,
        "safetensors" => "safetensors file".to_owned(),
        _ => bail!(
            "`{}` is neither a GGUF nor a safetensors file by its name\n  = help: name such a file, a model's folder, \
             an adapter or a run",
            path.display()
        ),
    };
    found.insert("kind".to_owned(), kind.into());
    let tensors = list(path)?;
    put_tensors(&tensors, found);
    let digest = FileDigest::of(file_name(path), path);
    let digest = digest.with_context(|| format!("cannot read `{}`", path.display()))?;
    found.insert("files".to_owned(), serde_json::to_value([&digest])?);
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".receipt.json");
    let receipt = path.with_file_name(name);
    let compared = receipt_of(&receipt, path.parent().unwrap_or(Path::new(".")), verify, found)?;
    if verify {
        verified(&tensors, compared, found)?;
    }
    Ok(())
}

/// What a GGUF says of itself; what it is.
fn gguf(path: &Path, found: &mut Map<String, Value>) -> Result<String> {
    let file = ft_gguf::File::open(path)?;
    let keys = file.metadata();
    let mut metadata = Map::new();
    for (key, value) in keys.iter().filter(|(key, _)| *key != "tokenizer.chat_template") {
        metadata.insert(key.to_owned(), shown(value).into());
    }
    found.insert("gguf_version".to_owned(), file.version().into());
    found.insert("metadata".to_owned(), Value::Object(metadata));
    let kind = match keys.str("general.type")? {
        Some("adapter") => "GGUF adapter",
        Some("imatrix") => "GGUF importance matrix",
        _ => "GGUF model",
    };
    if kind == "GGUF model" && keys.get("tokenizer.ggml.model").is_some() {
        put_tokenizer(&Tokenizer::from_gguf(keys)?, found);
    }
    Ok(kind.to_owned())
}

fn folder(path: &Path, verify: bool, found: &mut Map<String, Value>) -> Result<()> {
    let has = |name: &str| path.join(name).is_file();
    if has("manifest.json") && has("recipe.yaml") {
        return run_folder(path, verify, found);
    }
    if has("adapter_config.json") {
        found.insert("kind".to_owned(), "adapter".into());
        return adapter(path, verify, found);
    }
    if !has("config.json") {
        bail!(
            "`{}` is no model (no `config.json`), no adapter (no `adapter_config.json`) and no run (no `manifest.json`)",
            path.display()
        );
    }
    let config = object(&path.join("config.json"))?;
    let mlx = config.contains_key("quantization");
    found.insert("kind".to_owned(), if mlx { "MLX folder" } else { "Hugging Face folder" }.into());
    for key in ["architectures", "model_type", "dtype", "torch_dtype", "quantization"] {
        if let Some(value) = config.get(key) {
            found.insert(key.to_owned(), value.clone());
        }
    }
    let tensors = list(path)?;
    put_tensors(&tensors, found);
    if has("tokenizer.json") {
        put_tokenizer(&Tokenizer::from_folder(path)?, found);
    }
    let mut names: Vec<PathBuf> = tensors.iter().map(|tensor| tensor.file.clone()).collect();
    names.push(path.join("config.json"));
    names.sort();
    names.dedup();
    put_files(&names, found)?;
    let compared = receipt_of(&path.join("receipt.json"), path, verify, found)?;
    if verify {
        verified(&tensors, compared, found)?;
    }
    Ok(())
}

fn adapter(path: &Path, verify: bool, found: &mut Map<String, Value>) -> Result<()> {
    // Reading checks shapes, ranks and every number.
    let adapter = PeftAdapter::load(path)?;
    let config = &adapter.config;
    let numbers: usize = adapter
        .factors
        .iter()
        .map(|it| it.a.len() + it.b.len() + it.magnitude.as_ref().map_or(0, Vec::len))
        .sum();
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let mut targets: Vec<String> = adapter.factors.iter().map(|it| last(&it.name)).collect();
    targets.sort();
    targets.dedup();
    let whole: Vec<&str> = adapter.whole.iter().map(|it| it.name.as_str()).collect();
    let method = match (config.use_dora, config.use_rslora) {
        (true, _) => "DoRA",
        (false, true) => "rsLoRA",
        (false, false) => "LoRA",
    };
    let about = json!({
        "method": method,
        "base": config.base_name,
        "rank": config.rank,
        "alpha": config.alpha,
        "dropout": config.dropout,
        "targets": targets,
        "matrices": adapter.factors.len(),
        "numbers": numbers,
        "trained_whole": whole,
    });
    found.insert("adapter".to_owned(), about);
    let tensors = list(path)?;
    put_tensors(&tensors, found);
    put_files(&[path.join("adapter_config.json"), path.join("adapter_model.safetensors")], found)?;
    if verify {
        verified(&tensors, 0, found)?;
    }
    Ok(())
}

fn run_folder(path: &Path, verify: bool, found: &mut Map<String, Value>) -> Result<()> {
    found.insert("kind".to_owned(), "run".into());
    let reading = || format!("cannot read `{}`", path.join("manifest.json").display());
    let text = fs::read(path.join("manifest.json")).with_context(reading)?;
    let manifest: RunManifest = serde_json::from_slice(&text).with_context(reading)?;
    found.insert("finished".to_owned(), path.join("finished.json").is_file().into());
    let checkpoints = fs::read_dir(path.join("checkpoints"));
    let checkpoints = checkpoints.map_or(0, |entries| entries.flatten().count());
    found.insert("checkpoints".to_owned(), checkpoints.into());
    found.insert(
        "provenance".to_owned(),
        json!({
            "version": manifest.version,
            "device": manifest.device,
            "started": manifest.started,
            "overrides": manifest.overrides,
            "recipe_sha256": manifest.recipe_sha256,
            "model_files": manifest.model_files,
            "row_files": manifest.row_files,
            "template_sha256": manifest.template_sha256,
            "tokenizer_sha256": manifest.tokenizer_sha256,
            "binary_sha256": manifest.binary_sha256,
        }),
    );
    let inner = path.join("adapter");
    if inner.join("adapter_config.json").is_file() {
        adapter(&inner, verify, found)?;
    }
    if verify {
        let mut compared = 0;
        for file in &manifest.row_files {
            // Rows may be elsewhere by now; where they are, they must be the same.
            let Ok(now) = FileDigest::of("", Path::new(&file.name)) else { continue };
            if now.sha256 != file.sha256 {
                bail!(
                    "`{}` is not as it was when the run was begun: expected SHA-256 {}, found {}",
                    file.name,
                    file.sha256,
                    now.sha256
                );
            }
            compared += 1;
        }
        if let Some(Value::Object(verified)) = found.get_mut("verified") {
            verified.insert("hashes_compared".to_owned(), compared.into());
        } else {
            found.insert("verified".to_owned(), json!({"hashes_compared": compared}));
        }
    }
    Ok(())
}

fn verified(tensors: &[Listed], compared: usize, found: &mut Map<String, Value>) -> Result<()> {
    let looked_at = check_numbers(tensors)?;
    let verified = json!({"tensors_finite": looked_at, "hashes_compared": compared});
    found.insert("verified".to_owned(), verified);
    Ok(())
}

/// The receipt beside a result: what it says, and with `verify` whether the files are those it names.
fn receipt_of(
    receipt: &Path,
    folder: &Path,
    verify: bool,
    found: &mut Map<String, Value>,
) -> Result<usize> {
    if !receipt.is_file() {
        return Ok(0);
    }
    let said = object(receipt)?;
    let mut provenance = Map::new();
    for key in ["model", "base", "format", "version", "passed", "forced", "survival"] {
        if let Some(value) = said.get(key) {
            provenance.insert(key.to_owned(), value.clone());
        }
    }
    found.insert("provenance".to_owned(), Value::Object(provenance));
    let files: Vec<FileDigest> = said
        .get("files")
        .and_then(|files| serde_json::from_value(files.clone()).ok())
        .unwrap_or_default();
    if !verify {
        return Ok(0);
    }
    for file in &files {
        let plain = Path::new(&file.name).components().count() == 1;
        let path = folder.join(&file.name);
        let now = FileDigest::of("", &path).with_context(|| {
            format!("cannot read `{}`, which the receipt names", path.display())
        })?;
        if !plain || now.sha256 != file.sha256 {
            bail!(
                "`{}` is not the file of its receipt: expected SHA-256 {}, found {}",
                path.display(),
                file.sha256,
                now.sha256
            );
        }
    }
    Ok(files.len())
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    let reading = || format!("cannot read `{}`", path.display());
    serde_json::from_slice(&fs::read(path).with_context(reading)?).with_context(reading)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn put_files(paths: &[PathBuf], found: &mut Map<String, Value>) -> Result<()> {
    let digest = |path: &PathBuf| {
        FileDigest::of(file_name(path), path)
            .with_context(|| format!("cannot read `{}`", path.display()))
    };
    let digests = paths.iter().map(digest).collect::<Result<Vec<_>>>()?;
    found.insert("files".to_owned(), serde_json::to_value(digests)?);
    Ok(())
}

fn put_tensors(tensors: &[Listed], found: &mut Map<String, Value>) {
    let mut types: BTreeMap<&str, (usize, usize, u64)> = BTreeMap::new();
    for tensor in tensors {
        let entry = types.entry(&tensor.kind).or_default();
        entry.0 += 1;
        entry.1 += tensor.shape.iter().product::<usize>();
        entry.2 += tensor.bytes;
    }
    let types: Map<String, Value> = types
        .into_iter()
        .map(|(kind, (count, numbers, bytes))| {
            (kind.to_owned(), json!({"tensors": count, "numbers": numbers, "bytes": bytes}))
        })
        .collect();
    found.insert("types".to_owned(), Value::Object(types));
    let each = |it: &Listed| json!({"name": it.name, "shape": it.shape, "type": it.kind, "bytes": it.bytes});
    found.insert("tensors".to_owned(), tensors.iter().map(each).collect());
}

fn put_tokenizer(tokenizer: &Tokenizer, found: &mut Map<String, Value>) {
    let token = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
    let ends: Vec<String> =
        tokenizer.eos_ids().iter().filter_map(|id| tokenizer.token(*id)).collect();
    found.insert(
        "tokenizer".to_owned(),
        json!({
            "tokens": tokenizer.vocab_size(),
            "bos": token(tokenizer.bos()),
            "eos": token(tokenizer.eos()),
            "pad": token(tokenizer.pad()),
            "ends": ends,
            "adds_bos": tokenizer.adds_bos(),
            "sha256": tokenizer.sha256(),
        }),
    );
    if let Some(template) = tokenizer.chat_template() {
        found.insert("template".to_owned(), template.into());
        found.insert("template_sha256".to_owned(), sha256(template.as_bytes()).into());
    }
}
