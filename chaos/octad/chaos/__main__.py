"""`python -m octad.chaos`."""

from __future__ import annotations

import sys

from octad.chaos.run.chaos_command import main

sys.exit(main(sys.argv[1:]))
