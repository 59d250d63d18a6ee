//! Which device is meant.

use ft_kernels::device::{DeviceName, best};
use ft_recipes::DeviceChoice;

/// Reads `--device`.
pub(crate) fn parse(word: &str) -> Result<DeviceChoice, String> {
    let cuda = |index: &str| index.parse().ok().map(DeviceChoice::Cuda);
    let choice = match word {
        "auto" => Some(DeviceChoice::Auto),
        "cpu" => Some(DeviceChoice::Cpu),
        "wgpu" => Some(DeviceChoice::Wgpu),
        "cuda" => cuda("0"),
        other => other.strip_prefix("cuda:").and_then(cuda),
    };
    choice.ok_or_else(|| "expected one of `auto`, `cpu`, `wgpu`, `cuda`, `cuda:1`".to_owned())
}

/// The device of a choice; `auto` is the best that this machine has.
pub(crate) fn name(choice: DeviceChoice) -> DeviceName {
    match choice {
        DeviceChoice::Auto => best(),
        DeviceChoice::Cpu => DeviceName::Cpu,
        DeviceChoice::Wgpu => DeviceName::Wgpu,
        DeviceChoice::Cuda(index) => DeviceName::Cuda(index),
    }
}
