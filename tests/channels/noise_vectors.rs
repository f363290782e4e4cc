//! Our cryptography against what others say it should be: published Noise vectors, Wycheproof,
//! and an independent implementation of Noise.
use std::sync::Arc;

use cofferdam::ident::{EdgeId, Instance, Name};
use cofferdam::seal::aead::{Aead, Chosen, NONCE, Portable, TAG};
use cofferdam::seal::handshake::{Initiator, Introduction, MESSAGE, Responder};
use cofferdam::seal::secret::{Key, agree};
use cofferdam::seal::{Chance, Identity, OsChance, PublicKey, SealError, Session};
use noise_protocol::patterns::noise_kk;
use noise_protocol::{DH, HandshakeState, U8Array};
use noise_rust_crypto::{Blake2s, ChaCha20Poly1305, X25519};
use serde_json::Value;
use wycheproof::TestResult;

/// Chance that is none.
struct Fixed(Vec<u8>);

impl Chance for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        bytes.copy_from_slice(&self.0);
        Ok(())
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn public(value: &Value) -> PublicKey {
    PublicKey(hex(value).try_into().unwrap())
}

fn identity(private: Vec<u8>) -> Arc<Identity> {
    Arc::new(Identity::generate(&mut Fixed(private)).unwrap())
}

/// Record sealed without a header, as Noise's transport messages are.
fn transport(from: &mut Session, to: &mut Session, payload: &[u8]) -> Vec<u8> {
    let mut sealed = payload.to_vec();
    let tag = from.seal(&[], &mut sealed).unwrap();
    let mut opened = sealed.clone();
    to.open(&[], &mut opened, &tag).unwrap();
    assert_eq!(opened, payload);
    [sealed, tag.to_vec()].concat()
}

#[test]
fn published_vectors_come_out_byte_for_byte() {
    let file: Value = serde_json::from_str(include_str!("../fixtures/noise-kk.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let messages: Vec<_> = vector["messages"].as_array().unwrap().iter().collect();
        let payload = |n: usize| hex(&messages[n]["payload"]);
        let (caller, keeper) =
            (identity(hex(&vector["init_static"])), identity(hex(&vector["resp_static"])));
        assert_eq!(caller.public(), public(&vector["resp_remote_static"]));
        assert_eq!(keeper.public(), public(&vector["init_remote_static"]));
        let prologue = hex(&vector["init_prologue"]);
        let chance = |name: &str| Box::new(Fixed(hex(&vector[name])));
        let peer = keeper.public();
        let from = Initiator::new(Arc::clone(&caller), &peer, &prologue, chance("init_ephemeral"));
        let to =
            Responder::new(keeper, &caller.public(), &prologue, chance("resp_ephemeral")).unwrap();

        let (mut wire, mut read) = ([0; 256], [0; 256]);
        let (from, n) = from.unwrap().write_payload(&payload(0), &mut wire).unwrap();
        assert_eq!(wire[..n], hex(&messages[0]["ciphertext"]));
        let (to, m) = to.read_payload(&wire[..n], &mut read).unwrap();
        assert_eq!(read[..m], payload(0));
        let (mut to, n) = to.write_payload(&payload(1), &mut wire).unwrap();
        assert_eq!(wire[..n], hex(&messages[1]["ciphertext"]));
        let (mut from, m) = from.read_payload(&wire[..n], &mut read).unwrap();
        assert_eq!(read[..m], payload(1));

        assert_eq!(from.binding(), to.binding());
        if let Some(hash) = vector.get("handshake_hash") {
            assert_eq!(from.binding()[..], hex(hash));
        }
        for (n, message) in messages.iter().enumerate().skip(2) {
            let (one, other) = if n % 2 == 0 { (&mut from, &mut to) } else { (&mut to, &mut from) };
            assert_eq!(transport(one, other, &payload(n)), hex(&message["ciphertext"]));
        }
    }
}

fn introduction() -> Introduction {
    let instance = |layer| Instance { layer: Name::new(layer).unwrap(), index: 1, generation: 7 };
    Introduction {
        edge: EdgeId([3; 32]),
        number: 2,
        channel: "sign".into(),
        from: instance("listener"),
        to: instance("keeper"),
    }
}

type Independent = HandshakeState<X25519, ChaCha20Poly1305, Blake2s>;

fn independent(initiator: bool, own: &[u8; 32], peer: PublicKey) -> Independent {
    let own = U8Array::from_slice(own);
    let prologue = introduction().prologue();
    HandshakeState::new(noise_kk(), initiator, prologue, Some(own), None, Some(peer.0), None)
}

/// A record with a header, ours to theirs and back.
fn exchange(ours: &mut Session, theirs: &mut Independent, initiator: bool) {
    let (first, second) = theirs.get_ciphers();
    let (mut to_us, mut from_us) = if initiator { (first, second) } else { (second, first) };
    for n in 0..5_u8 {
        let mut body = vec![n; 40];
        let tag = ours.seal(b"sixteen bytes of", &mut body).unwrap();
        body.extend_from_slice(&tag);
        let plain = from_us.decrypt_ad_vec(b"sixteen bytes of", &body).unwrap();
        assert_eq!(plain, vec![n; 40]);
        let mut back = to_us.encrypt_ad_vec(b"another header..", b"from them");
        let tag: [u8; TAG] = back.split_off(9).try_into().unwrap();
        ours.open(b"another header..", &mut back, &tag).unwrap();
        assert_eq!(back, b"from them");
    }
}

trait Vectors {
    fn decrypt_ad_vec(&mut self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, ()>;
    fn encrypt_ad_vec(&mut self, ad: &[u8], plain: &[u8]) -> Vec<u8>;
}

impl<C: noise_protocol::Cipher> Vectors for noise_protocol::CipherState<C> {
    fn decrypt_ad_vec(&mut self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, ()> {
        let mut plain = vec![0; sealed.len() - TAG];
        self.decrypt_ad(ad, sealed, &mut plain).map(|()| plain)
    }
    fn encrypt_ad_vec(&mut self, ad: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; plain.len() + TAG];
        self.encrypt_ad(ad, plain, &mut sealed);
        sealed
    }
}

#[test]
fn an_independent_implementation_completes_the_handshake_on_either_side() {
    let ours = Arc::new(Identity::generate(&mut OsChance).unwrap());
    let their_private = [0x5a; 32];
    let their_key = X25519::pubkey(&U8Array::from_slice(&their_private));
    let their_key = PublicKey(their_key);
    let prologue = introduction().prologue();

    let mut theirs = independent(false, &their_private, ours.public());
    let initiator =
        Initiator::new(Arc::clone(&ours), &their_key, &prologue, Box::new(OsChance)).unwrap();
    let (waiting, first) = initiator.write().unwrap();
    theirs.read_message(&first, &mut []).unwrap();
    let mut second = [0; MESSAGE];
    theirs.write_message(&[], &mut second).unwrap();
    let mut session = waiting.read(&second).unwrap();
    assert_eq!(session.binding(), theirs.get_hash());
    exchange(&mut session, &mut theirs, false);

    let mut theirs = independent(true, &their_private, ours.public());
    let responder = Responder::new(ours, &their_key, &prologue, Box::new(OsChance)).unwrap();
    let mut first = [0; MESSAGE];
    theirs.write_message(&[], &mut first).unwrap();
    let (mut session, second) = responder.read(&first).unwrap().write().unwrap();
    theirs.read_message(&second, &mut []).unwrap();
    exchange(&mut session, &mut theirs, true);
}

#[test]
fn every_part_of_the_introduction_counts() {
    let mut others = vec![introduction(); 8];
    others[0].edge = EdgeId([4; 32]);
    others[1].number = 3;
    others[2].channel = "signs".into();
    others[3].from.index = 2;
    others[4].from.generation = 8;
    others[5].to.layer = Name::new("listener").unwrap();
    others[6].to.generation = 6;
    let other = &mut others[7];
    std::mem::swap(&mut other.from, &mut other.to);
    let same = introduction().prologue();
    for other in &others {
        let (caller, keeper) = (identity(vec![1; 32]), identity(vec![2; 32]));
        let attempt = |prologue: &[u8]| {
            let (a, b) = (Arc::clone(&caller), Arc::clone(&keeper));
            let from = Initiator::new(a, &keeper.public(), &same, Box::new(OsChance)).unwrap();
            let to = Responder::new(b, &caller.public(), prologue, Box::new(OsChance)).unwrap();
            to.read(&from.write().unwrap().1).map(drop)
        };
        assert_eq!(attempt(&other.prologue()), Err(SealError::NotAuthentic), "{other:?}");
        assert_eq!(attempt(&same), Ok(()));
    }
}

fn aead_vectors<A: Aead>() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305);
    let (mut valid, mut refused) = (0, 0);
    for group in set.unwrap().test_groups {
        for test in group.tests {
            let (Ok(nonce), Ok(tag)) = (
                <[u8; NONCE]>::try_from(test.nonce.as_slice()),
                <[u8; TAG]>::try_from(test.tag.as_slice()),
            ) else {
                assert_eq!(test.result, TestResult::Invalid);
                continue;
            };
            let aead = A::new(&Key::take(&mut test.key.as_slice().try_into().unwrap()));
            let mut body = test.ct.to_vec();
            let opened = aead.open(&nonce, &test.aad, &mut body, &tag);
            if test.result == TestResult::Invalid {
                assert_eq!(opened, Err(SealError::NotAuthentic), "{}", test.tc_id);
                refused += 1;
                continue;
            }
            opened.unwrap();
            assert_eq!(body, test.pt.as_slice(), "{}", test.tc_id);
            assert_eq!(aead.seal(&nonce, &test.aad, &mut body).unwrap(), tag, "{}", test.tc_id);
            assert_eq!(body, test.ct.as_slice(), "{}", test.tc_id);
            valid += 1;
        }
    }
    assert!(valid > 200 && refused > 30, "{valid} valid, {refused} refused");
}

#[test]
fn wycheproof_holds_for_the_portable_cipher() {
    aead_vectors::<Portable>();
}

#[test]
fn wycheproof_holds_for_the_chosen_cipher() {
    aead_vectors::<Chosen>();
}

#[test]
fn wycheproof_holds_for_x25519_and_non_contributory_keys_are_refused() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let private: [u8; 32] = test.private_key.as_slice().try_into().unwrap();
        let peer = PublicKey(test.public_key.as_slice().try_into().unwrap());
        match agree(&private, &peer) {
            Ok(secret) => {
                assert_eq!(secret[..], *test.shared_secret.as_slice(), "{}", test.tc_id);
                agreed += 1;
            }
            Err(error) => {
                assert_eq!(error, SealError::NonContributory);
                assert_eq!(*test.shared_secret.as_slice(), [0; 32], "{}", test.tc_id);
                // The handshake refuses the key as well, at the first sight of it.
                let own = identity(private.to_vec());
                let from = Initiator::new(own, &peer, &[], Box::new(OsChance)).unwrap();
                assert_eq!(from.write().err(), Some(SealError::NonContributory));
                refused += 1;
            }
        }
    }
    assert_eq!((agreed, refused), (487, 31));
}

/// ring itself, whatever this build chose.
#[test]
fn ring_and_the_portable_cipher_open_each_others_records() {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let key = [9; 32];
    let ring = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).unwrap());
    let ours = Portable::new(&Key::take(&mut [9; 32]));
    for size in [0, 1, 63, 64, 65, 1024, 65_536] {
        let nonce = cofferdam::seal::aead::nonce(size as u64);
        let plain: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let mut body = plain.clone();
        let tag = ours.seal(&nonce, b"header", &mut body).unwrap();
        let theirs = || Nonce::assume_unique_for_key(nonce);
        body.extend_from_slice(&tag);
        assert_eq!(ring.open_in_place(theirs(), Aad::from(b"header"), &mut body).unwrap(), plain);
        body.truncate(size);
        body.copy_from_slice(&plain);
        let tag = ring.seal_in_place_separate_tag(theirs(), Aad::from(b"header"), &mut body);
        let tag = tag.unwrap().as_ref().try_into().unwrap();
        ours.open(&nonce, b"header", &mut body, &tag).unwrap();
        assert_eq!(body, plain);
    }
}

#[test]
fn sessions_on_different_ciphers_understand_each_other_across_a_rekey() {
    let (caller, keeper) = (identity(vec![1; 32]), identity(vec![2; 32]));
    let peer = keeper.public();
    let from = Initiator::new(Arc::clone(&caller), &peer, &[], Box::new(OsChance)).unwrap();
    let to = Responder::new(keeper, &caller.public(), &[], Box::new(OsChance)).unwrap();
    let (waiting, first) = from.write().unwrap();
    let (to, second) = to.read(&first).unwrap().write().unwrap();
    let mut from = waiting.read(&second).unwrap().convert::<Portable>();
    let mut to = to.convert::<Chosen>();
    from.skip_to(cofferdam::seal::session::REKEY_EVERY - 2);
    to.skip_to(cofferdam::seal::session::REKEY_EVERY - 2);
    for n in 0..4_u8 {
        let mut body = [n; 100];
        let tag = from.seal(b"head", &mut body).unwrap();
        to.open(b"head", &mut body, &tag).unwrap();
        let tag = to.seal(b"head", &mut body).unwrap();
        from.open(b"head", &mut body, &tag).unwrap();
        assert_eq!(body, [n; 100]);
    }
}
