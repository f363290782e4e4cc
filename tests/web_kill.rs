//! The example `web` under attack from outside: parsers are killed, memories are searched.

mod web_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use web_support::{Web, eventually, has_curl, noise};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

#[test]
fn killing_a_parser_costs_its_own_connections_only() {
    if !has_curl() {
        return;
    }
    let web = Web::demo();
    eventually("all layers run", || web.layers().len() == 5);
    // More than the kernel's buffers take, so that every download still needs its parser.
    let bytes = noise(32 * MIB);
    web.put("large", &bytes);
    let mut downloads: Vec<_> = (0..8)
        .map(|number| {
            let target = web.scratch(&format!("download-{number}"));
            let mut curl = web.curl("/large");
            curl.args(["--limit-rate", "12M", "--output"]).arg(&target);
            (curl.spawn().unwrap(), target)
        })
        .collect();
    eventually("all downloads run", || {
        downloads.iter().all(|(_, target)| fs::metadata(target).is_ok_and(|file| file.len() > 0))
    });

    let (first, victim) = web.layer("parser/0").unwrap();
    let neighbour = web.layer("parser/1").unwrap();
    kill_process(victim, Signal::KILL).unwrap();
    // Somebody serves at once, and goes on to.
    for _ in 0..20 {
        assert_eq!(web.get("/", &[]).status, "200");
    }
    eventually("it is back, in its next life", || {
        web.layer("parser/0").is_some_and(|(title, _)| title != first)
    });

    let finished = downloads
        .iter_mut()
        .filter_map(|(curl, target)| curl.wait().unwrap().success().then_some(target))
        .inspect(|target| assert!(fs::read(target).unwrap() == bytes))
        .count();
    assert!((1..8).contains(&finished), "{finished} of 8 downloads finished");
    assert_eq!(web.layer("parser/1").unwrap(), neighbour);
    assert_eq!(web.get("/", &[]).status, "200");
}

/// The load of the README, smaller, while a parser is killed again and again.
#[test]
fn under_load_only_what_was_in_flight_is_lost() {
    const CONNECTIONS: usize = 16;
    let web = Web::demo();
    eventually("all layers run", || web.layers().len() == 5);
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("web_load");
    let certificate = web.certificate.as_ref().unwrap();
    let kills = 6;
    let mut load = Command::new(program)
        .arg("--cacert")
        .arg(certificate)
        .args(["--requests", "20000", "--connections", &CONNECTIONS.to_string()])
        .args(["--may-lose", &(kills * CONNECTIONS).to_string()])
        .arg(format!("https://localhost:{}/", web.address.port()))
        .spawn()
        .unwrap();
    for kill in 0..kills {
        let copy = format!("parser/{}", kill % 2);
        let mut victim = None;
        eventually("there is one to kill", || {
            victim = web.layer(&copy);
            victim.is_some()
        });
        kill_process(victim.unwrap().1, Signal::KILL).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150));
        if load.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(load.wait().unwrap().success(), "{}", web.log());
}

#[test]
fn the_private_key_is_in_the_keepers_memory_and_in_no_other() {
    let web = Web::demo();
    eventually("all layers run", || web.layers().len() == 5);
    let certificate = web.certificate.as_ref().unwrap();
    let pem = fs::read(certificate.with_file_name("key.pem")).unwrap();
    let forms = forms(&pem);
    // A few handshakes, so that whatever is going to hold it holds it.
    for _ in 0..4 {
        if has_curl() {
            web.get("/", &[]);
        }
    }

    let mut processes = web.layers();
    processes.insert("supervisor".to_owned(), web.pid());
    let mut found = BTreeMap::new();
    for (title, pid) in processes {
        let Some(holds) = holds(pid, &forms) else {
            web_support::skip("reading other processes' memory needs root");
            return;
        };
        found.insert(title, holds);
    }
    for (title, holds) in found {
        assert_eq!(holds, title.starts_with("keeper/"), "{title}");
    }
}

/// What a P-256 key looks like in a file and in memory: a line of its PEM, and its scalar as a
/// number in both byte orders and in Montgomery's form, as ring keeps it.
fn forms(pem: &[u8]) -> Vec<Vec<u8>> {
    let line = pem.split(|byte| *byte == b'\n').nth(1).unwrap().to_vec();
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
    let der = der.secret_pkcs8_der();
    // ECPrivateKey (RFC 5915): version 1, then an OCTET STRING of 32 bytes.
    let head = [2, 1, 1, 4, 32];
    let at = der.windows(head.len()).position(|bytes| bytes == head).unwrap() + head.len();
    let mut number: Vec<u8> = der[at..at + 32].to_vec();
    let plain = number.clone();
    number.reverse();
    vec![line, plain, number.clone(), montgomery(&number)]
}

/// `number * 2^256` modulo the order of P-256, little-endian.
fn montgomery(number: &[u8]) -> Vec<u8> {
    const ORDER: [u64; 4] = [
        0xf3b9_cac2_fc63_2551,
        0xbce6_faad_a717_9e84,
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_0000_0000,
    ];
    let mut limbs: Vec<u64> =
        number.chunks(8).map(|limb| u64::from_le_bytes(limb.try_into().unwrap())).collect();
    for _ in 0..256 {
        let mut carry = 0;
        for limb in &mut limbs {
            (*limb, carry) = (*limb << 1 | carry, *limb >> 63);
        }
        let mut less = limbs.clone();
        let mut borrow = false;
        for (limb, order) in less.iter_mut().zip(ORDER) {
            let (difference, first) = limb.overflowing_sub(order);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (difference, first | second);
        }
        if carry == 1 || !borrow {
            limbs = less;
        }
    }
    limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

/// Whether a process has one of these byte strings in its memory; `None` if we may not look.
fn holds(pid: Pid, forms: &[Vec<u8>]) -> Option<bool> {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let maps = fs::read_to_string(format!("{process}/maps")).ok()?;
    let memory = File::open(format!("{process}/mem")).ok()?;
    let mut read = 0;
    for line in maps.lines() {
        let Some((start, rest)) = line.split_once('-') else { continue };
        let (end, rights) = rest.split_once(' ')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        // What is not writable comes from files, and those are not secret.
        if !rights.starts_with("rw") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        let mut at = 0;
        while at < bytes.len() {
            match memory.read_at(&mut bytes[at..], start + at as u64) {
                Ok(length @ 1..) => (at, read) = (at + length, read + length),
                // A page that nobody may read, such as one of memfd_secret(2).
                _ => at += PAGE,
            }
        }
        for form in forms {
            if contains(&bytes, form) {
                return Some(true);
            }
        }
    }
    assert!(read > 0, "{process}: nothing was readable");
    Some(false)
}

/// Whether `needle` is in `bytes`: by its first byte, as most bytes are another.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window[0] == needle[0] && window == needle)
}
