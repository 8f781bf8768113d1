//! Columns of numbers, in memory or in a memory-mapped file, and the atomic write of such files.

use crate::error::{Error, Result};
use memmap2::{Mmap, MmapMut};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_endian = "big")]
compile_error!("store files are little-endian and mapped as they lie; this target is big-endian");

/// Bytes of a large page of memory.
const LARGE_PAGE: usize = 1 << 21;

/// Distinguishes the temporary files of one process.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// A number that may be read from any bytes of its size.
pub trait Word: sealed::Sealed + Copy + PartialEq + Send + Sync + 'static {
    /// Appends the little-endian bytes of `values` to `out`.
    fn put(values: &[Self], out: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! words {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Word for $t {
            fn put(values: &[Self], out: &mut Vec<u8>) {
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    )*};
}
words!(i16, u32, u64, i64, f32);

/// Maps a whole file, read-only.
#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only, and files of this format are only replaced by a rename
    // (`write_atomically`), never changed in place, so the mapped bytes do not change while the map keeps the
    // replaced file alive. Truncating such a file by other means causes a bus error, as for every mapped
    // file; that cannot be prevented here.
    unsafe { Mmap::map(file) }
}

/// Views bytes as little-endian numbers; `None` unless they are aligned and hold a whole number of them.
#[allow(unsafe_code)]
fn words<T: Word>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: `Word` is sealed to integers and f32, for which any bytes are a value.
    let (head, values, tail) = unsafe { bytes.align_to::<T>() };
    (head.is_empty() && tail.is_empty()).then_some(values)
}

/// File systems whose files other machines, or a user's program, can change without this kernel.
const SHARED: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "afs", "ceph", "lustre", "glusterfs", "fuse.sshfs", "fuse.s3fs"];

/// The kind of the shared file system that a file lies on; `None` if it is local, or if it cannot be told.
fn shared_file_system(file: &File) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let device = file.metadata().ok()?.dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let kind = kind_of_device(&mounts, device)?;
        SHARED.contains(&kind.as_str()).then_some(kind)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        None
    }
}

/// The kind of file system of a device, from the lines of `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", test))]
fn kind_of_device(mounts: &str, device: u64) -> Option<String> {
    // The numbers of a device as `makedev` of glibc puts them together.
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & !0xff);
    let name = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&name))?;
    Some(line.split(" - ").nth(1)?.split(' ').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{SHARED, kind_of_device, shared_file_system};
    use std::fs::File;

    const MOUNTS: &str = "23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        40 23 0:52 / /home rw,relatime shared:20 - nfs4 server:/home rw,vers=4.2\n\
        41 23 259:300 / /data rw - xfs /dev/nvme0n1 rw\n";

    #[test]
    fn the_kind_of_a_mount_is_found_by_its_device() {
        assert_eq!(kind_of_device(MOUNTS, 254 << 8).as_deref(), Some("ext4"));
        assert_eq!(kind_of_device(MOUNTS, 52).as_deref(), Some("nfs4"));
        // A minor number above 255 has its high bits elsewhere.
        assert_eq!(kind_of_device(MOUNTS, 259 << 8 | 300 & 0xff | (300 >> 8) << 20).as_deref(), Some("xfs"));
        assert_eq!(kind_of_device(MOUNTS, 9 << 8), None);
        assert_eq!(kind_of_device("", 52), None);
        assert!(SHARED.contains(&"nfs4") && !SHARED.contains(&"ext4"));
    }

    #[test]
    fn a_file_of_this_machine_is_not_shared() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(shared_file_system(&file), None);
    }
}

/// A file, or memory, mapped read-only, shared by the columns in it.
#[derive(Debug, Clone)]
pub struct Mapping(Arc<Mmap>);

impl Mapping {
    /// Maps the whole file at `path`.
    ///
    /// # Errors
    /// `Io` if the file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e: io::Error| Error::Io(format!("{}: cannot be read ({e})", path.display()));
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
        if let Some(kind) = shared_file_system(&file) {
            return Err(Error::Io(format!(
                "{}: lies on a {kind} file system, where another machine can shorten a file that is mapped \
                 here, which would end this process; copy it to a local disk",
                path.display()
            )));
        }
        let map = map(&file).map_err(failed)?;
        if map.len() as u64 != found.len() {
            return Err(failed(io::Error::other("it changed while it was opened")));
        }
        Ok(Self(Arc::new(map)))
    }

    /// All bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A read-only column of numbers, owned or mapped.
#[derive(Debug)]
pub struct Column<T>(Place<T>);

#[derive(Debug)]
enum Place<T> {
    Owned(Vec<T>),
    Mapped { map: Mapping, start: usize, bytes: usize, kind: PhantomData<T> },
}

impl<T: Word> Column<T> {
    /// The `len` numbers that start at byte `start` of `map`.
    ///
    /// # Errors
    /// `Io` if they do not lie inside the file or are not aligned.
    pub fn mapped(map: &Mapping, start: usize, len: usize) -> Result<Self> {
        let bytes = len.checked_mul(size_of::<T>());
        let inside = bytes.and_then(|b| start.checked_add(b)).is_some_and(|end| end <= map.bytes().len());
        match bytes {
            Some(bytes) if inside && start.is_multiple_of(align_of::<T>()) => {
                Ok(Self(Place::Mapped { map: map.clone(), start, bytes, kind: PhantomData }))
            }
            _ => Err(Error::Io(format!("{len} values from byte {start} do not lie inside the file"))),
        }
    }
}

impl<T: Word> Column<T> {
    /// Stores numbers in large pages of memory where the system has them, for tables that are read at random or
    /// faster than addresses of small pages are found: 20 MB took 1.25 ms instead of 0.74 on a virtual machine.
    #[must_use]
    pub fn in_large_pages(values: &[T]) -> Self {
        Self::in_anonymous_map(values).unwrap_or_else(|_| values.to_vec().into())
    }

    fn in_anonymous_map(values: &[T]) -> io::Result<Self> {
        // Whole large pages, so that the end of the table lies in one, too.
        let mut map = MmapMut::map_anon(size_of_val(values).next_multiple_of(LARGE_PAGE))?;
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::HugePage)?;
        let mut bytes = Vec::new();
        for (some, place) in values.chunks(1 << 16).zip(map.chunks_mut(size_of::<T>() << 16)) {
            bytes.clear();
            T::put(some, &mut bytes);
            place[..bytes.len()].copy_from_slice(&bytes);
        }
        let map = Mapping(Arc::new(map.make_read_only()?));
        Self::mapped(&map, 0, values.len()).map_err(|error| io::Error::other(error.to_string()))
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Self(Place::Owned(values))
    }
}

impl<T: Word> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Owned(values) => values,
            Place::Mapped { map, start, bytes, .. } => {
                let values = words(&map.bytes()[*start..*start + *bytes]);
                values.expect("checked by `mapped`: a map starts at a page, so offsets tell alignment")
            }
        }
    }
}

impl<T: Word> PartialEq for Column<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Writes `path` atomically: to a temporary file in the same folder, which is synced and then renamed.
///
/// # Errors
/// `Io` with the path when anything fails; the temporary file is removed and an older file at `path` is kept.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let failed = |e: io::Error| Error::Io(format!("{}: cannot be written ({e})", path.display()));
    let Some(name) = path.file_name() else {
        return Err(Error::Io(format!("{}: names no file to write", path.display())));
    };
    let (process, count) = (std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
    let temporary = path.with_file_name(format!(".{}.{process}-{count}.tmp", name.to_string_lossy()));
    let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?;
    let mut out = BufWriter::new(file);
    write(&mut out)
        .and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| {
            // The first error is reported; failing to remove the temporary file is not.
            let _ = fs::remove_file(&temporary);
            failed(e)
        })
}
