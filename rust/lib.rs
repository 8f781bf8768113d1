//! The core of `alterrec`: sessions, batches, rank windows, draws, exact ranks, neighbours.
//!
//! Pure functions on slices and arrays; nothing here depends on Python. The feature `python` adds the
//! extension module `alterrec._core`, whose functions borrow and check arguments, release the interpreter and
//! call these functions.

pub mod batches;
mod bits;
mod brackets;
pub mod cuts;
pub mod draws;
pub mod error;
pub mod events;
pub mod graphs;
pub mod ids;
pub mod instructions;
pub mod keys;
mod log_sums;
pub mod losses;
pub mod matrix;
pub mod mixture_losses;
mod mixture_passes;
pub mod mixtures;
pub mod neighbours;
mod passes;
pub mod prefixes;
mod query_passes;
pub mod query_tables;
pub mod random;
pub mod ranks;
pub mod repeats;
pub mod score_parts;
pub mod score_sums;
pub mod select;
pub mod sessions;
mod simd;
pub mod storage;
pub mod threads;
pub mod windows;

#[cfg(feature = "python")]
mod python;
