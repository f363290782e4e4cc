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
            except (Wrong, UnicodeDecodeError) as error:
                self.find(name, None, str(error))
            at = end + 2
        if at < len(data):
            self.find(name, None, "ends within a checkpoint")
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
                fault = fault or (None if last else "not the last checkpoint of its epoch")
            if fault:
                self.find(name, None, fault)
            else:
                good.append((name, c))
        if not self.keys:
            self.find(name, None, "the first checkpoint is missing")
        return good

    def verify(self, outside):
        numbers = sorted(
            int(name[:-4])
            for name in os.listdir(self.directory)
            if name.endswith(".log") and name[:-4].isdigit() and f"{int(name[:-4]):08}.log" == name
        )
        notes = self.key_chain()
        for number in numbers:
            name = f"{number:08}.note"
            for c in self.notes(name):
                fault = self.fault(c)
                if fault:
                    self.find(name, None, fault)
                else:
                    notes.append((name, c))
        last = max((c for _, c in notes), key=lambda c: (c["size"], c["epoch"]), default=None)
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
                notes.append((name, c))

        sizes = {c["size"] for _, c in notes}
        scans = [Segment(self, number, sizes) for number in numbers]
        for before, after in zip(scans, scans[1:]):
            if after.number > before.number + 1:
                self.find(f"{before.number + 1:08}.log", None, "the segment is missing")
            elif before.clean and after.log and after.begin != (before.link, before.tree):
                self.find(after.name, before.tree[0], "doesn't go on where the one before ends")
        first = scans[0].first if scans else 0
        size = scans[-1].tree[0] if scans else 0
        signed = last["size"] if last else 0
        if first > (last["first"] if last else 0) or (not scans and signed):
            number = max(scans[0].number - 1, 0) if scans else 0
            self.find(f"{number:08}.log", None, "the segment is missing")
        for scan in scans:
            if self.log and scan.log and scan.log != self.log:
                self.find(scan.name, None, "of another log")
        for name, c in notes:
            self.compare(name, c, scans, size)
        print(f"{len(scans)} segments, records {first} to {size}, {signed} signed")

    def compare(self, name, c, scans, size):
        if c["size"] > size:
            self.find(name, size, "the tail was cut")
            return
        if not scans:
            if (c["root"], c["link"]) != (hashed(b"cfd-none"), c["log"]):
                self.find(name, None, "history was rewritten")
            return
        roots = [scan.roots[c["size"]] for scan in scans if c["size"] in scan.roots]
        damaged = any(scan.first <= c["size"] and not scan.clean for scan in scans)
        if roots and not damaged and (c["root"], c["link"]) not in roots:
            record = c["size"] - 1 if c["size"] else None
            self.find(name, record, "history was rewritten")


class Segment:
    def __init__(self, verifier, number, sizes):
        self.verifier, self.number, self.name = verifier, number, f"{number:08}.log"
        self.log, self.first, self.link, self.tree = None, 0, bytes(32), (0, [])
        self.begin, self.roots, self.clean = (self.link, self.tree), {}, True
        data = verifier.bytes(self.name)
        at = self.header(data)
        if at is None:
            return
        adrift, found = False, 0
        self.mark(sizes)
        while at < len(data):
            step, what = self.frame(data, at, adrift)
            adrift = False
            if what:
                self.find(self.tree[0], what)
                found += 1
                if step is None or found >= 100:
                    break
                self.tree = push(self.tree, bytes(32))
                after = self.length(data, at + step) if at + step < len(data) else 0
                whole = after == 0 or after and self.sound(data[at + step : at + step + after])
                if at + step > len(data) or after is None or not whole:
                    break
                adrift = True
            at += step
            self.mark(sizes)

    def find(self, record, what):
        self.clean = False
        self.verifier.find(self.name, record, what)

    def mark(self, sizes):
        if self.tree[0] in sizes:
            self.roots.setdefault(self.tree[0], (root_of(self.tree), self.link))

    def header(self, data):
        sound = len(data) >= 96 and data[:12] == b"cfdaudit\x01\0\0\0"
        if sound:
            log, number, first, link = struct.unpack("<32sQQ32s", data[16:96])
            end = 96 + 32 * bin(first).count("1")
            crc = struct.unpack("<I", data[12:16])[0]
            sound = len(data) >= end and crc32c(data[16:end]) == crc
        if not sound:
            self.find(None, "no segment")
            return None
        if number != self.number:
            self.find(None, "another segment")
        roots = [data[at : at + 32] for at in range(96, end, 32)]
        self.log, self.first, self.link, self.tree = log, first, link, (first, roots)
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

    def frame(self, data, at, adrift):
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
        payload, expected = frame[48 + body_length :], self.tree[0]
        leaf = hashed(b"cfd-leaf", body)
        kind, side, verdict, facility = body[:4]
        detail = body_length - 128 - (32 if payload_length else 0)
        if not 1 <= kind <= 15 or side > 4 or verdict > 4 or facility > 13 or not 0 <= detail <= 4 << 20:
            self.find(expected, "a wrong body")
        else:
            index = struct.unpack("<Q", body[16:24])[0]
            if index != expected:
                self.find(expected, f"record {index} stands here")
            elif hashed(b"cfd-link", self.link, leaf) != link and not adrift:
                self.find(expected, "the chain breaks here")
        if payload_length and flags and any(payload):
            self.find(expected, "a removed payload is there")
        elif payload_length and not flags and hashed(b"cfd-data", payload) != body[128:160]:
            self.find(expected, "the payload was altered")
        self.link, self.tree = link, push(self.tree, leaf)
        return length, None


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
