//! The product of a few queries with a table in blocks, in plain Rust that compilers vectorise.
//!
//! Every score is added in the order of the columns, and no product is fused with a sum, so every instruction
//! set gives the same bits.

/// Items of a block.
pub(crate) const ITEMS: usize = 64;

/// Fills rows of `out`, one for each query, with the scores of the items of whole blocks.
#[inline(always)]
pub(crate) fn products(packed: &[f32], dim: usize, queries: &[f32], out: &mut [f32]) {
    let width = packed.len() / dim;
    for (block, at) in packed.chunks_exact(dim * ITEMS).zip((0..).step_by(ITEMS)) {
        for (some, first) in queries.chunks(4 * dim).zip((0..).step_by(4)) {
            let out = &mut out[first * width + at..];
            match some.len() / dim {
                4 => tile::<4, 32>(block, some, out, width),
                3 => tile::<3, 32>(block, some, out, width),
                2 => tile::<2, 32>(block, some, out, width),
                _ => tile::<1, 64>(block, some, out, width),
            }
        }
    }
}

/// Scores of one block for `Q` queries, `S` items at a time, whose sums stay in registers.
#[inline(always)]
fn tile<const Q: usize, const S: usize>(block: &[f32], queries: &[f32], out: &mut [f32], width: usize) {
    let dim = queries.len() / Q;
    let rows: [&[f32]; Q] = std::array::from_fn(|query| &queries[query * dim..(query + 1) * dim]);
    for start in (0..ITEMS).step_by(S) {
        let mut sums = [[0.0_f32; S]; Q];
        for (column, values) in block.as_chunks::<ITEMS>().0.iter().enumerate() {
            if let Some(values) = values[start..].first_chunk::<S>() {
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let factor = row[column];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += factor * value;
                    }
                }
            }
        }
        for (query, sums) in sums.iter().enumerate() {
            out[query * width + start..][..S].copy_from_slice(sums);
        }
    }
}
