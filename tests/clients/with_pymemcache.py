"""Uses pymemcache as an application does. Argument: the port."""

import sys

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError
from pymemcache.serde import pickle_serde

address = ("127.0.0.1", int(sys.argv[1]))
client = Client(address, timeout=10, default_noreply=False)

assert client.version().startswith(b"1.6.")
assert client.set("key", "value") is True
assert client.get("key") == b"value"
assert client.get("missing") is None
assert client.add("key", "other") is False
assert client.replace("missing", "other") is False
assert client.append("key", "-end") is True
assert client.prepend("key", "begin-") is True
assert client.get("key") == b"begin-value-end"

assert client.set_many({f"many{n}": str(n) for n in range(500)}) == []
found = client.get_many([f"many{n}" for n in range(600)])
assert found == {f"many{n}": str(n).encode() for n in range(500)}
assert client.delete_many([f"many{n}" for n in range(500)]) is True

value, cas = client.gets("key")
assert value == b"begin-value-end"
assert client.cas("key", "new", cas) is True
assert client.cas("key", "newer", cas) is False
assert client.cas("missing", "x", cas) is None

assert client.set("count", "10")
assert client.incr("count", 5) == 15
assert client.decr("count", 14) == 1
assert client.incr("missing", 1) is None
assert client.touch("count", 100) is True
assert client.touch("missing", 100) is False
assert client.get("count").strip() == b"1"
assert client.delete("count") is True
assert client.delete("count") is False

large = b"x" * 900_000
assert client.set("large", large) and client.get("large") == large
try:
    client.set("large", b"x" * 2_000_000)
    sys.exit("a value of 2 MB was stored")
except MemcacheServerError:
    pass
assert client.get("large") is None
assert client.set("text", "abc")
try:
    client.incr("text", 1)
    sys.exit("a text was incremented")
except MemcacheClientError:
    pass

# After commands with noreply, the next reply must be that of the next command.
for n in range(1000):
    client.set("quick", str(n), noreply=True)
assert client.get("quick") == b"999"
client.delete("quick", noreply=True)
assert client.get("quick") is None

statistics = client.stats()
assert statistics[b"curr_items"] >= 1
assert client.stats("settings")[b"maxconns"] > 0
assert isinstance(client.stats("items"), dict)
assert isinstance(client.stats("slabs"), dict)

objects = Client(address, serde=pickle_serde, timeout=10)
objects.set("object", {"a": [1, 2, 3]})
assert objects.get("object") == {"a": [1, 2, 3]}

hashed = HashClient([address], timeout=10)
hashed.set("hashed", "1")
assert hashed.get("hashed") == b"1"

pooled = PooledClient(address, max_pool_size=4, timeout=10)
pooled.set("pooled", "1")
assert pooled.get("pooled") == b"1"

assert client.flush_all() is True
assert client.get("key") is None
client.quit()
