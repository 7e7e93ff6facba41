"""Reads statistics with python-binary-memcached as the Datadog agent does.
Argument: the port."""

import re
import sys

import bmemcached

# The statistics that the Datadog agent's check reports.
GAUGES = """total_items curr_items limit_maxbytes uptime bytes curr_connections
    max_connections connection_structures threads pointer_size"""
RATES = """rusage_user rusage_system cmd_get cmd_set cmd_flush get_hits get_misses
    delete_misses delete_hits evictions bytes_read bytes_written cas_misses cas_hits
    cas_badval total_connections listen_disabled_num"""
ITEMS = """number age evicted evicted_nonzero evicted_time outofmemory tailrepairs
    reclaimed expired_unfetched evicted_unfetched crawler_reclaimed
    crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm
    moves_within_lru direct_reclaims hits_to_hot hits_to_warm hits_to_cold
    hits_to_temp"""
SLABS = """chunk_size chunks_per_page total_pages total_chunks used_chunks
    free_chunks free_chunks_end get_hits cmd_set delete_hits incr_hits decr_hits
    cas_hits cas_badval touch_hits"""

client = bmemcached.Client([f"127.0.0.1:{sys.argv[1]}"])
assert client.set("key", "value") and client.get("key") == "value"
assert client.get("missing") is None


def statistics(*arguments):
    [figures] = client.stats(*arguments).values()
    text = lambda word: word.decode() if isinstance(word, bytes) else str(word)
    return {text(name): text(figure) for name, figure in figures.items()}


general = statistics()
assert statistics("").keys() == general.keys()
for name in GAUGES.split() + RATES.split():
    float(general[name])
for name in "curr_items", "cmd_set", "get_hits", "get_misses":
    assert general[name] == "1", (name, general)

for arguments, form, names in [
    ("items", r"items:(\d+):(\w+)", ITEMS),
    ("slabs", r"(\d+):(\w+)", SLABS),
]:
    classes = {}
    for name, figure in statistics(arguments).items():
        match = re.fullmatch(form, name)
        if match:
            classes.setdefault(match[1], {})[match[2]] = int(figure)
    assert len(classes) == 1, classes
    [figures] = classes.values()
    missing = set(names.split()) - figures.keys()
    assert not missing, missing
assert int(statistics("slabs")["active_slabs"]) == 1
assert sum(map(int, statistics("sizes").values())) == 1
client.disconnect_all()
