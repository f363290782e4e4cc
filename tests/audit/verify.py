#!/usr/bin/env python3
"""Verifies a cofferdam audit log, from docs/audit-format.md alone and with nothing but Python.

    python3 audit_verify.py DIRECTORY [OUTSIDE-CHECKPOINT...]

Prints a line "FINDING file record what" for everything that is wrong (record "-" where none can be
named), then what was read. Exit status: 0 sound, 1 findings, 2 wrong usage.
"""

import base64
import hashlib
import os
import re
import struct
import sys

# --- Ed25519 (RFC 8032, section 5.1), strict: no key and no nonce of small order.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = add(q, p)
        p = add(p, p)
        n >>= 1
    return q


def same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = point(bytes([0x58]) + bytes([0x66] * 31))
ZERO = (0, 1, 1, 0)


def signed_by(key, message, signature):
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L or same(times(8, a), ZERO) or same(times(8, r), ZERO):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return same(times(s, BASE), add(r, times(k, a)))


# --- Hashes, the tree, checksums.


def hashed(person, *parts):
    return hashlib.blake2s(b"".join(parts), person=person).digest()


def push(tree, leaf):
    size, roots = tree
    node, bits = leaf, size
    while bits & 1:
        node, bits = hashed(b"cfd-node", roots[-1], node), bits >> 1
        roots = roots[:-1]
    return (size + 1, roots + [node])


def root_of(tree):
    if not tree[1]:
        return hashed(b"cfd-none")
    node = tree[1][-1]
    for left in reversed(tree[1][:-1]):
        node = hashed(b"cfd-node", left, node)
    return node


TABLE = []
for n in range(256):
    for _ in range(8):
        n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


# --- Checkpoints.

B64 = r"[A-Za-z0-9+/]{43}="
NUM = r"(?:0|[1-9][0-9]{0,19})"
NOTE = re.compile(
    rf"(cofferdam-audit/([0-9a-f]{{64}})\n({NUM})\n({B64})\nlink ({B64})\nepoch ({NUM})\n"
    rf"key ({B64})\nfirst ({NUM})\ntime ({NUM}) ({NUM})\n(?:next ({B64})\n)?)"
    r"\n\u2014 (cofferdam-audit/[0-9a-f]{64}) ([A-Za-z0-9+/]{91}=)\n"
)


def unbase(text):
    data = base64.b64decode(text, validate=True)
    return data if base64.b64encode(data).decode() == text else None


class Wrong(Exception):
    pass


def checkpoint(note):
    match = NOTE.fullmatch(note)
    if not match:
        raise Wrong("no checkpoint")
    text, log, size, root, link, epoch, key, first, real, mono, nxt, name, signature = match.groups()
    c = {"log": bytes.fromhex(log), "size": int(size), "epoch": int(epoch), "first": int(first)}
    c.update(root=unbase(root), link=unbase(link), key=unbase(key), next=nxt and unbase(nxt))
    blob = unbase(signature)
    whole = None not in (c["root"], c["link"], c["key"], blob) and (not nxt or c["next"])
    big = max(c["size"], c["epoch"], c["first"], int(real), int(mono)) >= 2**64
    origin = text.split("\n", 1)[0]
    if not whole or big or name != origin:
        raise Wrong("no checkpoint")
    if blob[:4] != hashlib.sha256(origin.encode() + b"\n\x01" + c["key"]).digest()[:4]:
        raise Wrong("no checkpoint")
    if not signed_by(c["key"], text.encode(), blob[4:]):
        raise Wrong("wrong signature")
    return c


class Verifier:
    def __init__(self, directory):
        self.directory = directory
        self.findings = []
        self.log, self.keys = None, []

    def find(self, file, record, what):
        self.findings.append((file, "-" if record is None else record, what))

    def once(self, file, what):
        """Of a file of checkpoints each kind of fault is told once."""
        if all(it[0] != file or it[2] != what for it in self.findings):
            self.find(file, None, what)

    def path(self, name):
        return os.path.join(self.directory, name)

    def bytes(self, name):
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def notes(self, name):
        data, at, good = self.bytes(name), 0, []
        while True:
            middle = data.find(b"\n\n", at)
            end = -1 if middle < 0 else data.find(b"\n\n", middle + 2)
            if end < 0:
                break
            try:
                good.append(checkpoint(data[at : end + 1].decode()))
            except UnicodeDecodeError:
                self.once(name, "no checkpoint")
            except Wrong as error:
                self.once(name, str(error))
            at = end + 2
        if at < len(data):
            self.once(name, "ends within a checkpoint")
        return good

    def fault(self, c):
        if c["log"] != self.log:
            return "of another log"
        if c["epoch"] >= len(self.keys) or self.keys[c["epoch"]][0] != c["key"]:
            return "not signed with the key of its epoch"
        begin = self.keys[c["epoch"]][1]
        end = self.keys[c["epoch"] + 1][1] if c["epoch"] + 1 < len(self.keys) else 2**64
        if not begin <= c["size"] <= end:
            return "outside of its epoch"
        return None

    def key_chain(self):
        good, name = [], "epochs.note"
        for c in self.notes(name):
            if not self.keys:
                first = c["size"] == 0 and c["epoch"] == 0 and not c["next"]
                if first and hashed(b"cfd-name", c["key"]) == c["log"]:
                    self.log, fault = c["log"], None
                    self.keys.append((c["key"], 0))
                else:
                    fault = "not the log's first checkpoint"
            else:
                last = c["next"] and c["epoch"] == len(self.keys) - 1
                fault = self.fault(c)
                if not fault and last:
                    self.keys.append((c["next"], c["size"]))
                if not last:
                    fault = fault or "not signed with the key of its epoch"
            if fault:
                self.once(name, fault)
            else:
                good.append((name, c))
        if not self.keys:
            self.once(name, "not the log's first checkpoint")
        return good

    def segment_notes(self, number):
        name, last = f"{number:08}.note", 0
        good = []
        for c in self.notes(name):
            if not self.keys:
                break
            fault = self.fault(c)
            if c["log"] == self.log and c["epoch"] >= len(self.keys):
                # What is wrong with the chain of keys is told of it alone.
                if all(it[0] != "epochs.note" for it in self.findings):
                    self.find("epochs.note", None, "an epoch's key is not announced")
                continue
            if not fault and c["size"] < last:
                fault = "doesn't belong here"
            if fault:
                self.once(name, fault)
            else:
                last = c["size"]
                good.append((name, c))
        return good

    def numbers(self, end):
        names = [name[: -len(end)] for name in os.listdir(self.directory) if name.endswith(end)]
        return sorted(int(name) for name in names if name.isdigit() and f"{int(name):08}" == name)

    def verify(self, outside):
        numbers = self.numbers(".log")
        notes = self.key_chain()
        for number in self.numbers(".note"):
            notes += self.segment_notes(number)
        last = max((c for _, c in notes), key=lambda c: (c["size"], c["epoch"]), default=None)
        anchors = {}
        for place, path in enumerate(outside):
            name = f"outside-{place + 1}"
            with open(path, encoding="utf-8") as file:
                try:
                    c = checkpoint(file.read())
                except Wrong as error:
                    self.find(name, None, str(error))
                    continue
            fault = self.fault(c)
            if fault:
                self.find(name, None, fault)
            else:
                anchors.setdefault(c["size"], []).append((c["root"], c["link"]))
        for _, c in notes:
            anchors.setdefault(c["size"], []).append((c["root"], c["link"]))

        scans = [Segment(self, number, anchors) for number in numbers]
        known = [scan for scan in scans if scan.placed()]
        first = known[0].first if known else 0
        size = known[-1].next if known else 0
        signed = last["size"] if last else 0
        behind = [n for end in (".note", ".idx") for n in self.numbers(end)]
        orphans = [n for n in behind if not numbers or n > numbers[-1]]
        if first > (last["first"] if last else 0):
            self.find(f"{max(scans[0].number - 1, 0):08}.log", None, "the segment is missing")
        walk = Walk(self, anchors)
        walk.go(scans)
        walk.end(scans, size, max(anchors, default=0), min(orphans, default=None))
        for name, c in notes:
            if name == "epochs.note":
                continue
            own, after = ([s for s in known if s.number == int(name[:-5]) + n] for n in (0, 1))
            if own and c["size"] < own[0].first or after and c["size"] > after[0].first:
                self.once(name, "doesn't belong here")
        if any(it[0] == "epochs.note" for it in self.findings):
            # Which checkpoints its keys signed can't be told.
            self.findings = [it for it in self.findings if it[2] != "the end is not signed"]
        else:
            self.unsigned(scans, max(anchors, default=0), signed, size)
        if not self.findings:
            self.redactions(scans, first)
        print(f"{len(scans)} segments, records {first} to {size}, {signed} signed")

    def unsigned(self, scans, most, signed, size):
        if not scans or not scans[-1].tree or most >= size:
            return
        if scans[-1].ends == STOP:
            self.find(scans[-1].name, size - 1, "the end is not signed")
            return
        begin = next((scan.unsigned for scan in scans if scan.unsigned), None)
        if begin:
            end = scans[-1].last
            took = end[0] - begin[0] if end[1] < begin[1] else end[1] - begin[1]
            if took >= 120 * 10**9:
                self.find(scans[-1].name, signed, "not signed for long")


    def redactions(self, scans, first):
        told = {record for scan in scans for record in scan.redacted}
        gone = {record: scan for scan in scans for record in scan.removed}
        for record in sorted(set(gone) - told)[:100]:
            self.find(gone[record].name, record, "removed, and no record says by whom")
        for record in sorted(it for it in told - set(gone) if it >= first)[:100]:
            for scan in scans:
                if record in scan.kept:
                    self.find(scan.name, record, "said to be removed, and is there")


START, STOP, REDACTED = 1, 2, 14


def follows(before, kind, clean):
    if before is None:
        return None if kind == START else "the log doesn't begin with a start"
    if before == STOP and kind != START:
        return "stands behind a stop"
    if before != STOP and kind == START and clean:
        return "the end of the life before is missing"
    return None


class Walk:
    """Goes through the segments from one signed point to the next: what is wrong between two of
    them is one finding, at the first record that shows it."""

    def __init__(self, verifier, anchors):
        self.verifier, self.anchors = verifier, anchors
        self.good, self.open = 0, None
        # Of each region: its segment, the missing one, how many records are good, the first good one.
        self.altered = []

    def go(self, scans):
        before = None
        for scan in scans:
            if before and before.number + 1 < scan.number:
                self.close(None)
                self.altered.append((before.number + 1, before.number + 1, None, None))
                self.verifier.find(f"{before.number + 1:08}.log", None, "the segment is missing")
                before = None
            if before:
                self.seam(before, scan)
            else:
                self.begin(scan)
            for event in scan.events if scan.placed() or not scan.begin else []:
                if event[0] == "fault":
                    self.fault(scan, *event[1:])
                elif self.matches(*event[1:]):
                    self.close(event[1])
                    self.good = event[1]
                else:
                    self.fault(scan, event[1] - 1 if event[1] else None, "history was rewritten")
            if scan.placed():
                self.verifier.findings += scan.findings
            before = scan

    def stranger(self, scan):
        if scan.begin and not scan.placed():
            self.fault(scan, None, "of another log or place")
            return True
        return False

    def begin(self, scan):
        self.good = scan.first
        if self.stranger(scan):
            return
        if self.begins(scan) is False:
            self.fault(scan, None, "history was rewritten")
        elif scan.first == 0 and scan.begin and scan.begins:
            wrong = follows(None, *scan.begins)
            if wrong:
                self.verifier.find(scan.name, 0, wrong)

    def seam(self, before, scan):
        if self.stranger(scan) or not scan.begin:
            return
        link, tree = scan.begin
        counted = before.next == scan.first
        fits = counted and before.placed() and before.link == link and before.tree in (None, tree)
        if self.begins(scan):
            if not fits and self.open is None:
                record = self.good if counted else min(before.next, scan.first)
                self.fault(before, record, "ends otherwise than the next one begins")
            self.close(scan.first)
            self.good = scan.first
        elif not fits:
            self.fault(scan, before.next, "doesn't go on where the one before ends")
        if fits and before.ends and scan.begins:
            wrong = follows(before.ends, *scan.begins)
            if wrong:
                self.verifier.find(scan.name, scan.first, wrong)

    def begins(self, scan):
        if not scan.begin:
            return None
        link, tree = scan.begin
        if scan.first == 0:
            return self.verifier.log == link if self.verifier.log else None
        if scan.first in self.anchors:
            return all(it == (root_of(tree), link) for it in self.anchors[scan.first])
        event = scan.events[0] if scan.events else None
        return True if event and event[0] == "mark" and self.matches(*event[1:]) else None

    def matches(self, size, root, link):
        return all(it[1] == link and root in (None, it[0]) for it in self.anchors[size])

    def fault(self, scan, record, what):
        if self.open is None:
            self.open = scan.number
            self.verifier.find(scan.name, record, what)

    def close(self, before):
        if self.open is not None:
            self.altered.append((self.open, None, self.good, before))
        self.open = None

    def end(self, scans, size, signed, orphan):
        number = orphan if orphan is not None else scans[-1].number if scans else 0
        if signed > size and (orphan is not None or self.open is None):
            self.verifier.find(f"{number:08}.log", size, "the tail was cut")
            self.altered.append((number, None, size, None))
        elif signed <= size and orphan is not None:
            self.verifier.find(f"{number:08}.log", size, "the segment is missing")
            self.altered.append((number, None, size, None))
        self.close(None)
        for scan in scans:
            near = any(
                of == scan.number
                or missing is None
                and (good == 0 or good - 1 < scan.next)
                and (before is None or before > scan.first)
                for of, missing, good, before in self.altered
            )
            if not scan.indexed and not near:
                self.verifier.find(f"{scan.number:08}.idx", None, "not the index of its segment")


class Segment:
    def __init__(self, verifier, number, anchors):
        self.verifier, self.number, self.name = verifier, number, f"{number:08}.log"
        self.anchors, self.findings, self.events = anchors, [], []
        self.log, self.first, self.next, self.elsewhere = None, 0, 0, None
        self.begin, self.link, self.tree = None, None, None
        self.misplaced, self.indexed = False, True
        self.begins, self.ends, self.unsigned, self.last = None, None, None, None
        self.removed, self.redacted, self.kept = [], [], set()
        self.index = Index()
        data = verifier.bytes(self.name)
        at = self.header(data)
        if at is None:
            return
        told = verifier.bytes(f"{number:08}.idx") if os.path.exists(verifier.path(f"{number:08}.idx")) else None
        right = told is None or told == self.index.encode(self.begin[0], at)
        while at < len(data):
            step, what = self.frame(data, at)
            if what:
                after = self.length(data, at + step) if step and at + step < len(data) else 0
                on = step is not None and at + step <= len(data) and after is not None
                on = on and (after == 0 or self.sound(data[at + step : at + step + after]))
                self.fault(self.next, what)
                self.link = None
                if not on:
                    break
                self.next += 1
            at += step
            right = right or self.index.covers(told, at) and told == self.index.encode(self.begin[0], at)
        self.indexed = right

    def placed(self):
        log = self.verifier.log
        return self.begin is not None and not self.misplaced and log in (None, self.log)

    def find(self, record, what):
        if sum(it[2] == what for it in self.findings) < 100:
            self.findings.append((self.name, record, what))

    def fault(self, record, what):
        if not self.events or self.events[-1][0] != "fault":
            self.events.append(("fault", record, what))
        self.tree = None

    def header(self, data):
        sound = len(data) >= 96 and data[:12] == b"cfdaudit\x01\0\0\0"
        if sound:
            log, number, first, link = struct.unpack("<32sQQ32s", data[16:96])
            end = 96 + 32 * bin(first).count("1")
            crc = struct.unpack("<I", data[12:16])[0]
            sound = len(data) >= end and crc32c(data[16:end]) == crc
        if not sound:
            self.fault(None, "no segment")
            return None
        self.misplaced = number != self.number
        roots = [data[at : at + 32] for at in range(96, end, 32)]
        self.log, self.first, self.next, self.link, self.tree = log, first, first, link, (first, roots)
        self.begin = (link, self.tree)
        return end

    @staticmethod
    def length(data, at):
        """Bytes of the frame at `at`, by its head; None if that is no head."""
        if len(data) - at < 16:
            return None
        body, payload, flags = struct.unpack("<4xIIB3x", data[at : at + 16])
        if not 128 <= body <= 160 + (4 << 20) or payload > (16 << 20) + 256:
            return None
        if flags > 1 or (flags == 1 and not payload) or data[at + 13 : at + 16] != bytes(3):
            return None
        return 16 + body + 32 + payload

    @staticmethod
    def sound(frame):
        """Whether the frame is whole, its checksum right and its two payload lengths the same."""
        if len(frame) < 16:
            return False
        crc, body, payload = struct.unpack("<III", frame[:12])
        whole = len(frame) == 16 + body + 32 + payload
        return (
            whole
            and crc32c(frame[4 : 16 + body + 32]) == crc
            and frame[16 + 92 : 16 + 96] == frame[8:12]
        )

    def frame(self, data, at):
        """Takes the frame at `at` in. Its length (None: nothing can be read behind it), and what
        damage hides its leaf."""
        if len(data) - at < 16:
            return None, "not whole"
        length = self.length(data, at)
        if length is None:
            return None, "the head is damaged"
        if len(data) - at < length:
            return None, "not whole"
        frame = data[at : at + length]
        if not self.sound(frame):
            return length, "the checksum differs"
        body_length, payload_length, flags = struct.unpack("<4xIIB3x", frame[:16])
        body, link = frame[16 : 16 + body_length], frame[16 + body_length : 48 + body_length]
        payload, before = frame[48 + body_length :], self.link
        leaf = hashed(b"cfd-leaf", body)
        kind, side, verdict, facility = body[:4]
        detail = body_length - 128 - (32 if payload_length else 0)
        good = 1 <= kind <= 17 and side <= 5 and verdict <= 4 and facility <= 13
        good = good and 0 <= detail <= 4 << 20
        index = struct.unpack("<Q", body[16:24])[0] if good else self.next
        if index != self.next and self.elsewhere == index:
            self.next = index
        place, what = self.next, None
        if not good:
            what = "a wrong body"
        elif index != place:
            self.elsewhere, what = index + 1, f"record {index} stands here"
        elif before is None or hashed(b"cfd-link", before, leaf) != link:
            what = "the chain breaks here"
        self.next, self.link = place + 1, link
        if what:
            self.fault(place, what)
        elif self.tree:
            self.tree = push(self.tree, leaf)
        if payload_length and not flags:
            self.kept.add(place)
        if payload_length and flags and any(payload):
            self.find(place, "a removed payload is there")
        elif payload_length and flags:
            self.removed.append(place)
        elif payload_length and not flags and hashed(b"cfd-data", payload) != body[128:160]:
            self.find(place, "the payload was altered")
        if good:
            self.look(body, at, place, index)
        if not what and self.next in self.anchors:
            self.events.append(("mark", self.next, root_of(self.tree) if self.tree else None, link))
        return length, None

    def look(self, body, at, place, index):
        kind, clean = body[0], body[0] == START and body[88:92] == b"\1\0\0\0"
        if self.begins is None:
            self.begins = (kind, clean)
        else:
            wrong = follows(self.ends, kind, clean)
            if wrong:
                self.find(place, wrong)
        if clean and self.ends == STOP and place not in self.anchors:
            self.find(place - 1, "the end is not signed")
        if kind == REDACTED:
            self.redacted.append(struct.unpack("<Q", body[48:56])[0])
        times = struct.unpack("<QQ", body[24:40])
        self.ends, self.last = kind, times
        if max(self.anchors, default=0) == place:
            self.unsigned = times
        self.index.push(at, index, body)


class Index:
    """What section 6 says."""

    def __init__(self):
        self.blocks = []

    @staticmethod
    def covers(told, at):
        return told is not None and len(told) >= 56 and struct.unpack("<Q", told[48:56])[0] == at

    def push(self, at, index, body):
        if not self.blocks or self.blocks[-1][1] == 256:
            self.blocks.append([at, 0, 0, 2**64 - 1, 0, 0, 0, 0, 0, index])
        kind, _, verdict, facility, edge = struct.unpack("<BBBBH", body[:6])
        form, method, count = body[7], struct.unpack("<I", body[12:16])[0], 0
        real = struct.unpack("<Q", body[24:32])[0]
        layers = struct.unpack("<H", body[64:66]) + struct.unpack("<H", body[68:70])
        methods = {method}
        if form == 6:
            end = len(body) - (0 if body[92:96] == bytes(4) else 0)
            detail = body[128 + (32 if body[92:96] != bytes(4) else 0) : end]
            for run in range(0, len(detail) - 11, 12):
                methods.add(struct.unpack("<H", detail[run + 2 : run + 4])[0])
        block = self.blocks[-1]
        block[1] += 1
        block[2] |= 1 << kind % 32
        block[3], block[4] = min(block[3], real), max(block[4], real)
        for layer in layers:
            block[5] |= 1 << layer % 64
        block[6] |= 1 << (facility * 11 + edge) % 64
        for it in methods:
            block[7] |= 1 << it % 64
        block[8] |= 1 << verdict

    def encode(self, link, covered):
        out = link + struct.pack("<Q", covered)
        out += b"".join(struct.pack("<QII7Q", *block) for block in self.blocks)
        rest = bytes(4) + out
        return b"cfdindex" + struct.pack("<I", crc32c(rest)) + rest


def main():
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        print(__doc__, file=sys.stderr)
        return 2
    verifier = Verifier(sys.argv[1])
    verifier.verify(sys.argv[2:])
    for file, record, what in verifier.findings:
        print(f"FINDING {file} {record} {what}")
    return 1 if verifier.findings else 0


if __name__ == "__main__":
    sys.exit(main())
