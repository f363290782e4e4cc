"""Checks a proof of `cofferdam audit prove`, written from docs/audit-format.md and docs/audit.md.

It follows the way from the record to the root of the checkpoint. The checkpoint's signature is not
looked at: Python's standard library has no Ed25519. Prints the record's number if the proof holds.
"""

import base64
import hashlib
import json
import struct
import sys


def hashed(person, *parts):
    return hashlib.blake2s(b"".join(parts), person=person).digest()


def ways(index, size):
    """Whether the sibling is on the right, from the leaf upwards (RFC 6962, 2.1.1)."""
    low, high, found = 0, size, []
    while high - low > 1:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        found.append(index < middle)
        low, high = (low, middle) if index < middle else (middle, high)
    return reversed(found)


def check(member, size, root):
    body, index = base64.b64decode(member["body"]), member["index"]
    path = [base64.b64decode(node) for node in member["path"]]
    rights = list(ways(index, size))
    assert index < size and len(path) == len(rights), "the way has another length"
    node = hashed(b"cfd-leaf", body)
    for right, sibling in zip(rights, path):
        pair = (node, sibling) if right else (sibling, node)
        node = hashed(b"cfd-node", *pair)
    assert node == root, "the way leads elsewhere"
    assert struct.unpack("<Q", body[16:24])[0] == index, "the record has another number"
    return index


def main():
    proof = json.load(open(sys.argv[1]))
    assert proof["format"] == "cofferdam-audit-proof 1"
    lines = proof["checkpoint"].split("\n")
    size, root = int(lines[1]), base64.b64decode(lines[2])
    if proof["names"]:
        assert check(proof["names"], size, root) <= proof["record"]["index"]
    print(check(proof["record"], size, root))


main()
