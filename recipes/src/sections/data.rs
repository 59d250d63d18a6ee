//! Which rows are read, how they are rendered, masked, split and packed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

/// Everything between the files and the packs.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the recipe")]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSection {
    /// `datasets`.
    pub datasets: Vec<DatasetSource>,
    /// `test_datasets`: held-out rows from their own files.
    pub test_datasets: Vec<DatasetSource>,
    /// `val_set_size`.
    pub held_out: HeldOut,
    /// `sequence_len`, in tokens.
    pub sequence_len: usize,
    /// `sample_packing`.
    pub sample_packing: bool,
    /// `eval_sample_packing` (follows `sample_packing` if absent).
    pub eval_sample_packing: bool,
    /// `sample_packing_sequentially`: pack in file order.
    pub pack_sequentially: bool,
    /// `sample_packing_bin_size`: most rows in one pack (200).
    pub pack_rows: usize,
    /// `sample_packing_group_size`: rows considered together (100 000).
    pub pack_group: usize,
    /// `group_by_length`.
    pub group_by_length: bool,
    /// `curriculum_sampling`: keep file order.
    pub curriculum_sampling: bool,
    /// `excess_length_strategy`: rows over `sequence_len`.
    pub long_rows: LongRows,
    /// `min_sample_len`: shorter rows are dropped.
    pub min_row_len: usize,
    /// `train_on_inputs`.
    pub train_on_inputs: bool,
    /// `chat_template` and `chat_template_jinja`.
    pub chat_template: ChatTemplate,
    /// `default_system_message`.
    pub default_system_message: Option<String>,
    /// `eot_tokens`: texts of the tokens that end a turn; empty means the end-of-sequence token.
    pub eot_tokens: Vec<String>,
    /// `dataset_exact_deduplication`.
    pub exact_deduplication: bool,
    /// `shuffle_merged_datasets` (true).
    pub shuffle_merged: bool,
    /// `dataset_prepared_path`.
    pub prepared_path: Option<PathBuf>,
    /// `seed`, for the order of rows.
    pub seed: u64,
}

/// One entry of `datasets`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetSource {
    /// `path`: a file, a folder, or the name of a public data set that must exist locally.
    pub path: String,
    /// `name`: configuration of a public data set.
    pub name: Option<String>,
    /// `data_files`: files below `path`.
    pub data_files: Vec<String>,
    /// `split`, with its slice (`train[:20%]`).
    pub split: Option<RowSlice>,
    /// `type`.
    pub row_type: RowType,
    /// `chat_template` of this entry.
    pub chat_template: Option<ChatTemplate>,
    /// `field_messages` (`messages`).
    pub field_messages: String,
    /// `field_system`.
    pub field_system: Option<String>,
    /// `field_tools` (`tools`).
    pub field_tools: String,
    /// `field_thinking`, and `template_thinking_key`.
    pub field_thinking: Option<String>,
    /// `template_thinking_key` (`reasoning_content`).
    pub template_thinking_key: Option<String>,
    /// `field` of a completion row (`text`).
    pub field: String,
    /// `message_property_mappings`: template's name to row's name (`role: from`).
    pub message_property_mappings: BTreeMap<String, String>,
    /// `roles`: canonical role to the spellings in the rows.
    pub roles: BTreeMap<String, Vec<String>>,
    /// `roles_to_train` (`[assistant]`).
    pub roles_to_train: Vec<String>,
    /// `train_on_eos` (turn).
    pub train_on_eos: TrainOn,
    /// `train_on_eot` (follows `train_on_eos`).
    pub train_on_eot: TrainOn,
    /// `message_field_training`: a message's own boolean or weight.
    pub message_field_training: String,
    /// `message_field_training_detail`: spans with character offsets.
    pub message_field_training_detail: String,
    /// `drop_system_message`.
    pub drop_system_message: bool,
    /// `shards`: the rows are cut into so many pieces and one is kept.
    pub shards: Option<usize>,
    /// `shards_idx` (0): which piece, counted from 0.
    pub shard_index: usize,
}

/// `type` of a data set's rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum RowType {
    /// Stanford's prompt; `alpaca:STYLE` names another one (`chat`, `chatml`, `phi`, ...).
    Alpaca {
        /// The prompt style after the colon.
        style: Option<String>,
    },
    /// Field names and formats spelled out in the recipe (`type: {format: ..., ...}`).
    Custom {
        /// `field_instruction`, `field_input`, `field_output`, `field_system`, `format`,
        /// `no_input_format`, `system_prompt`, `system_format`, as written.
        fields: BTreeMap<String, String>,
    },
    /// Conversations rendered by a chat template.
    ChatTemplate,
    /// Plain text, every token trained.
    Completion,
    /// `segments: [{text, label}]`, concatenated as they are.
    InputOutput,
    /// `input_ids`, `labels` (and `attention_mask`), as they are. The type may be absent.
    PreTokenized,
}

/// Which end tokens are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TrainOn {
    /// Every one.
    All,
    /// Those that end a trained turn.
    Turn,
    /// The last one, if its turn is trained.
    Last,
    /// None.
    None,
}

/// Where the chat template comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum ChatTemplate {
    /// The tokenizer's own (`tokenizer_default`, or the key is absent).
    Tokenizer,
    /// The tokenizer's own, or else a built-in one (`tokenizer_default_fallback_NAME`).
    TokenizerOr(String),
    /// A built-in one by name.
    BuiltIn(String),
    /// `chat_template: jinja` with `chat_template_jinja`: the text of a template, or a file's path.
    Jinja(String),
}

/// A split's name and which part of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowSlice {
    /// `train`, `test`, ...
    pub name: String,
    /// First row.
    pub from: Option<SliceBound>,
    /// Row after the last.
    pub to: Option<SliceBound>,
}

/// One end of a slice; negative values count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum SliceBound {
    /// A number of rows.
    Rows(i64),
    /// A share of the rows, in percent.
    Percent(f64),
}

/// How many rows are held out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum HeldOut {
    /// None.
    Nothing,
    /// A share of all rows, between 0 and 1.
    Fraction(f64),
    /// That many rows.
    Rows(usize),
}

/// What becomes of rows that are longer than `sequence_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum LongRows {
    /// Dropped and counted.
    Drop,
    /// Cut at `sequence_len` and counted.
    Truncate,
    /// An error.
    Raise,
}
