//! Sets of items as bitmaps: bit `i % 64` of word `i / 64` is item `i`.

use std::ops::Range;

/// Number of words for the bits of `items` items.
pub(crate) fn words_for(items: usize) -> usize {
    items.div_ceil(64)
}

/// Removes `items` and returns how many of them were in the set.
pub(crate) fn remove(bits: &mut [u64], items: &[u32]) -> usize {
    let mut removed = 0;
    for &item in items {
        let (word, mask) = (&mut bits[item as usize / 64], 1 << (item % 64));
        removed += usize::from(*word & mask != 0);
        *word &= !mask;
    }
    removed
}

/// Adds an item; returns whether it was new.
pub(crate) fn insert(bits: &mut [u64], item: usize) -> bool {
    let (word, mask) = (&mut bits[item / 64], 1 << (item % 64));
    let new = *word & mask == 0;
    *word |= mask;
    new
}

/// Keeps the items whose number, counted from 0 in ascending order, is in `kept`.
pub(crate) fn keep(bits: &mut [u64], kept: &Range<usize>) {
    let mut number = 0;
    for word in bits {
        let numbers = number..number + word.count_ones() as usize;
        number = numbers.end;
        if numbers.end <= kept.start || kept.end <= numbers.start {
            *word = 0;
        } else if numbers.start < kept.start || kept.end < numbers.end {
            let mut rest = *word;
            for number in numbers {
                let lowest = rest & rest.wrapping_neg();
                if !kept.contains(&number) {
                    *word ^= lowest;
                }
                rest ^= lowest;
            }
        }
    }
}

/// Removes all items of `others` from `bits`.
pub(crate) fn subtract(bits: &mut [u64], others: &[u64]) {
    for (word, other) in bits.iter_mut().zip(others) {
        *word &= !other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn items(bits: &[u64]) -> Vec<u32> {
        (0..bits.len() as u32 * 64).filter(|&item| bits[item as usize / 64] >> (item % 64) & 1 == 1).collect()
    }

    proptest! {
        #[test]
        fn bitmaps_are_sets(
            inside in prop::collection::btree_set(0_u32..200, 0..150),
            others in prop::collection::btree_set(0_u32..200, 0..150),
            (start, stop) in (0_usize..210, 0_usize..210),
        ) {
            let mut bits = vec![0; words_for(200)];
            prop_assert!(inside.iter().all(|&item| insert(&mut bits, item as usize)));
            prop_assert!(!inside.iter().any(|&item| insert(&mut bits, item as usize)));
            prop_assert_eq!(items(&bits), Vec::from_iter(inside.iter().copied()));

            let mut rest = bits.clone();
            let removed = remove(&mut rest, &Vec::from_iter(others.iter().copied()));
            let expected = BTreeSet::from_iter(inside.difference(&others).copied());
            prop_assert_eq!(removed, inside.len() - expected.len());
            prop_assert_eq!(items(&rest), Vec::from_iter(expected));

            let mut without = bits.clone();
            subtract(&mut without, &rest);
            prop_assert_eq!(items(&without), Vec::from_iter(inside.intersection(&others).copied()));

            keep(&mut bits, &(start..stop));
            let numbered = inside.iter().copied().enumerate();
            let kept = numbered.filter(|(number, _)| (start..stop).contains(number)).map(|(_, item)| item);
            prop_assert_eq!(items(&bits), Vec::from_iter(kept));
        }
    }
}
