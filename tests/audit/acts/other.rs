//! What is done to indexes and other files, and to the end of a log that nobody closed.

use super::*;
use cofferdam::audit::entry::Kind;
use cofferdam::audit::index::Index;

/// An index with the blocks that `how` leaves of it, its checksum right.
fn index(name: &'static str, how: impl Fn(&mut Index, &mut u64) + 'static) -> impl Fn(&Path) {
    move |dir| {
        let log = fs::read(dir.join(name.replace("idx", "log"))).unwrap();
        let link: [u8; 32] = log[64..96].try_into().unwrap();
        let (mut index, mut covered) =
            Index::parse(&fs::read(dir.join(name)).unwrap(), &link).unwrap();
        how(&mut index, &mut covered);
        fs::write(dir.join(name), index.encode(&link, covered)).unwrap();
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "an index that hides kinds",
            index("00000002.idx", |index, _| index.blocks[0].kinds = 1 << 3),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "an index that hides layers",
            index("00000002.idx", |index, _| index.blocks[0].layers = 0),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "an index without blocks",
            index("00000002.idx", |index, _| index.blocks.clear()),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "an index of less that hides",
            index("00000002.idx", |index, covered| {
                index.blocks[0].verdicts = 0;
                *covered -= 1;
            }),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "an index of more than there is",
            index("00000002.idx", |_, covered| *covered += 1),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "a bit of an index",
            |dir| change(dir, "00000002.idx", |b| b[100] ^= 1),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "an index emptied",
            |dir| change(dir, "00000002.idx", Vec::clear),
            one!("00000002.idx", None, What::Index),
        ),
        row(
            "the index of another segment",
            |dir| {
                fs::copy(dir.join("00000001.idx"), dir.join("00000002.idx")).unwrap();
            },
            one!("00000002.idx", None, What::Index),
        ),
        row("an index removed", removed(&["00000002.idx"]), Told::Sound),
        row("the key removed", removed(&["key"]), Told::Sound),
        row("another key", |dir| change(dir, "key", |b| b[20] ^= 1), Told::Sound),
        row("the lock removed", removed(&["lock"]), Told::Sound),
        row(
            "a draft left",
            |dir| fs::write(dir.join("00000002.idx.draft"), b"x").unwrap(),
            Told::Sound,
        ),
        row(
            "a file of another name",
            |dir| fs::write(dir.join("2.log"), b"x").unwrap(),
            Told::Sound,
        ),
    ]
}

/// A log of two lives, of which the first ended in order and the second was killed after two minutes
/// in which only the first record was signed.
pub(super) fn open_ended() -> TempDir {
    let dir = tempdir().unwrap();
    write(dir.path(), Options::default(), 20);
    let store = Store::open(dir.path()).unwrap();
    let options = Options { checkpoint_age: u64::MAX, ..Options::default() };
    let mut log = Log::open(store, options, Box::new(Counter(3)), at(30)).unwrap().0;
    log.checkpoint(at(30)).unwrap();
    for n in 0..100 {
        log.append(&message(n, Side::Sender), &[], at(100 + n * 1_000)).unwrap();
    }
    log.commit(at(100_000)).unwrap();
    dir
}

pub(super) fn open_rows() -> Vec<Row> {
    const LOG: &str = "00000000.log";
    // A start, the policy, twenty messages, a stop; a start, a hundred messages.
    let late = |dir: &Path| {
        let (bytes, options) = (fs::read(dir.join("key")).unwrap(), Options::default());
        assert_eq!(bytes.len(), 48);
        let store = Store::open(dir).unwrap();
        let options = Options { checkpoint_age: u64::MAX, ..options };
        let mut log = Log::open(store, options, Box::new(Counter(5)), at(100_001)).unwrap().0;
        log.append(&message(200, Side::Sender), &[], at(130_000)).unwrap();
        log.commit(at(130_000)).unwrap();
    };
    vec![
        row("unsigned records cut", cut(LOG, 60, 0), Told::Sound),
        row(
            "unsigned records altered, all put right",
            relinked(LOG, |frames| frames[60][72] ^= 1),
            Told::Sound,
        ),
        row(
            "an unsigned record altered",
            flip(LOG, 60, 72),
            one!("00000000.log", Some((60, 60)), What::Frame(_)),
        ),
        row(
            "an unsigned record removed",
            forged(LOG, |frames| drop(frames.remove(60))),
            one!("00000000.log", Some((60, 60)), What::Order { .. }),
        ),
        row(
            "no checkpoint for two minutes",
            late,
            one!("00000000.log", Some((24, 24)), What::Unsigned { .. }),
        ),
        row(
            "the checkpoint of a former end removed",
            noted("00000000.note", |all| {
                all.retain(|note| note.lines().nth(1) != Some("23"));
            }),
            one!("00000000.log", Some((22, 22)), What::StopUnsigned),
        ),
        row(
            "a former end replaced, all put right",
            |dir| {
                removed(&["00000000.note", "00000000.idx"])(dir);
                relinked(LOG, |frames| frames[22][16] = Kind::Alarm as u8)(dir);
            },
            one!("00000000.log", Some((23, 23)), What::NoStop),
        ),
        row(
            "the log's first record replaced, all put right",
            |dir| {
                removed(&["00000000.note", "00000000.idx"])(dir);
                relinked(LOG, |frames| frames[0][16] = Kind::Alarm as u8)(dir);
            },
            Told::Many(2),
        ),
    ]
}
