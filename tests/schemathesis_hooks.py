"""Whoever may less is refused: a check for runs of schemathesis with an admin's key.

Every request that schemathesis sends as admin is sent again byte for byte, but without the key, with one that nobody has, or
with one of a role too low, in turn. Then the answer must be 401 or 403, as the document says of the operation; unless there
is nothing to guard: no such path, no such method, an open operation. SCHEMATHESIS_KEYS holds `role=key` for each role.
"""

import atexit
import itertools
import os
from collections import Counter

import requests
import schemathesis

KEYS = dict(pair.split("=") for pair in os.environ.get("SCHEMATHESIS_KEYS", "").split())
TURNS = itertools.count()
SENT = Counter()
SESSION = requests.Session()
SESSION.trust_env = False


def callers(role):
    """Who may not do what demands this role: with what the answer must be."""
    yield "nobody", None, 401
    yield "a stranger", "escqrs_" + "A" * 43, 401
    yield "a cut key", KEYS["admin"][:-1], 401
    for name, key in KEYS.items():
        if name not in (role, "admin") and role != "reader":
            yield name, key, 403


def is_unguarded(method, response):
    if method == "OPTIONS" or response.status_code == 405:
        return True
    # A head that is no HTTP at all is refused before anybody is asked who they are.
    if response.status_code in (400, 414, 431) and "no HTTP" in response.text:
        return True
    return response.status_code == 404 and "there is no such path" in response.text


@schemathesis.check
def refused_without_the_right(ctx, response, case):
    request = response.request
    if not KEYS or request.headers.get("Authorization") != f"Bearer {KEYS['admin']}":
        return
    described = case.operation.definition.raw
    security = described.get("security")
    if security == [] or is_unguarded(request.method, response):
        return
    (role,) = security[0]["bearer"]
    who = list(callers(role))
    name, key, demanded = who[next(TURNS) % len(who)]
    again = request.copy()
    again.headers.pop("Authorization")
    if key:
        again.headers["Authorization"] = f"Bearer {key}"
    answer = SESSION.send(again, timeout=30, allow_redirects=False)
    SENT[demanded] += 1
    told = f"{request.method} {request.path_url} by {name}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code == demanded, f"not refused with {demanded}: {told}"
    assert str(demanded) in described["responses"], f"{demanded} is not in the document: {told}"
    if request.method != "HEAD":
        problem = answer.json()
        code = {401: "unauthenticated", 403: "forbidden"}[demanded]
        assert (problem["code"], problem.get("role", role)) == (code, role), f"not as documented: {told}"


@atexit.register
def tell():
    if KEYS:
        print(f"refused_without_the_right: {SENT[401]} requests demanded 401, {SENT[403]} demanded 403")
