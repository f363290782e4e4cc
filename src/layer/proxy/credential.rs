//! Credentials that go into requests, and the TLS by which these go on: to who can show that it is
//! the host, and to nobody else.

use std::io::{self, Read, Seek};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::host::Host;
use super::reach::Failure;
use crate::ident::Name;
use crate::layer::Layer;

/// A credential as the plan has it; files are by the names under which the helper has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stated {
    pub header: String,
    pub prefix: String,
    pub secret: Name,
    pub authorities: Option<Name>,
}

/// A credential.
pub(super) struct Credential {
    pub header: String,
    /// The whole value of the field.
    pub value: Zeroizing<Vec<u8>>,
    tls: TlsConnector,
}

/// Bytes that a secret has at most, and a file of authorities.
const LONGEST: u64 = 16 << 10;
const MOST_AUTHORITIES: u64 = 8 << 20;

/// Where systems keep the certificates of the authorities that they trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

impl Credential {
    /// Reads what belongs to it. An error is for a person.
    pub fn read(layer: &Layer, stated: &Stated) -> Result<Self, String> {
        let mut value = Zeroizing::new(stated.prefix.clone().into_bytes());
        let secret = open(layer, &stated.secret, LONGEST)?;
        value.extend_from_slice(secret.trim_ascii_end());
        let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
        if secret.trim_ascii_end().is_empty() || !value.iter().all(is_plain) {
            return Err("the secret is empty, or no line of printable ASCII".to_owned());
        }
        let authorities = match &stated.authorities {
            Some(name) => open(layer, name, MOST_AUTHORITIES)?.to_vec(),
            None => {
                AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
            }
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&authorities).filter_map(Result::ok);
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err("there is no certificate of an authority".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { header: stated.header.clone(), value, tls })
    }

    /// Speaks TLS to the host at the other end of a connection.
    pub async fn protect(
        &self,
        host: &Host,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(host.to_string());
        let name = name.map_err(|error| Failure::Unsafe(error.to_string()))?;
        let shaken = self.tls.connect(name, stream).await;
        shaken.map_err(|error: io::Error| Failure::Unsafe(error.to_string()))
    }
}

/// What a file holds that the supervisor has opened for this life.
fn open(layer: &Layer, name: &Name, most: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = super::held(&layer.0.files, name.as_str()).map_err(|error| error.to_string())?;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut file = std::fs::File::from(file);
    // Another credential may be of the same file.
    file.rewind().map_err(|error| error.to_string())?;
    let read = file.take(most + 1).read_to_end(&mut bytes);
    match read.map_err(|error| error.to_string())? as u64 {
        length if length > most => Err(format!("it is longer than {most} bytes")),
        _ => Ok(bytes),
    }
}
