"""Model ids: what is asked of huggingface_hub and what becomes of its errors. Nothing here reaches the network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from aerogel.checkpoint import hub, open_checkpoint
from aerogel.errors import CheckpointError

from . import tiny_files
from .gguf import files

Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """huggingface_hub with every model already there: a BERT folder, or a GGUF file."""
    made: Calls = []

    def snapshot(*args: Any, **more: Any) -> str:
        made.append(("snapshot", args, more))
        return str(tiny_files.write_bert(tmp_path / "snapshot"))

    def file(*args: Any, **more: Any) -> str:
        made.append(("file", args, more))
        return str(files.write_model(tmp_path / "downloaded.gguf", "bert"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", file)
    return made


@pytest.fixture
def nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: Any, **more: Any) -> None:
        pytest.fail(f"huggingface_hub was asked for {args}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)


@pytest.mark.parametrize("model_id", ["bert-base-uncased", "owner/name", "o.w-n_er/n.a-m_e", "0/1", "owner/name.gguf"])
def test_an_id_is_a_folder(calls: Calls, tmp_path: Path, model_id: str) -> None:
    assert hub.download(model_id) == tmp_path / "snapshot"
    assert [(kind, args) for kind, args, _ in calls] == [("snapshot", (model_id,))]
    assert open_checkpoint(model_id).kind == "safetensors"


@pytest.mark.parametrize(
    ("model_id", "repository", "file"),
    [
        ("owner/name/model-Q8_0.gguf", "owner/name", "model-Q8_0.gguf"),
        ("owner/name/sub/deep.er/m.gguf", "owner/name", "sub/deep.er/m.gguf"),
        ("o/n/m-00001-of-00002.gguf", "o/n", "m-00001-of-00002.gguf"),
    ],
)
def test_an_id_with_a_file_is_that_file(
    calls: Calls, tmp_path: Path, model_id: str, repository: str, file: str
) -> None:
    assert hub.download(model_id) == tmp_path / "downloaded.gguf"
    assert calls == [("file", (repository, file), {})]
    assert open_checkpoint(model_id).kind == "gguf"


@pytest.mark.parametrize(
    "model_id",
    [
        "./model",
        "../model",
        "/nowhere/model",
        "owner/name/file.safetensors",
        "owner/name/",
        "a/b/c/d",
        "owner//name",
        "-owner/name",
        "owner/.name",
        "na me",
        "owner/name@main",
        "https://huggingface.co/owner/name",
        "owner\\name",
        "owner/name/../../other.ggu",
        "owner/name/file.gguf\n",
        "a\0b",
        "x" * 5000 + "/a/b",  # longer than a file system's names
        "~nobody-of-this-name/model",
    ],
)
def test_what_is_no_id_is_not_asked_for(nothing_is_asked: None, model_id: str) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        open_checkpoint(model_id)


@pytest.mark.parametrize("model_id", ["owner/name/../../../etc/x.gguf", "owner/name/./x.gguf", "owner/name//x.gguf"])
def test_a_file_stays_in_its_repository(nothing_is_asked: None, model_id: str) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        hub.download(model_id)


def test_a_path_wins_over_an_id(nothing_is_asked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_files.write_bert(tmp_path / "owner" / "name")
    files.write_model(tmp_path / "owner" / "name" / "m.gguf", "bert")
    assert open_checkpoint("owner/name").kind == "safetensors"
    assert open_checkpoint("owner/name/m.gguf").kind == "gguf"
    assert open_checkpoint(Path("owner") / "name").kind == "safetensors"


def test_home(nothing_is_asked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_files.write_bert(tmp_path / "model")
    assert open_checkpoint("~/model").path == tmp_path / "model"


def asked_patterns(calls: Calls, names: list[str]) -> list[str]:
    """What huggingface_hub itself would download of a repository with these files."""
    hub.download("owner/name")
    (_, _, more) = calls.pop()
    assert set(more) == {"allow_patterns", "ignore_patterns"}
    return list(huggingface_hub.utils.filter_repo_objects(names, **more))


def test_what_is_downloaded(calls: Calls) -> None:
    wanted = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "0_Transformer/model.safetensors",
        "0_Transformer/config.json",
        "0_Transformer/vocab.txt",
    ]
    unwanted = [
        "README.md",
        ".gitattributes",
        ".config.json",
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "rust_model.ot",
        "model.onnx",
        "onnx/model.onnx",
        "onnx/config.json",
        "openvino/openvino_model.xml",
        "openvino/config.json",
        "original/consolidated.00.pth",
        "original/params.json",
        "consolidated.safetensors",
        "model-Q4_K_M.gguf",
        "train_data.zip",
        "model.onnx_data",
    ]
    assert asked_patterns(calls, wanted + unwanted) == wanted


def response(status: int) -> Any:
    class Response:
        status_code = status
        headers: dict[str, str] = {}
        request = None
        text = ""

    return Response()


RAISED: dict[str, Callable[[], BaseException]] = {
    "RepositoryNotFoundError": lambda: errors.RepositoryNotFoundError("404 Client Error", response=response(404)),
    "GatedRepoError": lambda: errors.GatedRepoError("403: access is restricted", response=response(403)),
    "HfHubHTTPError": lambda: errors.HfHubHTTPError("401 Client Error", response=response(401)),
    "LocalEntryNotFoundError": lambda: errors.LocalEntryNotFoundError("not in the cache,\n  and offline"),
    "HFValidationError": lambda: errors.HFValidationError("Repo id must"),
    "ConnectionError": lambda: ConnectionError("no route to host"),
    "TimeoutError": lambda: TimeoutError("timed out"),
    "OSError": lambda: OSError(28, "No space left on device"),
    "ValueError": lambda: ValueError("x" * 5000),
}


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("model_id", ["owner/name", "owner/name/m.gguf"])
def test_its_errors_are_named(monkeypatch: pytest.MonkeyPatch, name: str, model_id: str) -> None:
    raised = RAISED[name]()

    def fails(*args: Any, **more: Any) -> None:
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(model_id)
    message = str(caught.value)
    assert message.startswith(f"{model_id}: no such file or folder, and as a model id neither cached nor reachable (")
    assert f"({name}: {' '.join(str(raised).split())[:40]}" in message
    assert "\n" not in message and len(message) < 500
    assert caught.value.__cause__ is raised


def test_an_interrupt_is_not_an_error_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.download("owner/name")


@pytest.mark.parametrize("model_id", ["owner/name", "owner/name/m.gguf"])
def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_id: str) -> None:
    """huggingface_hub's own offline mode, with an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=f"{model_id}: .* neither cached nor reachable .*(Not|Offline)"):
        open_checkpoint(model_id)


def test_offline_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was downloaded before needs no network: the layout of huggingface_hub's cache."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--owner--name"
    tiny_files.write_bert(repository / "snapshots" / commit)
    files.write_model(repository / "snapshots" / commit / "m.gguf", "qwen2")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert open_checkpoint("owner/name/m.gguf").config["model_type"] == "qwen2"


def test_without_huggingface_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="owner/name: no such file .* install huggingface_hub"):
        open_checkpoint("owner/name")
    assert open_checkpoint(tiny_files.write_bert(tmp_path / "m")).kind == "safetensors"
