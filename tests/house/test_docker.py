"""The container files are read as Docker would read them; tests/install runs the commands they start."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
INSTRUCTIONS = {
    "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"
}  # fmt: skip
DOCKERFILES = sorted(DOCKER.glob("Dockerfile.*[!e]"))


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def last(path: Path, name: str) -> str:
    return [rest for found, rest in instructions(path) if found == name][-1]


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def pgpeer_commands() -> list[list[str]]:
    """Every command line after `pgpeer` that an image or a service starts."""
    found = [json.loads(last(path, "CMD")) for path in DOCKERFILES]
    services = compose()["services"].values()
    return found + [service["command"] for service in services if "build" in service]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_uses_known_instructions_and_copies_what_exists(path: Path) -> None:
    found = instructions(path)
    assert found[0][0] == "FROM"
    assert {name for name, _ in found} <= INSTRUCTIONS
    ignored = (path.parent / f"{path.name}.dockerignore").read_text().splitlines()
    for name, rest in found:
        if name == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored, f"{source} does not reach the build"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_pgpeer_unprivileged_and_gets_its_signals(path: Path) -> None:
    assert last(path, "USER") not in {"root", "0"}
    assert json.loads(last(path, "ENTRYPOINT")) == ["pgpeer"]  # a list: no shell stands between
    assert last(path, "STOPSIGNAL") == "SIGTERM"


def test_the_python_of_the_images_is_one_that_pgpeer_supports() -> None:
    supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    for path in DOCKERFILES:
        for version in re.findall(r"FROM python:(3\.\d+)-", path.read_text()):
            assert version in supported


def test_compose_has_two_databases_two_workers_a_hub_with_its_own_and_a_turn_server() -> None:
    services = compose()["services"]
    images = [service.get("image", "").partition(":")[0] for service in services.values()]
    commands = [service["command"][0] for service in services.values() if "build" in service]
    assert images.count("postgres") == 3
    assert images.count("coturn/coturn") == 1
    assert sorted(commands) == ["hub", "init", "init", "worker", "worker"]


def test_the_hub_of_compose_keeps_its_state_and_shares_a_secret_with_the_turn_server() -> None:
    file = compose()
    hub, coturn = file["services"]["hub"], file["services"]["coturn"]
    options = dict(itertools.pairwise(hub["command"]))
    assert re.search(r"@hubstate:5432/hub$", options["--dsn"])
    assert "hubstate" in hub["depends_on"]
    assert options["--turn-url"].endswith("turn:coturn:3478}")
    (mounted,) = hub["configs"]
    assert mounted["target"] == options["--turn-secret-file"]
    secret = file["configs"][mounted["source"]]["content"]
    assert f"--static-auth-secret={secret}" in coturn["command"]
    assert "--use-auth-secret" in coturn["command"]


def test_compose_refers_only_to_what_it_defines() -> None:
    file = compose()
    for name, service in file["services"].items():
        for other in service.get("depends_on", {}):
            assert other in file["services"], f"{name} depends on {other}"
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in file["volumes"], f"{name} mounts {volume}"
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file()
            for host in re.findall(
                r"(?:@|//)([a-z]+):\d", json.dumps([service["command"], service.get("environment")])
            ):
                assert host in file["services"], f"{name} talks to {host}"


def test_a_worker_shares_its_identity_with_the_init_that_made_it() -> None:
    services = compose()["services"]
    for place in ("paris", "tokyo"):
        init, worker = services[f"init-{place}"], services[f"worker-{place}"]
        assert init["volumes"] == worker["volumes"]
        assert init["environment"] == worker["environment"]
    path = DOCKER / "Dockerfile.worker"
    assert init["volumes"][0].partition(":")[2] in json.loads(last(path, "VOLUME"))
    assert "PGPEER_STATE_DIRECTORY=/var/lib/pgpeer/state" in last(path, "ENV")


@pytest.mark.parametrize("command", sorted({words[0] for words in pgpeer_commands()}))
def test_the_command_line_knows_every_command_and_option_that_a_container_starts(command: str) -> None:
    help_text = subprocess.run(
        [str(Path(sys.executable).parent / "pgpeer"), command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    ).stdout
    for words in pgpeer_commands():
        if words[0] == command:
            assert all(word in help_text for word in words if word.startswith("--"))
