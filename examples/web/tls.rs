//! TLS with a key that is elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::alg_id::{ECDSA_P256, ECDSA_P384, ED25519, RSA_ENCRYPTION};
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::protocol::{Settings, SignReply, SignRequest};
use cofferdam::ipc::message::Channel;

/// How long a handshake waits for the keeper. The parser does nothing else meanwhile, so it is
/// short; a signature takes some 50 µs.
const SIGNING: Duration = Duration::from_secs(2);

/// TLS 1.3 only, for the keeper signs nothing else; no session tickets, for a pool's members
/// would have to share the keys.
pub(crate) fn acceptor(settings: &Settings, keeper: Channel) -> Result<TlsAcceptor, rustls::Error> {
    let chain: Vec<_> = settings.chain.iter().cloned().map(CertificateDer::from).collect();
    let first = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let public_key = ParsedCertificate::try_from(first)?.subject_public_key_info();
    let kind = Kind::of(&public_key).ok_or_else(|| {
        rustls::Error::General("the certificate's key is not RSA, P-256, P-384 or Ed25519".into())
    })?;
    let key = Arc::new(RemoteKey { kind, public_key, keeper });

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What kind of key the certificate names, and so what it can sign.
#[derive(Clone, Copy, Debug)]
struct Kind {
    identifier: AlgorithmIdentifier,
    algorithm: SignatureAlgorithm,
    schemes: &'static [SignatureScheme],
}

const KINDS: [Kind; 4] = [
    Kind {
        identifier: ECDSA_P256,
        algorithm: SignatureAlgorithm::ECDSA,
        schemes: &[SignatureScheme::ECDSA_NISTP256_SHA256],
    },
    Kind {
        identifier: ECDSA_P384,
        algorithm: SignatureAlgorithm::ECDSA,
        schemes: &[SignatureScheme::ECDSA_NISTP384_SHA384],
    },
    Kind {
        identifier: ED25519,
        algorithm: SignatureAlgorithm::ED25519,
        schemes: &[SignatureScheme::ED25519],
    },
    Kind {
        identifier: RSA_ENCRYPTION,
        algorithm: SignatureAlgorithm::RSA,
        schemes: &[
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
        ],
    },
];

impl Kind {
    /// The algorithm stands at the key's beginning, behind two DER headers of 2 to 4 bytes each.
    fn of(key: &SubjectPublicKeyInfoDer<'_>) -> Option<Self> {
        KINDS.into_iter().find(|kind| {
            let identifier = kind.identifier.as_ref();
            key.windows(identifier.len()).take(9).any(|window| window == identifier)
        })
    }
}

/// The public half of the key, and the way to who holds the other one.
#[derive(Clone)]
struct RemoteKey {
    kind: Kind,
    public_key: SubjectPublicKeyInfoDer<'static>,
    keeper: Channel,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.kind.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { scheme, keeper: self.keeper.clone() }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.public_key.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.kind.algorithm
    }
}

/// Signs by asking the keeper.
struct RemoteSigner {
    scheme: SignatureScheme,
    keeper: Channel,
}

impl Signer for RemoteSigner {
    /// Waits for the keeper's answer: rustls has no other way to ask for a signature.
    fn sign(&self, content: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let request = SignRequest { scheme: self.scheme.into(), content: content.to_vec() };
        self.keeper
            .blocking()
            .call("sign")
            .timeout(SIGNING)
            .send_typed(&request)
            .map(|SignReply(signature)| signature)
            .map_err(|error| rustls::Error::General(format!("the keeper didn't sign: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSigner").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}
