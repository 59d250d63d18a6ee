//! Names of devices, and what the process holds in memory.

use std::fmt;

use burn::tensor::Device;

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

/// The Burn device of that name, without autodiff.
///
/// # Errors
///
/// If the binary was built without it.
pub fn device(name: DeviceName) -> Result<Device, DeviceError> {
    let missing = |feature| {
        let available: Vec<String> = available().iter().map(|name| format!("`{name}`")).collect();
        Err(DeviceError::NotBuilt { feature, available: available.join(", ") })
    };
    match name {
        DeviceName::Cpu => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(not(feature = "wgpu"))]
        DeviceName::Wgpu => missing("wgpu"),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(index) => Ok(Device::cuda(index)),
        #[cfg(not(feature = "cuda"))]
        DeviceName::Cuda(_) => missing("cuda"),
    }
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
