"""In each room a few modules do I/O, named here; all others take values and give values.

Who is not named must reach neither clock nor socket, file, thread or random source, not even
through what it imports: so a new module decides, until someone writes it down here.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit.tidy.code_base import imports_of, modules, product

OUTSIDE = {
    "aiohttp", "asyncio", "boto3", "etcd3", "fcntl", "grpc", "mmap", "os", "random", "resource",
    "rocksdict", "select", "socket", "sqlite3", "ssl", "subprocess", "threading", "time",
}  # fmt: skip

DOES_IO = """
chaos: __main__
chaos.cluster: addresses cluster control_processes free_ports network process processes
    socket_owners
chaos.faults: disk_faults nemesis
chaos.load: clients recorder s3_requests
chaos.run: chaos_command run
client.adapters: files fsspec_files fsspec_filesystem obspec_calls obspec_results obspec_store
    other_clients two_faces
client.calls: caller exchanges map_keeper nodes refusals requests settings
client.checkpoints: async_checkpoint async_checkpoints async_writer auditor checkpoints collector
    head_store place reading restoring staging topics_log verifying
client.cli: command_line doctor_command service_command service_registration status_command
    token_option watch_command watch_output
client.cli.access: config_command connection
client.cli.checkpoints: changing checkpoint_command looking
client.cli.coordination: kv_calls kv_command lock_command lock_run
client.cli.log: consume_command holding log_connection produce_command topic_command
client.cli.objects: cat_command copying cp_command du_command find_command found ls_command
    mv_command presign_command rm_command stat_command sync_command syncing transfer_options
client.cli.top: sampling top_command
client.cli.transfers: carrier carrying etags gathering local_files progress
client.cluster: coordinator_calls coordinator_reads coordinator_tls request_signer
client.http: blocking failures forks on_asyncio tls
client.kv: kv_client
client.log: topics_client
client.membership: locking registering session watching
client.objects: async_bucket async_client bucket client headers listing multipart presigning
    ranges sources streams verification
client.resilience: breaker
client.runtime: background_task change_signal connection_room http_listener listener open_files
    private_files steady_clock
client.runtime.logs: log_file log_lines seldom_log
coordinator.checks: checker probes
coordinator.cli: admin_client bucket_command bucket_cors coordinator_command coordinator_process
    key_command node_verbs plan_client plan_report plan_verbs pool_command rebalance_command
    rescue_store rescue_verbs shards_command
coordinator.cli.trace: trace_command tracing
coordinator.diagnosis: store_versions
coordinator.dns: dns_server
coordinator.http: admin_routes discovery_routes http_answers http_reads http_service http_watches
    http_writes kv_routes placement_routes
coordinator.kv: kv_store
coordinator.locks: lock_queues
coordinator.membership: join_client reachability_check relisting service_registry
coordinator.mirror: cluster_feed cluster_mirror leadership
coordinator.placement: placement
coordinator.recovery: shard_recovery store_rescue
coordinator.server: coordinator coordinator_config coordinator_gauges format_levels joining
    leader_duties
coordinator.status: copy_reports
coordinator.store: embedded etcd etcd_connection etcd_watch http_client http_server mirror
    open_store sqlite_log
coordinator.tls: certificate certificate_files tls_transport
sharding.study: bench compare regenerate sharding_command simulate
sharding.study.model: comparison
sharding.study.report: html_page plots tables
storage_node.cli: index_command journal_command node_certificates node_command node_config
    node_process parent_death
storage_node.dev: death_record dev_command dev_copies dev_directory dev_former_run dev_greeting
    dev_node dev_of_tests dev_options dev_process pytest_plugin server_for_tests
storage_node.history: copy_check history_copier history_pace history_source history_writer
storage_node.index: counted_index index rocksdb
storage_node.journal: commit_thread data_directory disk disk_room journal journal_recovery
    retired_segments segment_file segment_preparer set_aside
storage_node.log: log_upkeep offset_search partition_changes partition_leader partition_reader
    partition_tails topic_log
storage_node.log.http: held_routes log_door log_events log_forms log_refusals log_requests
    record_routes topic_routes
storage_node.memory: body_budget heap
storage_node.node: format_level index_succession join_proof membership node node_doors node_engine
    node_failures node_objects node_replication run_counter store_snapshot this_node
storage_node.node.reports: admin_listener bucket_usage_reporter log_metrics node_metrics
    shard_reporter trace_route usage_reporter
storage_node.objects: bucket_closing bucket_lifecycle cluster_objects deleting_together extents
    key_listing upload_listing
storage_node.rebuild: filling_anew index_rebuild index_rebuild_process index_repair
storage_node.replication.host: action_performer cluster_facts configuration_changes index_applier
    index_catch_up log_writer node_beats replica_recovery replication_receiver replication_sender
    request_ids shard_host
storage_node.rpc: peer peer_calls peer_connection peer_dialer peer_tls peers refusal_log
storage_node.s3.answering: dispatch s3_handler
storage_node.s3.handlers: appends authorization bodies buckets copies multipart object_listings
    objects reads request_context upload_listings
storage_node.s3.handlers.forms: form_upload
storage_node.s3.handlers.settings: access_lists bucket_settings public_access
storage_node.s3.http: access_log arriving_body connections cut_short door_figures hot_connection
    request_trace server wire
storage_node.shards: bucket_directory joint_deletions retry running_reads shard_client
    shard_server shard_service topic_directory
storage_node.shards.listing: listed_shards
storage_node.upkeep: compactor copy_comparer damaged_records door_reads engine_upkeep
    extent_collector extent_names extent_upkeep orphan_sweep record_repair scrubber shard_counter
"""


def test_what_is_not_named_does_no_io_and_what_is_named_does() -> None:
    doing = {name for name in product() if imports_outside(name)}
    while more := {name for name in product() if imports_of(name) & doing} - doing:
        doing |= more
    doing = {name for name in doing if modules()[name].name != "__init__.py"} - {"octad.__main__"}
    named = set(names_of(DOES_IO))
    assert {"undeclared": doing - named, "needless": named - doing} == {
        "undeclared": set(),
        "needless": set(),
    }


def imports_outside(name: str) -> bool:
    return any(imported.split(".")[0] in OUTSIDE for imported in imports_of(name))


def names_of(table: str) -> Iterator[str]:
    for line in table.replace("\n    ", " ").split("\n"):
        room, _, names = line.partition(": ")
        yield from (f"octad.{room}.{name}" for name in names.split())
