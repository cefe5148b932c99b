"""Messages between a supervisor and the nodes that it starts."""

from __future__ import annotations

import signal

SUPERVISOR_VARIABLE = "OCTAD_SUPERVISOR_PID"  # The node stops when this process is gone.
ON_DISK_VARIABLE = "OCTAD_NODES_ON_DISK"  # Nodes that share the disk, this one included.
REPORT_VARIABLE = "OCTAD_REPORT_FD"  # The node writes the words below to this descriptor:
ID_WORD = b"node "  # which id it has (b"node 4\n"), before anyone else learns of its process,
READY_WORD = b"ready\n"  # it serves,
DRAINED_WORD = b"drained\n"  # it has finished its clients' requests, as the signal below asks,
FAILED_WORD = b"failed "  # what is wrong and what fixes it, as JSON: b'failed ["…","…"]\n'.
DRAIN_SIGNAL = signal.SIGUSR1
