//! The sections of a recipe: plain data and closed enums. Each travels to one room of the house.

mod adapter;
mod clean;
mod compare;
mod data;
mod evaluation;
mod model;
mod train;

pub use adapter::{AdapterInit, AdapterSection, Targets};
pub use clean::{CleanAction, CleanProfile, CleanRule, CleanSection, LengthBounds, MaxBad};
pub use compare::{
    CompareSection, ConflictPolicy, ContaminationSection, EndpointSection, JudgeSection,
    NearSection, SemanticSection,
};
pub use data::{
    ChatTemplate, DataSection, DatasetSource, HeldOut, LongRows, RowSlice, RowType, SliceBound,
    TrainOn,
};
pub use evaluation::{EvalSection, EvalTask};
pub use model::{Compute, DeviceChoice, ModelSection, Precision, Quantize};
pub use train::{
    Cadence, LossWatchdog, OptimizerKind, OptimizerSection, Resume, ScheduleKind, ScheduleSection,
    TrainSection, Warmup,
};
