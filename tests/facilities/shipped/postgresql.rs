//! `PostgreSQL`, from its first step on.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};

use super::{Elsewhere, Shipped, needs, outcome, output};
use crate::Test;
use crate::foreign::free;
use crate::foreign_servers::has;
use crate::harness::Daemon;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("shipped::postgresql_is_made_works_and_keeps_its_data", works),
    ("shipped::postgresql_that_obeys_a_superuser_reaches_nothing_else", obeys),
];

/// The release that is here.
fn release() -> String {
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = found
        .filter(|entry| entry.path().join("bin/postgres").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| {
        has("/usr/lib/postgresql/bin/postgres");
        ignore("there is no PostgreSQL")
    })
}

/// A client of `PostgreSQL`'s, as the first user.
fn client(program: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"]);
    command.env("PGPASSWORD", "a password").env("PGCONNECT_TIMEOUT", "30");
    command
}

/// What a statement comes to.
fn sql(port: u16, statement: &str) -> (bool, String) {
    outcome(client("psql", port).args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]))
}

/// Makes a database by the first policy, and starts the second where that has been.
fn begin(port: u16) -> (Shipped, Daemon) {
    needs("/usr/bin/psql");
    let release = release();
    let common = |name| Shipped::new(name).var("version", &release).var("data", "DIR/data");
    let mut step = common("postgresql-initdb").var("password", "DIR/password").start(|directory| {
        fs::write(directory.join("password"), "a password\n").unwrap();
    });
    assert_eq!(step.end(), Some(0), "{step}");
    assert_eq!(step.count("initdb/0.g1 ended with exit code 0"), 1, "{step}");
    let server = common("postgresql").var("port", port);
    let mut daemon = server.start_in(step.take_directory());
    daemon.line("database system is ready to accept connections");
    (server, daemon)
}

fn works() {
    let port = free().port();
    let (server, mut daemon) = begin(port);
    output(client("pgbench", port).args(["-q", "-i", "postgres"]));
    let said =
        output(client("pgbench", port).args(["-n", "-t", "20", "-c", "8", "-j", "2", "postgres"]));
    assert!(said.contains("number of failed transactions: 0 "), "{said}");
    // By several processes, which share memory of its own kind.
    let parallel = "set force_parallel_mode = on; set parallel_setup_cost = 0; \
                    set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; \
                    select sum(abalance) = 0 or true from pgbench_accounts;";
    let (done, said) = sql(port, parallel);
    assert!(done && said.ends_with('t'), "{said}: {daemon}");
    let count = || sql(port, "select count(*) from pgbench_history");
    assert_eq!(count(), (true, "160".to_owned()), "{daemon}");
    // A client that stays doesn't keep it from ending, and what is done is written.
    let mut stays = client("psql", port);
    let stays = stays.args(["-X", "-A", "-t", "-c", "select pg_sleep(600)"]);
    let mut stays = stays.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    crate::harness::eventually("the client is there", || {
        sql(port, "select count(*) from pg_stat_activity where query like '%pg_sleep(600)'").1
            == "1"
    });
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("received fast shutdown request"), 1, "{daemon}");
    assert_eq!(daemon.count("postgres/0.g1 ended with exit code 0"), 1, "{daemon}");
    assert!(!stays.wait().unwrap().success());

    let mut daemon = server.start_in(daemon.take_directory());
    daemon.line("database system was shut down at");
    daemon.line("database system is ready to accept connections");
    assert_eq!(count(), (true, "160".to_owned()), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// What a superuser may ask for, which is everything that the server can do.
fn obeys() {
    let port = free().port();
    let elsewhere = Elsewhere::new();
    let (_, mut daemon) = begin(port);
    let here = daemon.directory().display().to_string();
    let refused = |statement: &str, why: &str| {
        let (done, said) = sql(port, statement);
        assert!(!done && said.contains(why), "{statement}: {said}");
    };
    let secret = format!("{here}/secret");
    refused("copy (select 1) to program 'cat > /dev/null'", "terminated by signal 31");
    refused(&format!("select pg_read_file('{secret}')"), "No such file or directory");
    refused("select pg_read_file('/etc/shadow')", "No such file or directory");
    refused(&format!("copy (select 1) to '{here}/stolen'"), "could not open file");
    // A library that it wrote itself.
    needs("/usr/bin/gcc");
    let (source, library) = (format!("{here}/code.c"), format!("{here}/code.so"));
    fs::write(&source, "__attribute__((constructor)) static void run(void) {}\n").unwrap();
    output(Command::new("gcc").args(["-shared", "-fPIC", "-o", &library, &source]));
    let mut bytes = String::new();
    for byte in fs::read(&library).unwrap() {
        write!(bytes, "{byte:02x}").unwrap();
    }
    let written = format!(
        "select lo_from_bytea(4242, '\\x{bytes}'); select lo_export(4242, '{here}/data/code.so')"
    );
    let path = daemon.directory().join("write.sql");
    fs::write(&path, written).unwrap();
    output(client("psql", port).args(["-X", "-v", "ON_ERROR_STOP=1", "-f"]).arg(path));
    assert!(fs::exists(format!("{here}/data/code.so")).unwrap());
    refused(&format!("load '{here}/data/code.so'"), "failed to map segment");
    // Another service of the machine.
    assert!(sql(port, "create extension dblink").0, "{daemon}");
    let dial = |port: u16| {
        format!(
            "select dblink_connect('host=127.0.0.1 port={port} user=postgres connect_timeout=9')"
        )
    };
    refused(&dial(elsewhere.address().port()), "Permission denied");
    elsewhere.is_untouched();
    // None of this has harmed it.
    assert_eq!(sql(port, "select 6 * 7"), (true, "42".to_owned()), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("postgres/0.g1 ended with exit code 0"), 1, "{daemon}");
}
