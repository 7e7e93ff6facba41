"""Uses pylibmc (libmemcached). Arguments: the port, `text` or `binary` and,
optionally, user and password."""

import sys

import pylibmc

address = f"127.0.0.1:{sys.argv[1]}"
binary = sys.argv[2] == "binary"
user, password = (sys.argv[3:] + [None, None])[:2]
client = pylibmc.Client(
    [address],
    binary=binary,
    username=user,
    password=password,
    behaviors={"tcp_nodelay": True, "cas": True},
)

assert client.get("missing") is None
assert client.set("key", "value")
assert client.get("key") == "value"
assert client.add("key", "other") is False
try:
    assert client.replace("missing", "x") is False
except pylibmc.NotFound:
    assert binary
assert client.set("text", b"mid")
assert client.append("text", b"-end") and client.prepend("text", b"begin-")
assert client.get("text") == b"begin-mid-end"

assert client.set_multi({f"many{n}": n for n in range(500)}) == []
assert client.get_multi([f"many{n}" for n in range(600)]) == {
    f"many{n}": n for n in range(500)
}
assert client.delete_multi([f"many{n}" for n in range(500)])

value, cas = client.gets("key")
assert client.cas("key", "new", cas)
assert not client.cas("key", "newer", cas)
assert client.get("key") == "new"

assert client.set("count", 10)
assert client.incr("count") == 11
assert client.incr("count", 9) == 20
assert client.decr("count", 11) == 9
try:
    client.incr("missing")
    sys.exit("a missing key was incremented")
except pylibmc.NotFound:
    pass

assert client.set("brief", "x", time=1000) and client.get("brief") == "x"
assert client.touch("brief", 2000)
assert client.delete("brief") and client.get("brief") is None

large = b"x" * 900_000
assert client.set("large", large) and client.get("large") == large
try:
    assert not client.set("large", b"x" * 2_000_000)
except pylibmc.Error:
    pass
assert client.get("large") is None

client.behaviors["no_block"] = True
for n in range(1000):
    client.set(f"async{n}", n)
client.behaviors["no_block"] = False
assert client.get("async999") == 999

[(server, statistics)] = client.get_stats()
assert int(statistics["curr_items"]) >= 1
client.flush_all()
assert client.get("key") is None
client.disconnect_all()
