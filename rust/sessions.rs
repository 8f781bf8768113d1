//! The session store: sessions as compressed rows, i.e. one column of items and the offset of each session.
//!
//! A sample is a (session, end) pair: prefix `items[..end]`, target `items[end]`. Prefixes are never
//! stored.

use crate::error::{Error, Result};
use crate::storage::{Column, Mapping, Word, write_atomically};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

const MAGIC: [u8; 8] = *b"alterses";
const VERSION: u32 = 1;
const WITH_TIMESTAMPS: u32 = 1;
const WITH_USERS: u32 = 2;
const HEADER_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 8;

/// Which items of a session are targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Every item except the first.
    Every,
    /// The last item of each session of two or more items.
    Last,
}

/// The columns of a store; `from_columns` checks that they fit together.
#[derive(Debug, PartialEq)]
pub struct Columns {
    /// Size of the catalogue; items are `0..num_items`.
    pub num_items: u64,
    /// Start of each session in `items`, and the end of the last (S+1 values).
    pub offsets: Column<u64>,
    /// The items of all sessions, session after session (N values).
    pub items: Column<u32>,
    /// The caller's name of each session (S values).
    pub session_ids: Column<i64>,
    /// The time of each interaction (N values).
    pub timestamps: Option<Column<i64>>,
    /// The user of each session (S values).
    pub users: Option<Column<i64>>,
}

/// An immutable store of sessions, in memory or memory-mapped.
#[derive(Debug, PartialEq)]
pub struct SessionStore(Columns);

impl SessionStore {
    /// Groups interactions into sessions, in the order in which sessions first appear.
    ///
    /// Items of a session are ordered by timestamp (stable) or, without timestamps, as given.
    /// `num_items` defaults to the largest item plus one.
    ///
    /// # Errors
    /// `Value` for lengths that differ, items outside the catalogue, or a session with several users.
    ///
    /// ```
    /// use alterrec_core::sessions::SessionStore;
    /// let store = SessionStore::from_arrays(&[7, 3, 7], &[2, 0, 1], Some(&[9, 5, 4]), None, None)?;
    /// assert_eq!(store.session(0)?, [1, 2]);
    /// # Ok::<(), alterrec_core::error::Error>(())
    /// ```
    pub fn from_arrays(
        session_ids: &[i64],
        item_ids: &[i64],
        timestamps: Option<&[i64]>,
        user_ids: Option<&[i64]>,
        num_items: Option<i64>,
    ) -> Result<Self> {
        let total = session_ids.len();
        for (name, len) in [
            ("item_ids", Some(item_ids.len())),
            ("timestamps", timestamps.map(<[i64]>::len)),
            ("user_ids", user_ids.map(<[i64]>::len)),
        ] {
            if let Some(len) = len.filter(|&len| len != total) {
                return Err(Error::Value(format!(
                    "{name} has {len} values, session_ids has {total}; expected one for each interaction"
                )));
            }
        }
        let num_items = catalogue_size(item_ids, num_items)?;
        let (session_of, names) = sessions_by_first_appearance(session_ids)?;
        let users = user_ids.map(|users| users_of_sessions(users, &session_of, &names)).transpose()?;

        let mut offsets = vec![0_u64; names.len() + 1];
        for &session in &session_of {
            offsets[session as usize + 1] += 1;
        }
        for i in 0..names.len() {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let mut order = vec![0_usize; total];
        for (row, &session) in session_of.iter().enumerate() {
            order[next[session as usize] as usize] = row;
            next[session as usize] += 1;
        }
        if let Some(times) = timestamps {
            for bounds in offsets.windows(2) {
                order[bounds[0] as usize..bounds[1] as usize].sort_by_key(|&row| times[row]);
            }
        }
        Self::from_columns(Columns {
            num_items,
            offsets: offsets.into(),
            items: order.iter().map(|&row| item_ids[row] as u32).collect::<Vec<_>>().into(),
            session_ids: names.into(),
            timestamps: timestamps
                .map(|times| order.iter().map(|&row| times[row]).collect::<Vec<_>>().into()),
            users: users.map(Into::into),
        })
    }

    /// Builds a store from its columns.
    ///
    /// # Errors
    /// `Value` if they do not fit together.
    pub fn from_columns(columns: Columns) -> Result<Self> {
        let Columns { num_items, offsets, items, session_ids, timestamps, users } = &columns;
        let (sessions, total) = (session_ids.len(), items.len());
        let wrong = |message: String| Err(Error::Value(message));
        if offsets.len() != sessions + 1 {
            return wrong(format!("offsets has {} values; expected {}", offsets.len(), sessions + 1));
        }
        if timestamps.as_ref().is_some_and(|t| t.len() != total) {
            return wrong(format!("timestamps must have {total} values, one for each interaction"));
        }
        if users.as_ref().is_some_and(|u| u.len() != sessions) {
            return wrong(format!("users must have {sessions} values, one for each session"));
        }
        if offsets[0] != 0 || offsets[sessions] != total as u64 {
            let (first, last) = (offsets[0], offsets[sessions]);
            return wrong(format!("offsets run from {first} to {last}; expected from 0 to {total}"));
        }
        for (session, bounds) in offsets.windows(2).enumerate() {
            if bounds[1] <= bounds[0] || bounds[1] - bounds[0] > u64::from(u32::MAX) {
                return wrong(format!(
                    "session {session} runs from {} to {}; expected 1 to {} items",
                    bounds[0],
                    bounds[1],
                    u32::MAX
                ));
            }
        }
        if sessions > u32::MAX as usize || *num_items > u64::from(u32::MAX) {
            let most = u32::MAX;
            return wrong(format!(
                "{sessions} sessions of {num_items} items; expected {most} of each at most"
            ));
        }
        if let Some(place) = items.iter().position(|&item| u64::from(item) >= *num_items) {
            return wrong(format!(
                "items[{place}] is {}; expected 0 to {} (num_items is {num_items})",
                items[place],
                num_items.saturating_sub(1)
            ));
        }
        Ok(Self(columns))
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &Columns {
        &self.0
    }

    /// Number of sessions.
    #[must_use]
    pub fn num_sessions(&self) -> usize {
        self.0.session_ids.len()
    }

    /// Size of the catalogue.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.0.num_items as usize
    }

    /// The items of the session at index `session`.
    ///
    /// # Errors
    /// `Index` if there is no such session.
    pub fn session(&self, session: usize) -> Result<&[u32]> {
        if session >= self.num_sessions() {
            return Err(Error::Index(format!(
                "session {session} of a store of {}; expected 0 to {}",
                self.num_sessions(),
                self.num_sessions().saturating_sub(1)
            )));
        }
        Ok(&self.0.items[self.range(session)])
    }

    fn range(&self, session: usize) -> Range<usize> {
        self.0.offsets[session] as usize..self.0.offsets[session + 1] as usize
    }

    /// The items of each session, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let items: &[u32] = &self.0.items;
        self.0.offsets.windows(2).map(move |bounds| &items[bounds[0] as usize..bounds[1] as usize])
    }

    /// How often each item of the catalogue occurs.
    #[must_use]
    pub fn item_counts(&self) -> Vec<i64> {
        let mut counts = vec![0; self.num_items()];
        for &item in &*self.0.items {
            counts[item as usize] += 1;
        }
        counts
    }

    /// The share of targets (over all prefixes) that occur in their prefix; 0 if there are no targets.
    #[must_use]
    pub fn repeat_share(&self) -> f64 {
        let mut last_seen_in = vec![0_u32; self.num_items()];
        let (mut repeats, mut targets) = (0_u64, 0_u64);
        for (session, stamp) in self.iter().zip(1..) {
            targets += session.len() as u64 - 1;
            for &item in session {
                repeats += u64::from(last_seen_in[item as usize] == stamp);
                last_seen_in[item as usize] = stamp;
            }
        }
        if targets == 0 { 0.0 } else { repeats as f64 / targets as f64 }
    }

    /// All (session, end) pairs of the chosen targets, in store order.
    #[must_use]
    pub fn prefixes(&self, targets: Targets) -> Vec<(u32, u32)> {
        let mut pairs = Vec::with_capacity(self.0.items.len() - self.num_sessions());
        for (session, items) in (0..).zip(self.iter()) {
            let last = items.len() as u32 - 1;
            match targets {
                Targets::Every => pairs.extend((1..=last).map(|end| (session, end))),
                Targets::Last => pairs.extend((last > 0).then_some((session, last))),
            }
        }
        pairs
    }

    /// Writes the store to `path` atomically.
    ///
    /// # Errors
    /// `Io` if the file cannot be written; no partial file is left.
    pub fn save(&self, path: &Path) -> Result<()> {
        let Columns { num_items, offsets, items, session_ids, timestamps, users } = &self.0;
        let flags =
            timestamps.as_ref().map_or(0, |_| WITH_TIMESTAMPS) | users.as_ref().map_or(0, |_| WITH_USERS);
        write_atomically(path, |out| {
            let mut out = Summed { out, sum: Checksum::default() };
            let mut header = MAGIC.to_vec();
            u32::put(&[VERSION, flags], &mut header);
            u64::put(&[*num_items, session_ids.len() as u64, items.len() as u64], &mut header);
            out.bytes(&header)?;
            out.column(offsets)?;
            out.column(session_ids)?;
            users.as_deref().map_or(Ok(()), |users| out.column(users))?;
            timestamps.as_deref().map_or(Ok(()), |timestamps| out.column(timestamps))?;
            out.column(items)?;
            let sum = out.sum.0;
            out.out.write_all(&sum.to_le_bytes())
        })
    }

    /// Opens a file that `save` wrote, memory-mapped; the file is read once to check it.
    ///
    /// # Errors
    /// `Io` if the file cannot be read, is of another kind or version, truncated or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::Io(format!("{}: {what}", path.display()));
        let map = Mapping::open(path)?;
        let bytes = map.bytes();
        if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES {
            let least = HEADER_BYTES + CHECKSUM_BYTES;
            return Err(wrong(format!("{} bytes, a saved store has at least {least}", bytes.len())));
        }
        if bytes[..8] != MAGIC {
            let found = bytes[..8].escape_ascii();
            return Err(wrong(format!("starts with \"{found}\", a saved store with \"alterses\"")));
        }
        let kinds = Column::<u32>::mapped(&map, 8, 2)?;
        let sizes = Column::<u64>::mapped(&map, 16, 3)?;
        let (version, flags) = (kinds[0], kinds[1]);
        if version != VERSION || flags > (WITH_TIMESTAMPS | WITH_USERS) {
            return Err(wrong(format!(
                "format version {version} with flags {flags}, this version of alterrec reads {VERSION}; save it again"
            )));
        }
        let (has_timestamps, has_users) = (flags & WITH_TIMESTAMPS != 0, flags & WITH_USERS != 0);
        let (num_items, sessions, total) = (sizes[0], sizes[1], sizes[2]);
        let expected = file_bytes(sessions, total, has_timestamps, has_users);
        if expected != bytes.len() as u128 {
            return Err(wrong(format!(
                "{} bytes, but its header ({sessions} sessions, {total} interactions) needs {expected}: truncated or damaged",
                bytes.len()
            )));
        }
        let (payload, stored) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        let mut sum = Checksum::default();
        sum.add(payload);
        if sum.0.to_le_bytes() != stored {
            return Err(wrong("its checksum does not match its content: damaged".into()));
        }
        let (sessions, total) = (sessions as usize, total as usize);
        let mut at = HEADER_BYTES;
        let mut advance = |bytes: usize| {
            at += bytes;
            at - bytes
        };
        let columns = Columns {
            num_items,
            offsets: Column::mapped(&map, advance((sessions + 1) * 8), sessions + 1)?,
            session_ids: Column::mapped(&map, advance(sessions * 8), sessions)?,
            users: has_users.then(|| Column::mapped(&map, advance(sessions * 8), sessions)).transpose()?,
            timestamps: has_timestamps
                .then(|| Column::mapped(&map, advance(total * 8), total))
                .transpose()?,
            items: Column::mapped(&map, advance(total * 4), total)?,
        };
        Self::from_columns(columns).map_err(|e| wrong(format!("{e}: damaged")))
    }
}

fn catalogue_size(item_ids: &[i64], num_items: Option<i64>) -> Result<u64> {
    let most = i64::from(u32::MAX);
    if let Some(given) = num_items.filter(|&n| !(0..=most).contains(&n)) {
        return Err(Error::Value(format!("num_items is {given}; expected 0 to {most}")));
    }
    let size = num_items
        .unwrap_or_else(|| item_ids.iter().max().map_or(0, |&largest| largest.clamp(-1, most - 1) + 1));
    if let Some(place) = item_ids.iter().position(|item| !(0..size).contains(item)) {
        let item = item_ids[place];
        return Err(Error::Value(if size == 0 {
            format!("item_ids[{place}] is {item}, but num_items is 0; expected no interactions")
        } else if item < 0 {
            format!("item_ids[{place}] is {item}; expected 0 to {}", size - 1)
        } else {
            format!("item_ids[{place}] is {item}; expected 0 to {} (num_items is {size})", size - 1)
        }));
    }
    Ok(size as u64)
}

/// The session index of each interaction, and the name of each session.
fn sessions_by_first_appearance(session_ids: &[i64]) -> Result<(Vec<u32>, Vec<i64>)> {
    let mut index_of = HashMap::new();
    let mut names = Vec::new();
    let mut session_of = Vec::with_capacity(session_ids.len());
    let mut last: Option<(i64, u32)> = None;
    for &name in session_ids {
        let index = match last {
            // Interactions of one session are mostly adjacent.
            Some((previous, index)) if previous == name => index,
            _ => *index_of.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            }) as u32,
        };
        last = Some((name, index));
        session_of.push(index);
    }
    if names.len() > u32::MAX as usize {
        let (found, most) = (names.len(), u32::MAX);
        return Err(Error::Value(format!("session_ids names {found} sessions; expected {most} at most")));
    }
    Ok((session_of, names))
}

fn users_of_sessions(user_ids: &[i64], session_of: &[u32], names: &[i64]) -> Result<Vec<i64>> {
    let mut users: Vec<Option<i64>> = vec![None; names.len()];
    for (&user, &session) in user_ids.iter().zip(session_of) {
        let known = *users[session as usize].get_or_insert(user);
        if known != user {
            return Err(Error::Value(format!(
                "user_ids has users {known} and {user} for session {}; expected one user per session",
                names[session as usize]
            )));
        }
    }
    Ok(users.into_iter().flatten().collect())
}

fn file_bytes(sessions: u64, total: u64, has_timestamps: bool, has_users: bool) -> u128 {
    let (sessions, total) = (u128::from(sessions), u128::from(total));
    let session_words = 2 * sessions + 1 + if has_users { sessions } else { 0 };
    let interaction_words = total.div_ceil(2) + if has_timestamps { total } else { 0 };
    8 * (session_words + interaction_words) + (HEADER_BYTES + CHECKSUM_BYTES) as u128
}

/// Each step is a bijection of the checksum, so that every change of a single word is detected.
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(u64::from_le_bytes(MAGIC))
    }
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks::<8>().0 {
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
}

/// A writer that computes the checksum of what it writes, in words of 8 bytes.
struct Summed<'a> {
    out: &'a mut BufWriter<File>,
    sum: Checksum,
}

impl Summed<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.add(bytes);
        self.out.write_all(bytes)
    }

    fn column<T: Word>(&mut self, values: &[T]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for chunk in values.chunks(1 << 16) {
            bytes.clear();
            T::put(chunk, &mut bytes);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            self.bytes(&bytes)?;
        }
        Ok(())
    }
}
