"""Uses python-binary-memcached. Arguments: the port and, optionally, user and
password."""

import sys

import bmemcached

address = f"127.0.0.1:{sys.argv[1]}"
user, password = (sys.argv[2:] + [None, None])[:2]
client = bmemcached.Client([address], user, password)

assert client.get("missing") is None
assert client.set("key", "value")
assert client.get("key") == "value"
assert not client.add("key", "other")
assert client.replace("key", "new")
assert not client.replace("missing", "x")

value, cas = client.gets("key")
assert value == "new"
assert client.cas("key", "newer", cas)
assert not client.cas("key", "newest", cas)
assert client.get("key") == "newer"

assert not client.set_multi({f"many{n}": n for n in range(500)})
assert client.get_multi([f"many{n}" for n in range(600)]) == {
    f"many{n}": n for n in range(500)
}
assert client.delete_multi([f"many{n}" for n in range(500)])
assert client.get("many1") is None

assert client.incr("count", 5, default=10) == 10
assert client.incr("count", 5) == 15
assert client.decr("count", 3) == 12

assert client.set("brief", "x", time=1000) and client.get("brief") == "x"
assert client.delete("brief") and client.get("brief") is None

objects = {"a": [1, 2, {"b": None}], "c": "\u00e4"}
assert client.set("object", objects) and client.get("object") == objects
large = "".join(chr(33 + n * 7919 % 90) for n in range(600_000))
assert client.set("large", large, compress_level=0) and client.get("large") == large

[(server, statistics)] = client.stats().items()
# The client returns statistics as bytes.
figures = {bytes(k, "ascii") if isinstance(k, str) else k: v for k, v in statistics.items()}
assert int(figures[b"curr_items"]) >= 1, figures
assert client.stats("settings")
assert client.flush_all()
assert client.get("key") is None
client.disconnect_all()
