//! Sections and sources with Axolotl's defaults, for tests.

use std::collections::BTreeMap;

use ft_recipes::{ChatTemplate, DataSection, DatasetSource, HeldOut, LongRows, RowType, TrainOn};

/// A recipe's data section with all defaults.
pub(crate) fn section(datasets: Vec<DatasetSource>) -> DataSection {
    DataSection {
        datasets,
        test_datasets: Vec::new(),
        held_out: HeldOut::Nothing,
        sequence_len: 512,
        sample_packing: false,
        eval_sample_packing: false,
        pack_sequentially: false,
        pack_rows: 200,
        pack_group: 100_000,
        group_by_length: false,
        curriculum_sampling: false,
        long_rows: LongRows::Drop,
        min_row_len: 2,
        train_on_inputs: false,
        chat_template: ChatTemplate::Tokenizer,
        default_system_message: None,
        eot_tokens: Vec::new(),
        exact_deduplication: false,
        shuffle_merged: true,
        prepared_path: None,
        seed: 42,
    }
}

/// An entry of `datasets` with all defaults.
pub(crate) fn source(path: &str, row_type: RowType) -> DatasetSource {
    let spellings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    DatasetSource {
        path: path.to_owned(),
        name: None,
        data_files: Vec::new(),
        split: None,
        row_type,
        chat_template: None,
        field_messages: "messages".to_owned(),
        field_system: None,
        field_tools: "tools".to_owned(),
        field_thinking: None,
        template_thinking_key: None,
        field: "text".to_owned(),
        message_property_mappings: BTreeMap::new(),
        roles: BTreeMap::from([
            ("user".to_owned(), spellings(&["human", "user"])),
            ("assistant".to_owned(), spellings(&["gpt", "assistant"])),
            ("system".to_owned(), spellings(&["system"])),
            ("tool".to_owned(), spellings(&["tool"])),
        ]),
        roles_to_train: spellings(&["assistant"]),
        train_on_eos: TrainOn::Turn,
        train_on_eot: TrainOn::Turn,
        message_field_training: "train".to_owned(),
        message_field_training_detail: "train_detail".to_owned(),
        drop_system_message: false,
        shards: None,
        shard_index: 0,
    }
}
