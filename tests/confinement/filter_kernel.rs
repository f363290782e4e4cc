//! The kernel against the evaluator: filters that are loaded.
//!
//! Each test runs this program again as a child, which loads a filter and attacks it: see
//! [`child`]. Every number, for every layer of every shipped policy, is tried in `matrix`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use cofferdam::confine::filter::{Arch, Filter, compile};
use cofferdam::policy::plan::SyscallPlan;
use cofferdam::policy::syscall::{EXEC_FD, Implied, assemble, by_name, errno, parse_item};

crate::support::suite::tests! {
    an_allowed_call_returns_and_a_denied_one_kills,
    a_refused_call_gives_its_errno,
    conditions_tell_calls_apart,
    high_bits_of_an_int_neither_pass_nor_fail,
    the_x32_interface_is_killed,
    calls_of_32_bit_programs_are_killed,
    io_uring_is_killed,
    clone3_is_unknown_and_threads_start,
    namespaces_by_clone_are_killed,
    executable_memory_is_killed,
    threads_from_before_are_filtered_and_take_the_process_with_them,
    no_further_filter_can_be_loaded,
    core_is_enough_for_a_tokio_runtime,
    abort_is_told_as_one,
    programs_start_with_the_implied_calls_alone,
    programs_start_others_with_process_and_exec,
    programs_have_threads_with_thread,
    a_program_may_not_start_another,
}

fn number(name: &str) -> u32 {
    by_name(name).unwrap()
}

fn plan(items: &[&str], refuse: &[(&str, &str)], implied: Implied) -> Vec<SyscallPlan> {
    let items: Vec<_> = items.iter().map(|text| parse_item(text).unwrap()).collect();
    let refuse: Vec<_> =
        refuse.iter().map(|(call, error)| (number(call), errno(error).unwrap())).collect();
    assemble(&items, &refuse, implied)
}

fn filter(items: &[&str], refuse: &[(&str, &str)]) -> Filter {
    compile(&plan(items, refuse, Implied::Run), Arch::NATIVE).unwrap()
}

/// Names what the child does.
pub(crate) const CHILD: &str = "COFFERDAM_FILTER_CHILD";

/// What a child does, by name.
const CHILDREN: &[(&str, fn())] = &[
    ("allowed", || {
        filter(&["@core"], &[]).load().unwrap();
        assert!(call("getpid", [0; 6]) > 0);
    }),
    ("denied", || {
        filter(&["@core"], &[]).load().unwrap();
        call("getsid", [0; 6]);
    }),
    ("errno", || {
        filter(&["@core"], &[("openat", "ENOENT")]).load().unwrap();
        assert_eq!(call("openat", [0; 6]), -i64::from(libc::ENOENT));
        assert_eq!(std::fs::read("/").unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }),
    ("condition", || {
        filter(&["@core"], &[("ioctl", "EXDEV")]).load().unwrap();
        let mut waiting = 0_i32;
        let pointer = &raw mut waiting as u64;
        let known = |request: libc::Ioctl| call("ioctl", [0, request, pointer, 0, 0, 0]);
        assert_ne!(known(libc::FIONREAD), -i64::from(libc::EXDEV));
        assert_eq!(known(libc::TIOCSTI), -i64::from(libc::EXDEV));
        assert_eq!(known(libc::TIOCSTI | 1 << 32), -i64::from(libc::EXDEV));
    }),
    ("high-bits", || {
        // The kernel ignores the high half of an `int`; so must the filter.
        filter(&["@core", "dup(<= 2)"], &[("dup", "EXDEV")]).load().unwrap();
        assert!(call("dup", [1 | 1 << 32, 0, 0, 0, 0, 0]) >= 0);
        assert_eq!(call("dup", [3, 0, 0, 0, 0, 0]), -i64::from(libc::EXDEV));
        assert_eq!(call("dup", [3 | 1 << 32, 0, 0, 0, 0, 0]), -i64::from(libc::EXDEV));
    }),
    ("x32", || {
        filter(&["@core"], &[]).load().unwrap();
        raw(0x4000_0000 + i64::from(number("getpid")), [0; 6]);
    }),
    ("int80", || {
        filter(&["@core"], &[]).load().unwrap();
        #[cfg(target_arch = "x86_64")]
        int80(20);
    }),
    ("int80-unfiltered", || {
        #[cfg(target_arch = "x86_64")]
        assert!(int80(20) > 0);
    }),
    ("uring", || {
        filter(&["@core"], &[]).load().unwrap();
        call("io_uring_setup", [1, 0, 0, 0, 0, 0]);
    }),
    ("threads", || {
        filter(&["@core", "@thread"], &[]).load().unwrap();
        assert_eq!(call("clone3", [0; 6]), -i64::from(libc::ENOSYS));
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    }),
    ("clone-newuser", || {
        filter(&["@core", "@thread", "@process"], &[]).load().unwrap();
        let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
        call("clone", [u64::try_from(flags).unwrap(), 0, 0, 0, 0, 0]);
    }),
    ("write-exec", || {
        filter(&["@core"], &[]).load().unwrap();
        call("mmap", [0, 4096, 7, 0x22, u64::MAX, 0]);
    }),
    ("older-thread", || {
        let (start, started) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            started.recv().unwrap();
            call("getsid", [0; 6]);
        });
        filter(&["@core"], &[]).load().unwrap();
        start.send(()).unwrap();
        let _ = thread.join();
    }),
    ("another-filter", || {
        filter(&["@core"], &[]).load().unwrap();
        call("seccomp", [1, 0, 0, 0, 0, 0]);
    }),
    ("tokio", || {
        filter(&["@core"], &[]).load().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let heard = runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut a, mut b) = tokio::net::UnixStream::pair().unwrap();
            let speaker = tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                a.write_all(b"hello").await.unwrap();
                tokio::task::yield_now().await;
            });
            let mut heard = String::new();
            b.read_to_string(&mut heard).await.unwrap();
            speaker.await.unwrap();
            heard
        });
        assert_eq!(heard, "hello");
        let _ = vec![1_u8; 8 << 20];
    }),
    ("abort", || {
        filter(&["@core"], &[]).load().unwrap();
        std::process::abort();
    }),
    ("exec", || {
        let program = std::env::var("PROGRAM").unwrap();
        let arguments: Vec<_> = std::env::var("ARGUMENTS").unwrap().split('\n').map(cstr).collect();
        let file = std::fs::File::open(program).unwrap();
        let items = std::env::var("ITEMS").unwrap_or_default();
        let items: Vec<_> = items.split_whitespace().collect();
        let filter = compile(&plan(&items, &[], Implied::Exec), Arch::NATIVE).unwrap();
        let mut argv: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        argv.push(std::ptr::null());
        let environment = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
        // SAFETY: dup3 takes two descriptors and flags; nothing of ours has EXEC_FD.
        let fd =
            unsafe { libc::dup3(std::os::fd::AsRawFd::as_raw_fd(&file), EXEC_FD, libc::O_CLOEXEC) };
        assert_eq!(fd, EXEC_FD);
        filter.load().unwrap();
        let at = |pointer: *const *const libc::c_char| pointer as u64;
        let flags = u64::try_from(libc::AT_EMPTY_PATH).unwrap();
        let fd = u64::try_from(EXEC_FD).unwrap();
        let path = c"".as_ptr() as u64;
        call("execveat", [fd, path, at(argv.as_ptr()), at(environment.as_ptr()), flags, 0]);
        std::process::exit(9);
    }),
];

fn cstr(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).unwrap()
}

/// Runs one of [`CHILDREN`]; only ever started by [`run`], in a process of its own.
pub(crate) fn child(name: &str) -> ! {
    let (_, act) = CHILDREN.iter().find(|(known, _)| *known == name).unwrap();
    rustix::thread::set_no_new_privs(true).unwrap();
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
    act();
    // At once: what the test harness would do next is not in the filter.
    std::process::exit(0);
}

fn start(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CHILD, name);
    command
}

fn run(name: &str) -> ExitStatus {
    start(name).output().unwrap().status
}

#[track_caller]
fn lives(name: &str) {
    let output = start(name).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {:?}\n{told}", output.status);
}

#[track_caller]
fn dies(name: &str) {
    assert_eq!(run(name).signal(), Some(libc::SIGSYS), "{name}");
}

/// A raw call; the answer as the kernel gives it, errors below 0.
fn call(name: &str, arguments: [u64; 6]) -> i64 {
    raw(number(name).into(), arguments)
}

fn raw(number: i64, arguments: [u64; 6]) -> i64 {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: the numbers and arguments of these tests make the kernel touch no memory of this
    // process but what they point to, which lives on: mostly null and invalid addresses. The
    // process ends right after.
    let answer = unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) };
    if answer == -1 {
        -std::io::Error::last_os_error().raw_os_error().map_or(1, i64::from)
    } else {
        answer
    }
}

/// A call by the gate of 32-bit programs.
#[cfg(target_arch = "x86_64")]
fn int80(number: i64) -> i64 {
    let answer;
    // SAFETY: the gate keeps all registers but rax and, on some kernels, r8 to r11, which are
    // declared; getpid (20 on i386) touches no memory.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") number => answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    answer
}

fn an_allowed_call_returns_and_a_denied_one_kills() {
    lives("allowed");
    dies("denied");
}

fn a_refused_call_gives_its_errno() {
    lives("errno");
}

fn conditions_tell_calls_apart() {
    lives("condition");
}

fn high_bits_of_an_int_neither_pass_nor_fail() {
    lives("high-bits");
}

fn the_x32_interface_is_killed() {
    dies("x32");
}

#[cfg(target_arch = "x86_64")]
fn calls_of_32_bit_programs_are_killed() {
    // Where the kernel has no such gate there is nothing to attack.
    if run("int80-unfiltered").success() {
        dies("int80");
    }
}

fn io_uring_is_killed() {
    dies("uring");
}

fn clone3_is_unknown_and_threads_start() {
    lives("threads");
}

fn namespaces_by_clone_are_killed() {
    dies("clone-newuser");
}

fn executable_memory_is_killed() {
    dies("write-exec");
}

fn threads_from_before_are_filtered_and_take_the_process_with_them() {
    dies("older-thread");
}

fn no_further_filter_can_be_loaded() {
    dies("another-filter");
}

fn core_is_enough_for_a_tokio_runtime() {
    lives("tokio");
}

fn abort_is_told_as_one() {
    assert_eq!(run("abort").signal(), Some(libc::SIGABRT));
}

/// Runs each program that is there, and looks for what it should print.
fn programs(items: &str, programs: &[(&str, &[&str], &str)]) {
    let mut tried = 0;
    for (program, arguments, said) in programs {
        if !std::path::Path::new(program).exists() {
            continue;
        }
        tried += 1;
        let all: Vec<_> = std::iter::once(program).chain(*arguments).copied().collect();
        let output = start("exec")
            .env("ITEMS", items)
            .env("PROGRAM", program)
            .env("ARGUMENTS", all.join("\n"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{program}: {output:?}");
        assert!(text.contains(said), "{program}: {text}");
    }
    assert!(tried > 0, "none of the programs is there");
}

fn programs_start_with_the_implied_calls_alone() {
    programs(
        "",
        &[
            ("/bin/sh", &["-c", "echo hi"], "hi\n"),
            ("/bin/cat", &["/dev/null"], ""),
            ("/bin/gzip", &["--version"], "gzip"),
            ("/usr/bin/jq", &["-n", "[1, 2] | add"], "3\n"),
            ("/usr/bin/python3", &["-c", "import json; print(json.dumps([1]))"], "[1]\n"),
            ("/usr/bin/perl", &["-e", "print 6 * 7"], "42"),
            ("/usr/bin/awk", &["BEGIN { print 1 }"], "1\n"),
            ("/bin/sed", &["--version"], "sed"),
            ("/bin/ls", &["-l", "/usr"], "total"),
        ],
    );
}

fn programs_start_others_with_process_and_exec() {
    let python = "import subprocess as s; print(s.run(['/bin/echo', 'x'], capture_output=True))";
    programs(
        "@process @exec",
        &[
            ("/bin/sh", &["-c", "ls /usr | cat; echo $(/bin/echo hi)"], "hi\n"),
            ("/usr/bin/python3", &["-c", python], "x\\n"),
        ],
    );
}

fn programs_have_threads_with_thread() {
    let python = "import threading as t; a = t.Thread(target=lambda: print('in')); a.start(); \
                  a.join()";
    programs(
        "@thread",
        &[("/usr/bin/python3", &["-c", python], "in\n"), ("/bin/sh", &["-c", "echo in"], "in\n")],
    );
}

fn a_program_may_not_start_another() {
    let output = start("exec")
        .env("PROGRAM", "/bin/sh")
        .env("ARGUMENTS", "sh\n-c\nexec /bin/cat /dev/null")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}
