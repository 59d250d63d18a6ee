//! A step on the pool's threads, none of which sleeps meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use ft_kernels::host::is_host;

/// Looks for work before the processor is offered to others.
const LOOKS: u32 = 64;

/// Says so when it is dropped, after a panic as well.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `f` on the first thread of the pool, while the others look for parts of its work and do not sleep.
///
/// A step is some thousand products of a tenth of a millisecond, and waking a thread takes as long as a good part of one. It is
/// always the same thread, because buffers are kept by each. For work that a GPU does, see [`for_device`].
fn on_awake_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let (work, result) = (Mutex::new(Some(f)), Mutex::new(None));
    let (done, looking) = (AtomicBool::new(false), AtomicUsize::new(0));
    rayon::broadcast(|thread| {
        if thread.index() > 0 {
            looking.fetch_add(1, Ordering::Release);
            return look_until(|| done.load(Ordering::Acquire));
        }
        let _done = Done(&done);
        // A thread that began to look inside of a part of `f` would not go back to it before `f` is done.
        look_until(|| looking.load(Ordering::Acquire) + 1 == thread.num_threads());
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let found = work.map(|work| work());
        *result.lock().unwrap_or_else(PoisonError::into_inner) = found;
    });
    let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    result.expect("the first thread of a pool runs what is given to all of them")
}

/// As [`on_awake_pool`] where the processor multiplies. Where a GPU does, `f` runs where it is called: threads that look for work
/// would find none.
pub(crate) fn for_device<R: Send>(device: &Device, f: impl FnOnce() -> R + Send) -> R {
    if is_host(device) { on_awake_pool(f) } else { f() }
}

/// Does what the pool has to do until the time has come.
fn look_until(has_come: impl Fn() -> bool) {
    let mut looks = 0;
    while !has_come() {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            looks = 0;
        } else if looks < LOOKS {
            looks += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rayon::prelude::*;

    use super::{for_device, on_awake_pool};

    fn sum(to: u64) -> u64 {
        (0..=to).into_par_iter().sum()
    }

    #[test]
    fn calls_from_anywhere_at_once_give_what_they_compute() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            std::thread::scope(|scope| {
                for caller in 0..8u64 {
                    let pool = &pool;
                    scope.spawn(move || {
                        for turn in 0..20 {
                            let (to, wanted) = (caller + turn, (0..=caller + turn).sum::<u64>());
                            let found: u64 = pool.install(|| on_awake_pool(|| sum(to)));
                            assert_eq!(found, wanted);
                            let nested =
                                pool.install(|| on_awake_pool(|| on_awake_pool(|| sum(to))));
                            assert_eq!(nested, wanted);
                            let beside: u64 = pool.install(|| {
                                let parts = (0..4u64).into_par_iter();
                                parts.map(|part| on_awake_pool(|| sum(to + part))).sum()
                            });
                            let parts = (0..4).map(|part| (0..=to + part).sum::<u64>());
                            assert_eq!(beside, parts.sum::<u64>());
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_panic_comes_back_and_the_pool_goes_on() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let panics = || pool.install(|| on_awake_pool(|| -> u64 { panic!("on purpose") }));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(pool.install(|| on_awake_pool(|| sum(10))), 55);
    }

    #[test]
    fn a_step_of_the_processor_is_on_the_pool_with_gradients_or_without() {
        let device = burn::tensor::Device::flex();
        for device in [device.clone(), device.autodiff()] {
            assert_eq!(for_device(&device, rayon::current_thread_index), Some(0));
        }
    }
}
