//! Counter-based randomness: every draw is a function of (seed, row, index) alone.
//!
//! Philox 2x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the seed
//! is the key, the row and a running index are the counter. No state is shared, so results do not
//! depend on threads, batch splits or restarts.

use crate::error::{Error, Result};
use crate::threads::fill_rows;

const MULTIPLIER: u64 = 0xD2B7_4407_B1CE_6E93;
const WEYL: u64 = 0x9E37_79B9_7F4A_7C15;

/// One Philox 2x64-10 block.
#[inline]
#[must_use]
pub fn philox(key: u64, counter: [u64; 2]) -> [u64; 2] {
    let [mut a, mut b] = counter;
    let mut key = key;
    for round in 0..10 {
        if round > 0 {
            key = key.wrapping_add(WEYL);
        }
        let product = u128::from(a) * u128::from(MULTIPLIER);
        let (high, low) = ((product >> 64) as u64, product as u64);
        (a, b) = (high ^ key ^ b, low);
    }
    [a, b]
}

/// Derives a seed from a seed and words that identify its purpose, such as (epoch, purpose).
///
/// ```
/// use alterrec_core::random::derive_seed;
/// assert_ne!(derive_seed(1, &[2, 3]), derive_seed(1, &[3, 2]));
/// ```
#[must_use]
pub fn derive_seed(seed: u64, words: &[u64]) -> u64 {
    words.iter().zip(1..).fold(seed, |key, (&word, place)| philox(key, [word, place])[0])
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): word
/// `index` of the stream that `key` begins.
#[inline]
#[must_use]
pub fn split_mix(key: u64, index: u64) -> u64 {
    let mut word = key.wrapping_add(index.wrapping_add(1).wrapping_mul(WEYL));
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Fills each line of `out` with random words, functions of (seed, number, place, index of the word) alone.
///
/// Each of the three steps from the seed to a word is one of [`split_mix`], which devices without 128-bit
/// products compute as fast, and which a compiler computes for several words at once.
///
/// # Errors
/// `Value` if `places` has another length than `numbers`, and for 0 threads.
///
/// # Panics
/// If `out` does not hold `numbers.len() * width` values.
pub fn random_words(
    seed: u64,
    numbers: &[i64],
    places: &[i64],
    width: usize,
    threads: Option<usize>,
    out: &mut [u64],
) -> Result<()> {
    if numbers.len() != places.len() {
        return Err(Error::Value(format!(
            "places has {} entries; expected one for each of the {} numbers",
            places.len(),
            numbers.len()
        )));
    }
    fill_rows(out, numbers.len(), width, threads, |_: &mut (), line, words| {
        let key = split_mix(split_mix(seed, numbers[line] as u64), places[line] as u64);
        for (word, index) in words.iter_mut().zip(0..) {
            *word = split_mix(key, index);
        }
        Ok(())
    })
}

/// The stream of draws that belongs to one (seed, row).
#[derive(Debug, Clone)]
pub struct Stream {
    key: u64,
    row: u64,
    next: u64,
    spare: Option<u64>,
    half: Option<u32>,
}

impl Stream {
    /// The stream of `row` under `seed`, from its first draw.
    #[must_use]
    pub fn new(seed: u64, row: u64) -> Self {
        Self { key: seed, row, next: 0, spare: None, half: None }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let [first, second] = philox(self.key, [self.row, self.next]);
        self.next += 1;
        self.spare = Some(second);
        first
    }

    /// The next 32 random bits: the lower half of the next 64, then the upper.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if let Some(upper) = self.half.take() {
            return upper;
        }
        let bits = self.next_u64();
        self.half = Some((bits >> 32) as u32);
        bits as u32
    }

    /// [`Stream::below`] for 32 bits, at half its cost.
    #[inline]
    pub fn below_u32(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0);
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// A whole number drawn uniformly from `0..n` (Lemire's multiplication with rejection, unbiased).
    ///
    /// `n` must not be 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        debug_assert!(n > 0);
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_reference_implementation() {
        assert_eq!(philox(0, [0, 0]), [0xca00_a045_9843_d731, 0x66c2_4222_c9a8_45b5]);
        assert_eq!(philox(u64::MAX, [u64::MAX, u64::MAX]), [0x65b0_21d6_0cd8_310f, 0x4d02_f322_2f86_df20]);
    }

    #[test]
    fn words_are_those_of_the_reference_implementation() {
        // The first three numbers of splitmix64.c by Sebastiano Vigna from state 1234567.
        let words: Vec<u64> = (0..3).map(|index| split_mix(1_234_567, index)).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Stream::new(3, 5);
        let mut counts = [[0_u32; 7]; 2];
        for _ in 0..70_000 {
            counts[0][stream.below(7) as usize] += 1;
            counts[1][stream.below_u32(7) as usize] += 1;
        }
        for counts in counts {
            // chi-square with 6 degrees of freedom: 22.5 is its 0.999 quantile
            let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - 10_000.0).powi(2) / 10_000.0).sum();
            assert!(chi2 < 22.5, "chi-square {chi2}");
        }
    }

    #[test]
    fn rejection_keeps_large_ranges_uniform() {
        // Without rejection half of the draws from 3 * 2**30 numbers would be multiples of three.
        let mut stream = Stream::new(1, 2);
        let range = 3 << 30;
        let multiples = (0..100_000).filter(|_| stream.below_u32(range).is_multiple_of(3)).count() as f64;
        // Four standard deviations of a share of one third.
        assert!(
            (multiples - 100_000.0 / 3.0).abs() < 4.0 * (100_000.0_f64 * 2.0 / 9.0).sqrt(),
            "{multiples}"
        );
    }
}
