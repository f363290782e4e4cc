//! The private key of the example `web` is in the memory of its keeper, and of nobody else.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::is_root;
use crate::support::suite::ignore;

crate::support::suite::tests! {
    the_private_key_is_in_the_memory_of_the_keeper_alone,
}

fn the_private_key_is_in_the_memory_of_the_keeper_alone() {
    if !is_root() {
        ignore("only root reads the memory of other processes");
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let parameters = rcgen::CertificateParams::new(names).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");

    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("key.pem"), key.serialize_pem()).expect("a file");
    std::fs::write(file("certificate.pem"), certificate.pem()).expect("a file");
    std::fs::create_dir(file("site")).expect("a directory");
    std::fs::write(file("site/index.html"), "hello").expect("a page");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();

    let mut web = Command::new(crate::support::example("web"));
    web.args(["--listen", &format!("127.0.0.1:{port}")]);
    web.arg("--key").arg(file("key.pem"));
    web.arg("--certificate").arg(file("certificate.pem"));
    web.arg("--site").arg(file("site"));
    let daemon = Daemon::spawn(&mut web, directory);
    let layers = ["listener/0", "parser/0", "parser/1", "opener/0", "keeper/0"];
    let pids: Vec<(&str, i32)> =
        layers.iter().map(|name| (*name, daemon.confined(&format!("{name}.g1")))).collect();

    // Used, so that whoever takes part in a handshake has done so.
    let url = format!("https://127.0.0.1:{port}/");
    for _ in 0..8 {
        let curl = ["--insecure", "--silent", "--retry", "20", "--retry-connrefused", &url];
        let answer = Command::new("curl").args(curl).output().expect("curl");
        assert_eq!(answer.stdout, b"hello", "{}", daemon.lines().join("\n"));
    }

    let shapes = shapes(&key);
    let found = |pid: i32| {
        let (seen, scanned) = search(pid, &shapes);
        assert!(scanned > 1 << 20, "only {scanned} bytes of process {pid} could be read");
        seen
    };
    for (name, pid) in &pids {
        match *name {
            "keeper/0" => assert!(found(*pid), "the scan misses what is there"),
            _ => assert!(!found(*pid), "the key is in the memory of {name}"),
        }
    }
    assert!(!found(daemon.pid()), "the key is in the memory of the supervisor");
}

/// The key as it may lie in memory: the number itself, its bytes turned round as processors have
/// them, the same in the form that multiplies fast, which a signer keeps, and each whole line of
/// its text.
fn shapes(key: &rcgen::KeyPair) -> Vec<Vec<u8>> {
    let pkcs8 = key.serialize_der();
    // PKCS #8 of a P-256 key (RFC 5208, RFC 5915): the 32 bytes follow the tag and length in an
    // ECPrivateKey of version 1.
    let before = [2, 1, 1, 4, 32];
    let at = pkcs8.windows(5).position(|window| window == before).expect("an EC key") + 5;
    let number = pkcs8[at..at + 32].to_vec();
    let turned = number.iter().rev().copied().collect();
    let kept = montgomery(&number).into_iter().rev().collect();
    let text = key.serialize_pem();
    let lines = text.lines().filter(|line| line.len() == 64).map(|line| line.as_bytes().to_vec());
    let shapes: Vec<_> = [number, turned, kept].into_iter().chain(lines.skip(1)).collect();
    assert!(shapes.len() > 3, "{text}");
    shapes
}

/// The order of P-256's group (SEC 2, section 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// A number of the group times 2^256, in Montgomery's form: doubled 256 times.
fn montgomery(number: &[u8]) -> Vec<u8> {
    let mut number = number.to_vec();
    for _ in 0..256 {
        let over = number[0] >> 7 == 1;
        for at in 0..32 {
            let next = number.get(at + 1).map_or(0, |byte| byte >> 7);
            number[at] = number[at] << 1 | next;
        }
        if over || number.as_slice() >= ORDER.as_slice() {
            let mut borrow = 0;
            for at in (0..32).rev() {
                let left = i16::from(number[at]) - i16::from(ORDER[at]) - borrow;
                borrow = i16::from(left < 0);
                number[at] = left.rem_euclid(256).to_le_bytes()[0];
            }
        }
    }
    number
}

/// Whether one of the shapes is in the memory of a process, and how much of it could be read.
fn search(pid: i32, shapes: &[Vec<u8>]) -> (bool, usize) {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let (mut seen, mut scanned) = (false, 0);
    for line in maps.lines() {
        let range = line.split(' ').next().expect("a range");
        let (start, end) = range.split_once('-').expect("two addresses");
        let hex = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (hex(start), hex(end));
        // A reservation without a page in it needs no look.
        let Ok(size) = usize::try_from(end - start) else { continue };
        let mut bytes = vec![0; size.min(256 << 20)];
        // The kernel's own pages, and secret ones, aren't to be read.
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        scanned += bytes.len();
        seen |= shapes.iter().any(|shape| holds(&bytes, shape));
    }
    (seen, scanned)
}

fn holds(bytes: &[u8], shape: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == shape[0]) {
        if rest[at..].starts_with(shape) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
