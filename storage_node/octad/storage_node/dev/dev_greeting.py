"""The greeting of `octad dev` for people: addresses, keys, and first commands."""

from __future__ import annotations

import sys
from pathlib import Path

from octad.client.cli.format_units import counted, shown_copies
from octad.client.runtime.shown_command import shown_command, shown_path
from octad.client.version import VERSION
from octad.coordinator.status.cluster_status import NodeFailure
from octad.storage_node.dev.dev_copies import copies_line, way_to_more_copies
from octad.storage_node.dev.dev_directory import REPLICAS_DEFAULT, DevCluster
from octad.storage_node.dev.dev_node import NodeProcess
from octad.storage_node.dev.dev_options import DevOptions


def greeting(
    options: DevOptions, cluster: DevCluster, url: str, took_s: float, nodes: list[NodeProcess]
) -> str:
    """The greeting of `octad dev`."""
    first, last = options.s3_port, options.s3_port + cluster.nodes - 1
    serving = [node for node in nodes if node.ready]
    endpoint = f"{'https' if options.tls else 'http'}://{serving[0].s3}"
    authority = shown_path(options.authority)
    bundle, verify, option = "", "", ""  # Makes the three clients below trust the certificate.
    if options.tls:
        bundle, option = f" AWS_CA_BUNDLE={authority}", f" --ca-cert {authority}"
        verify = f', verify="{options.authority}"'
    ports = f" (any port from {first} to {last}: every node serves everything)"
    octad = sys.argv[0] if Path(sys.argv[0]).name == "octad" else "octad"
    status = shown_command(octad, "status", "--data", options.data)
    more: list[str] = []
    if options.nodes and not options.replicas and cluster.nodes >= REPLICAS_DEFAULT:
        more = way_to_more_copies(cluster, octad, options.data)
    return f"""\
octad {VERSION} is ready: {_shown_count(nodes)}, {shown_copies(cluster.replicas)} \
of everything ({took_s:.1f} s)
{_missing(nodes)}
  S3           {endpoint}{ports if last > first else ""}
  access key   {cluster.access_key}
  secret key   {cluster.secret_key}
  data         {options.data}
{copies_line(cluster)}  status       {status}   (coordinator: {url})

for every client:
  export AWS_ACCESS_KEY_ID={cluster.access_key} AWS_SECRET_ACCESS_KEY={cluster.secret_key} \
AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL={endpoint}{bundle}

{_trust(options) if options.tls else ""}awscli:
  aws s3 mb s3://demo && aws s3 sync ./some-directory s3://demo

boto3:
  s3 = boto3.client("s3", endpoint_url="{endpoint}", region_name="us-east-1",
                    aws_access_key_id="{cluster.access_key}",
                    aws_secret_access_key="{cluster.secret_key}"{verify})

rclone:
  rclone --s3-provider Other --s3-env-auth{option} --s3-endpoint {endpoint} ls :s3:demo

{"".join(f"{line}{chr(10)}" for line in more)}Ctrl-C stops it; the data stays."""


def _shown_count(nodes: list[NodeProcess]) -> str:
    serving = sum(node.ready for node in nodes)
    if serving == len(nodes):
        return counted(serving, "node")
    return f"{serving} of {counted(len(nodes), 'node')}"


def _missing(nodes: list[NodeProcess]) -> str:
    """Two lines for each node that does not serve."""
    said = ""
    for node in nodes:
        if not node.ready:
            failure = node.failure or NodeFailure(f"{node.name} starts yet", f"see {node.log}")
            said += f"\n  {failure.what}\n    {failure.fix}; it is tried again by itself\n"
    return said


def _trust(options: DevOptions) -> str:
    """How to make each client trust the certificate."""
    authority = shown_path(options.authority)
    names = ", ".join(["127.0.0.1", *sorted({"localhost", *options.domains})])
    return f"""\
trust its certificates' authority, which is good for {names} alone:
  AWS_CA_BUNDLE, as above, for awscli and AWS's SDKs; curl --cacert {authority};
  NODE_EXTRA_CA_CERTS={authority} for JavaScript; SSL_CERT_FILE={authority} for most others

"""
