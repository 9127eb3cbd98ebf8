"""The files of examples/cluster: that they are what Ray and aerogel read."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from aerogel.ray import serve_app

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"


def commands(value):
    """Every `aerogel` command in a file."""
    return re.findall(r"aerogel embed-dataset[^'\n]*", (FOLDER / value).read_text())


@pytest.mark.parametrize("file", ["cluster.yaml", "kuberay.yaml"])
def test_commands_are_as_the_program_takes_them(file):
    pytest.importorskip("typer")
    from typer.main import get_command

    from aerogel.cli.app import app

    found = commands(file)
    assert found
    command = get_command(app).commands["embed-dataset"]
    for line in found:
        arguments = command.make_context("embed-dataset", shlex.split(line)[2:]).params
        assert arguments["address"] == "auto" and arguments["model"] == "/data/model"


def test_the_service_is_what_serve_builds():
    job, service = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    assert (job["kind"], service["kind"]) == ("RayJob", "RayService")
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "aerogel.ray:serve_app_of"
    assert set(application["args"]) <= set(inspect.signature(serve_app).parameters)


def test_the_cluster_is_as_rays_schema_says():
    ray = pytest.importorskip("ray")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((FOLDER / "cluster.yaml").read_text()), schema)
