"""Damaged files are found, by whoever reads them."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

import aerogel
from aerogel import _core
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import AerogelError, CheckpointError

from ..fuzz import every_byte

SUMS = "checksums.json"


@pytest.fixture(scope="module")
def packed(bert_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("checksums") / "packed"
    aerogel.compress(bert_folder, out, sparsity=0.5, method="magnitude")
    return out


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "m")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_crc32c_is_the_same_on_every_instruction_set():
    data = np.random.default_rng(0).integers(0, 256, 10007).astype(np.uint8)
    for isa in _core.supported_isas():
        assert _core.crc32c(b"123456789", isa=isa) == 0xE3069283
        assert _core.crc32c(data[5000:], _core.crc32c(data[:5000], isa=isa), isa) == _core.crc32c(data)


def test_anyone_can_check_the_tensors(packed):
    """As docs/file-format.md says it, with the format's own library."""
    with safetensors.safe_open(packed / "model.safetensors", "np") as file:
        header = json.loads((packed / "model.safetensors").read_bytes()[8:].split(b"}}", 1)[0] + b"}}")
        names = [name for name in header if name != "__metadata__"]
        for name, expected in zip(names, file.metadata()["crc32c"].split(" "), strict=True):
            array = file.get_tensor(name)
            text = f"{name} {header[name]['dtype']} {','.join(map(str, array.shape))}"
            assert f"{_core.crc32c(text.encode() + array.tobytes()):08x}" == expected


def test_a_damaged_tensor_is_named(copy):
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"layer.1.*_values: damaged: checksum: expected [0-9a-f]{8}, got"):
        aerogel.load(copy, threads=1)
    assert aerogel.load(copy, threads=1, verify=False).encode(["a cat"]).shape


def test_a_changed_file_says_what_to_do(copy):
    edit(copy / "tokenizer.json", lambda content: content["model"]["vocab"].update(more=1))
    with pytest.raises(
        CheckpointError, match=r"tokenizer.json: damaged or changed .* take its line out of .*checksums"
    ):
        aerogel.load(copy)
    edit(copy / SUMS, lambda content: content["crc32c"].pop("tokenizer.json"))
    aerogel.load(copy, threads=1)
    (copy / "1_Pooling" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="1_Pooling/config.json: cannot be read"):
        aerogel.load(copy)
    (copy / SUMS).unlink()
    with pytest.raises(AerogelError):  # of the pooling: nothing looks at checksums any more
        aerogel.load(copy)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"crc32c": 1}', '{"crc32c": {"../x": "0"}}', '{"crc32c": {"config.json": 1}}']
)
def test_broken_lists_are_named_errors(copy, content):
    (copy / SUMS).write_text(content)
    with pytest.raises(AerogelError, match=SUMS):
        aerogel.load(copy)


def test_a_model_of_this_version_has_checksums(copy):
    file = copy / "model.safetensors"
    with safetensors.safe_open(file, "np") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(arrays, file, {"format": "aerogel"})
    (copy / SUMS).unlink()
    with pytest.raises(CheckpointError, match="expected crc32c, the checksums of the tensors"):
        open_checkpoint(copy)
    edit(copy / "config.json", lambda config: config["quantization_config"].update(format_version=2))
    expected = aerogel.load(copy, threads=1).encode(["a cat"])  # the versions before had none
    np.testing.assert_array_equal(aerogel.load(copy, threads=1, verify=False).encode(["a cat"]), expected)
    edit(copy / "config.json", lambda config: config.pop("quantization_config"))
    with pytest.raises(CheckpointError, match="quantization_config: expected that of a packed model"):
        open_checkpoint(copy)


def test_every_byte(capsys):
    """Some of them by default; all, of four forms: python tests/fuzz/every_byte.py."""
    every_byte.main(1 if os.environ.get("AEROGEL_EVERY_BYTE") else 301, forms=1)
    assert "ANOTHER" not in capsys.readouterr().out
