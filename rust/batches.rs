//! Batches of prefixes: the samples of an epoch, their order, and filling the arrays of a batch.
//!
//! The plan of an epoch is a function of (seed, epoch) and of the batch size of all shards together. The
//! shard only determines which of the samples it gets.

use crate::error::{Error, Result};
use crate::random::{Stream, derive_seed};
use crate::sessions::{SessionStore, Targets};
use crate::simd;

/// Prefixes of similar length are grouped among this many batches.
const BUCKET_BATCHES: usize = 64;

/// Purposes of random streams; no two uses share one.
const DRAW_TARGETS: u64 = 1;
const SHUFFLE_SAMPLES: u64 = 2;
const SHUFFLE_BATCHES: u64 = 3;

/// The sample whose prefix is the first `end` items of `session` and whose target is the next item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Index of the session in the store.
    pub session: u32,
    /// Position of the target in the session, 1 or more.
    pub end: u32,
}

/// The choice of the samples of an epoch.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// All targets of this kind.
    All(Targets),
    /// At most this many random targets of each session, drawn again in each epoch.
    PerSession(usize),
    /// Exactly these (session, end) pairs, in this order.
    Given(&'a [[i64; 2]]),
}

/// How the samples of an epoch are ordered and divided into batches.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Number of samples in a batch of one shard.
    pub batch_size: usize,
    /// The last `max_len` items of a prefix are kept.
    pub max_len: usize,
    /// Random order, or the order of the samples.
    pub shuffle: bool,
    /// With `shuffle`: batches contain prefixes of similar length.
    pub bucket: bool,
    /// With `shuffle`: the samples of a session stay together.
    pub by_session: bool,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the epoch.
    pub epoch: u64,
    /// Index of this shard, and number of shards.
    pub shard: (usize, usize),
}

/// The batches of one epoch and shard.
#[derive(Debug)]
pub struct Plan {
    samples: Vec<Sample>,
    batch_size: usize,
    num_batches: usize,
    max_len: usize,
}

impl Plan {
    /// Chooses and orders the samples of an epoch, and divides them into shards and batches.
    ///
    /// # Errors
    /// `Value` for a batch size or length below 1, a shard that does not exist, or samples that are not in
    /// the store.
    pub fn new(store: &SessionStore, choice: Choice<'_>, layout: &Layout) -> Result<Self> {
        let &Layout { batch_size, max_len, shuffle, bucket, by_session, seed, epoch, shard: (rank, world) } =
            layout;
        for (name, value) in [("batch_size", batch_size), ("max_len", max_len)] {
            if value < 1 {
                return Err(Error::Value(format!("{name} is {value}; expected 1 or more")));
            }
        }
        if rank >= world {
            return Err(Error::Value(format!(
                "shard is ({rank}, {world}); expected (rank, world) with 0 <= rank < world"
            )));
        }
        let key = |purpose| derive_seed(seed, &[epoch, purpose]);
        let mut samples = choose(store, choice, key(DRAW_TARGETS))?;
        let step = batch_size.saturating_mul(world);
        if shuffle {
            let stream = &mut Stream::new(key(SHUFFLE_SAMPLES), 0);
            if by_session {
                samples = shuffle_sessions(&samples, stream, bucket.then_some((step, max_len)));
            } else {
                shuffle_slice(&mut samples, stream);
            }
            if bucket && by_session {
                samples = shuffle_batches(&samples, step, &mut Stream::new(key(SHUFFLE_BATCHES), 0));
            } else if bucket {
                let mut sorted = Vec::new();
                for window in samples.chunks_mut(step.saturating_mul(BUCKET_BATCHES)) {
                    sort_by_length(window, max_len, &mut sorted);
                }
                samples = shuffle_batches(&samples, step, &mut Stream::new(key(SHUFFLE_BATCHES), 0));
            }
        }
        let num_batches = samples.len().div_ceil(world).div_ceil(batch_size);
        if world > 1 {
            samples = samples.into_iter().skip(rank).step_by(world).collect();
        }
        Ok(Self { samples, batch_size, num_batches, max_len })
    }

    /// Number of batches, the same in every shard.
    #[must_use]
    pub fn num_batches(&self) -> usize {
        self.num_batches
    }

    /// The samples of this shard, batch after batch.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The samples of one batch.
    ///
    /// All batches but the last are full. If the last batch of a shard would be empty, because it has one
    /// sample fewer than other shards, it takes a sample from the second to last batch.
    ///
    /// # Errors
    /// `Index` if there is no such batch.
    pub fn batch(&self, batch: usize) -> Result<&[Sample]> {
        if batch >= self.num_batches {
            return Err(Error::Index(format!("batch {batch} of {}", self.num_batches)));
        }
        Ok(&self.samples[self.cut(batch)..self.cut(batch + 1)])
    }

    fn cut(&self, batch: usize) -> usize {
        let (samples, batches) = (self.samples.len(), self.num_batches);
        let latest = if samples < batches { samples } else { samples - (batches - batch) };
        (batch * self.batch_size).min(latest)
    }

    /// Numbers of samples, of items of the longest prefix, and of items of all prefixes of a batch.
    ///
    /// # Errors
    /// `Index` if there is no such batch.
    pub fn size(&self, batch: usize) -> Result<(usize, usize, usize)> {
        let samples = self.batch(batch)?;
        let lengths = samples.iter().map(|sample| self.kept(*sample));
        let (width, total) =
            lengths.fold((0, 0), |(longest, total), length| (longest.max(length), total + length));
        Ok((samples.len(), width, total))
    }

    /// Number of rows if prefixes of a session share rows, and number of items of the longest row.
    ///
    /// # Errors
    /// `Index` if there is no such batch.
    pub fn session_size(&self, batch: usize) -> Result<(usize, usize)> {
        let rows = self.session_rows(self.batch(batch)?);
        Ok(rows.fold((0, 0), |(rows, width), last| (rows + 1, width.max(self.kept(*last)))))
    }

    /// The sample with the longest prefix of each row of [`Plan::fill_sessions`].
    fn session_rows<'a>(&self, samples: &'a [Sample]) -> impl Iterator<Item = &'a Sample> {
        let max_len = self.max_len;
        samples.chunk_by(move |&one, &next| shares_row(one, next, max_len)).filter_map(<[Sample]>::last)
    }

    fn kept(&self, sample: Sample) -> usize {
        (sample.end as usize).min(self.max_len)
    }

    /// Fills `out` with one value per sample, column after column: number of items kept of the prefix, the
    /// target, the offset of the target in the store's items (the same in every epoch, order and shard), the
    /// index of the session, and, if the store has users, its user.
    ///
    /// # Errors
    /// `Index` if there is no such batch, `Value` if `out` has another size.
    pub fn fill_rows(&self, store: &SessionStore, batch: usize, out: &mut [i64]) -> Result<()> {
        let batch = self.batch(batch)?;
        let columns = store.columns();
        let (offsets, items): (&[u64], &[u32]) = (&columns.offsets, &columns.items);
        let rows = batch.len();
        check_len("rows", out.len(), rows * if columns.users.is_some() { 5 } else { 4 })?;
        let (lengths, out) = out.split_at_mut(rows);
        let (targets, out) = out.split_at_mut(rows);
        let (places, out) = out.split_at_mut(rows);
        let (sessions, users) = out.split_at_mut(rows);
        for (i, sample) in batch.iter().enumerate() {
            lengths[i] = self.kept(*sample) as i64;
            sessions[i] = i64::from(sample.session);
            places[i] = (offsets[sample.session as usize] + u64::from(sample.end)) as i64;
        }
        // Separate from the loop above: these reads miss the cache and overlap only if they are independent.
        // They also load the prefixes, which end at the targets.
        for (target, &place) in targets.iter_mut().zip(&*places) {
            *target = i64::from(items[place as usize]);
        }
        if let Some(column) = &columns.users {
            let column: &[i64] = column;
            for (user, sample) in users.iter_mut().zip(batch) {
                *user = column[sample.session as usize];
            }
        }
        Ok(())
    }

    /// Fills `rows` by [`Plan::fill_rows`] and `out` with the prefixes, padded by `pad` to the longest one.
    ///
    /// # Errors
    /// As [`Plan::fill_rows`].
    pub fn fill_padded(
        &self,
        store: &SessionStore,
        batch: usize,
        pad: i64,
        rows: &mut [i64],
        out: &mut [i64],
    ) -> Result<()> {
        let (samples, width, _) = self.size(batch)?;
        check_len("items", out.len(), samples * width)?;
        self.fill_rows(store, batch, rows)?;
        let (lengths, places) = (&rows[..samples], &rows[2 * samples..3 * samples]);
        simd::copy_padded(&store.columns().items, lengths, places, pad, out);
        Ok(())
    }

    /// Fills `rows` by [`Plan::fill_rows`], `own` with the row of each sample, and `out` with one padded row
    /// per session: its longest prefix, which starts with the shorter ones. A prefix that was cut to its last
    /// items, or is not longer than that of the previous sample, gets a separate row.
    ///
    /// # Errors
    /// As [`Plan::fill_rows`].
    pub fn fill_sessions(
        &self,
        store: &SessionStore,
        batch: usize,
        pad: i64,
        rows: &mut [i64],
        own: &mut [i64],
        out: &mut [i64],
    ) -> Result<()> {
        let samples = self.batch(batch)?;
        let (count, width) = self.session_size(batch)?;
        check_len("row_of", own.len(), samples.len())?;
        check_len("items", out.len(), count * width)?;
        self.fill_rows(store, batch, rows)?;
        let mut row = 0;
        for (i, own) in own.iter_mut().enumerate() {
            if i > 0 && !shares_row(samples[i - 1], samples[i], self.max_len) {
                row += 1;
            }
            *own = row;
        }
        let offsets: &[u64] = &store.columns().offsets;
        let (mut lengths, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for last in self.session_rows(samples) {
            lengths.push(self.kept(*last) as i64);
            places.push((offsets[last.session as usize] + u64::from(last.end)) as i64);
        }
        simd::copy_padded(&store.columns().items, &lengths, &places, pad, out);
        Ok(())
    }

    /// Fills `rows` by [`Plan::fill_rows`], and the other arrays with the items of all prefixes, one after
    /// the other, the position of each item in its prefix, and the offset of each prefix (one more than
    /// prefixes).
    ///
    /// # Errors
    /// As [`Plan::fill_rows`].
    pub fn fill_packed(
        &self,
        store: &SessionStore,
        batch: usize,
        rows: &mut [i64],
        out: &mut [i64],
        positions: &mut [i64],
        starts: &mut [i64],
    ) -> Result<()> {
        let (samples, _, total) = self.size(batch)?;
        check_len("items", out.len(), total)?;
        check_len("positions", positions.len(), total)?;
        check_len("offsets", starts.len(), samples + 1)?;
        self.fill_rows(store, batch, rows)?;
        let (lengths, places) = (&rows[..samples], &rows[2 * samples..3 * samples]);
        let mut next = 0;
        starts[0] = 0;
        for (start, length) in starts[1..].iter_mut().zip(lengths) {
            next += length;
            *start = next;
        }
        simd::copy_packed(&store.columns().items, places, starts, out, positions);
        Ok(())
    }
}

/// Whether `next` can share the row of the previous sample.
fn shares_row(sample: Sample, next: Sample, max_len: usize) -> bool {
    sample.session == next.session && sample.end <= next.end && next.end as usize <= max_len
}

fn check_len(name: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Value(format!("{name} has room for {found} values; this batch needs {expected}")))
}

fn choose(store: &SessionStore, choice: Choice<'_>, key: u64) -> Result<Vec<Sample>> {
    let sample = |(session, end)| Sample { session, end };
    match choice {
        Choice::All(targets) => Ok(store.prefixes(targets).into_iter().map(sample).collect()),
        Choice::PerSession(0) => Err(Error::Value("per_session is 0; expected 1 or more".into())),
        Choice::PerSession(most) => Ok(random_targets(store, most, key)),
        Choice::Given(pairs) => {
            pairs.iter().enumerate().map(|(row, pair)| given(store, row, *pair)).collect()
        }
    }
}

fn random_targets(store: &SessionStore, most: usize, key: u64) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut ends = Vec::new();
    for (session, items) in (0..).zip(store.iter()) {
        ends.clear();
        ends.extend(1..items.len() as u32);
        if ends.len() > most {
            let mut stream = Stream::new(key, u64::from(session));
            for i in 0..most {
                let other = i + stream.below((ends.len() - i) as u64) as usize;
                ends.swap(i, other);
            }
            ends.truncate(most);
            ends.sort_unstable();
        }
        samples.extend(ends.iter().map(|&end| Sample { session, end }));
    }
    samples
}

fn given(store: &SessionStore, row: usize, [session, end]: [i64; 2]) -> Result<Sample> {
    let Some(items) = usize::try_from(session).ok().and_then(|index| store.session(index).ok()) else {
        return Err(Error::Value(format!(
            "samples[{row}] names session {session}; expected 0 to {} (index in the store)",
            store.num_sessions() as i64 - 1
        )));
    };
    if !(1..items.len() as i64).contains(&end) {
        return Err(Error::Value(format!(
            "samples[{row}] has end {end} in a session of {} items; expected 1 to {}",
            items.len(),
            items.len() as i64 - 1
        )));
    }
    Ok(Sample { session: session as u32, end: end as u32 })
}

/// Fisher-Yates, from the end.
fn shuffle_slice<T>(values: &mut [T], stream: &mut Stream) {
    for last in (1..values.len()).rev() {
        // A store has fewer than 2**32 sessions, but not always fewer samples.
        let other = match u32::try_from(last + 1) {
            Ok(count) => stream.below_u32(count) as usize,
            Err(_) => stream.below(last as u64 + 1) as usize,
        };
        values.swap(last, other);
    }
}

/// Shuffles the sessions; the samples of each session stay together, in their order.
///
/// With `bucket` (the number of samples of a step, and `max_len`), sessions of similar length are grouped.
fn shuffle_sessions(samples: &[Sample], stream: &mut Stream, bucket: Option<(usize, usize)>) -> Vec<Sample> {
    let mut sessions: Vec<&[Sample]> = samples.chunk_by(|one, next| one.session == next.session).collect();
    shuffle_slice(&mut sessions, stream);
    if let Some((step, max_len)) = bucket {
        let kept = |session: &&[Sample]| session.iter().map(|s| (s.end as usize).min(max_len)).max();
        // The number of sessions that on average contain the samples of a bucket.
        let share = sessions.len() as f64 / samples.len().max(1) as f64;
        let window = (step.saturating_mul(BUCKET_BATCHES) as f64 * share).ceil().max(1.0) as usize;
        for window in sessions.chunks_mut(window) {
            window.sort_by_key(kept);
        }
    }
    sessions.concat()
}

/// Counting sort by the number of items kept, stable: there are few lengths and many samples.
fn sort_by_length(samples: &mut [Sample], max_len: usize, sorted: &mut Vec<Sample>) {
    let longest = samples.iter().map(|sample| sample.end as usize).max().unwrap_or(0).min(max_len);
    let kept = |sample: &Sample| (sample.end as usize).min(longest);
    let mut next = vec![0; longest + 2];
    for sample in &*samples {
        next[kept(sample) + 1] += 1;
    }
    for length in 0..longest {
        next[length + 1] += next[length];
    }
    sorted.clear();
    sorted.resize(samples.len(), Sample { session: 0, end: 0 });
    for sample in &*samples {
        let place = &mut next[kept(sample)];
        sorted[*place] = *sample;
        *place += 1;
    }
    samples.copy_from_slice(sorted);
}

/// Shuffles whole batches; a short batch stays last.
fn shuffle_batches(samples: &[Sample], batch_size: usize, stream: &mut Stream) -> Vec<Sample> {
    let full = samples.chunks_exact(batch_size);
    let short = full.remainder();
    let mut batches: Vec<_> = full.collect();
    shuffle_slice(&mut batches, stream);
    batches.push(short);
    batches.concat()
}
