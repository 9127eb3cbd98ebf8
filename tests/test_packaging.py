"""What the project says about itself, in the files that it is packaged with."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def said(key):
    """The text of a key of pyproject.toml (tomllib came with Python 3.11)."""
    return re.search(rf'^{key} = "(.*)"$', PROJECT, re.M)[1]


def test_versions_and_licences_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == said("version") and citation["license"] == said("license") == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def test_every_python_is_said_and_has_a_wheel():
    classified = re.findall(r"Programming Language :: Python :: (3\.\d+)", PROJECT)
    built = [f"3.{minor}" for minor in re.findall(r'"cp3(\d+)-\*"', PROJECT)]
    assert classified == built and said("requires-python") == f">={built[0]}"
    checked = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8"))
    pythons = checked["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    # .ci/run is the one for what the container's Debian has.
    assert set(pythons) == set(built) - {"3.11"}
    assert checked["jobs"]["all"]["container"] == "debian:bookworm"
    assert {"run": ".ci/run"} in checked["jobs"]["all"]["steps"]


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.stem)
def test_workflows_and_templates_can_be_read(file):
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    for action in re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8")):
        assert re.fullmatch(r"actions/[\w-]+@v\d+", action)
    for script in re.findall(r"\b(?:tools|\.ci)/\w+(?:\.\w+)?", file.read_text(encoding="utf-8")):
        assert (ROOT / script).exists(), script
    assert "blank_issues_enabled" in found or "jobs" in found or {"name", "description", "body"} <= set(found)


def test_the_tools_of_the_site_are_those_of_the_extra():
    extra = re.search(r"^docs = \[(.*)\]$", PROJECT, re.M)[1].replace(",", "").replace('" "', " ").strip('"')
    make = re.search(r"^SITE := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1]
    assert make.replace(",", "").replace('" "', " ").strip('"') == extra


def test_every_page_is_in_the_navigation():
    said_nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"[\w/-]+\.md", said_nav)) == pages
    for module in re.findall(
        r"^::: (\S+)$", "".join(p.read_text() for p in (ROOT / "docs/reference").glob("*.md")), re.M
    ):
        assert module.startswith("aerogel.")


def test_the_image_needs_what_there_is():
    steps = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"]
    assert all((ROOT / name).exists() for name in kept)
    assert {"csrc", "python", "CMakeLists.txt", "pyproject.toml", said("readme"), "LICENSE"} <= set(kept)
    for extra in re.search(r'"/src\[([\w,]+)\]"', steps)[1].split(","):
        assert re.search(rf"^{extra} = \[", PROJECT, re.M), extra
