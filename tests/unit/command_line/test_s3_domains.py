"""`--s3-domain` as it is typed."""

from __future__ import annotations

import pytest

from octad.client.shell.command import CommandError
from octad.storage_node.shell.node_command import s3_domains


def test_a_domain_is_a_name_in_whatever_case_also_as_it_stands_in_dns() -> None:
    assert s3_domains(["S3.Example.org", "*.localhost"]) == ("s3.example.org", "localhost")


@pytest.mark.parametrize("given", ["", "http://a", "a:9000", "a/b", ".a", "a.", "*", "a..b", "ä"])
def test_what_is_no_name_is_refused_with_what_to_give(given: str) -> None:
    with pytest.raises(CommandError) as refused:
        s3_domains([given])
    assert "--s3-domain" in str(refused.value) + refused.value.fix
