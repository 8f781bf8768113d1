//! The rows of a log in the order of their sessions: by user, by time, and as they stand where times are equal.

use crate::error::{Error, Result};
use crate::threads::with_threads;

/// Users of a block, which one thread sorts without dividing it further.
const BLOCK: usize = 1024;

/// Sessions as an order of rows.
#[derive(Debug, PartialEq)]
pub struct Cut {
    /// The rows of all sessions, session after session.
    pub order: Vec<u32>,
    /// Start of each session in `order`, and the end of the last.
    pub offsets: Vec<i64>,
}

/// Numbers users from 0, in ascending order.
///
/// # Errors
/// `Value` for 2^32 users or more.
///
/// ```
/// use alterrec_core::events::numbered;
/// assert_eq!(numbered(&[900, -5, 900])?, [1, 0, 1]);
/// # Ok::<(), alterrec_core::error::Error>(())
/// ```
pub fn numbered(users: &[i64]) -> Result<Vec<u32>> {
    let mut known = users.to_vec();
    known.sort_unstable();
    known.dedup();
    check_rows(known.len())?;
    // Every user is among the known ones.
    Ok(users.iter().map(|user| known.binary_search(user).unwrap_or_default() as u32).collect())
}

/// Orders rows by user, time and place, and cuts the rows of a user into sessions.
///
/// A session ends where the next row of its user is more than `gap` later, or with its user if there are no
/// times or no gap. Without times, the rows of a user keep their order. Users are numbers of which few are
/// unused: beside the result it needs 8 bytes for each number up to the largest.
///
/// # Errors
/// `Value` for lengths that differ, a negative gap, 2^32 rows or more, and 0 threads.
///
/// ```
/// use alterrec_core::events::cut_sessions;
/// let cut = cut_sessions(&[1, 0, 1, 1], Some(&[50, 7, 10, 12]), Some(30), None)?;
/// assert_eq!((cut.order, cut.offsets), (vec![1, 2, 3, 0], vec![0, 1, 3, 4]));
/// # Ok::<(), alterrec_core::error::Error>(())
/// ```
pub fn cut_sessions(
    users: &[u32],
    times: Option<&[i64]>,
    gap: Option<i64>,
    threads: Option<usize>,
) -> Result<Cut> {
    check_rows(users.len())?;
    if let Some(times) = times.filter(|times| times.len() != users.len()) {
        return Err(Error::Value(format!(
            "timestamps has {} values, users has {}; expected one for each row",
            times.len(),
            users.len()
        )));
    }
    if let Some(gap) = gap.filter(|&gap| gap < 0) {
        return Err(Error::Value(format!("gap is {gap}; expected 0 or more")));
    }
    let num_users = users.iter().max().map_or(0, |&largest| largest as usize + 1);
    let mut offsets = vec![0_u32; num_users + 1];
    for &user in users {
        offsets[user as usize + 1] += 1;
    }
    for user in 0..num_users {
        offsets[user + 1] += offsets[user];
    }
    let mut next = offsets.clone();
    let mut order = vec![0_u32; users.len()];
    for (row, &user) in (0_u32..).zip(users) {
        let place = &mut next[user as usize];
        order[*place as usize] = row;
        *place += 1;
    }
    drop(next);
    let mut starts = with_threads(threads, || sort_users(&mut order, &offsets, times, gap))?;
    starts.push(users.len() as i64);
    Ok(Cut { order, offsets: starts })
}

fn check_rows(rows: usize) -> Result<()> {
    match u32::try_from(rows) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Value(format!("users has {rows} values; expected {} at most", u32::MAX))),
    }
}

/// Sorts the rows of each user in `order`, where `offsets` has their places, and returns where sessions start.
fn sort_users(order: &mut [u32], offsets: &[u32], times: Option<&[i64]>, gap: Option<i64>) -> Vec<i64> {
    let users = offsets.len() - 1;
    if users > BLOCK {
        let middle = users / 2;
        let (left, right) = order.split_at_mut((offsets[middle] - offsets[0]) as usize);
        let (mut starts, others) = rayon::join(
            || sort_users(left, &offsets[..=middle], times, gap),
            || sort_users(right, &offsets[middle..], times, gap),
        );
        starts.extend(others);
        return starts;
    }
    let mut starts = Vec::new();
    let mut timed = Vec::new();
    let mut rest = order;
    for bounds in offsets.windows(2).filter(|bounds| bounds[0] < bounds[1]) {
        let (rows, after) = rest.split_at_mut((bounds[1] - bounds[0]) as usize);
        rest = after;
        starts.push(i64::from(bounds[0]));
        let Some(times) = times else { continue };
        timed.clear();
        timed.extend(rows.iter().map(|&row| (times[row as usize], row)));
        // Rows are distinct, so equal times keep their order.
        timed.sort_unstable();
        for (row, &(_, sorted)) in rows.iter_mut().zip(&timed) {
            *row = sorted;
        }
        let Some(gap) = gap else { continue };
        let pairs = (i64::from(bounds[0]) + 1..).zip(timed.windows(2));
        starts.extend(
            pairs.filter(|(_, pair)| pair[1].0.saturating_sub(pair[0].0) > gap).map(|(place, _)| place),
        );
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_users_are_joined_in_order() {
        // Each user has three rows; the last one comes much later.
        let users: Vec<u32> = (0..3).flat_map(|_| 0..5000).collect();
        let times: Vec<i64> = [1, 0, 90].iter().flat_map(|&time| [time; 5000]).collect();
        for threads in [Some(1), Some(3)] {
            let cut = cut_sessions(&users, Some(&times), Some(10), threads).unwrap();
            let order = (0..5000).flat_map(|user| [user + 5000, user, user + 10_000]);
            assert!(cut.order.iter().copied().eq(order));
            let offsets = (0..5000).flat_map(|user| [3 * user, 3 * user + 2]).chain([15_000]);
            assert!(cut.offsets.iter().copied().eq(offsets));
        }
    }

    #[test]
    fn distances_between_extreme_times_do_not_overflow() {
        let cut = cut_sessions(&[0, 0], Some(&[i64::MAX, i64::MIN]), Some(i64::MAX - 1), None).unwrap();
        assert_eq!(cut, Cut { order: vec![1, 0], offsets: vec![0, 1, 2] });
        assert_eq!(cut_sessions(&[], None, None, None).unwrap(), Cut { order: vec![], offsets: vec![0] });
    }

    #[test]
    fn wrong_arguments_are_named() {
        let message = |result: Result<Cut>| result.unwrap_err().to_string();
        assert_eq!(
            message(cut_sessions(&[0], Some(&[]), None, None)),
            "timestamps has 0 values, users has 1; expected one for each row"
        );
        assert_eq!(message(cut_sessions(&[0], None, Some(-1), None)), "gap is -1; expected 0 or more");
    }
}
