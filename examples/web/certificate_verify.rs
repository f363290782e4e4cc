//! What the key may sign. Pure.

/// What a TLS 1.3 server signs, up to the transcript's hash: 64 spaces, the context string, and a
/// zero byte (RFC 8446 section 4.4.3).
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const SPACES: usize = 64;

/// Lengths of the transcript's hash: SHA-256 and SHA-384, which are all that TLS 1.3 has.
const HASHES: [usize; 2] = [32, 48];

/// Whether `content` is what a TLS 1.3 server signs in its handshake, and nothing else.
///
/// The spaces make it differ from everything that TLS 1.2 signs, and the context string from what
/// a client signs or a certificate holds. So whoever only gets signatures of such contents can
/// take part in handshakes while it has the keeper's ear, and can do nothing afterwards.
pub(crate) fn is_server_certificate_verify(content: &[u8]) -> bool {
    let Some((spaces, rest)) = content.split_at_checked(SPACES) else { return false };
    let Some(hash) = rest.strip_prefix(CONTEXT) else { return false };
    spaces.iter().all(|&byte| byte == b' ') && HASHES.contains(&hash.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(spaces: usize, context: &[u8], hash: usize) -> Vec<u8> {
        [vec![b' '; spaces], context.to_vec(), vec![0xa5; hash]].concat()
    }

    #[test]
    fn only_the_servers_own_form_passes() {
        let check = is_server_certificate_verify;
        assert!(check(&content(64, CONTEXT, 32)));
        assert!(check(&content(64, CONTEXT, 48)));

        for hash in (0..=80).filter(|hash| !HASHES.contains(hash)) {
            assert!(!check(&content(64, CONTEXT, hash)), "{hash}");
        }
        assert!(!check(&content(63, CONTEXT, 32)));
        assert!(!check(&content(65, CONTEXT, 32)));
        assert!(!check(&content(64, b"TLS 1.3, client CertificateVerify\0", 32)));
        assert!(!check(&content(64, b"TLS 1.3, server CertificateVerify", 33)));
        assert!(!check(b""));
        assert!(!check(&[b' '; 64]));
    }

    #[test]
    fn every_fixed_byte_counts() {
        let good = content(64, CONTEXT, 32);
        for at in 0..SPACES + CONTEXT.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!is_server_certificate_verify(&bad), "byte {at}");
        }
    }
}
