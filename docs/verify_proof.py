#!/usr/bin/env python3
"""Checks that an event is in a signed log, without a line of the server's code. Standard library only.

usage: verify_proof.py EVENTS PROOF KEY
  EVENTS  answer of GET /api/v1/events?after=N&limit=1&raw=true (the event at position N + 1)
  PROOF   answer of GET /api/v1/integrity/proof?position=N+1
  KEY     answer of GET /api/v1/integrity/key, better: as you were given it by somebody you trust
"""
import base64, datetime, hashlib, json, struct, sys

sha = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
sized = lambda text: struct.pack(">Q", len(text.encode())) + text.encode()

# Ed25519 (RFC 8032), verification only: points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P

def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P

def times(n, point):
    total = (0, 1, 1, 0)
    while n:
        total, point, n = add(total, point) if n & 1 else total, add(point, point), n >> 1
    return total

def point(data):
    y = int.from_bytes(data, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    assert y < P and x * x % P == square, "no point of the curve"
    x = P - x if x & 1 != data[31] >> 7 else x
    return x, y, 1, x * y % P

def is_signed(public, message, signature):
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left = times(s, point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")))
    right = add(point(signature[:32]), times(k, point(public)))
    return s < L and all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))

def members(text, at):
    """The members of the object at this place: name -> (value, its very bytes)."""
    read, found = json.JSONDecoder().raw_decode, {}
    while text[at] != "}":
        name, at = read(text, at + 1 + len(text[at + 1:]) - len(text[at + 1:].lstrip()))
        start = text.index(":", at) + 1
        start += len(text[start:]) - len(text[start:].lstrip())
        value, end = read(text, start)
        found[name], at = (value, text[start:end].encode()), end + len(text[end:]) - len(text[end:].lstrip())
    return found

def leaf_of(event):
    value = lambda name: event[name][0]
    checksum = sha(b"event-sourcing-cqrs/event/v1", *(sized(value(n)) for n in ("aggregate_id", "aggregate_type", "event_type")),
                   struct.pack(">Q", value("sequence")), bytes.fromhex(value("event_id").replace("-", "")),
                   struct.pack(">I", value("schema_version")), sha(event["data"][1]), sha(event["metadata"][1]))
    assert checksum.hex() == value("checksum"), "the event does not have its checksum"
    time = datetime.datetime.fromisoformat(value("recorded_at").replace("Z", "+00:00"))
    micros = (time - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)
    return sha(b"\0", struct.pack(">Qq", value("position"), micros), checksum)

def root_of(leaf, index, size, hashes):
    at, last, root = index, size - 1, leaf
    for step in map(bytes.fromhex, hashes):
        assert last, "the proof is too long"
        if at & 1 or at == last:
            root = sha(b"\1", step, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = sha(b"\1", root, step)
        at, last = at >> 1, last >> 1
    assert not last, "the proof is too short"
    return root

def main(events, proof, keys):
    event, proof = members(events, events.index("[") + 1), json.loads(proof)
    text, signatures = proof["checkpoint"].rsplit("\n\n", 1)
    origin, size, root = (text + "\n").split("\n")[:3]
    known = [line.split("+", 2) for line in keys.split()]
    known = {(name, bytes.fromhex(key_id)): base64.b64decode(key)[1:] for name, key_id, key in known}
    signed = [(line.split(" ")[1], base64.b64decode(line.split(" ")[2])) for line in signatures.strip().split("\n")]
    signed = [(known[name, s[:4]], s[4:]) for name, s in signed if (name, s[:4]) in known]
    assert signed and all(is_signed(key, (text + "\n").encode(), s) for key, s in signed), "not signed by a known key"
    position, leaf = event["position"][0], leaf_of(event)
    assert leaf.hex() == proof["leaf_hash"] and position == proof["position"], "the proof is of another event"
    assert root_of(leaf, position - 1, int(size), proof["hashes"]) == base64.b64decode(root), "not in the signed tree"
    print(f"{event['event_type'][0]} of {event['aggregate_id'][0]} is at position {position} of {size} in {origin}")

if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*(open(name, encoding="utf-8").read() for name in sys.argv[1:]))
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        sys.exit(f"NOT PROVEN: {error!r}")
