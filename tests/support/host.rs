//! What an attacker would like to reach: a file, sockets of several kinds, objects of System V.

use std::ffi::CString;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use tempfile::TempDir;

/// A host with open doors: everybody may use all of it, if they get there.
pub(crate) struct Host {
    directory: TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    path: UnixListener,
    named: UnixListener,
    key: i32,
    segment: i32,
    queue: CString,
    name: String,
}

const SECRET: &str = "nobody's business\n";

impl Host {
    /// Opens every door.
    pub(crate) fn open() -> Self {
        // Tests of one program may run at the same time.
        static HOSTS: AtomicI32 = AtomicI32::new(0);
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id().cast_signed();
        let name = format!("cofferdam-probe-{process}-{number}");

        let directory = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        };
        mode(directory.path(), 0o755);
        let secret = directory.path().join("secret");
        std::fs::write(&secret, SECRET).expect("a file");
        mode(&secret, 0o666);
        let path = UnixListener::bind(directory.path().join("socket")).expect("a socket");
        mode(&directory.path().join("socket"), 0o777);
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let named = UnixListener::bind_addr(&address).expect("an abstract socket");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for nonblocking in [tcp.set_nonblocking(true), udp.set_nonblocking(true)] {
            nonblocking.expect("a flag");
        }
        path.set_nonblocking(true).and_then(|()| named.set_nonblocking(true)).expect("a flag");
        let key = (process << 4 | number) ^ 0x2c0f_0000;
        let segment = shared_memory(key);
        let queue = CString::new(format!("/{name}")).expect("a name");
        make_queue(&queue);
        make_key();
        Self { directory, tcp, udp, path, named, key, segment, queue, name }
    }

    /// What the attackers are told.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let port = |address: std::io::Result<std::net::SocketAddr>| {
            address.expect("an address").port().to_string()
        };
        let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        [
            ("secret", file("secret")),
            ("unix", file("socket")),
            ("abstract", self.name.clone()),
            ("tcp", port(self.tcp.local_addr())),
            ("udp", port(self.udp.local_addr())),
            ("shm", self.key.to_string()),
            ("mq", self.name.clone()),
            ("program", super::probe().display().to_string()),
            ("pid-max", pid_max.trim().to_owned()),
            ("files", "65536".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// Asserts that nobody has come in by any door.
    pub(crate) fn assert_untouched(&self) {
        let nobody = |result: std::io::Result<()>, door: &str| {
            let error = result.expect_err(door);
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{door}");
        };
        nobody(self.tcp.accept().map(drop), "somebody connected by TCP");
        nobody(self.udp.recv(&mut [0; 8]).map(drop), "somebody sent a datagram");
        nobody(self.path.accept().map(drop), "somebody connected to the socket at a path");
        nobody(self.named.accept().map(drop), "somebody connected to the abstract socket");
        let secret = std::fs::read_to_string(self.directory.path().join("secret"));
        assert_eq!(secret.expect("the file"), SECRET);
    }

    /// Lets those in who have come: the controls do.
    pub(crate) fn empty(&self) {
        while self.tcp.accept().is_ok() {}
        while self.udp.recv(&mut [0; 8]).is_ok() {}
        while self.path.accept().is_ok() {}
        while self.named.accept().is_ok() {}
        std::fs::write(self.directory.path().join("secret"), SECRET).expect("the file");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        remove_shared_memory(self.segment);
        remove_queue(&self.queue);
    }
}

#[allow(unsafe_code, reason = "no crate here makes System V objects")]
fn shared_memory(key: i32) -> i32 {
    // SAFETY: shmget takes no pointer.
    unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) }
}

#[allow(unsafe_code, reason = "likewise")]
fn remove_shared_memory(segment: i32) {
    // SAFETY: IPC_RMID reads nothing through the pointer.
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
}

/// A key in a session keyring of this thread, which the programs that it starts inherit.
#[allow(unsafe_code, reason = "likewise")]
fn make_key() {
    const JOIN_SESSION_KEYRING: i32 = 1;
    const SESSION_KEYRING: i32 = -3;
    let (kind, name) = (c"user".as_ptr(), c"cofferdam-probe".as_ptr());
    // SAFETY: no name of a keyring makes a new one; the other pointers are to texts that end with
    // a zero, and to one byte.
    unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>());
        libc::syscall(libc::SYS_add_key, kind, name, c"x".as_ptr(), 1_usize, SESSION_KEYRING);
    }
}

#[allow(unsafe_code, reason = "likewise")]
fn make_queue(name: &CString) {
    let flags = libc::O_CREAT | libc::O_RDWR | libc::O_CLOEXEC;
    let none = std::ptr::null_mut::<libc::mq_attr>();
    // SAFETY: the name ends with a zero; no attributes are the defaults.
    let queue = unsafe { libc::mq_open(name.as_ptr(), flags, 0o666 as libc::mode_t, none) };
    // SAFETY: the descriptor, or an error that closing reports too. The queue stays.
    unsafe { libc::mq_close(queue) };
}

#[allow(unsafe_code, reason = "likewise")]
fn remove_queue(name: &CString) {
    // SAFETY: the name ends with a zero.
    unsafe { libc::mq_unlink(name.as_ptr()) };
}
