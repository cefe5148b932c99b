"""`--s3-domain` as it is typed."""

from __future__ import annotations

import pytest
from tests.unit.node.test_node_tls_options import config_of

from octad.client.runtime.command import CommandError
from octad.storage_node.cli.node_options import s3_domains


def test_a_domain_is_a_name_in_whatever_case_also_as_it_stands_in_dns() -> None:
    assert s3_domains(["S3.Example.org", "*.localhost"]) == ("s3.example.org", "localhost")


@pytest.mark.parametrize("given", ["", "http://a", "a:9000", "a/b", ".a", "a.", "*", "a..b", "ä"])
def test_what_is_no_name_is_refused_with_what_to_give(given: str) -> None:
    with pytest.raises(CommandError) as refused:
        s3_domains([given])
    assert "--s3-domain" in str(refused.value) + refused.value.fix


def test_a_node_has_the_domains_that_it_is_given_and_takes_old_links_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = config_of(monkeypatch)
    assert (plain.domains, plain.sigv2_urls) == ((), True)
    told = config_of(monkeypatch, "--s3-domain", "a.b", "--s3-domain", "c", "--no-s3-sigv2")
    assert (told.domains, told.sigv2_urls) == (("a.b", "c"), False)


def test_a_node_takes_more_conditions_than_aws_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not config_of(monkeypatch).strict_aws
    assert config_of(monkeypatch, "--s3-strict-aws").strict_aws
