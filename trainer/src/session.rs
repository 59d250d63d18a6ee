//! What training and planning share: the model with its adapters, the rows, the steps.

use std::path::Path;

use burn::tensor::Device;
use ft_adapters::{PeftAdapter, attach};
use ft_datasets::clean::CleanedData;
use ft_datasets::loader::{Loader, MicroBatch, RunLength, evaluation_batches};
use ft_datasets::prepare::{PrepareOptions, Prepared, prepare};
use ft_datasets::tokenizer::Tokenizer;
use ft_kernels::device::DeviceName;
use ft_model::{Decoder, Keep};
use ft_recipes::{Compute, Loaded, Recipe};

use crate::error::TrainError;
use crate::optimizer::{Optimizer, ParameterMeta};
use crate::schedule::Schedule;
use crate::step::{StepOptions, parameters};

/// Everything that a run is told.
#[derive(Debug)]
pub struct Session<'a> {
    /// The recipe, as read.
    pub loaded: &'a Loaded,
    /// The base: a folder or a `.gguf`.
    pub model_path: &'a Path,
    /// Of the base, with the recipe's special tokens.
    pub tokenizer: &'a Tokenizer,
    /// Where tensors live, without autodiff.
    pub device: Device,
    /// Its name.
    pub device_name: DeviceName,
    /// Go on although recipe, rows or base have changed.
    pub force: bool,
}

/// A run that is ready for its first step.
pub(crate) struct Ready {
    pub(crate) decoder: Decoder,
    pub(crate) loader: Loader,
    pub(crate) prepared: Prepared,
    pub(crate) held_out: Vec<MicroBatch>,
    pub(crate) parameters: Vec<ParameterMeta>,
    pub(crate) optimizer: Optimizer,
    pub(crate) schedule: Schedule,
    pub(crate) options: StepOptions,
}

impl Session<'_> {
    pub(crate) fn recipe(&self) -> &Recipe {
        &self.loaded.recipe
    }

    /// Reads the rows, cleaned if the recipe says so.
    fn rows(&self) -> Result<Prepared, TrainError> {
        let recipe = self.recipe();
        let Some(rules) = &recipe.clean else {
            return Ok(prepare(&recipe.data, self.tokenizer, PrepareOptions::default())?);
        };
        let cleaned = CleanedData::new(&recipe.data, rules, Some(self.tokenizer))?;
        Ok(cleaned.prepare(&recipe.data, self.tokenizer)?)
    }

    /// Reads the rows, loads the base and attaches the adapters.
    pub(crate) fn ready(&self) -> Result<Ready, TrainError> {
        let recipe = self.recipe();
        let prepared = self.rows()?;
        let mut decoder =
            ft_model::load(self.model_path, Keep::of(&recipe.model.quantize)?, &self.device)?;
        decoder.set_compute(match recipe.model.compute {
            Compute::F32 => ft_kernels::Compute::F32,
            Compute::Int8 => ft_kernels::Compute::Int8,
        });
        check_ids(&prepared, decoder.blueprint.vocabulary)?;
        self.adapt(&mut decoder)?;

        let train = &recipe.train;
        let length = match train.max_steps {
            Some(steps) => RunLength::Steps(usize::try_from(steps).unwrap_or(usize::MAX)),
            None => RunLength::Epochs(train.num_epochs),
        };
        let loader = Loader::new(
            prepared.train.clone(),
            &recipe.data,
            train.micro_batch_size,
            train.gradient_accumulation_steps,
            length,
            recipe.data.seed,
        );
        let held_out = evaluation_batches(&prepared.held_out, &recipe.data, train.eval_batch_size);
        let parameters = parameters(&decoder);
        let optimizer = Optimizer::new(&train.optimizer, &parameters);
        let total = loader.steps_total() as u64;
        let schedule = Schedule::new(&train.schedule, train.optimizer.learning_rate, total);
        let options = StepOptions {
            share_prefixes: train.share_prefixes,
            recompute: train.gradient_checkpointing,
            noise: train.neftune_noise_alpha,
            max_grad_norm: train.max_grad_norm,
            seed: train.seed,
        };
        Ok(Ready { decoder, loader, prepared, held_out, parameters, optimizer, schedule, options })
    }

    /// Puts the recipe's adapters into the decoder: fresh ones, or those it starts from.
    fn adapt(&self, decoder: &mut Decoder) -> Result<(), TrainError> {
        let recipe = self.recipe();
        let section = &recipe.adapter;
        let device = self.device.clone().autodiff();
        let whole = if let Some(folder) = &section.start_from {
            let adapter = PeftAdapter::load(folder)?;
            let installed = adapter.install(&mut decoder.projections_mut(), &device, true)?;
            #[expect(clippy::cast_possible_truncation, reason = "a probability")]
            let dropout = section.dropout as f32;
            for projection in decoder.projections_mut() {
                if let Some(adapter) = &mut projection.adapter {
                    adapter.dropout = dropout;
                }
            }
            installed.whole
        } else {
            attach(&mut decoder.projections_mut(), section, recipe.train.seed, &device)?;
            Vec::new()
        };
        let names: Vec<&str> = section.modules_to_save.iter().map(String::as_str).collect();
        decoder.train_tables(&names)?;
        let whole = whole.into_iter().map(|module| (module.name, module.shape, module.values));
        decoder.set_tables(&whole.collect::<Vec<_>>())?;
        Ok(())
    }
}

/// Ids of rows that were tokenised elsewhere must have a row in the embedding.
fn check_ids(prepared: &Prepared, rows: usize) -> Result<(), TrainError> {
    let parts = [&prepared.report.train, &prepared.report.held_out];
    let largest = parts.iter().filter_map(|part| part.largest_id).max();
    match largest {
        Some(largest) if largest as usize >= rows => Err(TrainError::IdBeyond { largest, rows }),
        _ => Ok(()),
    }
}
