"""The verbs of `octad`: which module is each, and what `octad --help` says of it.

A table, so that the list of verbs loads none of them. Modules are named, not imported: each comes
with the part of octad that can do it, and not every installation has all parts.
"""

_CLIENT = "octad.client.cli"
_OBJECTS = "octad.client.cli.objects"
_COORDINATOR = "octad.coordinator.cli"
_NODE = "octad.storage_node"

# By headline: a verb, its module, and what it does.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "dev": (f"{_NODE}.dev.dev_command", "run a whole cluster on this machine"),
        "node": (
            f"{_NODE}.cli.node_command",
            "run a storage node: one process, one disk; or ls, add, drain, remove nodes",
        ),
        "coordinator": (
            f"{_COORDINATOR}.coordinator_command",
            "run a coordinator on an etcd (the first one makes the cluster), or save its store",
        ),
    },
    "Objects": {
        "ls": (f"{_OBJECTS}.ls_command", "list buckets, or what is in one"),
        "cat": (f"{_OBJECTS}.cat_command", "write objects to standard output"),
        "stat": (f"{_OBJECTS}.stat_command", "show all that is known of objects"),
        "cp": (
            f"{_OBJECTS}.cp_command",
            "copy files to a bucket, objects to files, or inside the cluster",
        ),
        "mv": (f"{_OBJECTS}.mv_command", "the same, and remove what was copied"),
        "sync": (
            f"{_OBJECTS}.sync_command",
            "make a bucket or folder like another one, carrying only what differs",
        ),
        "rm": (f"{_OBJECTS}.rm_command", "remove objects"),
        "du": (f"{_OBJECTS}.du_command", "count objects and bytes"),
        "find": (f"{_OBJECTS}.find_command", "find objects by name, size and age"),
        "presign": (
            f"{_OBJECTS}.presign_command",
            "make a URL that lets anyone read or write one object for a while",
        ),
    },
    "Look": {
        "status": (
            f"{_CLIENT}.status_command",
            "show the cluster: nodes, shards by state, versions, configuration store",
        ),
        "doctor": (
            f"{_CLIENT}.doctor_command",
            "say what is wrong with the cluster, and what to do about it",
        ),
        "top": (
            f"{_CLIENT}.top.top_command",
            "show requests, times and bytes of each node, as they are now",
        ),
        "trace": (
            f"{_COORDINATOR}.trace.trace_command",
            "show S3 requests as they end: all, or those that failed or were slow",
        ),
        "watch": (
            f"{_CLIENT}.watch_command",
            "show nodes and services that come and go, and shards that change, as it happens",
        ),
    },
    "Administer": {
        "bucket": (
            f"{_COORDINATOR}.bucket_command",
            "make, remove, list buckets; say how much one may take, or let it be public",
        ),
        "key": (
            f"{_COORDINATOR}.key_command",
            "make, list, disable and remove access keys of owners",
        ),
        "pool": (f"{_COORDINATOR}.pool_command", "list pools, or make another one"),
        "rebalance": (
            f"{_COORDINATOR}.rebalance_command",
            "spread data over the nodes anew; stop, resume or revert that",
        ),
        "shards": (
            f"{_COORDINATOR}.shards_command",
            "list shards, split all of a pool's in place, or recover those whose nodes are gone",
        ),
        "index": (
            f"{_NODE}.cli.index_command",
            "rebuild the index in a stopped node's data directory from its journal",
        ),
        "journal": (
            f"{_NODE}.cli.journal_command",
            "print or verify the journal in a node's data directory",
        ),
    },
    "Coordinate": {
        "service": (
            f"{_CLIENT}.service_command",
            "register a service with the cluster, or list those that are there",
        ),
        "kv": (
            f"{_CLIENT}.coordination.kv_command",
            "read, change and watch settings that services share",
        ),
        "lock": (
            f"{_CLIENT}.coordination.lock_command",
            "run a command while holding a lock, or list who holds which",
        ),
    },
    "Checkpoints": {
        "checkpoint": (
            f"{_CLIENT}.checkpoints.checkpoint_command",
            "list, restore, compare, drop, pin and collect the checkpoints of jobs",
        ),
    },
    "Log": {
        "topic": (
            f"{_CLIENT}.log.topic_command",
            "make, list, describe, trim and delete topics; fence jobs, pin records",
        ),
        "produce": (
            f"{_CLIENT}.log.produce_command",
            "append lines of standard input to a topic",
        ),
        "consume": (
            f"{_CLIENT}.log.consume_command",
            "print the records of a topic, and those to come",
        ),
    },
    "This command": {
        "config": (
            f"{_CLIENT}.access.config_command",
            "show whom the verbs for objects ask, with whose key, and whether that answers",
        ),
        "completion": (
            f"{_CLIENT}.completion.completion_command",
            "print a script that completes octad in bash, zsh or fish",
        ),
    },
    "Study": {
        "sharding": (
            "octad.sharding.study.sharding_command",
            "compare ways of sharding, and simulate years of growth and failures",
        ),
    },
}

VERBS = {verb: entry for group in GROUPS.values() for verb, entry in group.items()}
