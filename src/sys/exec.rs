//! Another program in this process.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Executes the program behind a descriptor, whatever its path names by now (`execveat(2)`). Comes back
/// with an error, or not at all.
pub fn execute(program: impl AsFd, argv: &[CString], envp: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both vectors end with a null, their strings outlive the call, and the path is an empty
    // string. Where the call comes back nothing has changed.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
