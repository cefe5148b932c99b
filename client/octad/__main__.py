"""`python -m octad`: the same as the `octad` command."""

from __future__ import annotations

import sys

from octad.client.cli.command_line import main

sys.exit(main())
