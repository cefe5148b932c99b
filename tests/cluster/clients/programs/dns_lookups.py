"""Looks services up as a resolver does: over UDP, over TCP when cut off, and what is not there."""

import json
import sys

import dns.flags
import dns.message
import dns.query
import dns.resolver

host, port = sys.argv[1], int(sys.argv[2])
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = [host], port
servers = resolver.resolve("web.service.octad", "SRV")
addresses = [str(address) for server in servers for address in resolver.resolve(server.target, "A")]
try:
    resolver.resolve("none.service.octad", "A")
except dns.resolver.NXDOMAIN:
    missing = True
else:
    missing = False
plain = dns.message.make_query("many.service.octad", "A", use_edns=False)
cut_off = dns.query.udp(plain, host, port=port, timeout=10)
assert cut_off.flags & dns.flags.TC
assert len(cut_off.to_wire()) <= 512
whole, over_tcp = dns.query.udp_with_fallback(plain, host, port=port, timeout=10)
print(
    json.dumps(
        {
            "ports": sorted(server.port for server in servers),
            "addresses": sorted(addresses),
            "missing": missing,
            "many": [len(whole.answer[0]), over_tcp],
        }
    )
)
