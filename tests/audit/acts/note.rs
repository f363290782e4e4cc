//! What is done to checkpoints, of segments and of epochs.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    let foreign = another();
    let strange = notes(foreign.path(), "00000002.note").concat();
    let strange_epochs = notes(foreign.path(), "epochs.note").concat();
    vec![
        row(
            "a bit of a signature",
            |dir| {
                change(dir, "00000002.note", |b| {
                    let at = b.len() - 12;
                    b[at] ^= 1;
                });
            },
            one!("00000002.note", None, What::Note(_)),
        ),
        row(
            "a bit of a text",
            |dir| change(dir, "00000002.note", |b| b[90] ^= 1),
            one!("00000002.note", None, What::Note(_)),
        ),
        row(
            "all bits of a file",
            |dir| change(dir, "00000002.note", |b| b.iter_mut().for_each(|b| *b ^= 0x55)),
            one!("00000002.note", None, What::Note(_) | What::TornNote),
        ),
        row(
            "a checkpoint removed, one later is there",
            noted("00000002.note", |all| drop(all.remove(0))),
            Told::Sound,
        ),
        row("a file removed, later ones are there", removed(&["00000002.note"]), Told::Sound),
        row(
            "a checkpoint repeated later",
            noted("00000002.note", |all| all.push(all[0].clone())),
            one!("00000002.note", None, What::NotePlace { .. }),
        ),
        row(
            "two checkpoints swapped",
            noted("00000002.note", |all| all.swap(0, 1)),
            one!("00000002.note", None, What::NotePlace { .. }),
        ),
        row(
            "the file of another segment",
            |dir| {
                fs::copy(dir.join("00000001.note"), dir.join("00000002.note")).unwrap();
            },
            one!("00000002.note", None, What::NotePlace { .. }),
        ),
        row(
            "the file of another log",
            move |dir| fs::write(dir.join("00000002.note"), &strange).unwrap(),
            one!("00000002.note", None, What::OtherLog),
        ),
        row(
            "a file cut within a checkpoint",
            |dir| change(dir, "00000002.note", |b| b.truncate(b.len() - 9)),
            one!("00000002.note", None, What::TornNote),
        ),
        row(
            "a checkpoint by another's key",
            noted("00000002.note", |all| {
                let mut check = Signed::parse(&all[0][..all[0].len() - 1]).unwrap().checkpoint;
                check.size += 1;
                let thief = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
                all[0] = format!("{}\n", check.sign(&thief).encode());
            }),
            one!("00000002.note", None, What::Key { .. }),
        ),
        row(
            "the last segment's checkpoints removed",
            removed(&["00000005.note"]),
            one!("00000005.log", None, What::StopUnsigned),
        ),
        row(
            "all segments' checkpoints removed",
            |dir| {
                let all = files(dir, ".note").into_iter().filter(|name| name != "epochs.note");
                all.for_each(|name| fs::remove_file(dir.join(name)).unwrap());
            },
            one!("00000005.log", None, What::StopUnsigned),
        ),
        row(
            "the last checkpoint removed",
            noted("00000005.note", |all| drop(all.pop())),
            one!("00000005.log", None, What::StopUnsigned),
        ),
        row(
            "a checkpoint of other records, by the current key",
            signed(|check| check.root[0] ^= 1),
            one!("00000005.log", None, What::Rewritten { .. }),
        ),
        row(
            "a checkpoint of more records, by the current key",
            signed(|check| check.size += 10),
            one!("00000005.log", None, What::TailCut { .. }),
        ),
        row(
            "a checkpoint of an epoch that is over, by the current key",
            signed(|check| check.epoch -= 1),
            one!("00000005.note", None, What::Key { .. }),
        ),
        row(
            "the epochs removed",
            removed(&["epochs.note"]),
            one!("epochs.note", None, What::NoGenesis),
        ),
        row(
            "the epochs emptied",
            |dir| change(dir, "epochs.note", Vec::clear),
            one!("epochs.note", None, What::NoGenesis),
        ),
        row(
            "the first epoch removed",
            noted("epochs.note", |all| drop(all.remove(0))),
            one!("epochs.note", None, What::NoGenesis),
        ),
        row(
            "an epoch removed",
            noted("epochs.note", |all| drop(all.remove(2))),
            one!("epochs.note", None, What::Key { .. }),
        ),
        row(
            "the last epoch removed",
            noted("epochs.note", |all| drop(all.pop())),
            one!("epochs.note", None, What::EpochsCut { .. }),
        ),
        row(
            "two epochs swapped",
            noted("epochs.note", |all| all.swap(2, 3)),
            one!("epochs.note", None, What::Key { .. }),
        ),
        row(
            "a bit of the first epoch",
            |dir| change(dir, "epochs.note", |b| b[90] ^= 1),
            Told::Many(2),
        ),
        row(
            "the epochs cut within one",
            |dir| change(dir, "epochs.note", |b| b.truncate(b.len() - 9)),
            one!("epochs.note", None, What::TornNote),
        ),
        row(
            "the epochs of another log",
            move |dir| fs::write(dir.join("epochs.note"), &strange_epochs).unwrap(),
            Told::Many(7),
        ),
    ]
}
