//! The example `web`, end to end: the real program and the real curl.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::support::web::{PATIENCE, Web, eventually, noise, open_directory, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const MIB: usize = 1 << 20;

#[test]
fn the_demo_serves_its_pages_to_who_trusts_its_certificate() {
    let web = Web::demo();
    let page = web.get("/", &[]);
    assert_eq!(page.status, "200");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(String::from_utf8(page.body).unwrap().contains("<h1>"));
    for (path, kind) in [("/style.css", "text/css"), ("/layers.svg", "image/svg+xml")] {
        assert!(web.get(path, &[]).header("content-type").starts_with(kind), "{path}");
    }

    let url = format!("https://localhost:{}/", web.address.port());
    let stranger = std::process::Command::new("curl").args(["--silent", &url]).output().unwrap();
    assert_eq!(stranger.status.code(), Some(60), "curl's code for a certificate it doesn't trust");
    // The keeper signs TLS 1.3 and nothing else, so nothing else is offered.
    let old = web.curl("/").args(["--tls-max", "1.2"]).output().unwrap();
    assert_eq!(old.status.code(), Some(35), "curl's code for a failed handshake");
}

#[test]
fn a_policy_that_others_can_write_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let directory = open_directory();
    let path = directory.path().join("web.toml");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/web.toml"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let (status, log) = run(&["--policy", path.to_str().unwrap()]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("web.toml is not safe to run"), "{log}");
}

#[test]
fn the_demos_private_key_goes_with_it() {
    let mut web = Web::demo();
    let key = web.certificate.clone().unwrap().with_file_name("key.pem");
    assert!(key.exists());
    web.terminate();
    assert!(web.wait().success(), "{}", web.log());
    assert!(!key.exists(), "{}", key.display());
    assert!(web.site.join("index.html").exists());
}

#[test]
fn both_versions_of_http() {
    let web = Web::demo();
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        let answer = web.get("/hello.txt", &[flag]);
        assert!(answer.head.starts_with(version), "{}", answer.head);
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());

        let head = web.get("/hello.txt", &[flag, "--head"]);
        assert_eq!(head.header("content-length"), answer.body.len().to_string());
        assert_eq!(head.body, b"");

        // Every kind of answer that has no file, as an answer to GET and to HEAD.
        for (path, status) in [
            ("/missing", "404"),
            ("/about", "301"),
            ("/hello.txt/", "404"),
            ("/../key.pem", "400"),
            ("/%00", "400"),
        ] {
            assert_eq!(web.get(path, &[flag]).status, status, "{version} {path}");
            assert_eq!(web.get(path, &[flag, "--head"]).status, status, "{version} {path}");
        }
        assert_eq!(web.get("/", &[flag, "--data", "x"]).status, "405");
        assert_eq!(web.get("/about?q", &[flag]).header("location"), "/about/?q");
        assert_eq!(web.get("/about/", &[flag]).status, "200");

        let tag = format!("if-none-match: {}", answer.header("etag"));
        let known = web.get("/hello.txt", &[flag, "--header", &tag]);
        assert_eq!((known.status.as_str(), known.body.len()), ("304", 0));
        let date = format!("if-modified-since: {}", answer.header("last-modified"));
        assert_eq!(web.get("/hello.txt", &[flag, "--header", &date]).status, "304");
    }
}

#[test]
fn large_files_and_parts_of_them_arrive_byte_for_byte() {
    let web = Web::demo();
    let bytes = noise(50 * MIB + 1);
    web.put("large", &bytes);
    web.put("empty", b"");
    for flag in ["--http1.1", "--http2"] {
        let got = web.curl("/large").arg(flag).output().unwrap();
        assert!(got.status.success(), "{flag}: {}", String::from_utf8_lossy(&got.stderr));
        assert!(got.stdout == bytes, "{flag}: {} bytes differ", got.stdout.len());

        for (range, part) in [
            ("0-0", 0..1),
            ("65535-65536", 65535..65537),
            ("1000000-3000000", 1_000_000..3_000_001),
            ("-5", bytes.len() - 5..bytes.len()),
            ("52428800-", 50 * MIB..bytes.len()),
        ] {
            let got = web.get("/large", &[flag, "--range", range]);
            assert_eq!(got.status, "206", "{flag} {range}");
            assert!(got.body == bytes[part], "{flag} {range}");
        }
        let past = web.get("/large", &[flag, "--range", "52428801-"]);
        assert_eq!(past.status, "416");
        assert_eq!(past.header("content-range"), "bytes */52428801");
        let empty = web.get("/empty", &[flag]);
        assert_eq!((empty.status.as_str(), empty.body.len()), ("200", 0));
    }
}

#[test]
fn what_lies_in_the_site_but_is_no_file_of_it_is_not_there() {
    let web = Web::demo();
    let outside = web.scratch("outside");
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, web.site.join("link")).unwrap();
    symlink("hello.txt", web.site.join("inner-link")).unwrap();
    symlink("/", web.site.join("root")).unwrap();
    mknodat(CWD, web.site.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir(web.site.join("bare")).unwrap();
    for path in ["/link", "/inner-link", "/root/etc/passwd", "/fifo", "/bare", "/bare/"] {
        assert_eq!(web.get(path, &[]).status, "404", "{path}");
    }
    assert_eq!(web.get("/hello.txt", &[]).status, "200");
}

#[test]
fn nonsense_costs_its_own_connection_only() {
    let web = Web::demo();
    let connect = || {
        let stream = TcpStream::connect(web.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let _silent = connect();
    for nonsense in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 4096], noise(100_000)] {
        let mut stream = connect();
        // It may have hung up before all is written.
        let _ = stream.write_all(&nonsense);
        // An alert or nothing, and then the end: a time-out would be an error of another kind.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    let many = "x".repeat(80_000);
    let head = web.get("/", &["--http1.1", "--header", &format!("a: {many}")]);
    assert_eq!(head.status, "431");
    assert_eq!(web.get(&format!("/{}", "a".repeat(5000)), &[]).status, "414");
    assert_eq!(web.get("/", &[]).status, "200");
}

#[test]
fn sigterm_lets_a_download_finish() {
    let mut web = Web::demo();
    let bytes = noise(24 * MIB);
    web.put("large", &bytes);
    let target = web.scratch("download");
    let mut curl = web.curl("/large");
    curl.args(["--limit-rate", "12M", "--output"]).arg(&target);
    let download = curl.stderr(Stdio::piped()).spawn().unwrap();
    eventually("the download runs", || fs::metadata(&target).is_ok_and(|file| file.len() > 0));
    web.terminate();
    let download = download.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&download.stderr);
    assert!(download.status.success(), "{said}{}", web.log());
    assert!(fs::read(&target).unwrap() == bytes);
    assert_eq!(web.wait().code(), Some(0), "{}", web.log());
    TcpStream::connect(web.address).unwrap_err();
}

#[test]
fn a_site_and_a_certificate_of_ones_own() {
    let directory = open_directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("page.txt"), "mine").unwrap();
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(path("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();

    let arguments = |key| {
        ["--site", ".", "--certificate", "certificate.pem", "--key", key].map(|argument| {
            if argument.starts_with("--") { argument.to_owned() } else { path(argument) }
        })
    };
    let own = arguments("key.pem");
    let web = Web::start(&own.each_ref().map(String::as_str));
    let page = web.get("/page.txt", &["--cacert", &path("certificate.pem")]);
    assert_eq!((page.status.as_str(), page.body.as_slice()), ("200", b"mine".as_slice()));

    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(path("other.pem"), other.serialize_pem()).unwrap();
    let (status, log) = run(&arguments("other.pem").each_ref().map(String::as_str));
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the key is not the certificate's"), "{log}");
}

#[test]
fn an_upgrade_fails_no_request() {
    let directory = open_directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("site")).unwrap();
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(path("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (site, certificate, key) = (path("site"), path("certificate.pem"), path("key.pem"));
    let listen = free.to_string();
    let arguments =
        ["--site", &site, "--certificate", &certificate, "--key", &key, "--listen", &listen];
    let mut web = Web::start(&arguments);
    web.certificate = Some(certificate.into());
    let bytes = noise(32 * MIB);
    web.put("large", &bytes);
    web.put("page.txt", b"a page");
    let pid = web.pid();

    // Longer than the upgrades take, by whoever has begun it.
    let target = web.scratch("download");
    let mut curl = web.curl("/large");
    curl.args(["--limit-rate", "8M", "--output"]).arg(&target);
    let mut download = curl.spawn().unwrap();
    eventually("the download runs", || fs::metadata(&target).is_ok_and(|file| file.len() > 0));
    let parser = web.layer("parser/0").unwrap().0;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for http in ["--http1.1", "--http2", "--http1.1"] {
            let (web, stop, asked) = (&web, &stop, &asked);
            scope.spawn(move || {
                use std::sync::atomic::Ordering::Relaxed;
                while !stop.load(Relaxed) {
                    // Many requests on one connection, one after the other.
                    let mut curl = web.curl("/page.txt");
                    let url = format!("https://localhost:{}/page.txt", web.address.port());
                    curl.args([http, "--fail"]).args(vec![url; 49]);
                    let output = curl.output().unwrap();
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{http}: {said}{}", web.log());
                    assert_eq!(output.stdout, b"a page".repeat(50), "{http}");
                    asked.fetch_add(50, Relaxed);
                }
            });
        }
        let upgraded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                web.upgrade();
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Err(panic) = upgraded {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(download.wait().unwrap().success(), "{}", web.log());
    assert!(fs::read(&target).unwrap() == bytes);
    assert!(asked.into_inner() > 0);
    assert_eq!(web.pid(), pid);
    assert_ne!(web.layer("parser/0").unwrap().0, parser);
    // Each layer has one life, and no other is left.
    eventually("two of our own and five others", || web.layers().len() == 6);
    web.terminate();
    assert_eq!(web.wait().code(), Some(0), "{}", web.log());
    let log = web.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("parser/0.g2 is confined") < at("parser/0.g1 ended"), "{log}");
    assert!(at("listener/0.g1 ended") < at("parser/0.g1 ended"), "{log}");
    assert!(at("parser/0.g1 ended") < at("keeper/0.g1 ended"), "{log}");
}

#[test]
fn wrong_arguments_are_told() {
    for (arguments, told) in [
        (["--site", "/nonexistent"].as_slice(), "/nonexistent: No such file"),
        (&["--certificate", "/dev/null"], "--certificate needs --key"),
        (
            &["--certificate", "/dev/null", "--key", "/dev/null"],
            "/dev/null: there is no certificate",
        ),
        (&["--policy", "/nonexistent"], "/nonexistent: No such file"),
        (&["--frobnicate"], "unexpected argument '--frobnicate'"),
    ] {
        let (status, log) = run(arguments);
        assert!(!status.success(), "{arguments:?}");
        assert!(log.contains(told), "{arguments:?}: {log}");
    }
}
