"""The Dockerfile, `docker-compose.yml` and what they mount: everything a machine without an engine
can tell of them."""

from __future__ import annotations

import argparse
import json
import re
import tomllib

import pytest
import yaml
from tests.unit.deployment.deployment_files import (
    COMPOSE_FILE,
    DOCKERFILE,
    HAPROXY_FILE,
    PROMETHEUS_FILE,
    REPOSITORY,
    VARIABLE,
    compose,
    services,
)

from octad.coordinator.cli import coordinator_command
from octad.storage_node.cli import node_command

SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "logging",
    "ports", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
NODES = [f"node{number}" for number in range(1, 6)]
INSTRUCTION = re.compile(r"^([A-Z]+) ((?:.*\\\n)*.*)$", re.MULTILINE)


def instructions(stage: str | None = None) -> list[tuple[str, str]]:
    """The Dockerfile's, of one stage or of all."""
    found = INSTRUCTION.findall(DOCKERFILE.read_text())
    if stage is None:
        return found
    starts = [i for i, (word, rest) in enumerate(found) if word == "FROM"]
    ends = [*starts[1:], len(found)]
    for start, end in zip(starts, ends, strict=True):
        if found[start][1].endswith(f" AS {stage}"):
            return found[start:end]
    raise AssertionError(f"no stage {stage}")


# -- docker-compose.yml --------------------------------------------------------------------------


def test_there_are_enough_of_each_that_any_one_may_be_lost() -> None:
    assert sorted(services()) == sorted(
        ["etcd1", "etcd2", "etcd3", "coordinator1", "coordinator2", *NODES, "haproxy", "prometheus"]
    )


def test_every_key_is_one_that_compose_knows_and_every_name_is_there() -> None:
    document = compose(dict.fromkeys(VARIABLE.findall(COMPOSE_FILE.read_text()), "value"))
    plain = {key for key in document if not key.startswith("x-")}
    assert plain == {"name", "services", "volumes"}
    for name, service in document["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("depends_on", {})) <= set(document["services"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            known = source in document["volumes"] or (REPOSITORY / source).is_file()
            assert known, f"{name} mounts {source}"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "nothing is open to the world unasked"
    assert all(value == {} for value in document["volumes"].values())


def test_every_service_comes_back_has_no_rights_and_says_how_it_is() -> None:
    for name, service in services().items():
        assert service["restart"] == "unless-stopped", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["logging"]["options"] == {"max-size": "16m", "max-file": "4"}, name
        if not name.startswith("etcd"):  # The image's own check.
            assert set(service["healthcheck"]) <= HEALTH_KEYS, name
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_no_secret_and_no_floating_version_is_in_the_file() -> None:
    assert set(VARIABLE.findall(COMPOSE_FILE.read_text())) == {
        "OCTAD_JOIN_TOKEN",
        "OCTAD_ACCESS_KEY",
        "OCTAD_SECRET_KEY",
    }
    for name, service in services().items():
        image = service["image"]
        assert ":" in image, name
        assert not image.endswith(":latest"), name
        if "build" in service:
            assert service["build"]["target"] in ("octad", "etcd")


def test_data_is_on_a_volume_of_its_own_each() -> None:
    mounted = [
        volume.split(":")[0]
        for name, service in services().items()
        if name.startswith(("etcd", "node"))
        for volume in service["volumes"]
    ]
    assert sorted(mounted) == sorted([*NODES, "etcd1", "etcd2", "etcd3"])


@pytest.mark.parametrize("name", ["coordinator1", "coordinator2", *NODES])
def test_a_command_is_one_that_octad_understands(name: str) -> None:
    verb, *words = services()[name]["command"]
    parser = argparse.ArgumentParser(exit_on_error=False)
    module = {"coordinator": coordinator_command, "node": node_command}[verb]
    module.add_arguments(parser)
    arguments = parser.parse_args(words)
    assert arguments.listen.startswith(f"{name}:"), "it advertises the name others know it by"
    if verb == "node":
        assert str(arguments.data) == "/data"
        assert arguments.admin_listen == f"{name}:11000"
        assert arguments.log_listen == f"{name}:12000"
        assert arguments.coordinator == "http://coordinator1:9400,http://coordinator2:9400"
    else:
        assert arguments.etcd == "http://etcd1:2379,http://etcd2:2379,http://etcd3:2379"
        assert (arguments.create, arguments.nodes_expected) == (True, len(NODES))


def test_the_nodes_stand_in_three_zones_so_that_one_may_be_lost() -> None:
    zones = [
        service["command"][service["command"].index("--zone") + 1]
        for name, service in services().items()
        if name in NODES
    ]
    assert len(set(zones)) == 3


def test_each_etcd_names_itself_and_all_three() -> None:
    for name in ("etcd1", "etcd2", "etcd3"):
        command = services()[name]["command"]
        options = dict(word.removeprefix("--").split("=", 1) for word in command)
        assert options["name"] == name
        assert options["advertise-client-urls"] == f"http://{name}:2379"
        assert options["initial-advertise-peer-urls"] == f"http://{name}:2380"
        members = dict(member.split("=") for member in options["initial-cluster"].split(","))
        assert members == {other: f"http://{other}:2380" for other in ("etcd1", "etcd2", "etcd3")}


# -- what is mounted -----------------------------------------------------------------------------


def test_haproxy_sends_clients_to_every_node_and_asks_each_how_it_is() -> None:
    text = HAPROXY_FILE.read_text()
    servers = re.findall(r"^    server (\w+) (\S+)$", text, re.MULTILINE)
    assert servers == [(name, f"{name}:9000") for name in NODES]
    assert "http-check expect status 403" in text
    assert "bind :9000" in text


def test_prometheus_asks_every_coordinator_node_and_etcd() -> None:
    configuration = yaml.safe_load(PROMETHEUS_FILE.read_text())
    targets = [
        target
        for job in configuration["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert sorted(target.split(":")[0] for target in targets) == sorted(
        name for name in services() if name.startswith(("coordinator", "node", "etcd"))
    )


# -- the Dockerfile ------------------------------------------------------------------------------


def test_images_start_from_a_named_version_and_end_as_nobody_special() -> None:
    for word, rest in instructions():
        if word == "FROM":
            image = rest.split()[0]
            assert ":" in image, image
            assert not image.endswith(":latest")
    for stage in ("octad", "etcd"):
        users = [rest for word, rest in instructions(stage) if word == "USER"]
        assert users, stage
        assert int(users[-1]) > 0, f"{stage}: a number, so that it can be checked not to be root"
        after = [word for word, _ in instructions(stage)]
        assert "RUN" not in after[after.index("USER") :]


def test_the_usual_rules_for_dockerfiles_hold() -> None:
    words = [word for word, _ in instructions()]
    assert "ADD" not in words
    assert "MAINTAINER" not in words
    for word, rest in instructions():
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list), "no shell between it and its signals"
        if word == "WORKDIR":
            assert rest.startswith("/")
        if word == "RUN":
            assert "sudo" not in rest
            if "apt-get install" in rest:
                assert "apt-get update" in rest
                assert "--no-install-recommends" in rest
                assert "rm -rf /var/lib/apt/lists/*" in rest
            if "pip install" in rest:
                assert "--no-cache-dir" in rest


def test_the_octad_image_has_nothing_of_the_build_in_it() -> None:
    copies = [rest for word, rest in instructions("octad") if word == "COPY"]
    assert copies[0] == "--from=build /opt/octad /opt/octad"
    assert copies[1].endswith("deploy/healthcheck.py /opt/octad/bin/healthcheck")
    assert len(copies) == 2
    assert not any("apt-get" in rest for _, rest in instructions("octad"))


def test_everything_that_is_built_is_copied_and_let_through() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]
    wanted = {
        "client",
        "sharding",
        *build["targets"]["wheel"]["sources"],
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    copied = {
        source
        for word, rest in instructions("build")
        if word == "COPY"
        for source in rest.split()[:-1]
    }
    assert copied == wanted
    let_through = set(
        re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    )
    assert let_through == wanted | {"deploy/healthcheck.py"}
    for source in let_through:
        assert (REPOSITORY / source).exists(), source
