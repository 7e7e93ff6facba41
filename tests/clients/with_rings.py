"""Spreads keys over three servers by the client's own hash ring. Arguments: the
library and three ports. For each line on standard input, gets all keys, stores
the missing ones, and prints how many were found, missing, stored and failed. A
wrong answer ends it."""

import sys

KEYS = 300
library, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]

if library == "pylibmc":
    import pylibmc

    client = pylibmc.Client(
        [f"127.0.0.1:{port}" for port in ports],
        behaviors={
            "ketama": True,
            "connect_timeout": 500,
            "retry_timeout": 1,
            "dead_timeout": 1,
            "remove_failed": 1,
        },
    )
    failures = pylibmc.Error
else:
    from pymemcache.client.hash import HashClient
    from pymemcache.exceptions import MemcacheError

    client = HashClient(
        [("127.0.0.1", port) for port in ports],
        retry_attempts=0,
        dead_timeout=1,
        connect_timeout=0.5,
        timeout=2,
        ignore_exc=False,
    )
    failures = (MemcacheError, OSError)

for _ in sys.stdin:
    found = missing = stored = failed = 0
    for number in range(KEYS):
        key, value = f"key{number}", f"value of {number}".encode()
        try:
            answer = client.get(key)
            if answer is not None:
                assert answer == value, (key, answer)
                found += 1
                continue
            missing += 1
            stored += bool(client.set(key, value))
        except failures:
            failed += 1
    print(found, missing, stored, failed, flush=True)
