"""The manifests for Kubernetes, as kustomize renders each overlay."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from certferry import __version__
from certferry.config.load import load
from certferry.wiring.settings import ADAPTERS
from certferry_sandbox.world import World
from release import image
from tests.acceptance.host import Host, certificate
from tests.house.tree import ROOT
from tests.support.programs import needs, program_path
from tests.support.tiers import thorough

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "cron", "cron-bucket", "fleet")
OLDEST = "1.29.0"
"""The first version with stable `ReadWriteOncePod` (kubernetes.io, feature gates, 2026-11)."""
VALIDATOR = ("--from=kubernetes-validate==1.37.0", "kubernetes-validate", "--strict", "-k", OLDEST)
"""The tool has 22 MB of schemas, so only runs of the test fetch the package."""

Document = Mapping[str, Any]

pytestmark = needs("kustomize")
every = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def rendered(overlay: str) -> str:
    """Return the manifests of an overlay."""
    return render(FOLDER / overlay)


def render(folder: Path) -> str:
    program = program_path("kustomize")
    word = "kustomize" if program.endswith("kubectl") else "build"
    done = subprocess.run([program, word, str(folder)], capture_output=True, text=True, check=True)
    assert "" == done.stderr  # a warning announces an error of the next version
    return done.stdout


def images(rows: str) -> set[str]:
    """Return the images in these manifests."""
    return set(re.findall(r"\bimage: (\S+)", rows))


def documents(overlay: str) -> list[Document]:
    return list(YAML(typ="safe", pure=True).load_all(rendered(overlay)))


def of_kind(overlay: str, kind: str) -> list[Document]:
    return [document for document in documents(overlay) if document["kind"] == kind]


def pods(overlay: str) -> Iterator[Document]:
    """Yield the template of each pod."""
    for document in documents(overlay):
        spec = document.get("spec", {})
        if "jobTemplate" in spec:
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield spec["template"]["spec"]


def containers(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def first_containers(overlay: str) -> list[Document]:
    """Return the init containers of all pods."""
    return [container for pod in pods(overlay) for container in pod.get("initContainers", ())]


def test_folder_by_itself_is_the_deployment() -> None:
    """An operator who names no overlay gets the base."""
    assert rendered("base") == rendered(".")


@pytest.mark.parametrize(
    ("overlay", "kinds"),
    [
        ("base", {"Deployment", "Service", "PersistentVolumeClaim"}),
        ("cron", {"CronJob", "PersistentVolumeClaim"}),
        ("cron-bucket", {"CronJob"}),
        ("fleet", {"StatefulSet", "Service", "PodDisruptionBudget", "CronJob"}),
    ],
)
def test_kinds_of_an_overlay(overlay: str, kinds: set[str]) -> None:
    """Account, configuration and network policy complete each overlay."""
    always = {"ServiceAccount", "ConfigMap", "NetworkPolicy"}

    assert kinds | always == {document["kind"] for document in documents(overlay)}
    assert {"certferry"} == {document["metadata"]["namespace"] for document in documents(overlay)}


@thorough
def test_documents_fit_the_schemas_of_the_api(tmp_path: Path) -> None:
    """Every field has its name and place, in each overlay."""
    files = [tmp_path / f"{overlay}.yaml" for overlay in OVERLAYS]
    for file in files:
        file.write_text(rendered(file.stem))
    uv = str(Path(sys.executable).with_name("uv"))

    done = subprocess.run(
        [uv, "tool", "run", "--system-certs", *VALIDATOR, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert len(OVERLAYS) < (done.stdout + done.stderr).count("passed for resource")


@every
def test_pods_have_no_right_that_they_do_not_need(overlay: str) -> None:
    """The pods follow the policy *restricted* (kubernetes.io, pod security standards, 2026-11), and
    can write only to their volumes.
    """
    assert [*pods(overlay)]
    for pod in pods(overlay):
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] > 0
        assert {"type": "RuntimeDefault"} == context["seccompProfile"]
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            assert {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            } == container["securityContext"]
            assert "memory" in container["resources"]["limits"]
    for account in of_kind(overlay, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@every
def test_secrets_are_references(overlay: str) -> None:
    """Secrets are neither rendered nor part of the configuration."""
    assert [] == of_kind(overlay, "Secret")
    for pod in pods(overlay):
        for container in containers(pod):
            assert [{"secretRef": {"name": "certferry"}}] == container["envFrom"]
            assert [{"name": "HOME", "value": "/tmp"}] == container["env"]
    secrets = r"^(?:\w*(?:key|token|password)|id) = "
    [config] = of_kind(overlay, "ConfigMap")
    lines = config["data"]["certferry.toml"].splitlines()
    secret_lines = [line for line in lines if re.match(secrets, line)]
    assert len(secret_lines) > 3
    assert [] == [line for line in secret_lines if '= "env:' not in line]


@every
def test_configuration_cannot_be_replaced_in_the_pod(overlay: str) -> None:
    """The file is mounted alone, since a whole ConfigMap is a folder of mode 0777, which certferry
    refuses. A changed file has a new name, so the pods are replaced.
    """
    [config] = of_kind(overlay, "ConfigMap")
    for pod in pods(overlay):
        assert {"name": config["metadata"]["name"]} in [
            volume.get("configMap") for volume in pod["volumes"]
        ]
        for container in containers(pod):
            [mount] = (mount for mount in container["volumeMounts"] if mount["name"] == "config")
            path = "/etc/certferry/certferry.toml"
            assert (path, "certferry.toml", True) == (
                mount["mountPath"],
                mount["subPath"],
                mount["readOnly"],
            )
            assert {mount["name"] for mount in container["volumeMounts"]} == {
                volume["name"] for volume in pod["volumes"]
            }


@every
def test_pods_are_started_as_the_image_is_made(overlay: str) -> None:
    """The image's user owns the volume, state and configuration lie in the image's folders, and
    other output is in memory. Only a command with a shell replaces the entrypoint.
    """
    for pod in pods(overlay):
        context = pod["securityContext"]
        assert {image.UID} == {context["runAsUser"], context["runAsGroup"]}
        assert image.UID == context.get("fsGroup", image.UID)
        for container in containers(pod):
            assert container.get("command") in (None, ["/bin/sh", "-c"])
            places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert f"{image.CONFIG}/certferry.toml" == places.pop("config")
            assert "/tmp" == places.pop("tmp")
            assert places in ({}, {"state": image.STATE})
    settings = (FOLDER / overlay / "certferry.toml").read_text(encoding="utf-8")
    if "sqlite:" in settings:
        assert f'url = "sqlite:///{image.STATE}/state.db"' in settings


@every
def test_image_is_of_this_version(overlay: str, tmp_path: Path) -> None:
    """The tag is fixed; another registry is a single line for every overlay."""
    assert {f"{image.NAME}:{__version__}"} == images(rendered(overlay))
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    names = copy / "image" / "kustomization.yaml"
    names.write_text(names.read_text().replace(image.NAME, "r.example/c"))

    assert {f"r.example/c:{__version__}"} == images(render(copy / overlay))


@every
def test_configuration_of_an_overlay_loads(overlay: str, tmp_path: Path) -> None:
    """The file is read unchanged."""
    contents = (FOLDER / overlay / "certferry.toml").read_text(encoding="utf-8")
    config = tmp_path / "certferry.toml"
    config.write_text(contents)

    settings = load(config, {"HOME": str(tmp_path)}, ADAPTERS)

    names = {name for certificate in settings.certificates for name in certificate.names}
    assert "img.example.com" in names
    assert ("[console]" in contents) is (overlay in {"base", "fleet"})


@pytest.mark.parametrize("overlay", ["base", "fleet"])
def test_probes_ask_whether_the_console_answers(overlay: str) -> None:
    """Overdue renewals do not fail a probe: a restart would not help, and the console is needed
    then.
    """
    [serve] = (
        container
        for pod in pods(overlay)
        for container in pod["containers"]
        if container["name"] == "serve"
    )

    assert ["serve"] == serve["args"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert {"port": "https"} == serve[probe]["tcpSocket"]
    [service] = of_kind(overlay, "Service")
    [workload] = of_kind(overlay, "Deployment") or of_kind(overlay, "StatefulSet")
    assert service["spec"]["selector"] == workload["spec"]["selector"]["matchLabels"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_console_starts_with_the_existing_certificate(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The init container orders the first certificate. A later failed renewal delays no start, and
    leaves no key behind. Without any certificate `serve` is not started.
    """
    name = new_name()
    host = Host(world, tmp_path, certificate(name, name="ops", to=None))
    first, same = (
        container for overlay in ("base", "fleet") for container in first_containers(overlay)
    )
    assert first["args"] == same["args"]
    [script] = first["args"]
    own = script.replace("/tmp/", f"{tmp_path}/").replace("--wait 900", "--wait 5")
    environ = world.environment | {
        "CERTFERRY_CONFIG": str(host.config),
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }

    def code() -> int:
        return subprocess.run([*first["command"], own], env=environ, check=False).returncode

    directory = world.pebble.directory_url
    host.rewrite(directory, "https://127.0.0.1:9/dir")
    assert 0 != code()
    host.rewrite("https://127.0.0.1:9/dir", directory)
    assert 0 == code()
    host.rewrite(directory, "https://127.0.0.1:9/dir")
    host.rewrite(f'names = ["{name}"]', f'names = ["{name}", "{new_name()}"]')
    assert 0 == code()
    assert not [*tmp_path.rglob("privkey.pem")]


def test_single_process_has_the_volume() -> None:
    """The state is a file, so the old pod ends before the new pod begins."""
    [deployment] = of_kind("base", "Deployment")

    assert 1 == deployment["spec"]["replicas"]
    assert {"type": "Recreate"} == deployment["spec"]["strategy"]


@pytest.mark.parametrize("overlay", ["cron", "cron-bucket"])
def test_runs_come_twice_a_day_without_overlap(overlay: str) -> None:
    """A run tries again by itself; another pod would begin from the start."""
    [job] = of_kind(overlay, "CronJob")
    minute, hours, *_ = job["spec"]["schedule"].split()

    assert "Forbid" == job["spec"]["concurrencyPolicy"]
    assert (True, 2) == (minute not in {"0", "30"}, len(hours.split(",")))
    assert 0 == job["spec"]["jobTemplate"]["spec"]["backoffLimit"]
    [pod] = pods(overlay)
    [container] = pod["containers"]
    assert ["sync", "--scheduled"] == container["args"]
    assert "Never" == pod["restartPolicy"]
    assert ("state" in {volume["name"] for volume in pod["volumes"]}) is (overlay == "cron")
    [policy] = of_kind(overlay, "NetworkPolicy")
    assert "ingress" not in policy["spec"]  # with the type Ingress, all incoming traffic is denied


def test_pods_of_a_fleet_keep_their_names() -> None:
    """The name of a pod is the name of its host, so the shared file has no `host`."""
    [replicas] = of_kind("fleet", "StatefulSet")
    [config] = of_kind("fleet", "ConfigMap")

    assert replicas["spec"]["replicas"] > 1
    assert not re.search(r"^host =", config["data"]["certferry.toml"], re.MULTILINE)
    [policy] = of_kind("fleet", "NetworkPolicy")
    assert 5432 in [port["port"] for port in policy["spec"]["egress"][0]["ports"]]
    volumes = replicas["spec"]["template"]["spec"]["volumes"]
    assert {"config", "tmp"} == {volume["name"] for volume in volumes}


def test_shared_state_is_created_by_an_operator() -> None:
    """A starting pod with a wrong address would create a new state, and order every certificate
    again.
    """
    [job] = of_kind("fleet", "CronJob")

    assert job["spec"]["suspend"] is True
    [pod] = (template for template in pods("fleet") if template.get("restartPolicy") == "Never")
    assert ["state", "init"] == pod["containers"][0]["args"]
