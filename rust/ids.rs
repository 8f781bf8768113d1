//! Numbers for ids that are texts, in the order in which they first appear.

use crate::error::{Error, Result};
use crate::simd::prefetch;
use memmap2::MmapMut;

/// Ids that can have a number of their own.
const MOST: u32 = u32::MAX;
/// Bytes of an id that are kept in its slot, so that a short one is compared without another read of memory.
const START: usize = 16;

/// Ids whose slots are fetched into the cache together. With this and large pages, an id takes 44 ns instead of 200
/// where the table has a million.
const BLOCK: usize = 32;

/// An id as it is looked up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Key {
    /// Its first bytes, and zeros behind a shorter one.
    start: [u64; START / 8],
    bytes: u32,
}

/// A place of the table: an id and its number.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: Key,
    number: u32,
}

/// Bytes of a slot: half of a cache line. The last 8 are the length of the id and its number plus 1; a free slot has
/// zeros.
const SLOT: usize = 32;

/// The slots, in memory with large pages where the system has them.
#[derive(Debug)]
struct Table {
    bytes: MmapMut,
}

impl Table {
    fn new(slots: usize) -> Result<Self> {
        let bytes = MmapMut::map_anon(slots * SLOT)
            .map_err(|error| Error::Io(format!("no memory for {slots} ids ({error})")))?;
        #[cfg(target_os = "linux")]
        // A system without large pages refuses; the table works without them.
        let _ = bytes.advise(memmap2::Advice::HugePage);
        Ok(Self { bytes })
    }

    fn len(&self) -> usize {
        self.bytes.len() / SLOT
    }

    fn bytes(&self, place: usize) -> &[u8] {
        &self.bytes[place * SLOT..][..SLOT]
    }

    fn get(&self, place: usize) -> Option<Slot> {
        let [first, second, _, last] = words::<4>(self.bytes(place));
        let (bytes, number) = (last as u32, (last >> 32) as u32);
        let key = Key { start: [first, second], bytes };
        number.checked_sub(1).map(|number| Slot { key, number })
    }

    fn set(&mut self, place: usize, slot: Slot) {
        let [first, second] = slot.key.start;
        let last = u64::from(slot.key.bytes) | (u64::from(slot.number) + 1) << 32;
        let slot = &mut self.bytes[place * SLOT..][..SLOT];
        for (bytes, word) in slot.chunks_exact_mut(8).zip([first, second, 0, last]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// The numbers of all ids that have been seen.
#[derive(Debug)]
pub struct IdNumbers {
    /// Open addressing with linear probing, at most half full; its length is a power of two.
    slots: Table,
    /// What slots lack of long ids, one after the other, and for each id where it ends.
    rests: Vec<u8>,
    ends: Vec<usize>,
}

impl IdNumbers {
    /// An empty table.
    ///
    /// # Errors
    /// `Io` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Ok(Self { slots: Table::new(16)?, rests: Vec::new(), ends: Vec::new() })
    }

    /// Numbers the ids of a batch, and returns the places in it of ids that had no number before.
    ///
    /// `text` has the ids one after the other, and `lengths` the number of bytes of each.
    ///
    /// # Errors
    /// `Value` for lengths that do not add up to the text, and more than 2^32 - 1 ids; ids before the one that is
    /// too much keep their numbers. `Io` if there is no memory for more ids.
    ///
    /// ```
    /// use alterrec_core::ids::IdNumbers;
    /// let mut ids = IdNumbers::new()?;
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
        if lengths.len() > MOST as usize {
            return Err(Error::Value(format!("{} ids at once; at most {MOST} are allowed", lengths.len())));
        }
        let mut numbers = Vec::with_capacity(lengths.len());
        let mut new = Vec::new();
        let mut text = text;
        let mut block = Vec::with_capacity(BLOCK);
        for lengths in lengths.chunks(BLOCK) {
            block.clear();
            for &length in lengths {
                let (id, after) = text.split_at(length as usize);
                text = after;
                let (start, rest) = id.split_at(id.len().min(START));
                let key = Key { start: words(start), bytes: length };
                let hash = hash(key, rest);
                prefetch(self.slots.bytes(self.place(hash)));
                block.push((key, rest, hash));
            }
            for &(key, rest, hash) in &block {
                let known = self.len();
                let number = self.find_or_add(key, rest, hash)?;
                if number as usize == known {
                    new.push(numbers.len() as u32);
                }
                numbers.push(number);
            }
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

    fn find_or_add(&mut self, key: Key, rest: &[u8], hash: u64) -> Result<u32> {
        let mut place = self.place(hash);
        while let Some(slot) = self.slots.get(place) {
            if slot.key == key && (rest.is_empty() || self.rest(slot.number) == rest) {
                return Ok(slot.number);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
        self.add(key, rest, place)
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn rest(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.rests[start..self.ends[number]]
    }

    fn add(&mut self, key: Key, rest: &[u8], place: usize) -> Result<u32> {
        let number = u32::try_from(self.len()).ok().filter(|&number| number < MOST);
        let number = number.ok_or_else(|| Error::Value(format!("more than {MOST} different ids")))?;
        self.slots.set(place, Slot { key, number });
        self.rests.extend_from_slice(rest);
        self.ends.push(self.rests.len());
        if self.len() * 2 > self.slots.len() {
            self.grow()?;
        }
        Ok(number)
    }

    fn grow(&mut self) -> Result<()> {
        let larger = Table::new(self.slots.len() * 2)?;
        let smaller = std::mem::replace(&mut self.slots, larger);
        for slot in (0..smaller.len()).filter_map(|place| smaller.get(place)) {
            let mut place = self.place(hash(slot.key, self.rest(slot.number)));
            while self.slots.get(place).is_some() {
                place = (place + 1) & (self.slots.len() - 1);
            }
            self.slots.set(place, slot);
        }
        Ok(())
    }
}

/// At most `8 * N` bytes as words, with zeros behind them.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(padded);
    }
    words
}

/// Mixes the words of an id by multiplications whose two halves are folded together.
fn hash(key: Key, rest: &[u8]) -> u64 {
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * 0xA076_1D64_78BD_642F;
        (product as u64 ^ (product >> 64) as u64).rotate_left(23)
    };
    let first = key.start.into_iter().fold(0x9E37_79B9_7F4A_7C15 ^ u64::from(key.bytes), mix);
    rest.chunks(8).map(|bytes| words::<1>(bytes)[0]).fold(first, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn many_ids_keep_their_numbers_while_the_table_grows() {
        let mut ids = IdNumbers::new().unwrap();
        // Short ones, and long ones of which only the end differs.
        let name =
            |number| format!("{} {number}", if number % 2 == 0 { "item" } else { "an item with a long id" });
        let names: Vec<String> = (0..5000).map(name).collect();
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
        let of = |id: &[u8]| {
            let (start, rest) = id.split_at(id.len().min(START));
            hash(Key { start: words(start), bytes: id.len() as u32 }, rest)
        };
        let hashes: HashSet<u64> = (0..40).map(|length| of(&vec![0; length])).collect();
        assert_eq!(hashes.len(), 40);
        let hashes: HashSet<u64> = (0..100_000_u32).map(|number| of(number.to_string().as_bytes())).collect();
        assert_eq!(hashes.len(), 100_000);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let message = IdNumbers::new().unwrap().number(b"abc", &[2, 2]).unwrap_err().to_string();
        assert_eq!(message, "lengths add up to 4, but the text has 3 bytes");
    }
}
