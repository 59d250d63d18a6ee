//! What a run says: its metrics, its progress, its curves. The one room of the crate that prints.

mod all;
pub mod html;
pub mod metrics;
pub mod progress;
pub mod tensorboard;

pub(crate) use all::Report;
pub use html::{Facts, html};
pub use metrics::{HeldOutLine, Line, Metrics, MetricsError, StepLine};
pub use progress::{Progress, Shown};
pub use tensorboard::Events;
