//! The passes of [`crate::passes`], compiled for each instruction set; calls go to the set in use.
//!
//! Hand-written AVX-512 versions replace the plain ones where they are measurably faster. All `unsafe` of the
//! crate is here, except for mapping files (`storage`).

#![allow(unsafe_code)]

use crate::instructions::Instructions;
use crate::keys::{Bracket, Kept, Span, Split, Tally};
use crate::log_sums::LogSum;
use crate::passes;
use crate::query_passes::Pair;
use std::ops::RangeInclusive;

/// Compiles a pass for each instruction set and calls the one in use.
///
/// The body is inlined into one function per instruction set, so the compiler vectorises it for each of them.
/// For AVX-512 another body, or the code for AVX2, can be named where that is measured to be faster.
macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $out:ty) => {
        compiled!($(#[$doc])* $name($($arg: $kind),*) -> $out, avx512 = passes::$name);
    };
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $out:ty, avx512 = avx2) => {
        compiled!($(#[$doc])* $name($($arg: $kind),*) -> $out, "avx2", passes::$name);
    };
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $out:ty, avx512 = $avx512:path) => {
        compiled!(
            $(#[$doc])* $name($($arg: $kind),*) -> $out,
            "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2", $avx512
        );
    };
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $out:ty, $features:literal, $avx512:path) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $kind),*) -> $out {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = $features)]
                #[target_feature(enable = "popcnt,bmi1,bmi2,lzcnt")]
                fn on_avx512($($arg: $kind),*) -> $out {
                    $avx512($($arg),*)
                }
                #[target_feature(enable = "avx2,popcnt,bmi1,bmi2,lzcnt")]
                fn on_avx2($($arg: $kind),*) -> $out {
                    passes::$name($($arg),*)
                }
                match Instructions::in_use() {
                    // SAFETY: a set is in use only if `Instructions::available` has found it on this
                    // processor, which checks each feature named above.
                    Instructions::Avx512 => return unsafe { on_avx512($($arg),*) },
                    // SAFETY: as above.
                    Instructions::Avx2 => return unsafe { on_avx2($($arg),*) },
                    Instructions::Neon | Instructions::Portable => {}
                }
            }
            passes::$name($($arg),*)
        }
    };
}

compiled!(
    /// [`passes::split`] on the instruction set in use.
    split(scores: &[f32], bracket: Bracket, marked: &mut [u64]) -> Split, avx512 = avx512::split
);
compiled!(
    /// [`passes::collect`] on the instruction set in use.
    collect(scores: &[f32], kept: &mut [Kept]) -> (), avx512 = avx512::collect
);
compiled!(
    /// [`passes::expand`] on the instruction set in use.
    expand(marked: &[u64], ids: &mut [i64]) -> usize, avx512 = avx512::expand
);
compiled!(
    /// [`passes::to_keys`] on the instruction set in use.
    to_keys(scores: &mut [u32]) -> ()
);
compiled!(
    /// [`passes::count_up_to`] on the instruction set in use.
    count_up_to(keys: &[u32], most: u32) -> usize
);
compiled!(
    /// [`passes::span`] on the instruction set in use.
    span(keys: &[u32]) -> Span
);
compiled!(
    /// [`passes::narrowed`] on the instruction set in use.
    narrowed(keys: &[u32], without: &[u32], wanted: RangeInclusive<usize>, span: Span) -> Span
);
compiled!(
    /// [`passes::tally`] on the instruction set in use.
    tally(scores: &[f32], target: f32) -> Tally, avx512 = avx2
);
compiled!(
    /// [`passes::fused_tally`] on the instruction set in use; counting needs fewer instructions on AVX2 than
    /// on AVX-512.
    fused_tally(views: &[&[f32]], weights: &[f32], targets: &[f32], tallies: &mut [Tally]) -> (),
    avx512 = avx2
);

compiled!(
    /// [`passes::weighted_sum`] on the instruction set in use.
    weighted_sum(views: &[&[f32]], weights: &[f32], sums: &mut [f32]) -> ()
);
compiled!(
    /// [`passes::add_exponentials`] on the instruction set in use.
    add_exponentials(scores: &[f32], without: &[u32], sums: &mut [LogSum]) -> ()
);

compiled!(
    /// [`passes::largest`] on the instruction set in use.
    largest(scores: &[f32], marked: &[u64]) -> f32
);
compiled!(
    /// [`passes::exponentials`] on the instruction set in use.
    exponentials(scores: &mut [f32], marked: &[u64], shift: f32) -> f32
);
compiled!(
    /// [`passes::scale`] on the instruction set in use.
    scale(values: &mut [f32], factor: f32) -> ()
);

compiled!(
    /// [`passes::unmark`] on the instruction set in use.
    unmark(scores: &mut [f32], marks: &[u8]) -> ()
);
compiled!(
    /// [`passes::peak`] on the instruction set in use.
    peak(scores: &[f32]) -> f32
);
compiled!(
    /// [`passes::powers`] on the instruction set in use.
    powers(scores: &mut [f32], most: f32) -> f64
);
compiled!(
    /// [`passes::log_mixture`] on the instruction set in use.
    log_mixture(views: &[&[f32]], weights: &[f32], out: &mut [f32]) -> ()
);

compiled!(
    /// [`passes::whole_products`] on the instruction set in use.
    whole_products(packed: &[i16], pairs: usize, queries: &[Pair], out: &mut [i32]) -> (),
    avx512 = avx512::whole_products
);
compiled!(
    /// [`passes::scaled`] on the instruction set in use.
    scaled(products: &[i32], scales: &[f32], factor: f32, scores: &mut [f32]) -> ()
);
compiled!(
    /// [`passes::add_powers`] on the instruction set in use.
    add_powers(products: &[i32], scales: &[f32], asked: (f32, f32, f32), sums: &mut [f32]) -> ()
);
compiled!(
    /// [`passes::fill_absent`] on the instruction set in use.
    fill_absent(scores: &mut [f32], other: &[f32], absent: &[f32], shift: f32) -> ()
);
compiled!(
    /// [`passes::outside`] on the instruction set in use.
    outside(values: &[f32], low: f32, high: f32, found: &mut Vec<u32>) -> ()
);

compiled!(
    /// [`passes::copy_padded`] on the instruction set in use.
    copy_padded(items: &[u32], lengths: &[i64], places: &[i64], pad: i64, out: &mut [i64]) -> ()
);
compiled!(
    /// [`passes::copy_packed`] on the instruction set in use.
    copy_packed(
        items: &[u32], places: &[i64], starts: &[i64], out: &mut [i64], positions: &mut [i64]
    ) -> ()
);

/// Bytes that the processor fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Asks the processor to fetch values that are needed soon.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(CACHE_LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: this instruction exists on every x86-64 processor, and it reads no value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::passes::{STRETCH, collect_tail, expand_word, split_tail};
    use super::{Bracket, Kept, Pair, Split};
    use crate::query_passes::{ITEMS, STEP};
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(scores: &[f32; 16]) -> __m512 {
        // SAFETY: the array is the 64 bytes that are read, and this load needs no alignment.
        unsafe { _mm512_loadu_ps(scores.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(ids: &mut [i64; 8], values: __m512i) {
        // SAFETY: the array is the 64 bytes that are written, and this store needs no alignment.
        unsafe { _mm512_storeu_si512(ids.as_mut_ptr().cast(), values) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store_scores(bits: &mut [u32; 16], scores: __m512) {
        // SAFETY: the array is the 64 bytes that are written, and this store needs no alignment.
        unsafe { _mm512_storeu_ps(bits.as_mut_ptr().cast(), scores) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn joined([a, b, c, d]: [__mmask16; 4]) -> u64 {
        let low = _mm512_kunpackw(u32::from(b), u32::from(a));
        let high = _mm512_kunpackw(u32::from(d), u32::from(c));
        _mm512_kunpackd(u64::from(high), u64::from(low))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn quarters(block: &[f32; 64]) -> [__m512; 4] {
        let [a, b, c, d] = block.as_chunks::<16>().0 else { unreachable!("64 scores are 4 x 16") };
        [load(a), load(b), load(c), load(d)]
    }

    /// For each of 16 scores, whether it is below a bracket's upper bound, and whether it is inside.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn compared(scores: __m512, low: __m512, high: __m512) -> (__mmask16, __mmask16) {
        let below = _mm512_cmp_ps_mask::<_CMP_NGE_UQ>(scores, high);
        (below, _mm512_mask_cmp_ps_mask::<_CMP_NLE_UQ>(below, scores, low))
    }

    /// The pass of this name; comparisons yield bitmaps directly: 0.05 ns per score instead of 0.15.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
    pub(super) fn split(scores: &[f32], bracket: Bracket, marked: &mut [u64]) -> Split {
        let (blocks, rest) = scores.as_chunks::<64>();
        let (words, last) = marked.split_at_mut(blocks.len());
        let (low, high) = (_mm512_set1_ps(bracket.low), _mm512_set1_ps(bracket.high));
        let mut split = split_tail(rest, bracket, last);
        for (block, word) in blocks.iter().zip(words) {
            let (mut below, mut inside) = ([0; 4], [0; 4]);
            for (quarter, scores) in quarters(block).into_iter().enumerate() {
                (below[quarter], inside[quarter]) = compared(scores, low, high);
            }
            *word = joined(inside);
            split.inside += word.count_ones() as usize;
            split.above += joined(below).count_zeros() as usize;
        }
        split
    }

    /// The pass of this name; kept scores are compressed in a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
    pub(super) fn collect(scores: &[f32], kept: &mut [Kept]) {
        match kept {
            [one] if one.bracket.high.is_nan() => collect_in::<1, true>([one], scores),
            [one] => collect_in::<1, false>([one], scores),
            [one, other] if one.bracket.high.is_nan() => collect_in::<2, true>([one, other], scores),
            [one, other] => collect_in::<2, false>([one, other], scores),
            _ => unreachable!("one or two brackets"),
        }
    }

    /// `OPEN`: the first bracket has no upper bound, so comparisons with it are skipped.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
    fn collect_in<const N: usize, const OPEN: bool>(mut kept: [&mut Kept; N], scores: &[f32]) {
        let (blocks, rest) = scores.as_chunks::<64>();
        let mut bounds = [(_mm512_setzero_ps(), _mm512_setzero_ps()); N];
        for (bounds, kept) in bounds.iter_mut().zip(&kept) {
            *bounds = (_mm512_set1_ps(kept.bracket.low), _mm512_set1_ps(kept.bracket.high));
        }
        for stretch in blocks.chunks(STRETCH / 64) {
            // Sums and positions stay in registers; a call would spill them.
            let (mut above, mut found) = ([0; N], [0; N]);
            let rooms = kept.each_mut().map(|kept| kept.room(STRETCH));
            for block in stretch {
                let scores = quarters(block);
                for place in 0..N {
                    let (low, high) = bounds[place];
                    let (mut below, mut inside) = ([0; 4], [0; 4]);
                    if OPEN && place == 0 {
                        for quarter in 0..4 {
                            inside[quarter] = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(scores[quarter], low);
                        }
                        if joined(inside) == 0 {
                            continue;
                        }
                    } else {
                        for quarter in 0..4 {
                            (below[quarter], inside[quarter]) = compared(scores[quarter], low, high);
                        }
                        above[place] += joined(below).count_zeros() as usize;
                    }
                    for (scores, inside) in scores.into_iter().zip(inside) {
                        let Some(slots) = rooms[place][found[place]..].first_chunk_mut::<16>() else {
                            unreachable!("there is room for a stretch and 16 more")
                        };
                        store_scores(slots, _mm512_maskz_compress_ps(inside, scores));
                        found[place] += inside.count_ones() as usize;
                    }
                }
            }
            for (place, kept) in kept.iter_mut().enumerate() {
                kept.above += above[place];
                kept.found += found[place];
            }
        }
        for kept in kept {
            collect_tail(rest, std::slice::from_mut(kept));
        }
    }

    /// The pass of this name; positions are compressed in a register: 0.06 ns per score instead of 0.12.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt")]
    pub(super) fn expand(marked: &[u64], ids: &mut [i64]) -> usize {
        let places = _mm512_set_epi8(
            63, 62, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40,
            39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16,
            15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
        );
        let mut written = 0;
        for (&word, first) in marked.iter().zip((0..).step_by(64)) {
            let found = word.count_ones() as usize;
            let ids = &mut ids[written..];
            written += found;
            let Some(ids) = ids.first_chunk_mut::<64>() else {
                expand_word(word, first, &mut ids[..found]);
                continue;
            };
            let bytes = _mm512_maskz_compress_epi8(word, places);
            let (eights, _) = ids.as_chunks_mut::<8>();
            let mut put = |at: usize, bytes: __m128i| {
                store(
                    &mut eights[at],
                    _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_cvtepu8_epi64(bytes)),
                );
            };
            let second = |bytes| _mm_srli_si128::<8>(bytes);
            let quarter = _mm512_castsi512_si128(bytes);
            put(0, quarter);
            if found > 8 {
                put(1, second(quarter));
                let quarter = _mm512_extracti32x4_epi32::<1>(bytes);
                put(2, quarter);
                put(3, second(quarter));
                let quarter = _mm512_extracti32x4_epi32::<2>(bytes);
                put(4, quarter);
                if found > 40 {
                    put(5, second(quarter));
                    let quarter = _mm512_extracti32x4_epi32::<3>(bytes);
                    put(6, quarter);
                    put(7, second(quarter));
                }
            }
        }
        written
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_whole(values: &[i16; 32]) -> __m512i {
        // SAFETY: the array is the 64 bytes that are read, and this load needs no alignment.
        unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store_whole(sums: &mut [i32; 16], values: __m512i) {
        // SAFETY: the array is the 64 bytes that are written, and this store needs no alignment.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), values) }
    }

    /// The pass of this name; products of pairs are added by one instruction: 40,000 items of 64 columns take 0.25
    /// ms for 4 queries instead of 0.50. The sums of 6 queries fit into the registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn whole_products(packed: &[i16], pairs: usize, queries: &[Pair], out: &mut [i32]) {
        let width = packed.len() / (2 * pairs);
        for (block, at) in packed.chunks_exact(pairs * STEP).zip((0..).step_by(ITEMS)) {
            for (some, first) in queries.chunks(6 * pairs).zip((0..).step_by(6)) {
                let out = &mut out[first * width + at..];
                match some.len() / pairs {
                    6 => tile::<6>(block, some, out, width),
                    5 => tile::<5>(block, some, out, width),
                    4 => tile::<4>(block, some, out, width),
                    3 => tile::<3>(block, some, out, width),
                    2 => tile::<2>(block, some, out, width),
                    _ => tile::<1>(block, some, out, width),
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn tile<const Q: usize>(block: &[i16], queries: &[Pair], out: &mut [i32], width: usize) {
        let pairs = queries.len() / Q;
        let mut sums = [[_mm512_setzero_si512(); 4]; Q];
        for (pair, values) in block.as_chunks::<STEP>().0.iter().enumerate() {
            let [a, b, c, d] = values.as_chunks::<32>().0 else { unreachable!("64 pairs are 4 x 32 values") };
            let values = [load_whole(a), load_whole(b), load_whole(c), load_whole(d)];
            for (query, sums) in sums.iter_mut().enumerate() {
                let [first, second] = queries[query * pairs + pair].map(i16::cast_unsigned);
                let both = u32::from(second) << 16 | u32::from(first);
                let both = _mm512_set1_epi32(both.cast_signed());
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(values, both));
                }
            }
        }
        for (query, sums) in sums.into_iter().enumerate() {
            let out = out[query * width..][..ITEMS].as_chunks_mut::<16>().0;
            for (out, sum) in out.iter_mut().zip(sums) {
                store_whole(out, sum);
            }
        }
    }
}
