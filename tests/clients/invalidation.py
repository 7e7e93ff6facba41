"""Invalidates prefixes and tags with clients that know only deletions.
Argument: the port of a server with -o invalidate_keys."""

import sys

import bmemcached
import pylibmc
from pymemcache.client.base import Client

port = int(sys.argv[1])
raw = Client(("127.0.0.1", port), timeout=10, default_noreply=False)


def delete_with_pymemcache(key):
    assert raw.delete(key) is True


def delete_with_pylibmc(binary):
    client = pylibmc.Client([f"127.0.0.1:{port}"], binary=binary)

    def delete(key):
        assert client.delete(key) is True

    return delete


def delete_with_bmemcached(key):
    assert bmemcached.Client((f"127.0.0.1:{port}",)).delete(key) is True


for delete in (
    delete_with_pymemcache,
    delete_with_pylibmc(binary=False),
    delete_with_pylibmc(binary=True),
    delete_with_bmemcached,
):
    for n in range(10):
        assert raw.set(f"user:42:{n}", "x") and raw.set(f"user:43:{n}", "y")
    assert raw.raw_command(b"ms page 1 Pproduct-7,home\r\nz") == b"HD"
    delete("@prefix/user:42:")
    found = raw.get_many([f"user:{user}:{n}" for user in (42, 43) for n in range(10)])
    assert found == {f"user:43:{n}": b"y" for n in range(10)}
    assert raw.get("page") == b"z"
    delete("@tag/product-7")
    assert raw.get("page") is None

assert raw.raw_command(b"invalidate prefix user:43:") == b"INVALIDATED"
assert raw.get("user:43:1") is None
raw.quit()
