//! A team of threads for many short pieces of work in a row: generating a token is some hundred of them, each of a few
//! microseconds, and waking a sleeping thread takes longer than that.
//!
//! Members wait for the next call by spinning for a moment and then sleep. Each thread has a run of the parts, which it claims one
//! by one in order, so that what it reads lies end to end; then it claims from the runs of others. A call waits only for
//! members that have begun: one that sleeps or was displaced holds nobody up.
#![expect(
    unsafe_code,
    reason = "a closure and pieces of a slice lent to other threads, argued at each block"
)]

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

/// Turns of the waiting loop before a member sleeps: about a tenth of a millisecond.
const SPINS: u32 = 4000;
/// In `state`: whether members may begin. Below it stands how many are at work, above it the number of the call.
const OPEN: u64 = 1 << 31;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// The next part of a run that is to be claimed, apart from those of other runs.
#[repr(align(128))]
struct Next(AtomicUsize);

struct Shared {
    state: AtomicU64,
    /// Of each thread's run of parts.
    next: Vec<Next>,
    parts: AtomicUsize,
    /// What to do: set while the state is not open and nobody is at work.
    work: UnsafeCell<Option<*const Work<'static>>>,
    asleep: AtomicUsize,
    panicked: AtomicBool,
}

// SAFETY: `work` is written by the one caller who holds `Team::busy`, and only while no member is at work; members read it
// between entering an open state and leaving it. The pointer is to a `Sync` closure.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer may be followed on any thread.
unsafe impl Send for Shared {}

struct Team {
    shared: Arc<Shared>,
    members: Vec<Thread>,
    /// Held during a call.
    busy: Mutex<()>,
}

impl Shared {
    /// Where a thread's run of parts begins.
    fn first_part(&self, thread: usize) -> usize {
        thread * self.parts.load(Ordering::Relaxed) / self.next.len()
    }

    /// Claims parts until there are none left, a thread's own first.
    fn work_off(&self, thread: usize, work: &Work<'_>) {
        let threads = self.next.len();
        for run in (thread..threads).chain(0..thread) {
            let end = self.first_part(run + 1);
            loop {
                let part = self.next[run].0.fetch_add(1, Ordering::Relaxed);
                if part >= end {
                    break;
                }
                work(part);
            }
        }
    }

    fn is_new(state: u64, last: u64) -> bool {
        state & OPEN != 0 && state >> 32 != last
    }

    /// Waits for a call that this member has not taken part in.
    fn wait(&self, last: u64) -> u64 {
        let mut spins = 0;
        loop {
            let state = self.state.load(Ordering::Acquire);
            if Self::is_new(state, last) {
                return state;
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            // The caller opens and then looks for sleepers; we say that we sleep and then look whether it is open. One of
            // us sees the other.
            self.asleep.fetch_add(1, Ordering::SeqCst);
            if !Self::is_new(self.state.load(Ordering::SeqCst), last) {
                std::thread::park();
            }
            self.asleep.fetch_sub(1, Ordering::SeqCst);
            spins = 0;
        }
    }

    fn member(&self, number: usize) {
        let mut last = 0;
        loop {
            let state = self.wait(last);
            let entered =
                self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if entered.is_err() {
                continue;
            }
            last = state >> 32;
            // SAFETY: the state was open when we were counted in, so the caller does not return, and `work` stays what it
            // is, before we are counted out.
            let work = unsafe { (*self.work.get()).map(|work| &*work) };
            if let Some(work) = work
                && catch_unwind(AssertUnwindSafe(|| self.work_off(number, work))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Ends a call, also when the caller's own part panics: nobody may be at work when the closure goes.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::SeqCst);
        let mut spins = 0u32;
        while self.0.state.load(Ordering::Acquire) & (OPEN - 1) != 0 {
            spins += 1;
            if spins.is_multiple_of(1 << 14) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

impl Team {
    /// The caller is a member too, so this starts one thread less.
    fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: (0..threads.max(1)).map(|_| Next(AtomicUsize::new(0))).collect(),
            parts: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            asleep: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
        });
        let member = |number: usize| {
            let shared = Arc::clone(&shared);
            let named = std::thread::Builder::new().name(format!("team-{number}"));
            // A machine that gives no thread is slower, and nothing else.
            named.spawn(move || shared.member(number)).ok().map(|handle| handle.thread().clone())
        };
        let members = (1..threads).filter_map(member).collect();
        Self { shared, members, busy: Mutex::new(()) }
    }

    fn each(&self, parts: usize, work: &Work<'_>) {
        // A call inside a call, or beside one, is worked off where it is.
        let busy =
            if parts > 1 && !self.members.is_empty() { self.busy.try_lock().ok() } else { None };
        if busy.is_none() {
            (0..parts).for_each(work);
            return;
        }
        let shared = &*self.shared;
        let lent: *const Work<'_> = work;
        // SAFETY: only the lifetime changes. Members follow the pointer between being counted in and out, and `Closing` does
        // not let this function end, in whatever way, before all are out and no other can come in.
        #[expect(clippy::transmute_ptr_to_ptr, reason = "a cast cannot make a lifetime longer")]
        let lent = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(lent) };
        // SAFETY: we hold `busy` and the last call has ended: nobody else looks at `work`.
        unsafe { *shared.work.get() = Some(lent) };
        shared.parts.store(parts, Ordering::Relaxed);
        for (thread, next) in shared.next.iter().enumerate() {
            next.0.store(shared.first_part(thread), Ordering::Relaxed);
        }
        let call = (shared.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) & 0xffff_ffff;
        shared.state.store(call << 32 | OPEN, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            self.members.iter().for_each(Thread::unpark);
        }
        let closing = Closing(shared);
        shared.work_off(0, work);
        drop(closing);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        drop(busy);
        assert!(!panicked, "a thread of the team panicked");
    }
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team::new(rayon::current_num_threads()))
}

/// Threads that share work, the caller's included.
pub(crate) fn threads() -> usize {
    team().members.len() + 1
}

/// Calls `work` once with each of `0..parts`, on all threads. Which thread takes which part is left open.
pub(crate) fn each(parts: usize, work: &Work<'_>) {
    team().each(parts, work);
}

/// A pointer that goes to other threads.
struct Lent<T>(*mut T);

// SAFETY: the functions below hand out disjoint pieces of a slice of `Send` elements that they hold mutably.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    /// By method, so that closures capture the whole and not its pointer.
    fn get(&self) -> *mut T {
        self.0
    }
}

/// Calls `work` with each chunk of `len` elements and its number, on all threads.
pub(crate) fn each_chunk<T: Send>(
    all: &mut [T],
    len: usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let (total, lent) = (all.len(), Lent(all.as_mut_ptr()));
    each(total.div_ceil(len.max(1)), &|part| {
        let from = part * len;
        // SAFETY: chunk `part` of a slice that is borrowed mutably until `each` returns; each part is claimed once, and chunks
        // do not overlap.
        let chunk =
            unsafe { std::slice::from_raw_parts_mut(lent.get().add(from), len.min(total - from)) };
        work(part, chunk);
    });
}

/// Some columns of a row-major matrix, for one thread.
pub(crate) struct Columns<'a> {
    all: &'a Lent<f32>,
    rows: Range<usize>,
    width: usize,
    columns: Range<usize>,
}

impl Columns<'_> {
    /// The part of the matrix's row `row`, one of those lent, that is in these columns.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "a row that was lent");
        let at = row * self.width + self.columns.start;
        // SAFETY: inside the matrix, whose size `each_strip` and `each_cell` checked; other threads have other columns or
        // other rows, and `&mut self` keeps this thread from having two.
        unsafe { std::slice::from_raw_parts_mut(self.all.get().add(at), self.columns.len()) }
    }
}

impl Columns<'_> {
    /// Rows that were lent.
    pub(super) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// How many columns these are.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Where the columns' part of the matrix's row `row` begins, and how far its rows are apart. Of each row that was lent
    /// [`Columns::len`] numbers may be read and written there, while `self` is borrowed.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn start(&mut self, row: usize) -> (*mut f32, usize) {
        assert!(self.rows.contains(&row), "a row that was lent");
        (self.all.get().wrapping_add(row * self.width + self.columns.start), self.width)
    }
}

/// Most matrices of one [`each_strip`].
pub(crate) const MATRICES: usize = 4;

/// Several row-major matrices of `rows` rows, each with its width, cut into strips of columns: calls `work` with the matrix's
/// number, the strip's columns and the strip, on all threads.
pub(crate) fn each_strip(
    rows: usize,
    matrices: &mut [(usize, &mut [f32])],
    strip: usize,
    work: &(dyn Fn(usize, Range<usize>, Columns<'_>) + Sync),
) {
    assert!(matrices.len() <= MATRICES, "at most {MATRICES} matrices at once");
    let mut parts = 0;
    let mut first_parts = [0; MATRICES];
    let lent: [(usize, Lent<f32>); MATRICES] = std::array::from_fn(|which| {
        let Some((width, matrix)) = matrices.get_mut(which) else {
            return (0, Lent(std::ptr::null_mut()));
        };
        assert_eq!(matrix.len(), rows * *width, "a matrix of {rows} rows of {width}");
        first_parts[which] = parts;
        parts += width.div_ceil(strip);
        (*width, Lent(matrix.as_mut_ptr()))
    });
    let first_parts = &first_parts[..matrices.len()];
    each(parts, &|part| {
        let which = first_parts.partition_point(|first| *first <= part) - 1;
        let (width, all) = &lent[which];
        let from = (part - first_parts[which]) * strip;
        let columns = from..(from + strip).min(*width);
        let strip = Columns { all, rows: 0..rows, width: *width, columns: columns.clone() };
        work(which, columns, strip);
    });
}

/// A row-major matrix cut into cells: rows at ascending `bounds` (from 0 to the number of rows), columns every `strip`. Calls
/// `work` with the number of the run of rows, the columns and the cell, on all threads.
pub(crate) fn each_cell(
    width: usize,
    matrix: &mut [f32],
    bounds: &[usize],
    strip: usize,
    work: &(dyn Fn(usize, Range<usize>, Columns<'_>) + Sync),
) {
    let rows = bounds.last().copied().unwrap_or(0);
    assert!(
        bounds.is_sorted() && matrix.len() == rows * width,
        "a matrix of {rows} rows of {width}"
    );
    let all = Lent(matrix.as_mut_ptr());
    let strips = width.div_ceil(strip);
    each(strips * bounds.len().saturating_sub(1), &|part| {
        let (run, from) = (part / strips, part % strips * strip);
        let columns = from..(from + strip).min(width);
        let rows = bounds[run]..bounds[run + 1];
        work(run, columns.clone(), Columns { all: &all, rows, width, columns });
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Team, each_cell, each_chunk, each_strip};

    #[test]
    fn each_part_is_done_once_however_many_threads_there_are() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads);
            for parts in [0, 1, 2, 7, 1000] {
                let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..50 {
                    team.each(parts, &|part| {
                        done[part].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 50), "{threads}");
            }
        }
    }

    #[test]
    fn members_that_sleep_wake_for_the_next_call() {
        let team = Team::new(3);
        let count = AtomicUsize::new(0);
        for _ in 0..5 {
            team.each(100, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(count.load(Ordering::Relaxed), 500);
    }

    #[test]
    fn a_call_inside_a_call_is_worked_off_too() {
        let team = Team::new(2);
        let count = AtomicUsize::new(0);
        team.each(4, &|_| {
            team.each(5, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn a_panic_in_a_part_comes_back_to_the_caller_and_the_team_goes_on() {
        let team = Team::new(2);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.each(64, &|part| assert!(part != 40, "on purpose"));
        }));
        assert!(panicked.is_err());
        team.each(8, &|_| {});
    }

    #[test]
    fn chunks_and_strips_cover_everything_once() {
        let mut numbers = vec![0usize; 103];
        each_chunk(&mut numbers, 10, &|part, chunk| chunk.iter_mut().for_each(|x| *x += part + 1));
        assert!(numbers.iter().enumerate().all(|(at, x)| *x == at / 10 + 1));

        let (mut a, mut b) = (vec![0.0; 3 * 37], vec![0.0; 3 * 5]);
        each_strip(3, &mut [(37, &mut a), (5, &mut b)], 16, &|which, columns, mut strip| {
            for row in 0..3 {
                for (column, x) in columns.clone().zip(strip.row(row)) {
                    *x += (1000 * which + 100 * row + column) as f32;
                }
            }
        });
        let mut c = vec![0.0; 5 * 9];
        each_cell(9, &mut c, &[0, 1, 1, 5], 4, &|run, columns, mut cell| {
            for row in [0..1, 1..1, 1..5][run].clone() {
                for (column, x) in columns.clone().zip(cell.row(row)) {
                    *x += (100 * row + column) as f32;
                }
            }
        });
        for (which, matrix, width) in [(0, c, 9), (0, a, 37), (1, b, 5)] {
            for (at, x) in matrix.iter().enumerate() {
                let expected = (1000 * which + 100 * (at / width) + at % width) as f32;
                assert!((x - expected).abs() < 0.5, "{which} {at}");
            }
        }
    }
}
