//! What a run would do and cost, before anything is spent.

use std::time::Instant;

use ft_adapters::{Adapter, ParameterKind};
use ft_datasets::loader::MicroBatch;
use ft_datasets::prepare::DataReport;
use ft_kernels::device::process_memory;
use ft_kernels::{Format, Packed, Segments, packed_matmul};
use serde::Serialize;

use ft_recipes::TrainSection;

use crate::batch::input_and_targets;
use crate::error::TrainError;
use crate::memory::{MemoryOptions, MemoryPart, memory};
use crate::run_folder::{SpaceNeeded, free_bytes};
use crate::session::{Ready, Session};

/// Steps that are looked at for the largest micro-batch: all of a short run.
const STEPS_LOOKED_AT: usize = 2000;

/// What `ft check` tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What became of the rows.
    pub data: DataReport,
    /// Optimiser steps.
    pub steps: u64,
    /// Steps in which the rate rises.
    pub warmup_steps: u64,
    /// Passes over the rows.
    pub epochs: f64,
    /// Tokens of one step, on average.
    pub tokens_per_step: f64,
    /// Tokens of one step that are computed, on average: rows of a micro-batch share how they begin.
    pub computed_tokens_per_step: f64,
    /// Tokens of the largest micro-batch.
    pub largest_micro_batch: usize,
    /// Projections that get an adapter.
    pub adapters: usize,
    /// Trained numbers.
    pub trained_parameters: usize,
    /// Where the memory goes.
    pub memory: Vec<MemoryPart>,
    /// Free now.
    pub available_memory_bytes: u64,
    /// What the run writes at most.
    pub disk_bytes: u64,
    /// Free where it writes.
    pub free_disk_bytes: Option<u64>,
    /// From the speed of products on this machine now.
    pub seconds_estimate: f64,
    #[serde(skip)]
    space: SpaceNeeded,
}

/// Plans a run: reads rows and base, attaches adapters, takes no step.
///
/// # Errors
///
/// Whatever would keep the run from beginning.
pub fn plan(session: &Session<'_>) -> Result<Plan, TrainError> {
    let ready = session.ready()?;
    let plan = plan_of(session, &ready)?;
    Ok(plan)
}

impl Plan {
    /// Refuses a run that does not fit in memory or on the disk.
    ///
    /// # Errors
    ///
    /// [`TrainError::Memory`] and [`TrainError::Space`].
    pub fn check(&self, train: &TrainSection) -> Result<(), TrainError> {
        let needed: u64 = self.memory.iter().map(|part| part.bytes).sum();
        // Mapped weights can be given back and read again, the rest cannot.
        if self.available_memory_bytes > 0 && needed > self.available_memory_bytes {
            let gibibytes = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
            return Err(TrainError::Memory {
                needed: gibibytes(needed),
                available: gibibytes(self.available_memory_bytes),
                micro_batch_size: train.micro_batch_size,
            });
        }
        self.space.check(&train.output_dir)?;
        Ok(())
    }
}

/// Bytes of a run's files.
pub(crate) fn space(session: &Session<'_>, ready: &Ready) -> SpaceNeeded {
    let trained = trained(ready) as u64 * 4;
    SpaceNeeded {
        checkpoint_bytes: trained + ready.optimizer.state_bytes() as u64 + (64 << 10),
        checkpoints: session.recipe().train.save_total_limit.max(1) as u64,
        adapter_bytes: trained + (64 << 10),
        report_bytes: 1024 * ready.loader.steps_total() as u64 + (1 << 20),
    }
}

fn trained(ready: &Ready) -> usize {
    ready.parameters.iter().map(|meta| meta.shape[0] * meta.shape[1]).sum()
}

pub(crate) fn plan_of(session: &Session<'_>, ready: &Ready) -> Result<Plan, TrainError> {
    let steps = ready.loader.steps_total();
    if steps == 0 {
        return Err(TrainError::NoSteps { rows: ready.prepared.train.len() });
    }
    let looked_at = steps.min(STEPS_LOOKED_AT);
    let batches: Vec<MicroBatch> = (0..looked_at).flat_map(|at| ready.loader.step(at)).collect();
    let tokens: usize = batches.iter().map(|batch| batch.ids.len()).sum();
    let labels: usize = batches.iter().map(MicroBatch::trained).sum();
    let largest = batches.iter().map(|batch| batch.ids.len()).max().unwrap_or(0);
    let most_labels = batches.iter().map(MicroBatch::trained).max().unwrap_or(0);
    let share = ready.options.shares_prefixes(&ready.decoder);
    let computed: Vec<Segments> =
        batches.iter().map(|batch| input_and_targets(batch, 1.0, share).0.segments).collect();
    let most = |of: fn(&Segments) -> usize| computed.iter().map(of).max().unwrap_or(0);
    let computed_per_step =
        computed.iter().map(Segments::tokens).sum::<usize>() as f64 / looked_at as f64;
    let options = MemoryOptions {
        tokens: most(Segments::tokens),
        shared: most(Segments::shared),
        label_tokens: most_labels,
        trained: trained(ready),
        optimizer_bytes: ready.optimizer.state_bytes(),
        recompute: ready.options.recompute,
    };
    let last = ready.loader.place(steps - 1);
    let epochs = last.epoch as f64 + (last.step + 1) as f64 / last.steps.max(1) as f64;
    let space = space(session, ready);
    let per_step = tokens as f64 / looked_at as f64;
    let label_share = labels as f64 / (computed_per_step * looked_at as f64).max(1.0);
    let operations = operations(ready, label_share) * computed_per_step * steps as f64;
    Ok(Plan {
        data: ready.prepared.report.clone(),
        steps: steps as u64,
        warmup_steps: ready.schedule.warmup_steps,
        epochs,
        tokens_per_step: per_step,
        computed_tokens_per_step: computed_per_step,
        largest_micro_batch: largest,
        adapters: ready.parameters.iter().filter(|meta| meta.kind == ParameterKind::A).count(),
        trained_parameters: trained(ready),
        memory: memory(&ready.decoder, &options),
        available_memory_bytes: process_memory().available_bytes,
        space,
        disk_bytes: space.total(),
        free_disk_bytes: free_bytes(&session.recipe().train.output_dir).ok(),
        seconds_estimate: operations / rate(session),
    })
}

/// Floating-point operations a token: forward, input gradients, adapters, and the head where labels stand.
fn operations(ready: &Ready, label_share: f64) -> f64 {
    let decoder = &ready.decoder;
    let mut multiplications = 0.0;
    for projection in decoder.projections() {
        let size = (projection.inputs() * projection.outputs()) as f64;
        let passes = if ready.options.recompute { 3.0 } else { 2.0 };
        let rank = projection.adapter.as_ref().map_or(0, Adapter::rank) as f64;
        let thin = rank * (projection.inputs() + projection.outputs()) as f64;
        multiplications += passes * size + 3.0 * thin;
    }
    let head = (decoder.blueprint.vocabulary * decoder.blueprint.width) as f64;
    2.0 * (multiplications + 2.0 * label_share * head)
}

/// Operations a second of a product of the model's kind, measured for a moment, less what attention,
/// norms and the rest take beside products (measured share: about a third).
fn rate(session: &Session<'_>) -> f64 {
    let (rows, size) = (512, 512);
    let weight = Packed::quantize(Format::Q8_0, size, size, &vec![0.5; size * size])
        .expect("finite numbers in whole blocks");
    let x = burn::tensor::Tensor::<2>::ones([rows, size], &session.device);
    let run = || packed_matmul(x.clone(), &weight).into_data();
    run();
    let start = Instant::now();
    let mut runs = 0.0;
    while start.elapsed().as_millis() < 100 {
        run();
        runs += 1.0;
    }
    let operations = 2.0 * (rows * size * size) as f64;
    0.67 * operations * runs / start.elapsed().as_secs_f64()
}
