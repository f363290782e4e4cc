//! seccomp(2): loading a filter.

use std::io;

pub use libc::sock_filter;

/// Loads a filter into every thread of this process, for good.
///
/// Needs `no_new_privs`, else the kernel answers `EACCES`. All threads get the filter or none
/// does: when one can't (it holds another filter tree), the error names it.
///
/// Source: seccomp(2), `SECCOMP_SET_MODE_FILTER` with `SECCOMP_FILTER_FLAG_TSYNC`.
pub fn load(program: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long"))?;
    let header = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: for this operation the kernel reads `len` instructions from `filter`, which is the
    // slice of that length that we hold for the whole call; it writes through neither pointer.
    // The program itself can't make later code unsound: it only decides which calls are answered,
    // and the kernel checks it before it is used.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            std::ptr::from_ref(&header),
        )
    };
    match answer {
        0 => Ok(()),
        // With TSYNC a positive answer is the id of a thread that could not take the filter: then
        // no thread has it.
        thread if thread > 0 => Err(io::Error::other(format!("thread {thread} can't take it"))),
        _ => Err(io::Error::last_os_error()),
    }
}
