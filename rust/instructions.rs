//! The choice of the instruction set that kernels run on: by default the best one of this processor.
//!
//! Results are equal on all of them; only tests and benchmarks choose another one.

use crate::error::{Error, Result};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set for which kernels are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Instructions {
    /// 512-bit vectors with byte compression (VBMI2): Ice Lake and later, Zen 4 and later.
    Avx512 = 1,
    /// 256-bit vectors: x86 processors since 2013.
    Avx2 = 2,
    /// 128-bit vectors: every 64-bit ARM processor.
    Neon = 3,
    /// The baseline of the target (SSE2 on x86-64).
    Portable = 4,
}

/// 0: not chosen yet; the first call detects the set.
static IN_USE: AtomicU8 = AtomicU8::new(0);

impl Instructions {
    /// The instruction sets of this processor, best first.
    ///
    /// ```
    /// use alterrec_core::instructions::Instructions;
    /// assert_eq!(Instructions::available().last(), Some(&Instructions::Portable));
    /// ```
    #[must_use]
    pub fn available() -> Vec<Self> {
        let all = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];
        all.into_iter().filter(|set| set.detected()).collect()
    }

    fn detected(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let bits = has!("popcnt") && has!("bmi1") && has!("bmi2") && has!("lzcnt");
            let avx2 = bits && has!("avx2");
            let wide = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq");
            match self {
                Self::Avx512 => avx2 && wide && has!("avx512vbmi") && has!("avx512vbmi2"),
                Self::Avx2 => avx2,
                Self::Neon => false,
                Self::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self {
            Self::Avx512 | Self::Avx2 => false,
            // Part of the target, so the portable code is already compiled for it.
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Portable => true,
        }
    }

    /// The set that kernels run on.
    #[must_use]
    pub fn in_use() -> Self {
        match IN_USE.load(Ordering::Relaxed) {
            1 => Self::Avx512,
            2 => Self::Avx2,
            3 => Self::Neon,
            4 => Self::Portable,
            _ => {
                let best = Self::available()[0];
                IN_USE.store(best as u8, Ordering::Relaxed);
                best
            }
        }
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        })
    }
}

/// Runs all kernels of this process on `set` from now on; `None` means the best set.
///
/// # Errors
/// `Value` if this processor does not support the set.
///
/// ```
/// use alterrec_core::instructions::{Instructions, use_only};
/// use_only(Some(Instructions::Portable)).unwrap();
/// assert_eq!(Instructions::in_use(), Instructions::Portable);
/// use_only(None).unwrap();
/// ```
pub fn use_only(set: Option<Instructions>) -> Result<()> {
    let available = Instructions::available();
    let wanted = set.unwrap_or(available[0]);
    if !available.contains(&wanted) {
        let names: Vec<String> = available.iter().map(ToString::to_string).collect();
        return Err(Error::Value(format!(
            "instructions is {wanted}, which this processor lacks; expected {}",
            names.join(", ")
        )));
    }
    IN_USE.store(wanted as u8, Ordering::Relaxed);
    Ok(())
}
