//! The keeper: holds the private key, and signs TLS 1.3 handshakes of this server.
//!
//! Whoever takes over a parser can have handshakes signed while it lasts. The key stays here.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use zeroize::Zeroizing;

use crate::certificate_verify::is_server_certificate_verify;
use crate::protocol::{Settings, SignReply, SignRequest};
use crate::requests::Requests;
use cofferdam::Layer;

/// No key file is so large, in bytes: an RSA key of 16,384 bits has some 13,000.
const KEY_FILE: usize = 64 << 10;

/// The layer's function.
pub(crate) async fn keeper(layer: Layer) -> Result<(), Box<dyn Error>> {
    let settings: Settings = postcard::from_bytes(layer.settings())?;
    let key = load(&layer.file("key")?, &settings)?;
    let mut requests = Requests::new(&layer, layer.channel("sign")?);
    while let Some((message, reply)) = requests.next().await? {
        let signed = match message.decode::<SignRequest>() {
            Ok(request) => sign(&*key, &request),
            Err(_) => Err("this is no request to sign"),
        };
        // Who asked may be gone by now; that is its loss and not the keeper's.
        let _ = match signed {
            Ok(signature) => reply.reply_typed(&SignReply(signature)).await,
            Err(why) => {
                eprintln!("refused to sign: {why}");
                reply.refuse(why).await
            }
        };
    }
    Ok(())
}

/// Signs, if it is a handshake of this server.
fn sign(key: &dyn SigningKey, request: &SignRequest) -> Result<Vec<u8>, &'static str> {
    if !is_server_certificate_verify(&request.content) {
        return Err("this is no CertificateVerify of a TLS 1.3 server");
    }
    let scheme = SignatureScheme::from(request.scheme);
    let signer = key.choose_scheme(&[scheme]).ok_or("the key has no such signature scheme")?;
    signer.sign(&request.content).map_err(|_| "the signature failed")
}

/// Reads the key and makes sure that it is the certificate's.
fn load(file: &File, settings: &Settings) -> Result<Arc<dyn SigningKey>, Box<dyn Error>> {
    let mut pem = Zeroizing::new(vec![0; KEY_FILE]);
    let mut length = 0;
    // At an offset: a restarted keeper shares the descriptor's position with the one before.
    while let read @ 1.. = file.read_at(&mut pem[length..], length as u64)? {
        length += read;
    }
    if length == KEY_FILE {
        return Err(format!("the key's file has {KEY_FILE} bytes or more").into());
    }
    let key = PrivateKeyDer::from_pem_slice(&pem[..length])
        .map(Zeroizing::new)
        .map_err(|error| format!("the key's file holds no private key in PEM: {error}"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| io::Error::other("the key is not RSA, P-256, P-384 or Ed25519"))?;
    let chain = settings.chain.iter().cloned().map(CertificateDer::from).collect();
    CertifiedKey::new(chain, Arc::clone(&key))
        .keys_match()
        .map_err(|error| format!("the key is not the certificate's: {error}"))?;
    Ok(key)
}
