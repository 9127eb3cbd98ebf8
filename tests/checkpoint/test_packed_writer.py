import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.quantize import bf16, int8, none
from aerogel.quantize.stored import to_weight


def test_the_safetensors_package_reads_what_is_written(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        "codes": random.integers(-127, 128, (3, 5)).astype(np.int8),
        "floats": random.standard_normal((2, 3)).astype(np.float32),
        "mask": random.integers(0, 256, 7).astype(np.uint8),
        "shape": np.array([3, 5], np.int64),
        "none": np.zeros(0, np.int8),
        "more": random.standard_normal(1).astype(np.float32),
    }
    writer = SafetensorsWriter(tmp_path / "model.safetensors")
    for name, array in tensors.items():
        assert writer.add(name, array) == array.nbytes
    writer.close({"format": "aerogel"})
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "aerogel"}


def test_bf16_is_announced_as_such(tmp_path):
    codes = np.array([[0x3F80, 0xC000, 0x0001]], np.uint16)
    writer = SafetensorsWriter(tmp_path / "model.safetensors")
    writer.add("byte", np.ones(1, np.int8))
    writer.add("codes", codes)
    writer.close({})
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.get_slice("codes").get_dtype() == "BF16" and file.get_slice("codes").get_shape() == [1, 3]
    assert np.array_equal(SafetensorsFile(tmp_path / "model.safetensors").raw("codes"), codes)


def test_a_name_is_written_once(tmp_path):
    writer = SafetensorsWriter(tmp_path / "model.safetensors")
    writer.add("a", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="a is written twice"):
        writer.add("a", np.zeros(1, np.float32))


@pytest.mark.parametrize("k", [1, 7, 8, 9, 64, 65])
@pytest.mark.parametrize("scheme", [int8, bf16, none])
@pytest.mark.parametrize("sparse", [None, False, True])
def test_the_stored_form_is_the_weight(k, scheme, sparse):
    w = np.random.default_rng(k).standard_normal((6, k)).astype(np.float32)
    w[np.random.default_rng(1).random(w.shape) < 0.7] = 0
    w[2] = 0
    quantized = scheme(w)
    stored = to_weight(quantized, sparse)
    assert np.array_equal(stored.dense(), quantized.dense())
    if sparse is not None:
        assert (stored.mask is not None) == sparse


def test_the_smaller_form_is_chosen():
    w = np.ones((8, 64), np.float32)
    assert to_weight(int8(w)).mask is None
    w[:, 8:] = 0
    assert to_weight(int8(w)).mask is not None
