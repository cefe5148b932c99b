"""A port is taken first of all, or the command says why not."""

from __future__ import annotations

import pytest

from octad.client.runtime.command import CommandError
from octad.client.runtime.listener import listen_on


def test_a_port_in_use_and_a_bad_address_are_told_with_their_option() -> None:
    with listen_on("127.0.0.1:0", "--listen") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CommandError, match=rf"127\.0\.0\.1:{port} is in use; .* --listen"):
            listen_on(f"127.0.0.1:{port}", "--listen")
    for bad in ("9400", "127.0.0.1:x", "no-such-host.invalid:1"):
        with pytest.raises(CommandError, match="--listen"):
            listen_on(bad, "--listen")
