//! Servers of a directory: nginx with its workers, and Python's http.server.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::{Elsewhere, Shipped, bench, fetch, needs, shipped};
use crate::Test;
use crate::foreign::free;
use crate::harness::eventually;

pub(crate) const TESTS: &[Test] = &[
    ("shipped::nginx_serves_pages_by_its_workers", nginx),
    ("shipped::nginx_that_is_told_to_reaches_nothing_else", nginx_told),
    ("shipped::python_serves_files", python),
];

/// A site with a page, something large, and a way out.
fn site(directory: &Path, name: &str) {
    let site = directory.join(name);
    fs::create_dir(&site).unwrap();
    fs::write(site.join("index.html"), "<p>a page").unwrap();
    fs::write(site.join("large"), "x".repeat(3 << 20)).unwrap();
    symlink(directory.join("secret"), site.join("link")).unwrap();
}

/// What every server of files must do, and not do.
fn serves(url: &str) {
    assert_eq!(fetch(&format!("{url}/index.html")), (true, "<p>a page".to_owned()));
    assert_eq!(fetch(&format!("{url}/large")), (true, "x".repeat(3 << 20)));
    for out in ["/link", "/../secret", "/%2e%2e/secret"] {
        let (_, said) = fetch(&format!("{url}{out}"));
        assert!(!said.contains("the secret") && !said.contains("a page"), "{out}: {said}");
    }
}

/// nginx.conf at another port, with more locations.
fn nginx_conf(directory: &Path, port: u16, more: &str) {
    let text = shipped("nginx.conf").replace("8080;", &format!("{port}; {more}"));
    fs::write(directory.join("conf"), text).unwrap();
}

fn nginx_policy(port: u16) -> Shipped {
    let shipped = Shipped::new("nginx").var("port", port);
    shipped.var("config", "DIR/conf").var("site", "DIR/site")
}

fn nginx() {
    needs("/usr/sbin/nginx");
    let port = free().port();
    let mut daemon = nginx_policy(port).start(|directory| {
        site(directory, "site");
        nginx_conf(directory, port, "");
    });
    let master = daemon.confined("nginx/0.g1");
    let url = format!("http://127.0.0.1:{port}");
    serves(&url);
    bench(&format!("{url}/index.html"), 2000);
    // Who loses a worker gets another.
    let before = workers(master);
    assert!(!before.is_empty(), "{daemon}");
    for worker in &before {
        kill_process(*worker, Signal::KILL).unwrap();
    }
    eventually("there are as many new workers", || {
        let now = workers(master);
        now.len() == before.len() && now.is_disjoint(&before)
    });
    serves(&url);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("nginx/0.g1 ended with exit code 0"), 1, "{daemon}");
}

/// nginx's workers below a process.
fn workers(above: Pid) -> HashSet<Pid> {
    let mut found = HashSet::new();
    let mut todo = vec![above.as_raw_nonzero().get()];
    while let Some(pid) = todo.pop() {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        todo.extend(children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if words.starts_with("nginx: worker process") {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

/// Its configuration is a stranger's.
fn nginx_told() {
    needs("/usr/sbin/nginx");
    let port = free().port();
    let elsewhere = Elsewhere::new();
    let mut daemon = nginx_policy(port).start(|directory| {
        site(directory, "site");
        let locations = format!(
            "location /fetch {{ proxy_pass http://{}; }} location /host/ {{ alias /; }}",
            elsewhere.address()
        );
        nginx_conf(directory, port, &locations);
    });
    daemon.confined("nginx/0.g1");
    let url = format!("http://127.0.0.1:{port}");
    assert!(fetch(&format!("{url}/fetch")).1.contains("502 Bad Gateway"), "{daemon}");
    elsewhere.is_untouched();
    let secret = daemon.directory().join("secret").display().to_string();
    for path in [&secret, "/etc/shadow", "/proc/self/environ"] {
        assert!(
            fetch(&format!("{url}/host{path}")).1.contains("404 Not Found"),
            "{path}: {daemon}"
        );
    }
    assert_eq!(fetch(&format!("{url}/host/srv/site/index.html")).1, "<p>a page");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let refused = format!("connect(tcp:{}) and was refused", elsewhere.address());
    assert_eq!(daemon.count(&refused), 1, "{daemon}");
}

fn python() {
    needs("/usr/bin/python3");
    let port = free().port();
    let policy = Shipped::new("python-files").var("port", port).var("files", "DIR/files");
    let mut daemon = policy.start(|directory| site(directory, "files"));
    daemon.confined("python/0.g1");
    let url = format!("http://127.0.0.1:{port}");
    serves(&url);
    bench(&format!("{url}/index.html"), 300);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}
