"""Follows a service as programs that know Consul do: blocking queries, until it has no instance."""

import json
import sys

import consul

client = consul.Consul(host=sys.argv[1], port=int(sys.argv[2]))
index, seen = None, 0
while True:
    index, entries = client.health.service(
        "web", passing=True, tag="tier=front", index=index, wait="20s"
    )
    found = [[e["Service"]["Address"], e["Service"]["Port"]] for e in entries]
    print(json.dumps([index, found]), flush=True)
    seen += bool(found)
    if seen and not found:
        break
_, services = client.catalog.services()
print(json.dumps(services), flush=True)
