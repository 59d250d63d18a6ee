//! A decoder: load, forward, generate, save. Ids only, no text.
//!
//! Shape letters, here and in all crates above: `T` tokens of a pass (documents laid end to end,
//! never padded), `D` width, `H` query heads, `G` key-value heads, `K` head width, `F` MLP width,
//! `V` vocabulary, `R` rank.
//!
//! Knows ids, never text. A family is a file in `families/` and data in a [`Blueprint`].
#![forbid(unsafe_code)]

mod config;
mod decoder;
pub mod engine;
pub mod export;
pub mod families;
mod family;
mod host;
mod layers;
mod sample;
mod weights;

pub use config::{Config, ConfigError};
pub use decoder::{Cache, Context, Decoder, Input, Table, TableError};
pub use engine::{Engine, Finish, Generated, Request};
pub use family::{Blueprint, Family, Layout, RopeBlueprint, RopeScaling, Written};
pub use host::measured;
pub use layers::{Attention, Block, Frequencies, GateUp, Mlp, Norm, QueryKeyValue};
pub use sample::{Sampler, Sampling};
pub use weights::{Keep, Listed, LoadError, check_numbers, list, load};
