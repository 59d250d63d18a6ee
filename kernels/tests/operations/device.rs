//! Devices by name.

use ft_kernels::device::{DeviceName, available, best, device, present, process_memory};

#[test]
fn the_processor_is_always_there_and_comes_last() {
    assert_eq!(available().last(), Some(&DeviceName::Cpu));
    assert_eq!(present().last(), Some(&DeviceName::Cpu));
    assert!(device(DeviceName::Cpu).is_ok());
    assert!(present().contains(&best()), "what is best is here");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_was_not_built_is_refused_with_what_can_be_named() {
    let error = device(DeviceName::Cuda(0)).unwrap_err();
    let ft_kernels::device::DeviceError::NotBuilt { feature, available } = &error else {
        panic!("{error}");
    };
    assert_eq!(*feature, "cuda");
    assert!(available.ends_with("`cpu`"), "{available}");
    assert_eq!(
        error.to_string(),
        format!("this binary was built without `cuda`; it has: {available}")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_read_where_the_system_tells() {
    let memory = process_memory();
    assert!(memory.resident_bytes > 0 && memory.available_bytes > 0, "{memory:?}");
    assert!(memory.peak_bytes >= memory.resident_bytes, "{memory:?}");
}

#[cfg(feature = "cuda")]
#[test]
fn a_gpu_that_is_not_there_is_refused_with_what_is() {
    let error = device(DeviceName::Cuda(999)).unwrap_err().to_string();
    let head = "`cuda:999` is not on this machine: there are fewer NVIDIA GPUs; it has: ";
    assert!(error.starts_with(head) && error.ends_with("`cpu`"), "{error}");
}
