//! Thread pools, and the parallel loop over independent rows that all kernels use.

use crate::error::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

/// Pools by process id and size: after a fork, the child has none of the parent's threads and builds new
/// pools.
static POOLS: Mutex<BTreeMap<(u32, usize), Arc<ThreadPool>>> = Mutex::new(BTreeMap::new());

/// Pools with this many threads are built even where there are fewer cores, so that tests on a small machine
/// meet several threads.
const ALWAYS: usize = 8;

/// The number of threads; `None` means one per core.
///
/// More threads than cores do not change the result. They only take memory for as long as the process lives,
/// so there are never more than cores, or [`ALWAYS`].
///
/// # Errors
/// `Value` if `threads` is 0.
fn count(threads: Option<usize>) -> Result<usize> {
    let cores = available_parallelism().map_or(1, usize::from);
    match threads {
        Some(0) => Err(Error::Value("threads is 0; expected 1 or more, or None for all cores".into())),
        Some(count) => Ok(count.min(cores.max(ALWAYS))),
        None => Ok(cores),
    }
}

fn pool(count: usize) -> Result<Arc<ThreadPool>> {
    let key = (std::process::id(), count);
    let lock = || POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = lock().get(&key) {
        return Ok(Arc::clone(pool));
    }
    // Built without holding the lock: a child forked meanwhile would find it locked for ever.
    let built = ThreadPoolBuilder::new().num_threads(count).build();
    let built = built.map_err(|e| {
        Error::Value(format!("threads is {count}, which the system refuses ({e}); ask for fewer"))
    })?;
    Ok(Arc::clone(lock().entry(key).or_insert_with(|| Arc::new(built))))
}

/// Runs `work` in a pool of `threads` threads; `None` means one per core. Pools are built once and reused.
///
/// # Errors
/// `Value` if `threads` is 0 or the system refuses that many.
///
/// ```
/// use alterrec_core::threads::with_threads;
/// assert_eq!(with_threads(Some(2), rayon::current_num_threads), Ok(2));
/// assert!(with_threads(Some(0), || ()).is_err());
/// ```
pub fn with_threads<R: Send>(threads: Option<usize>, work: impl FnOnce() -> R + Send) -> Result<R> {
    Ok(pool(count(threads)?)?.install(work))
}

/// Fills `out`, `width` values per row, by `fill(scratch, row, row_out)`, with rows in parallel.
///
/// The calling thread takes part: a thread that is slow to wake, or that shares its core with a spinning one,
/// takes fewer rows and does not delay the others.
///
/// # Errors
/// The error of the first row that has one, whatever the number of threads.
///
/// # Panics
/// If `out` does not hold `rows * width` values.
pub fn fill_rows<T, S, F>(
    out: &mut [T],
    rows: usize,
    width: usize,
    threads: Option<usize>,
    fill: F,
) -> Result<()>
where
    T: Send,
    S: Default,
    F: Fn(&mut S, usize, &mut [T]) -> Result<()> + Sync + Send,
{
    assert_eq!(out.len(), rows * width, "one output row for each input row");
    let threads = count(threads)?.min(rows);
    if threads <= 1 {
        let mut scratch = S::default();
        let mut rest = out;
        for row in 0..rows {
            let (values, after) = rest.split_at_mut(width);
            fill(&mut scratch, row, values)?;
            rest = after;
        }
        return Ok(());
    }
    let queue = Mutex::new((0, out));
    let first_error = Mutex::new(None);
    // Rows are taken in order, so the rows before a failing one have been taken too.
    let take = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, rest) = &mut *queue;
        let taken = *row;
        if taken == rows {
            return None;
        }
        *row += 1;
        Some((taken, rest.split_off_mut(..width)?))
    };
    let work = || {
        let mut scratch = S::default();
        while let Some((row, values)) = take() {
            if let Err(error) = fill(&mut scratch, row, values) {
                let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|&(other, _)| row < other) {
                    *first = Some((row, error));
                }
                queue.lock().unwrap_or_else(PoisonError::into_inner).0 = rows;
            }
        }
    };
    pool(threads - 1)?.in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| work());
        }
        work();
    });
    first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_limited_by_the_cores() {
        let most = with_threads(Some(usize::MAX), rayon::current_num_threads).unwrap();
        assert_eq!(most, available_parallelism().map_or(1, usize::from).max(ALWAYS));
        assert_eq!(with_threads(Some(3), rayon::current_num_threads), Ok(3));
    }

    #[test]
    fn the_first_error_wins_for_any_thread_count() {
        for threads in [None, Some(1), Some(2), Some(3)] {
            for width in [0, 1, 4] {
                let result =
                    fill_rows(&mut vec![0; 100 * width], 100, width, threads, |_: &mut (), row, _| {
                        if row % 30 == 29 { Err(Error::Value(row.to_string())) } else { Ok(()) }
                    });
                assert_eq!(result, Err(Error::Value("29".into())));
            }
        }
    }
}
