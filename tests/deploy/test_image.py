"""The image: pinned, built and run as its user, and the same everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib

from tests.worlds.manifests import FILES, ROOT, clusters, containers, pods


def test_versions_and_images_agree():
    ray = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert {spec["rayVersion"] for spec in clusters().values()} == {ray}
    images = {container["image"] for template in pods().values() for container in containers(template["spec"])}
    assert images == {f"registry.example.com/rnncond:{project}-ray{ray}"}
    recipe = (ROOT / "deploy" / "Containerfile").read_text()
    assert re.search(rf"^ARG BASE=docker.io/rayproject/ray:{re.escape(ray)}-py311-gpu$", recipe, re.MULTILINE)
    assert f"rnncond:{project}-ray{ray} ." in recipe


def test_the_documented_command_names_every_image_by_its_digest(tmp_path):
    """And a second time, with the next image."""
    text = (ROOT / "docs/operating.md").read_text()
    (command,) = re.findall(r"^sed -i .*deploy/kuberay.*$", text, re.MULTILINE)
    for folder in ("deploy", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for image, digest in (
        ("r.example.org/a/rnncond:1", "sha256:" + "0a" * 32),
        ("r2/rnncond:2", "sha256:" + "1b" * 32),
    ):
        environment = {**os.environ, "IMAGE": image, "DIGEST": digest}
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, check=True)
        for path in [*FILES, ROOT / "examples" / "nightly_argo.yaml"]:
            images = re.findall(r"image: (\S+)", (tmp_path / path.relative_to(ROOT)).read_text())
            assert images == [f"{image}@{digest}"] * len(re.findall(r"image: ", path.read_text()))


def instructions() -> list[list[str]]:
    """The words of each line of the Containerfile that is no comment."""
    lines = (ROOT / "deploy/Containerfile").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_the_image_is_pinned_and_has_what_the_package_is_built_from():
    text = (ROOT / "deploy/Containerfile").read_text()
    assert "--constraint constraints.txt" in text and "index-url" not in text
    sources = {source for line in instructions() if line[0] == "COPY" for source in line[2:-1]}
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert sources == needed | {"rnncond", "feature_store", "pipelines"}
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(sent) == sources, "what a builder is sent"
    extra = re.search(r"'\.\[(\w+)\]'", text)[1]
    assert "mlflow[auth]" in project["optional-dependencies"][extra][0], "for the server of mlflow.yaml"


def test_the_image_is_built_and_run_as_its_user():
    """Docker makes the folders of WORKDIR and COPY as root, and Podman as the user: none is left to either."""
    lines = instructions()
    (user,) = [number for number, line in enumerate(lines) if line[0] == "USER"]
    assert lines[user] == ["USER", "1000:100"] and [line[0] for line in lines[:user]] == ["ARG", "FROM"]
    made = {"/home/ray"}  # by the base image, for its user
    for line in lines[user:]:
        if line[:2] == ["RUN", "mkdir"]:
            assert line[2].rpartition("/")[0] in made
            made.add(line[2])
        if line[0] == "WORKDIR":
            assert line[1] in made
        if line[0] == "COPY":
            assert line[1] == "--chown=1000:100"
            assert line[-1] == "./" or ((ROOT / line[-1]).is_dir() and line[2] == line[-1]), "into the folder above"
