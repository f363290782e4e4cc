//! A load generator for HTTPS servers: so many requests over so many connections, every answer
//! checked, every failure counted by its kind.
//!
//! ```text
//! cargo run --example web_load -- --cacert certificate.pem https://localhost:8443/
//! ```
//!
//! A connection that dies is opened again. `--may-lose N` says how many requests may be lost with
//! one: those that were in flight when somebody killed a parser. Everything else that goes wrong
//! makes the exit code 1.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// A request that takes longer than this is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests on one connection before it is closed and opened again, so handshakes are loaded too.
const PER_CONNECTION: u32 = 100;

/// Sends requests to an HTTPS server and counts what comes back.
#[derive(Debug, Parser)]
#[command(name = "web_load")]
struct Options {
    /// What to fetch.
    url: Uri,
    /// The certificates to trust.
    #[arg(long, value_name = "PEM")]
    cacert: PathBuf,
    /// How many requests.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// Over how many connections at once.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// How many requests may be lost with a connection that ends under them.
    #[arg(long, default_value_t = 0)]
    may_lose: u64,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Fine,
    /// No connection was to be had: nothing was in flight, so nothing explains it.
    NotConnected(String),
    /// The connection ended during the handshake or the request.
    Lost,
    /// An answer, but not 200.
    Status(u16),
    /// 200, but shorter or longer than the first answer was.
    Length,
    TooSlow,
}

struct Target {
    host: String,
    address: (String, u16),
    url: Uri,
    connector: TlsConnector,
    length: AtomicU64,
    left: AtomicU64,
}

type Counts = BTreeMap<Outcome, u64>;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let target = Arc::new(Target::new(options)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let mut counts = Counts::new();
    runtime.block_on(async {
        let workers: Vec<_> =
            (0..options.connections).map(|_| tokio::spawn(worker(Arc::clone(&target)))).collect();
        for worker in workers {
            for (outcome, count) in worker.await? {
                *counts.entry(outcome).or_default() += count;
            }
        }
        Ok::<_, Box<dyn Error>>(())
    })?;

    let seconds = start.elapsed().as_secs_f64();
    let done: u64 = counts.values().sum();
    println!("{done} requests over {} connections in {seconds:.2} s", options.connections);
    for (outcome, count) in &counts {
        println!("{count:>8}  {outcome:?}");
    }
    let lost = counts.get(&Outcome::Lost).copied().unwrap_or(0);
    let fine = counts.get(&Outcome::Fine).copied().unwrap_or(0);
    Ok(lost <= options.may_lose && fine + lost == options.requests)
}

impl Target {
    fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&options.cacert)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = options.url.host().ok_or("the URL has no host")?.to_owned();
        Ok(Self {
            address: (host.clone(), options.url.port_u16().unwrap_or(443)),
            host,
            url: options.url.clone(),
            connector: TlsConnector::from(Arc::new(config)),
            length: AtomicU64::new(u64::MAX),
            left: AtomicU64::new(options.requests),
        })
    }

    /// Takes one of the requests that are left to do.
    fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

/// Sends requests, one after the other, until none is left.
async fn worker(target: Arc<Target>) -> Counts {
    let mut counts = Counts::new();
    let mut connection = None;
    let mut used = 0;
    while target.take() {
        let outcome = match timeout(PATIENCE, one(&target, &mut connection)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::TooSlow,
        };
        used += 1;
        if outcome != Outcome::Fine || used == PER_CONNECTION {
            (connection, used) = (None, 0);
        }
        if matches!(outcome, Outcome::NotConnected(_)) {
            sleep(Duration::from_millis(10)).await;
        }
        *counts.entry(outcome).or_default() += 1;
    }
    counts
}

/// One request, on the connection that is there or on a new one.
///
/// A connection that ended *between* two requests loses nothing: it is opened again.
async fn one(target: &Target, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> Outcome {
    if let Some(open) = connection
        && open.ready().await.is_err()
    {
        *connection = None;
    }
    let mut open = match connection.take() {
        Some(open) => open,
        None => match connect(target).await {
            Ok(open) => open,
            Err(outcome) => return outcome,
        },
    };
    let request = Request::get(target.url.path()).header("host", &target.host);
    let Ok(request) = request.body(Empty::new()) else { return Outcome::Status(0) };
    let Ok(response) = open.send_request(request).await else { return Outcome::Lost };
    let status = response.status();
    let Ok(body) = response.into_body().collect().await else { return Outcome::Lost };
    if status != StatusCode::OK {
        return Outcome::Status(status.as_u16());
    }
    let length = body.to_bytes().len() as u64;
    let first =
        target.length.compare_exchange(u64::MAX, length, Ordering::Relaxed, Ordering::Relaxed);
    if first.is_err_and(|known| known != length) {
        return Outcome::Length;
    }
    *connection = Some(open);
    Outcome::Fine
}

async fn connect(target: &Target) -> Result<SendRequest<Empty<Bytes>>, Outcome> {
    let failed = |error: &dyn Error| Outcome::NotConnected(error.to_string());
    let (host, port) = &target.address;
    let stream =
        TcpStream::connect((host.as_str(), *port)).await.map_err(|error| failed(&error))?;
    let name = ServerName::try_from(target.host.clone()).map_err(|error| failed(&error))?;
    let stream = match target.connector.connect(name, stream).await {
        Ok(stream) => stream,
        // A parser that is killed during the handshake takes the request with it; what TLS itself
        // has to say is another matter.
        Err(error)
            if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>) =>
        {
            return Err(failed(&error));
        }
        Err(_) => return Err(Outcome::Lost),
    };
    let (open, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(driver);
    Ok(open)
}
