//! What is done to segments.

use super::*;
use cofferdam::audit::entry::Kind;
use cofferdam::audit::redact::redact;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows(base: &Path) -> Vec<Row> {
    let begin = first(base, MIDDLE);
    let near = |from: u64, to: u64| Some((begin + from, begin + to));
    let next = first(base, "00000003.log");
    let last = first(base, LAST);
    let end = verify(base).size;
    let paid = frames(&fs::read(base.join(MIDDLE)).unwrap())
        .iter()
        .zip(fs::read(base.join(MIDDLE)).iter().cycle())
        .position(|((at, _), bytes)| bytes[at + 8..at + 12] != [0; 4])
        .unwrap();
    let of_payload = begin + paid as u64;
    let far = another();
    let strange = fs::read(far.path().join(MIDDLE)).unwrap();
    let (at, length) = frames(&strange)[9];
    let foreign = strange[at..at + length].to_vec();
    let foreign_too = foreign.clone();
    let here = fs::read(base.join("00000003.log")).unwrap();
    let (at, length) = frames(&here)[9];
    let elsewhere = here[at..at + length].to_vec();
    let alter = |frames: &mut Vec<Vec<u8>>| frames[9][16 + 56] ^= 1;
    vec![
        row(
            "a bit of a body",
            flip(MIDDLE, 9, 70),
            one!("00000002.log", near(9, 9), What::Frame(_)),
        ),
        row(
            "a bit of a head",
            flip(MIDDLE, 9, 6),
            one!("00000002.log", near(9, 9), What::Lost(..)),
        ),
        row(
            "a bit of a checksum",
            flip(MIDDLE, 9, 0),
            one!("00000002.log", near(9, 9), What::Frame(_)),
        ),
        row(
            "a bit of a payload",
            move |dir| {
                let (at, length) = frame(dir, MIDDLE, paid);
                change(dir, MIDDLE, |bytes| bytes[at + length - 1] ^= 1);
            },
            Told::One("00000002.log", Some((of_payload, of_payload)), |what| {
                *what == What::Payload
            }),
        ),
        row(
            "zeros for a payload",
            move |dir| {
                let (at, length) = frame(dir, MIDDLE, paid);
                change(dir, MIDDLE, |bytes| bytes[at + length - 8..at + length].fill(0));
            },
            one!("00000002.log", None, What::Payload),
        ),
        row(
            "a payload marked as removed",
            forged(MIDDLE, move |frames| {
                frames[paid][12] = 1;
                seal_frame(&mut frames[paid]);
            }),
            one!("00000002.log", None, What::Leftover),
        ),
        row(
            "a payload removed as it should be",
            move |dir| {
                say_redacted(dir, of_payload);
                redact(&Store::open(dir).unwrap(), of_payload).unwrap();
            },
            Told::Sound,
        ),
        row(
            "a payload removed, and no record says so",
            move |dir| {
                redact(&Store::open(dir).unwrap(), of_payload).unwrap();
            },
            one!("00000002.log", Some((of_payload, of_payload)), What::Unrecorded),
        ),
        row(
            "a payload removed, and a record says so of another one",
            move |dir| {
                say_redacted(dir, of_payload + 1);
                redact(&Store::open(dir).unwrap(), of_payload).unwrap();
            },
            one!("00000002.log", Some((of_payload, of_payload)), What::Unrecorded),
        ),
        row(
            "a payload that a record says was removed",
            move |dir| say_redacted(dir, of_payload),
            one!("00000002.log", Some((of_payload, of_payload)), What::NotRemoved { .. }),
        ),
        row(
            "a payload removed, and the record of it",
            move |dir| {
                say_redacted(dir, of_payload);
                redact(&Store::open(dir).unwrap(), of_payload).unwrap();
                let (at, length) = {
                    let bytes = fs::read(dir.join(LAST)).unwrap();
                    let all = frames(&bytes);
                    *all.iter().find(|(at, _)| bytes[at + 16] == Kind::Redacted as u8).unwrap()
                };
                change(dir, LAST, |bytes| drop(bytes.drain(at..at + length)));
            },
            one!("00000005.log", None, What::Order { .. }),
        ),
        row(
            "a body, its checksum put right",
            forged(MIDDLE, move |frames| {
                alter(frames);
                seal_frame(&mut frames[9]);
            }),
            one!("00000002.log", near(9, 9), What::Chain),
        ),
        row(
            "a link, its checksum put right",
            forged(MIDDLE, |frames| {
                let end = frames[9].len();
                frames[9][end - 1] ^= 1;
                seal_frame(&mut frames[9]);
            }),
            one!("00000002.log", near(9, 10), What::Chain),
        ),
        row(
            "a body, all put right to the segment's end",
            relinked(MIDDLE, alter),
            one!("00000002.log", near(9, 40), What::Rewritten { .. }),
        ),
        row(
            "a body, all put right, no checkpoint in its segment",
            {
                let act = relinked(MIDDLE, alter);
                move |dir: &Path| {
                    act(dir);
                    fs::remove_file(dir.join("00000002.note")).unwrap();
                }
            },
            one!("00000002.log", near(0, 45), What::End | What::Rewritten { .. }),
        ),
        row(
            "the last body of a segment, all put right",
            relinked(MIDDLE, |frames| {
                let last = frames.len() - 1;
                frames[last][16 + 56] ^= 1;
            }),
            one!("00000002.log", near(20, 45), What::Rewritten { .. }),
        ),
        row(
            "two bodies without a checkpoint between",
            forged(MIDDLE, |frames| {
                frames[5][70] ^= 1;
                frames[7][70] ^= 1;
            }),
            one!("00000002.log", near(5, 5), What::Frame(_)),
        ),
        row(
            "two bodies with a checkpoint between",
            forged(MIDDLE, |frames| {
                frames[5][70] ^= 1;
                frames[31][70] ^= 1;
            }),
            Told::Many(2),
        ),
        row(
            "two bodies of two segments",
            |dir| {
                flip(MIDDLE, 9, 70)(dir);
                flip("00000004.log", 9, 70)(dir);
            },
            Told::Many(2),
        ),
        row(
            "a record removed",
            forged(MIDDLE, |frames| drop(frames.remove(9))),
            one!("00000002.log", near(9, 9), What::Order { .. }),
        ),
        row(
            "a record removed, all put right",
            relinked(MIDDLE, |frames| drop(frames.remove(9))),
            one!("00000002.log", near(9, 40), What::Rewritten { .. }),
        ),
        row(
            "ten records removed",
            forged(MIDDLE, |frames| drop(frames.drain(9..19))),
            one!("00000002.log", near(9, 9), What::Order { .. }),
        ),
        row(
            "the first record of a segment removed",
            forged(MIDDLE, |frames| drop(frames.remove(0))),
            one!("00000002.log", near(0, 0), What::Order { .. }),
        ),
        row(
            "the last record of a segment removed",
            forged(MIDDLE, |frames| drop(frames.pop())),
            Told::One("00000002.log", Some((next - 1, next - 1)), |what| *what == What::End),
        ),
        row(
            "two records swapped",
            forged(MIDDLE, |frames| frames.swap(9, 10)),
            one!("00000002.log", near(9, 9), What::Order { .. }),
        ),
        row(
            "two records swapped, all put right",
            relinked(MIDDLE, |frames| frames.swap(9, 10)),
            one!("00000002.log", near(9, 40), What::Rewritten { .. }),
        ),
        row(
            "a record repeated",
            forged(MIDDLE, |frames| frames.insert(9, frames[8].clone())),
            one!("00000002.log", near(9, 9), What::Order { .. }),
        ),
        row(
            "a record repeated, all put right",
            relinked(MIDDLE, |frames| frames.insert(9, frames[8].clone())),
            one!("00000002.log", near(9, 41), What::Rewritten { .. }),
        ),
        row(
            "a record of another segment",
            forged(MIDDLE, move |frames| frames[9].clone_from(&elsewhere)),
            one!("00000002.log", near(9, 9), What::Order { .. }),
        ),
        row(
            "a record of another log",
            forged(MIDDLE, move |frames| frames[9].clone_from(&foreign)),
            one!("00000002.log", near(9, 9), What::Order { .. } | What::Chain),
        ),
        row(
            "a record of another log, all put right",
            relinked(MIDDLE, move |frames| frames[9].clone_from(&foreign_too)),
            one!("00000002.log", near(9, 40), What::Rewritten { .. }),
        ),
        row(
            "a segment cut between records",
            cut(MIDDLE, 9, 0),
            one!("00000002.log", near(9, 9), What::End),
        ),
        row(
            "a segment cut within a record",
            cut(MIDDLE, 9, 50),
            one!("00000002.log", near(9, 9), What::Lost(..)),
        ),
        row(
            "a segment emptied",
            |dir| change(dir, MIDDLE, Vec::clear),
            one!("00000002.log", None, What::Header(_)),
        ),
        row(
            "zeros behind a segment",
            |dir| change(dir, MIDDLE, |bytes| bytes.extend([0; 500])),
            Told::One("00000002.log", Some((next, next)), |what| matches!(what, What::Lost(..))),
        ),
        row(
            "a bit of a header",
            |dir| change(dir, MIDDLE, |bytes| bytes[70] ^= 1),
            one!("00000002.log", None, What::Header(_)),
        ),
        row(
            "a header's link",
            header(MIDDLE, |bytes| bytes[70] ^= 1),
            one!("00000002.log", None, What::Seam | What::Rewritten { .. } | What::Chain),
        ),
        row(
            "a header's tree",
            header(MIDDLE, |bytes| bytes[100] ^= 1),
            one!("00000002.log", None, What::Seam | What::Rewritten { .. }),
        ),
        row(
            "a header's number",
            header(MIDDLE, |bytes| bytes[48] ^= 8),
            one!("00000002.log", None, What::Misplaced { .. }),
        ),
        row(
            "a header's log",
            header(MIDDLE, |bytes| bytes[20] ^= 8),
            one!("00000002.log", None, What::OtherLog),
        ),
        row(
            "two segments swapped",
            |dir| {
                fs::rename(dir.join(MIDDLE), dir.join("x")).unwrap();
                fs::rename(dir.join("00000003.log"), dir.join(MIDDLE)).unwrap();
                fs::rename(dir.join("x"), dir.join("00000003.log")).unwrap();
            },
            one!("00000002.log", None, What::Misplaced { .. }),
        ),
        row(
            "a segment of another log",
            move |dir| fs::write(dir.join(MIDDLE), &strange).unwrap(),
            one!("00000002.log", None, What::OtherLog),
        ),
        row(
            "a segment removed",
            removed(&[MIDDLE]),
            one!("00000002.log", None, What::SegmentMissing),
        ),
        row(
            "two segments removed",
            removed(&[MIDDLE, "00000003.log"]),
            one!("00000002.log", None, What::SegmentMissing),
        ),
        row(
            "a segment and all of it removed",
            removed(&[MIDDLE, "00000002.note", "00000002.idx"]),
            one!("00000002.log", None, What::SegmentMissing),
        ),
        row(
            "the first segment removed",
            removed(&["00000000.log"]),
            one!("00000000.log", None, What::SegmentMissing),
        ),
        row(
            "the last segment removed",
            removed(&[LAST]),
            Told::One("00000005.log", Some((last, last)), |what| {
                matches!(what, What::TailCut { .. })
            }),
        ),
        row(
            "the last two segments removed",
            removed(&["00000004.log", LAST]),
            one!("00000004.log", None, What::TailCut { .. }),
        ),
        row(
            "the last segment and its checkpoints removed",
            removed(&[LAST, "00000005.note"]),
            Told::One("00000005.log", Some((last, last)), |what| *what == What::SegmentMissing),
        ),
        row(
            "the last segment emptied",
            |dir| change(dir, LAST, Vec::clear),
            one!("00000005.log", None, What::Header(_)),
        ),
        row(
            "all segments removed",
            |dir| {
                for name in files(dir, ".log") {
                    fs::remove_file(dir.join(name)).unwrap();
                }
            },
            one!("00000000.log", None, What::TailCut { .. }),
        ),
        row(
            "the tail cut between records",
            cut(LAST, 3, 0),
            Told::One("00000005.log", Some((last + 3, last + 3)), |what| {
                matches!(what, What::TailCut { .. })
            }),
        ),
        row(
            "the tail cut within a record",
            cut(LAST, 3, 50),
            Told::One("00000005.log", Some((last + 3, last + 3)), |what| {
                matches!(what, What::TailCut { .. })
            }),
        ),
        row(
            "the stop record removed",
            forged(LAST, |frames| drop(frames.pop())),
            Told::One("00000005.log", Some((end - 1, end - 1)), |what| {
                matches!(what, What::TailCut { .. })
            }),
        ),
        row(
            "zeros behind the log's end",
            |dir| change(dir, LAST, |bytes| bytes.extend([0; 500])),
            Told::One("00000005.log", Some((end, end)), |what| matches!(what, What::Lost(..))),
        ),
        row(
            "half a record behind the log's end",
            |dir| {
                let (at, length) = frame(dir, LAST, 3);
                change(dir, LAST, |bytes| bytes.extend_from_within(at..at + length / 2));
            },
            one!("00000005.log", None, What::Torn { .. }),
        ),
        row(
            "a record behind the log's end",
            relinked(LAST, |frames| frames.push(frames[3].clone())),
            Told::One("00000005.log", Some((end, end)), |what| *what == What::AfterStop),
        ),
        row(
            "a record of the last segment, all put right",
            relinked(LAST, |frames| frames[3][16 + 56] ^= 1),
            one!("00000005.log", None, What::Rewritten { .. }),
        ),
    ]
}
