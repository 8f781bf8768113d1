//! The core of `alterrec`: sessions, batches, rank windows, draws, exact ranks, neighbours.
//!
//! Pure functions on slices and arrays; nothing here knows Python. The feature `python` adds the
//! extension module `alterrec._core`, whose functions only borrow, check, detach and hand over.

pub mod batches;
mod bits;
mod brackets;
pub mod draws;
pub mod error;
pub mod graphs;
pub mod instructions;
pub mod losses;
mod machine;
pub mod matrix;
pub mod neighbours;
mod passes;
pub mod prefixes;
pub mod random;
pub mod ranks;
pub mod select;
pub mod sessions;
pub mod storage;
pub mod threads;
pub mod windows;

#[cfg(feature = "python")]
mod python;
