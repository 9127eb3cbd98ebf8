"""Packed models with BF16 tensors, and checkpoints that are BF16 to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import AerogelError
from aerogel.numbers.bf16 import narrow, widen

from .tiny_files import HIDDEN, PACKED, bert_tensors, pack_matrix, tensor_bytes, write_bert

QUERY = "encoder.layer.0.attention.self.query.weight"
KEY = "encoder.layer.0.attention.self.key.weight"


def write(folder: Path, arrays: dict[str, np.ndarray], packed: bool = True) -> Path:
    """uint16 arrays are BF16."""
    write_bert(folder, {}, {"quantization_config": PACKED} if packed else None)
    codes = tuple(name for name, array in arrays.items() if array.dtype == np.uint16)
    (folder / "model.safetensors").write_bytes(tensor_bytes(arrays, codes))
    return folder


def in_bf16(sparse: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The tiny BERT, its matrices as bf16."""
    arrays: dict[str, np.ndarray] = {}
    for name, array in bert_tensors().items():
        if array.ndim == 1:
            arrays[name] = array
        elif name in sparse:
            array[np.random.default_rng(0).random(array.shape) < 0.7] = 0
            arrays.update(pack_matrix(name, narrow(array)))
        else:
            arrays[name] = narrow(array)
    return arrays


def test_weights_are_views_of_the_file(tmp_path: Path) -> None:
    arrays = in_bf16((KEY,))
    checkpoint = open_checkpoint(write(tmp_path / "m", arrays))
    dense, sparse = checkpoint.weight(QUERY), checkpoint.weight(KEY)
    assert dense.values.dtype == sparse.values.dtype == np.uint16 and dense.scale is None and sparse.scale is None
    assert not dense.values.flags.owndata and not sparse.values.flags.owndata
    np.testing.assert_array_equal(dense.dense(), widen(arrays[QUERY]), strict=True)
    np.testing.assert_array_equal(checkpoint.array(QUERY), dense.dense(), strict=True)
    assert np.count_nonzero(sparse.dense()) == sparse.values.size
    assert dense.nbytes == 2 * HIDDEN * HIDDEN


@pytest.mark.parametrize("packed", [True, False])
def test_the_same_numbers_as_floats_give_the_same_result(tmp_path: Path, packed: bool) -> None:
    arrays = in_bf16()
    floats = {name: widen(array) if array.dtype == np.uint16 else array for name, array in arrays.items()}
    a = aerogel.load(write(tmp_path / "a", arrays, packed))
    b = aerogel.load(write(tmp_path / "b", floats, packed))
    assert {form["format"] for step in a.describe() for form in step.get("forms", ())} == {"dense_bf16"}
    assert a.nbytes < 0.6 * b.nbytes
    ids, offsets = [5, 6, 7, 8, 5, 6, 7, 9, 10], [0, 3, 9]
    np.testing.assert_array_equal(a.forward(ids, offsets), b.forward(ids, offsets))


def test_parts_of_several_types_run_as_floats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = in_bf16((KEY,))
    arrays[QUERY] = widen(arrays[QUERY])
    with caplog.at_level("INFO", "aerogel"):
        model = aerogel.load(write(tmp_path / "m", arrays))
    assert "parts of several types are stacked" in caplog.text
    formats = {step["name"]: step["forms"][0]["format"] for step in model.describe() if "forms" in step}
    assert formats.pop("layers.0.attention.qkv") == "dense_f32" and set(formats.values()) == {"dense_bf16"}


def broken(**changes: Any) -> dict[str, np.ndarray]:
    arrays = in_bf16((KEY,))
    for name, change in changes.items():
        tensor = {"query": QUERY, "query_scale": QUERY + "_scale"}.get(name, KEY + name.removeprefix("key"))
        arrays[tensor] = change(arrays.get(tensor))
    return arrays


def put(place: Any, value: int) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (broken(query=put((1, 2), 0x7F80)), "expected finite values, got 1 of 64"),
        (broken(query=put((1, 2), 0xFFFF)), "expected finite values, got 1 of 64"),
        (broken(key_values=put(0, 0xFF80)), "expected finite values, got 1 of"),
        (broken(key_values=lambda a: a[:-1]), "expected as many values as the mask has bits"),
        (broken(key_values=lambda a: a[:, None]), "expected a vector"),
        (broken(key_values=lambda a: a.astype(np.int64)), "expected F32, BF16 or I8, got I64"),
        (
            broken(query_scale=lambda _: np.ones(8, np.float32)),
            "one with I8 values and none with others, got BF16, a scale",
        ),
        (broken(query=lambda a: a[:, :-1]), r"expected \[8, 8\], got \[8, 7\]"),
    ],
)
def test_broken_files_are_named_errors(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(AerogelError, match=message):
        aerogel.load(write(tmp_path / "m", arrays))


def test_a_bf16_checkpoint_with_a_nan(tmp_path: Path) -> None:
    arrays = in_bf16()
    arrays[QUERY] = put((0, 0), 0x7FC0)(arrays[QUERY])
    with pytest.raises(AerogelError, match="expected finite values, got 1 of 64"):
        aerogel.load(write(tmp_path / "m", arrays, packed=False))


def test_embeddings_are_checked(tmp_path: Path) -> None:
    arrays = in_bf16()
    name = "embeddings.word_embeddings.weight"
    arrays[name] = put((3, 1), 0x7F80)(arrays[name])
    with pytest.raises(AerogelError, match="expected finite values, got 1 of"):
        aerogel.load(write(tmp_path / "m", arrays))
