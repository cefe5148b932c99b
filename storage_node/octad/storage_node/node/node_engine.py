"""A node's engine: the journal and the index on its disk, opened, checked and closed together."""

from __future__ import annotations

from contextlib import AsyncExitStack

from octad.storage_node.journal.journal import Journal
from octad.storage_node.node.format_level import say_level
from octad.storage_node.node.open_file_shares import OpenFileShares
from octad.storage_node.node.run_counter import begin_run
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.upkeep.compactor import check_segments


class Engine:
    """See the module. Raises what opening a journal and an index does."""

    def __init__(self, this: ThisNode, shares: OpenFileShares) -> None:
        self._this = this
        self.index_files_max = shares.index
        machine = this.machine
        self.journal = Journal.open(
            this.directory.journal,
            this.identity,
            machine.disk,
            machine.segment_bytes,
            open_files_max=shares.journal,
            nodes_on_disk=this.config.nodes_on_disk,
            threads=machine.threads,
        )
        self.index = machine.open_index(this.directory.index, self.index_files_max)

    async def start(self, cleanup: AsyncExitStack, format_level: int) -> None:
        """Up to where the shards can replay; `cleanup` closes both.

        `format_level`: one that this node knows to be in use.
        """
        this, index = self._this, self.index
        cleanup.callback(index.close)
        cleanup.push_async_callback(self.journal.close)
        await begin_run(this.directory, this.id, this.store, this.keys)
        await say_level(this.store, this.keys, this.id, format_level)
        check_segments(self.journal, index)
        index.follow(self.journal)
