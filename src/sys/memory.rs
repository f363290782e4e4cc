//! Files that are nothing but memory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use super::reopen::reopen;

/// An empty file in memory that can be sealed and never executed (`memfd_create(2)`).
pub fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_NOEXEC_SEAL is Linux 6.3's; before that there is nothing to switch off.
    rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .map_err(Into::into)
}

/// A file in memory of `size` bytes, all zeros, all of them taken from the machine at once
/// (`fallocate(2)`), so that nobody else pays for them later.
pub fn create_sized(name: &str, size: u64) -> io::Result<OwnedFd> {
    let fd = create(&format!("cofferdam-{name}"))?;
    rustix::fs::ftruncate(&fd, size)?;
    if size > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, size)?;
    }
    Ok(fd)
}

/// The same, and nobody changes its size: so it can be mapped for good.
pub fn create_fixed(name: &str, size: u64) -> io::Result<OwnedFd> {
    let fd = create_sized(name, size)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// What nobody can change any more.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A file in memory that holds `bytes` for good.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(create(name)?);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// Memory that `fill` has written and nobody writes any more, open for reading alone: its mode keeps
/// it from being opened again.
pub fn filled(name: &str, fill: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<OwnedFd> {
    let memory = create(name)?;
    fill(&memory)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    let reading = reopen(&memory, OFlags::RDONLY)?;
    rustix::fs::fchmod(&memory, Mode::empty())?;
    Ok(reading)
}

/// Has the kernel copy bytes from one file to another (`sendfile(2)`), from `offset` or where the
/// file stands. They never are in this process.
pub fn copy(
    from: impl AsFd,
    mut offset: Option<u64>,
    to: &OwnedFd,
    length: usize,
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        match rustix::fs::sendfile(to, &from, offset.as_mut(), left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => left = left.saturating_sub(copied),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a file in memory holds that carries every seal, and has at most `most` bytes.
pub fn read_sealed(fd: impl AsFd, most: u64) -> io::Result<Vec<u8>> {
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    if !rustix::fs::fcntl_get_seals(&file)?.contains(SEALS) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the memfd is not sealed"));
    }
    let size = file.metadata()?.len();
    if size > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the memfd is too large"));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
