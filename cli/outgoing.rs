//! What leaves the house: a model with its adapter, as it was trained, and rows to judge it by.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ft_adapters::PeftAdapter;
use ft_datasets::chat::{Conversation, Message};
use ft_datasets::clean::CleanedData;
use ft_datasets::encode::{ChatEncoder, Example, Masking};
use ft_datasets::prepare::{PrepareOptions, Prepared, prepare, template_of};
use ft_datasets::row::{Shaped, shape};
use ft_datasets::source::{Limits, rows};
use ft_datasets::template::{RenderOptions, Template};
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::{DeviceName, device};
use ft_model::export::{Original, Positions};
use ft_model::{Decoder, Keep};
use ft_recipes::{ChatTemplate, DataSection, Quantize, Recipe};
use ft_trainer::manifest::{FileDigest, RunManifest};

use crate::report::say;
use crate::rows::Rows;
use crate::source::{self, Located};

/// Tokens of the rows that a model is judged by.
const JUDGED_TOKENS: usize = 1024;
/// Conversations that are rendered in both templates.
const RENDERED: usize = 8;
/// For a model that nobody named rows for.
const TEXTS: [&str; 5] = [
    "The ferry leaves the harbour at seven, and whoever misses it waits until the evening tide comes in again.",
    "Water boils at 100 °C at sea level; at 3,000 m it already boils at about 90 °C, so eggs take longer.",
    "def mean(values):\n    total = sum(values)\n    return total / len(values) if values else 0.0\n",
    "Die Bibliothek öffnet um neun Uhr. Bücher können für vier Wochen ausgeliehen und zweimal verlängert werden.",
    "今日は朝から雨が降っています。駅まで歩いて十五分ほどかかりますので、傘を忘れないでください。",
];

/// Which model, and by which rows it is judged.
#[derive(clap::Args)]
pub(crate) struct OutgoingArgs {
    /// A run folder, an adapter in PEFT's format, or any model that `ft` can name
    model: String,
    /// The base, where it is not where the adapter says
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// The format that the base had in training (`nf4`, `q4_k`, …), for an adapter that is no run's
    #[arg(long, value_name = "FORMAT")]
    base_format: Option<String>,
    /// Rows to judge the result by; the run's own held-out rows if absent
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Least share of the adapter's gain that must survive
    #[arg(long, default_value_t = 0.8, value_name = "SHARE", value_parser = share)]
    pub(crate) min_survival: f64,
    /// Write although too little survives, or the base is another than the adapter's
    #[arg(long)]
    pub(crate) force: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// A model on its way out.
pub(crate) struct Outgoing {
    /// What the user called it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) decoder: Decoder,
    pub(crate) original: Original,
    pub(crate) tokenizer: Tokenizer,
    /// The template that training used, or the tokenizer's own.
    pub(crate) template: Option<Template>,
    pub(crate) adapter: Option<PeftAdapter>,
    /// What the adapter calls its base.
    pub(crate) base_name: Option<String>,
    pub(crate) recipe: Option<Recipe>,
    rows: Option<PathBuf>,
}

/// Finds, checks and loads.
pub(crate) fn load(args: &OutgoingArgs) -> Result<Outgoing> {
    // The adapter of a run is the run: its recipe says how the base was kept.
    let named = Path::new(&args.model);
    let run = named.parent().filter(|run| {
        named.ends_with("adapter")
            && run.join("recipe.yaml").is_file()
            && run.join("manifest.json").is_file()
    });
    let named = run.unwrap_or(named);
    let located = match &args.base {
        Some(base) => source::over(named, base)?,
        None => source::locate(&named.to_string_lossy(), None, None)?,
    };
    let Located { path, adapter, mut recipe } = located;
    let run = adapter.as_deref().filter(|it| it.ends_with("adapter")).and_then(Path::parent);
    if !args.force
        && let Some(run) = run
    {
        same_base(run, &path)?;
    }
    if let (Some(recipe), Some(run)) = (&mut recipe, run) {
        source::relative::rows(recipe, run);
    }
    let mut tokenizer = source::tokenizer(&path)?;
    let mut keep = match &args.base_format {
        Some(format) => Keep::of(&Quantize::Gguf(format.clone()))?,
        None => Keep::AsTheyAre,
    };
    let mut choice = ChatTemplate::Tokenizer;
    if let Some(recipe) = &recipe {
        if args.base_format.is_none() {
            keep = Keep::of(&recipe.model.quantize)?;
        }
        tokenizer.set_special_tokens(&recipe.model.special_tokens)?;
        let own = recipe.data.datasets.iter().find_map(|source| source.chat_template.as_ref());
        choice = own.unwrap_or(&recipe.data.chat_template).clone();
    }
    let template = template_of(&choice, &tokenizer).ok();
    let cpu = device(DeviceName::Cpu)?;
    let mut decoder = ft_model::load(&path, keep, &cpu)?;
    tokenizer.check_rows(decoder.blueprint.vocabulary)?;
    let mut found = None;
    if let Some(folder) = &adapter {
        let adapter = PeftAdapter::load(folder)?;
        let installed = adapter.clone().install(&mut decoder.projections_mut(), &cpu, false)?;
        let whole = installed.whole.into_iter();
        let whole = whole.map(|module| (module.name, module.shape, module.values));
        decoder.set_tables(&whole.collect::<Vec<_>>())?;
        found = Some(adapter);
    }
    let original = Original::open(&path)?;
    let base_name = found.as_ref().and_then(|adapter| adapter.config.base_name.clone());
    Ok(Outgoing {
        name: args.model.clone(),
        path,
        decoder,
        original,
        tokenizer,
        template,
        adapter: found,
        base_name,
        recipe,
        rows: args.rows.clone(),
    })
}

/// Compares the base's files with those that the run was trained on.
fn same_base(run: &Path, base: &Path) -> Result<()> {
    let manifest = run.join("manifest.json");
    let Ok(text) = fs::read(&manifest) else { return Ok(()) };
    let manifest: RunManifest = serde_json::from_slice(&text)
        .with_context(|| format!("cannot read `{}`", manifest.display()))?;
    for file in &manifest.model_files {
        let path = if base.is_file() { base.to_owned() } else { base.join(&file.name) };
        let found = FileDigest::of("", &path)
            .with_context(|| format!("cannot read `{}`, a file of the base", path.display()))?;
        if found.sha256 != file.sha256 {
            bail!(
                "`{}` is another base than the adapter was trained on: expected SHA-256 {}, found {}\n  = help: \
                 name the right one with `--base`; `--force` merges into this one all the same",
                path.display(),
                file.sha256,
                found.sha256
            );
        }
    }
    Ok(())
}

/// Rows to judge by, and where they are from.
pub(crate) struct Sample {
    pub(crate) positions: Positions,
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) from: String,
}

impl Outgoing {
    /// Whether training changed anything in it.
    pub(crate) fn is_trained(&self) -> bool {
        self.adapter.is_some()
    }

    /// The name of a template other than the tokenizer's own, which has to be written down.
    pub(crate) fn own_template(&self) -> Option<&str> {
        let trained = self.template.as_ref().map(Template::source);
        trained.filter(|source| self.tokenizer.chat_template() != Some(*source))
    }

    /// Whether the recipe gave tokens other names than the base does.
    pub(crate) fn renames_tokens(&self) -> bool {
        self.recipe.as_ref().is_some_and(|recipe| !recipe.model.special_tokens.is_empty())
    }

    /// The rows that the result is judged by: those that were named, the run's held-out ones, its training rows,
    /// or texts of ours.
    pub(crate) fn sample(&self) -> Result<Sample> {
        if let Some(file) = &self.rows {
            let (examples, conversations) = self.read(file)?;
            let from = file.display().to_string();
            return Ok(Self::sampled(&examples, conversations, from));
        }
        if let Some(recipe) = &self.recipe {
            match self.rows_of(recipe) {
                Ok((prepared, conversations)) => {
                    let held_out = !prepared.held_out.is_empty();
                    let examples = if held_out { prepared.held_out } else { prepared.train };
                    let from = if held_out { "held-out rows" } else { "training rows" };
                    return Ok(Self::sampled(&examples, conversations, from.to_owned()));
                }
                Err(error) => say(format_args!(
                    "warning: the run's rows cannot be read, texts of ours stand in for them: {error:#}\n  = help: run \
                     this where the run was trained, or name rows with `--rows`"
                )),
            }
        }
        let one = |text: &&str| {
            let ids = self.tokenizer.encode_with_bos(text);
            Example { weights: vec![1.0; ids.len()], ids }
        };
        let examples: Vec<Example> = TEXTS.iter().map(one).collect();
        let turns = [
            Message::new("system", "You answer in one sentence."),
            Message::new("user", "Where does the ferry leave?"),
            Message::new("assistant", "At the harbour, at seven."),
            Message::new("user", "  And if I miss it?\n"),
            Message::new("assistant", "Then you wait for the evening tide."),
        ];
        let long = Conversation::new(turns.to_vec());
        let short = Conversation::new(turns[1..3].to_vec());
        Ok(Self::sampled(&examples, vec![long, short], "sample texts".to_owned()))
    }

    /// The rows of a run as training read them, and its first conversations.
    fn rows_of(&self, recipe: &Recipe) -> Result<(Prepared, Vec<Conversation>)> {
        let clean = |rules| CleanedData::new(&recipe.data, rules, Some(&self.tokenizer));
        let cleaned = recipe.clean.as_ref().map(clean).transpose()?;
        let data = cleaned.as_ref().map_or(&recipe.data, |cleaned| &cleaned.section);
        let prepared = prepare(data, &self.tokenizer, PrepareOptions::default())?;
        Ok((prepared, conversations(data)?))
    }

    fn sampled(examples: &[Example], conversations: Vec<Conversation>, from: String) -> Sample {
        let pairs = examples.iter().map(|it| (it.ids.as_slice(), it.weights.as_slice()));
        Sample { positions: Positions::new(pairs, JUDGED_TOKENS), conversations, from }
    }

    /// Rows of a file: tokens, texts or messages. Of a conversation the answers count.
    pub(crate) fn read(&self, file: &Path) -> Result<(Vec<Example>, Vec<Conversation>)> {
        let rows = Rows::of(file);
        let mut conversations = Vec::new();
        let vocabulary = self.decoder.blueprint.vocabulary;
        let examples = rows.map(|row| {
            let fields = &row.fields;
            if let Some(tokens) = fields.get("tokens") {
                let ids: Vec<u32> = serde_json::from_value(tokens.clone())
                    .context("`tokens` is no list of token ids")?;
                if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
                    bail!("token {id} is beyond the model's {vocabulary}");
                }
                return Ok(Example { weights: vec![1.0; ids.len()], ids });
            }
            if let Some(text) = fields.get("text") {
                let ids =
                    self.tokenizer.encode_with_bos(text.as_str().context("`text` is no text")?);
                return Ok(Example { weights: vec![1.0; ids.len()], ids });
            }
            let conversation = rows.conversation(fields)?;
            let template = self.template.as_ref().context("the model has no chat template")?;
            let encoder = ChatEncoder::new(
                &self.tokenizer,
                template,
                RenderOptions::default(),
                Masking::default(),
            )?;
            let example = encoder.encode(&conversation)?.example;
            if conversations.len() < RENDERED {
                conversations.push(conversation);
            }
            Ok(example)
        })?;
        Ok((examples.into_iter().map(|(example, _)| example).collect(), conversations))
    }
}

/// The first conversations of the data sets.
fn conversations(data: &DataSection) -> Result<Vec<Conversation>> {
    let mut found = Vec::new();
    for dataset in &data.datasets {
        for row in rows(dataset, Limits::default())?.take(RENDERED) {
            let Ok(row) = row else { continue };
            if let Ok(Shaped::Chat(conversation)) = shape(row.fields, dataset, data) {
                found.push(conversation);
            }
        }
    }
    found.truncate(RENDERED);
    Ok(found)
}
