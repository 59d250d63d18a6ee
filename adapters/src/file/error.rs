//! What can be wrong with an adapter's folder.

use std::io;
use std::path::PathBuf;

use crate::nearest::help;
use crate::targets::TargetError;

/// An adapter that cannot be read, put in or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterFileError {
    /// The system refuses.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not an adapter's folder.
    #[error("`{}`: expected an adapter with `{missing}`, found no such file{}", folder.display(), help_text(*hint))]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The file.
        missing: &'static str,
        /// What is there instead, and what can be done.
        hint: Option<&'static str>,
    },
    /// The weights are a Python pickle, which is a program.
    #[error(
        "`{}`: a pickle can run any code when it is read, so it is not\n  = help: save the adapter as \
         `adapter_model.safetensors` with PEFT: `model.save_pretrained(folder)`", path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// The configuration is no JSON object.
    #[error("`{}`: expected a JSON object of at most 1 MiB: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A field of the configuration has another type or range.
    #[error("`{}`: `{field}`: expected {expected}, found {found}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The key.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The configuration asks for something that is not implemented.
    #[error("`{}`: `{field}: {value}` is not supported: {why}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        field: String,
        /// Its value.
        value: String,
        /// What it means.
        why: &'static str,
    },
    /// A target or pattern of the configuration.
    #[error("`{}`: {source}", path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TargetError,
    },
    /// Not a safetensors file.
    #[error("`{}`: expected a safetensors file: {reason}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A tensor with a name that is not one of an adapter's.
    #[error("`{}`: tensor `{tensor}`: expected {expected}", path.display())]
    TensorName {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which names there are.
        expected: &'static str,
    },
    /// A tensor of another number type.
    #[error("`{}`: tensor `{tensor}`: expected F32, F16 or BF16, found {found}", path.display())]
    NumberType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A tensor of another shape.
    #[error("`{}`: tensor `{tensor}`: expected {expected}, found `{found:?}`", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape it may have.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// Two tensors are one: the same name with and without the adapter's.
    #[error("`{}`: tensor `{tensor}` is there twice under two names", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The second one's name.
        tensor: String,
    },
    /// An adapter without all of its tensors.
    #[error("`{}`: `{module}` has `{has}` and no `{lacks}`", path.display())]
    Half {
        /// The file.
        path: PathBuf,
        /// The projection.
        module: String,
        /// The tensor it has.
        has: &'static str,
        /// The tensor it lacks.
        lacks: &'static str,
    },
    /// Magnitudes without `use_dora`.
    #[error(
        "`{}`: tensor `{tensor}` is a DoRA magnitude, but `use_dora` is false in adapter_config.json",
        path.display()
    )]
    NotDora {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The rank of the tensors is not the configuration's.
    #[error(
        "`{}`: the adapter of `{module}` has rank {found}, but adapter_config.json says {expected}",
        path.display()
    )]
    Rank {
        /// The file.
        path: PathBuf,
        /// The projection.
        module: String,
        /// By the configuration.
        expected: usize,
        /// By the tensors.
        found: usize,
    },
    /// A number that is none.
    #[error("`{}`: tensor `{tensor}`: expected finite numbers, found {value} at index {index}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Row-major.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A file without a single adapter.
    #[error("`{}`: expected an adapter, found no tensors", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A module that the model does not have.
    #[error("`{}`: the model has no projection `{module}`{}", path.display(), help(near.as_ref()))]
    NoSuchProjection {
        /// The file.
        path: PathBuf,
        /// The projection's name in the file.
        module: String,
        /// The name that may be meant.
        near: Option<String>,
    },
    /// The adapter was trained beside a matrix of another shape.
    #[error(
        "`{}`: the adapter of `{module}` is for a matrix `{adapter:?}`, but the model's is `{model:?}`: it \
         was made for another base{}", path.display(), base_name(base.as_ref())
    )]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// The projection.
        module: String,
        /// `[n, k]` of the adapter.
        adapter: [usize; 2],
        /// `[n, k]` of the model.
        model: [usize; 2],
        /// The base recorded in the configuration.
        base: Option<String>,
    },
    /// Nothing to write.
    #[error("no projection has an adapter, and no module was trained whole")]
    NothingToSave,
    /// PEFT has one switch for all projections.
    #[error(
        "`{without}` has no magnitude but `{with}` has: PEFT's format has DoRA for all projections or for none"
    )]
    MixedDora {
        /// A projection with a magnitude.
        with: String,
        /// A projection without.
        without: String,
    },
}

impl AdapterFileError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

fn help_text(hint: Option<&'static str>) -> String {
    hint.map_or_else(String::new, |hint| format!("\n  = help: {hint}"))
}

fn base_name(base: Option<&String>) -> String {
    base.map_or_else(String::new, |base| format!(" (`{base}`)"))
}
