//! Numbers for ids that are texts, in the order in which they first appear.

use crate::error::{Error, Result};

const EMPTY: u32 = u32::MAX;

/// A place of the table: the hash of an id, and its number or `EMPTY`.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    number: u32,
}

/// The numbers of all ids that have been seen.
#[derive(Debug)]
pub struct IdNumbers {
    /// Open addressing with linear probing, at most half full; its length is a power of two.
    slots: Vec<Slot>,
    /// The ids, one after the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Default for IdNumbers {
    fn default() -> Self {
        Self { slots: vec![Slot { hash: 0, number: EMPTY }; 16], bytes: Vec::new(), ends: Vec::new() }
    }
}

impl IdNumbers {
    /// Numbers the ids of a batch, and returns the places in it of ids that had no number before.
    ///
    /// `text` has the ids one after the other, and `lengths` the number of bytes of each.
    ///
    /// # Errors
    /// `Value` for lengths that do not add up to the text, and more than 2^32 - 1 ids; ids before the one that is
    /// too much keep their numbers.
    ///
    /// ```
    /// use alterrec_core::ids::IdNumbers;
    /// let mut ids = IdNumbers::default();
    /// assert_eq!(ids.number(b"lamptentlamp", &[4, 4, 4])?, (vec![0, 1, 0], vec![0, 1]));
    /// assert_eq!(ids.number(b"boattent", &[4, 4])?, (vec![2, 1], vec![0]));
    /// # Ok::<(), alterrec_core::error::Error>(())
    /// ```
    pub fn number(&mut self, text: &[u8], lengths: &[u32]) -> Result<(Vec<u32>, Vec<u32>)> {
        let total: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        if total != text.len() as u64 {
            let bytes = text.len();
            return Err(Error::Value(format!("lengths add up to {total}, but the text has {bytes} bytes")));
        }
        let mut numbers = Vec::with_capacity(lengths.len());
        let mut new = Vec::new();
        let mut rest = text;
        for (place, &length) in (0_u32..).zip(lengths) {
            let (id, after) = rest.split_at(length as usize);
            rest = after;
            let known = self.len();
            let number = self.find_or_add(id)?;
            if number as usize == known {
                new.push(place);
            }
            numbers.push(number);
        }
        Ok((numbers, new))
    }

    /// Number of different ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no id has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn id(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    fn find_or_add(&mut self, id: &[u8]) -> Result<u32> {
        let hash = hash(id);
        let mut place = self.first_place(hash);
        loop {
            let slot = self.slots[place];
            if slot.number == EMPTY {
                return self.add(id, hash, place);
            }
            if slot.hash == hash && self.id(slot.number) == id {
                return Ok(slot.number);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    fn first_place(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn add(&mut self, id: &[u8], hash: u64, place: usize) -> Result<u32> {
        let number = u32::try_from(self.len()).ok().filter(|&number| number != EMPTY);
        let number = number.ok_or_else(|| Error::Value(format!("more than {EMPTY} different ids")))?;
        self.slots[place] = Slot { hash, number };
        self.bytes.extend_from_slice(id);
        self.ends.push(self.bytes.len());
        if self.len() * 2 > self.slots.len() {
            self.grow();
        }
        Ok(number)
    }

    fn grow(&mut self) {
        let larger = vec![Slot { hash: 0, number: EMPTY }; self.slots.len() * 2];
        let slots = std::mem::replace(&mut self.slots, larger);
        for slot in slots.into_iter().filter(|slot| slot.number != EMPTY) {
            let mut place = self.first_place(slot.hash);
            while self.slots[place].number != EMPTY {
                place = (place + 1) & (self.slots.len() - 1);
            }
            self.slots[place] = slot;
        }
    }
}

/// Mixes the words of an id by multiplications whose two halves are folded together.
fn hash(id: &[u8]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (words, tail) = id.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let start = 0x9E37_79B9_7F4A_7C15 ^ id.len() as u64;
    let mixed = words.iter().fold(start, |state, word| {
        fold(state ^ u64::from_le_bytes(*word), 0xA076_1D64_78BD_642F).rotate_left(23)
    });
    fold(mixed ^ u64::from_le_bytes(last), 0xE703_7ED1_A0B4_28DB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn many_ids_keep_their_numbers_while_the_table_grows() {
        let mut ids = IdNumbers::default();
        let names: Vec<String> = (0..5000).map(|number| format!("item {}", number * 7)).collect();
        let (text, lengths) =
            (names.concat(), names.iter().map(|name| name.len() as u32).collect::<Vec<_>>());
        for again in [false, true] {
            let (numbers, new) = ids.number(text.as_bytes(), &lengths).unwrap();
            assert!(numbers.iter().copied().eq(0..5000));
            assert_eq!(new.len(), if again { 0 } else { 5000 });
        }
        assert_eq!((ids.len(), ids.is_empty()), (5000, false));
    }

    #[test]
    fn similar_ids_have_different_hashes() {
        // Zeros at the end fill the last word, and only the length differs.
        let hashes: HashSet<u64> = (0..40).map(|length| hash(&vec![0; length])).collect();
        assert_eq!(hashes.len(), 40);
        let hashes: HashSet<u64> =
            (0..100_000_u32).map(|number| hash(number.to_string().as_bytes())).collect();
        assert_eq!(hashes.len(), 100_000);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let message = IdNumbers::default().number(b"abc", &[2, 2]).unwrap_err().to_string();
        assert_eq!(message, "lengths add up to 4, but the text has 3 bytes");
    }
}
