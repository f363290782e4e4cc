//! What the demo needs: a certificate for localhost, and some pages.

use std::error::Error;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

/// The argument that makes this program write a certificate and a key and end.
const MAKE_CERTIFICATE: &str = "--make-certificate";

/// How long the demo's certificate is valid.
const VALID: Duration = Duration::from_hours(30 * 24);

const PAGES: [(&str, &str); 5] = [
    ("index.html", include_str!("site/index.html")),
    ("style.css", include_str!("site/style.css")),
    ("layers.svg", include_str!("site/layers.svg")),
    ("about/index.html", include_str!("site/about/index.html")),
    ("hello.txt", include_str!("site/hello.txt")),
];

/// A certificate that was made, and where.
pub(crate) struct Made {
    /// The certificate, which is its own authority.
    pub(crate) certificate: PathBuf,
    /// The key, readable to this user only.
    pub(crate) key: PathBuf,
}

/// Makes a certificate in `directory`.
///
/// Another process does it, which ends at once: this one becomes the supervisor, and the key's
/// bytes are never in its memory.
pub(crate) fn make_certificate(directory: &Path) -> Result<Made, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let status = Command::new(program).arg(MAKE_CERTIFICATE).arg(directory).status()?;
    if !status.success() {
        return Err(format!("making a certificate failed: {status}").into());
    }
    Ok(Made { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") })
}

/// Writes the demo's pages beneath `directory`. Everybody may read them, for the opener is another
/// user.
pub(crate) fn make_site(directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let site = directory.join("site");
    for (name, text) in PAGES {
        let page = site.join(name);
        let directory = page.parent().unwrap_or(&site);
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        fs::write(&page, text)?;
        fs::set_permissions(&page, Permissions::from_mode(0o644))?;
    }
    Ok(site)
}

/// Removes the certificate and its key. The pages stay, for people drop files among them.
pub(crate) fn clear(directory: &Path) {
    for name in ["key.pem", "certificate.pem"] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("{}: {error}", directory.join(name).display());
            }
            _ => {}
        }
    }
}

/// A directory for the demo that was not there before. Its pages stay when the daemon ends.
pub(crate) fn fresh_directory() -> Result<PathBuf, Box<dyn Error>> {
    let directory = tempfile::Builder::new().prefix("cofferdam-web-").tempdir()?.keep();
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// If this process was started to make a certificate, makes it.
pub(crate) fn certificate_process() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != MAKE_CERTIFICATE {
        return None;
    }
    let directory = PathBuf::from(arguments.next()?);
    Some(match write_certificate(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    })
}

fn write_certificate(directory: &Path) -> Result<(), Box<dyn Error>> {
    let now = SystemTime::now();
    let mut asked = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(String::from))?;
    asked.distinguished_name.push(DnType::CommonName, "cofferdam demo, valid on this machine only");
    asked.not_before = now.into();
    asked.not_after = (now + VALID).into();
    asked.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = asked.self_signed(&key)?;
    write_new(&directory.join("certificate.pem"), 0o644, &certificate.pem())?;
    write_new(&directory.join("key.pem"), 0o600, &key.serialize_pem())
}

/// Writes a file that doesn't exist yet, with this mode from its first byte on.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Box<dyn Error>> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
