"""The options of `octad node` as they were typed, and what the node makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octad.client.cluster.join_token import BadJoinToken, decode_join_token
from octad.client.runtime.address import Address, BadAddress, parse_address
from octad.client.runtime.command import CommandError
from octad.coordinator.tls.certificate_files import certificate_of
from octad.sharding.ids import NodeId
from octad.storage_node.cli.node_certificates import peer_contexts
from octad.storage_node.cli.node_options import (
    ADMIN_PORT_ABOVE_S3,
    AIOHTTP,
    FRONT_DOORS,
    LOG_PORT_ABOVE_S3,
    RPC_PORT_ABOVE_S3,
    access_log,
    body_budget_bytes,
)
from octad.storage_node.node.this_node import NodeConfig

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """The options as typed. `supervisor_pid`: stop when this process is no longer the parent.

    `report_descriptor`: for messages that the node serves, is drained, or why it ends.
    """

    data: Path
    listen: str
    rpc_port: int | None
    admin_listen: str | None
    log_listen: str | None
    front_door: str
    body_budget_mib: int
    sigv2_urls: bool
    domains: tuple[str, ...]
    blocks_public: bool
    strict_aws: bool
    advertise: str | None
    coordinator: str
    coordinator_ca: str | None
    join_token: str | None
    zone: str
    weight: float
    access_log: Path | None
    s3_tls_cert: Path | None
    s3_tls_key: Path | None
    log_tls_cert: Path | None
    log_tls_key: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_ca: Path | None
    wanted_id: NodeId | None
    nodes_on_disk: int
    supervisor_pid: int | None
    report_descriptor: int | None


def config_of(options: NodeOptions) -> NodeConfig:
    """Checked; raises CommandError."""
    if options.join_token is None:
        raise CommandError(
            "a node needs the cluster's join token",
            "give --join-token or OCTAD_JOIN_TOKEN as the first coordinator printed it",
            2,
        )
    try:
        token = decode_join_token(options.join_token)
        listen = parse_address(options.listen)
    except BadJoinToken as error:
        raise CommandError(str(error), "give --join-token as it was printed", 2) from error
    except BadAddress as error:
        raise CommandError(str(error), "correct --listen", 2) from error
    if listen.is_wildcard and options.advertise is None:
        raise CommandError(
            f"no one can connect to {listen.host}",
            "say with --advertise what name or address others reach this machine by",
            2,
        )
    return NodeConfig(
        data=options.data,
        listen=listen,
        rpc_port=options.rpc_port or listen.port + RPC_PORT_ABOVE_S3,
        admin=_address(options.admin_listen, "--admin-listen", listen, ADMIN_PORT_ABOVE_S3),
        log=_address(options.log_listen, "--log-listen", listen, LOG_PORT_ABOVE_S3),
        all_through_aiohttp=_all_through_aiohttp(options.front_door),
        body_budget_bytes=body_budget_bytes(options.body_budget_mib),
        sigv2_urls=options.sigv2_urls,
        domains=options.domains,
        blocks_public=options.blocks_public,
        strict_aws=options.strict_aws,
        advertise_host=options.advertise or listen.host,
        coordinator_urls=options.coordinator,
        coordinator_authority=options.coordinator_ca,
        token=token,
        zone=options.zone,
        weight=options.weight,
        access_log=access_log(options.access_log),
        certificate=certificate_of(options.s3_tls_cert, options.s3_tls_key, "S3", "s3-tls"),
        log_certificate=certificate_of(
            options.log_tls_cert, options.log_tls_key, "the log", "log-tls"
        ),
        tls=peer_contexts(options.tls_cert, options.tls_key, options.tls_ca),
        nodes_on_disk=options.nodes_on_disk,
    )


def _all_through_aiohttp(front_door: str) -> bool:
    """From the environment it comes unchecked."""
    if front_door not in FRONT_DOORS:
        raise CommandError(
            f"there is no front door {front_door!r}",
            f"set OCTAD_FRONT_DOOR to {' or '.join(FRONT_DOORS)}",
            2,
        )
    return front_door == AIOHTTP


def _address(given: str | None, option: str, listen: Address, above: int) -> Address:
    """On this machine alone, unless the option says otherwise."""
    if given is None:
        return Address(LOOPBACK, listen.port + above)
    try:
        return parse_address(given)
    except BadAddress as error:
        raise CommandError(str(error), f"correct {option}", 2) from error
