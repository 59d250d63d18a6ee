//! Names of devices, and what the process holds in memory.

use std::fmt;

use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
#[cfg(feature = "gpu")]
use burn::tensor::DeviceType;

pub use crate::cpu::keep_freed_memory;

/// A device by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// A GPU through wgpu.
    Wgpu,
    /// An NVIDIA GPU by index.
    Cuda(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A device that this binary cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The binary was built without it.
    #[error("this binary was built without `{feature}`; it has: {available}")]
    NotBuilt {
        /// The cargo feature that brings it.
        feature: &'static str,
        /// What can be named instead.
        available: String,
    },
    /// The binary knows the kind of device, and this machine has none, or not so many.
    #[error("`{name}` is not on this machine: {missing}; it has: {available}")]
    NotThere {
        /// What was asked for.
        name: DeviceName,
        /// What was looked for and not found.
        missing: &'static str,
        /// What can be named instead.
        available: String,
    },
}

fn list(names: &[DeviceName]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The devices this binary was built for, best first.
pub fn available() -> Vec<DeviceName> {
    let mut names = Vec::new();
    if cfg!(feature = "cuda") {
        names.push(DeviceName::Cuda(0));
    }
    if cfg!(feature = "wgpu") {
        names.push(DeviceName::Wgpu);
    }
    names.push(DeviceName::Cpu);
    names
}

/// Adapters that wgpu finds: all, and how many of them are not the processor in disguise.
#[cfg(feature = "wgpu")]
fn adapters() -> (usize, usize) {
    let all = Device::enumerate(DeviceType::Wgpu).into_vec();
    let software = Device::wgpu(DeviceKind::Cpu);
    let real = all.iter().filter(|device| **device != software).count();
    (all.len(), real)
}

/// Whether the device is on this machine; asks the driver, and starts nothing on it.
fn is_there(name: DeviceName) -> bool {
    #[cfg(feature = "wgpu")]
    if name == DeviceName::Wgpu {
        return adapters().0 > 0;
    }
    #[cfg(feature = "cuda")]
    if let DeviceName::Cuda(index) = name {
        return Device::enumerate(DeviceType::Cuda).into_vec().len() > index;
    }
    name == DeviceName::Cpu
}

/// The devices of [`available`] that are on this machine, best first.
pub fn present() -> Vec<DeviceName> {
    available().into_iter().filter(|name| is_there(*name)).collect()
}

/// The best device of this machine. A GPU that is a program on the processor is not taken: the
/// processor's own kernels are faster.
pub fn best() -> DeviceName {
    let is_better = |name: &DeviceName| {
        #[cfg(feature = "wgpu")]
        if *name == DeviceName::Wgpu {
            return adapters().1 > 0;
        }
        is_there(*name)
    };
    available().into_iter().find(is_better).unwrap_or(DeviceName::Cpu)
}

/// The Burn device of that name, without autodiff.
///
/// # Errors
///
/// If the binary was built without it, or it is not on this machine.
pub fn device(name: DeviceName) -> Result<Device, DeviceError> {
    let (feature, is_built) = match name {
        DeviceName::Cpu => return Ok(Device::flex()),
        DeviceName::Wgpu => ("wgpu", cfg!(feature = "wgpu")),
        DeviceName::Cuda(_) => ("cuda", cfg!(feature = "cuda")),
    };
    if !is_built {
        return Err(DeviceError::NotBuilt { feature, available: list(&available()) });
    }
    if !is_there(name) {
        let missing = match name {
            DeviceName::Cuda(0) => "no NVIDIA driver and GPU were found",
            DeviceName::Cuda(_) => "there are fewer NVIDIA GPUs",
            DeviceName::Cpu | DeviceName::Wgpu => "no Vulkan, Metal or DirectX adapter was found",
        };
        return Err(DeviceError::NotThere { name, missing, available: list(&present()) });
    }
    #[cfg(feature = "cuda")]
    if let DeviceName::Cuda(index) = name {
        return Ok(Device::cuda(index));
    }
    #[cfg(feature = "wgpu")]
    if name == DeviceName::Wgpu {
        return Ok(Device::wgpu(DeviceKind::DefaultDevice));
    }
    Ok(Device::flex())
}

/// What is known of this process's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident now.
    pub resident_bytes: u64,
    /// The most that was resident at once.
    pub peak_bytes: u64,
    /// Free for this process on the machine.
    pub available_bytes: u64,
}

/// Reads the process's memory; zeros where the system does not tell.
pub fn process_memory() -> ProcessMemory {
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ProcessMemory {
        resident_bytes: field(&status, "VmRSS:").unwrap_or(0),
        peak_bytes: field(&status, "VmHWM:").unwrap_or(0),
        available_bytes: field(&machine, "MemAvailable:").unwrap_or(0),
    }
}
