"""Discovers servers as Django applications on ElastiCache do. Arguments: the ports of
three servers, of which the first one knows all three."""

import sys

from django_elastipymemcache.client import AWSElastiCacheClient
from pymemcache.client.base import Client

KEYS = 300
ports = [int(port) for port in sys.argv[1:4]]
servers = [f"127.0.0.1:{port}" for port in ports]


def items(port):
    client = Client(("127.0.0.1", port), timeout=10)
    return int(client.stats()[b"curr_items"])


client = AWSElastiCacheClient(
    servers[0], discovery_interval=0.001, timeout=10, default_noreply=False
)
assert sorted(client.clients) == sorted(servers), client.clients
for number in range(KEYS):
    assert client.set(f"key{number}", str(number)) is True
for number in range(KEYS):
    assert client.get(f"key{number}") == str(number).encode()
counts = [items(port) for port in ports]
assert sum(counts) == KEYS and all(counts), counts

# A server leaves, and the client stops using it.
left = " ".join(f"left{port}.example|127.0.0.1|{port}" for port in ports[:2])
text = f"9\n{left}"
one = Client(("127.0.0.1", ports[0]), timeout=10)
reply = one.raw_command(f"config set cluster 0 {len(text)}\r\n{text}")
assert reply == b"STORED", reply
for number in range(KEYS):
    assert client.set(f"new{number}", "1") is True
assert sorted(client.clients) == sorted(servers[:2]), client.clients
assert items(ports[2]) == counts[2]
assert items(ports[0]) + items(ports[1]) == counts[0] + counts[1] + KEYS
