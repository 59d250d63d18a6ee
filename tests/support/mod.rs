//! A folder, a command and a tiny model, for tests of the program as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod trained;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Width of the tiny model, and of its MLP.
const WIDTH: usize = 64;
const MLP: usize = 96;
/// Its query heads, key-value heads and blocks.
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const BLOCKS: usize = 2;
/// Three special tokens, the printable bytes, space and line feed.
const VOCABULARY: usize = 99;

/// A folder in which `ft` runs.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit status; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Data.
    pub(crate) out: String,
    /// Everything else.
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Place {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Reads a text file.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `ft` in this folder, without what the surrounding machine has set or stored.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ft"));
        command.current_dir(self.folder.path()).args(arguments);
        for name in ["FT_MODELS", "HF_HUB_CACHE", "XDG_CACHE_HOME", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.path("huggingface")).env("HOME", self.folder.path());
        command
    }

    /// Runs `ft` in this folder.
    pub(crate) fn ft(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs `ft`, which must succeed, and returns its data.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let said = self.ft(arguments);
        assert_eq!(said.code, Some(0), "ft {arguments:?}: {}", said.err);
        said.out
    }

    /// Runs `ft`, which must refuse, and returns what it complains of.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let said = self.ft(arguments);
        assert_eq!(said.code, Some(2), "ft {arguments:?}: {}{}", said.out, said.err);
        assert_eq!(said.out, "", "a refusal has no data");
        said.err
    }

    /// Makes the tiny model in the folder `model`: Llama's shape, `f32`, weights from a seed.
    pub(crate) fn tiny_model(&self) {
        self.tiny_model_with(MLP);
    }

    /// The tiny model with an MLP of another width.
    pub(crate) fn tiny_model_with(&self, mlp: usize) {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": WIDTH, "intermediate_size": mlp, "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS, "head_dim": WIDTH / HEADS, "num_hidden_layers": BLOCKS,
            "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": true, "vocab_size": VOCABULARY, "torch_dtype": "float32",
        });
        self.write("model/config.json", config.to_string());
        self.write("model/model.safetensors", weights(mlp));
        let (tokenizer, tokenizer_config) = tokenizer();
        self.write("model/tokenizer.json", tokenizer.to_string());
        self.write("model/tokenizer_config.json", tokenizer_config.to_string());
    }

    /// Writes rows of JSONL.
    pub(crate) fn rows(&self, name: &str, rows: &[Value]) -> PathBuf {
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        self.write(name, lines.join("\n") + "\n")
    }
}

/// A conversation of one question and one answer.
pub(crate) fn conversation(question: &str, answer: &str) -> Value {
    json!({"messages": [
        {"role": "user", "content": question}, {"role": "assistant", "content": answer},
    ]})
}

/// A recipe over the tiny model and `rows.jsonl`, with more lines at its end.
pub(crate) fn recipe(more: &str) -> String {
    format!(
        "base_model: model\ndevice: cpu\nadapter: lora\nlora_r: 4\nlora_alpha: 8\n\
         lora_target_linear: true\nchat_template: chatml\ndatasets:\n  - path: rows.jsonl\n    \
         type: chat_template\nval_set_size: 2\nsequence_len: 128\nsample_packing: true\n\
         micro_batch_size: 1\nlearning_rate: 1e-2\nlr_scheduler: constant\nmax_steps: 3\n\
         output_dir: run\n{more}"
    )
}

/// Uniform numbers from a counter (`SplitMix64`).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let uniform = ((x >> 40) as f64 / f64::from(1 << 24)) as f32;
        uniform - 0.5
    }
}

fn weights(mlp: usize) -> Vec<u8> {
    let head = WIDTH / HEADS;
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        shapes.insert(name.to_owned(), shape.to_vec());
    };
    add("model.embed_tokens.weight", &[VOCABULARY, WIDTH]);
    add("model.norm.weight", &[WIDTH]);
    for block in 0..BLOCKS {
        let mut inner = |name: &str, shape: &[usize]| {
            add(&format!("model.layers.{block}.{name}.weight"), shape);
        };
        inner("self_attn.q_proj", &[HEADS * head, WIDTH]);
        inner("self_attn.k_proj", &[KV_HEADS * head, WIDTH]);
        inner("self_attn.v_proj", &[KV_HEADS * head, WIDTH]);
        inner("self_attn.o_proj", &[WIDTH, HEADS * head]);
        inner("mlp.gate_proj", &[mlp, WIDTH]);
        inner("mlp.up_proj", &[mlp, WIDTH]);
        inner("mlp.down_proj", &[WIDTH, mlp]);
        inner("input_layernorm", &[WIDTH]);
        inner("post_attention_layernorm", &[WIDTH]);
    }
    let mut draws = Draws(7);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let norm = shape.len() == 1;
            let value = |draws: &mut Draws| if norm { 1.0 } else { draws.next() * 0.3 };
            let count = shape.iter().product();
            let bytes = (0..count).flat_map(|_| value(&mut draws).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

/// A tokenizer of single bytes: `tokenizer.json` and `tokenizer_config.json`.
fn tokenizer() -> (Value, Value) {
    let specials = ["</s>", "<|im_start|>", "<|im_end|>"];
    let mut vocabulary = Map::new();
    let printable = (0x21u8..=0x7e).map(|byte| char::from(byte).to_string());
    let spellings = specials.iter().map(|text| (*text).to_owned());
    // Space and line feed in the letters of byte-level vocabularies.
    let all = spellings.chain(printable).chain(["Ġ".to_owned(), "Ċ".to_owned()]);
    for (id, text) in all.enumerate() {
        vocabulary.insert(text, json!(id));
    }
    assert_eq!(vocabulary.len(), VOCABULARY);
    let added: Vec<Value> = specials
        .iter()
        .enumerate()
        .map(|(id, text)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                            "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added, "pre_tokenizer": byte_level, "post_processor": null,
        "decoder": byte_level, "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let template = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
                    {{ message.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    (tokenizer, json!({"eos_token": "<|im_end|>", "chat_template": template}))
}

/// A file's bytes.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
