//! The one place that chooses threads, and the one loop over independent rows.

use crate::error::{Error, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

static POOLS: Mutex<BTreeMap<usize, Arc<ThreadPool>>> = Mutex::new(BTreeMap::new());

/// Runs `work` on `threads` threads; `None` is rayon's global pool. Pools are built once and kept.
///
/// # Errors
/// `Value` when `threads` is 0 or the system refuses that many.
///
/// ```
/// use alterrec_core::threads::with_threads;
/// assert_eq!(with_threads(Some(2), rayon::current_num_threads), Ok(2));
/// assert!(with_threads(Some(0), || ()).is_err());
/// ```
pub fn with_threads<R: Send>(threads: Option<usize>, work: impl FnOnce() -> R + Send) -> Result<R> {
    match threads {
        None => Ok(work()),
        Some(0) => Err(Error::Value("threads is 0; allowed: 1 or more, or None for all cores".into())),
        Some(count) => Ok(pool(count)?.install(work)),
    }
}

fn pool(count: usize) -> Result<Arc<ThreadPool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = pools.get(&count) {
        return Ok(Arc::clone(pool));
    }
    let built = ThreadPoolBuilder::new().num_threads(count).build();
    let pool = Arc::new(built.map_err(|e| {
        Error::Value(format!("threads is {count}, which the system refuses ({e}); ask for fewer"))
    })?);
    pools.insert(count, Arc::clone(&pool));
    Ok(pool)
}

/// Fills `out`, `width` values a row, by `fill(scratch, row, row_out)`, rows in parallel.
///
/// # Errors
/// The error of the first row that has one, whatever the number of threads.
///
/// # Panics
/// When `out` does not hold `rows * width` values.
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
    let first_error = with_threads(threads, || {
        if width == 0 {
            // Empty rows are still checked.
            let check = |scratch: &mut S, row| fill(scratch, row, &mut []).err();
            return (0..rows).into_par_iter().map_init(S::default, check).find_map_first(|error| error);
        }
        let check = |scratch: &mut S, (row, out): (usize, &mut [T])| fill(scratch, row, out).err();
        out.par_chunks_mut(width).enumerate().map_init(S::default, check).find_map_first(|error| error)
    })?;
    first_error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

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
