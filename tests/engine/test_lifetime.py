"""Models that are closed, copied, pickled."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel.errors import AerogelError

TEXTS = ["the cat", "", "a dog sat on the tree"]


def embed(model):
    """Run by another process."""
    return model.threads, model.encode(TEXTS)


def test_a_closed_model_says_so(bert_folder):
    model = aerogel.load(bert_folder)
    model.encode(TEXTS)
    assert not model.closed
    model.close()
    model.close()
    assert model.closed and "closed" in repr(model)
    uses = [
        lambda: model.encode(TEXTS),
        lambda: model.encode([]),
        lambda: model.scores(TEXTS),
        lambda: model.forward([1, 2]),
        lambda: model.describe(),
        lambda: model.config,
        lambda: model.tokenizer,
        lambda: model.threads,
        lambda: model.outputs,
        lambda: copy.copy(model),
        lambda: pickle.dumps(model),
        lambda: model.__enter__(),
    ]
    for use in uses:
        with pytest.raises(AerogelError, match="the model is closed"):
            use()


def test_a_generation_ends_with_its_model(llama_folder):
    with aerogel.load(llama_folder) as model:
        tokens = model.generate_tokens([1, 2, 3], 8, stop=[])
        next(tokens)
    with pytest.raises(AerogelError, match="the model is closed"):
        next(tokens)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_file_is_mapped(bert_folder, tmp_path):
    own = shutil.copytree(bert_folder, tmp_path / "own")
    with aerogel.load(own, threads=1):
        assert str(own) not in Path("/proc/self/maps").read_text()


def test_a_loaded_model_does_not_depend_on_its_files(bert_folder, tmp_path):
    own = shutil.copytree(bert_folder, tmp_path / "own")
    model = aerogel.load(own, threads=1)
    before = model.encode(TEXTS)
    file = own / "model.safetensors"
    for content in (bytes(file.stat().st_size), file.read_bytes()[:1000], b""):
        file.write_bytes(content)  # in place, as cp does
        np.testing.assert_array_equal(model.encode(TEXTS), before)
    shutil.rmtree(own)
    np.testing.assert_array_equal(model.encode(TEXTS), before)


def test_closing_while_others_call(bert_folder):
    model = aerogel.load(bert_folder, threads=1)
    expected = model.encode(TEXTS)
    said, ready = [], threading.Barrier(5)

    def work():
        ready.wait()
        try:
            while True:
                assert np.array_equal(model.encode(TEXTS), expected)
        except AerogelError as error:
            said.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    ready.wait()
    model.close()
    for worker in workers:
        worker.join(60)
    assert len(said) == 4 and all("the model is closed" in line for line in said)
    assert not model._idle


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_weights_and_closes_alone(bert_folder, copied):
    model = aerogel.load(bert_folder)
    other = copied(model)
    assert other is not model and other._plan is model._plan
    expected = model.encode(TEXTS)
    model.close()
    assert np.array_equal(other.encode(TEXTS), expected)


def test_a_pickle_loads_again_with_the_same_arguments(bert_folder, monkeypatch):
    folder = Path(bert_folder)
    monkeypatch.chdir(folder.parent)
    model = aerogel.load(folder.name, threads=2, format="dense", pooling="cls", attention="float32")
    expected = model.encode(TEXTS)
    monkeypatch.chdir("/")
    data = pickle.dumps(model)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.threads == 2 and again.describe() == model.describe()
    assert np.array_equal(again.encode(TEXTS), expected)
    assert pickle.dumps(again) == data


def test_another_process_gets_a_model(bert_folder):
    model = aerogel.load(bert_folder, threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        threads, found = pool.apply(embed, (model,))
    assert threads == 1 and np.array_equal(found, model.encode(TEXTS))


def test_a_change_of_folder_does_not_lose_the_tokenizer(bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(bert_folder.parent)
    model = aerogel.load(bert_folder.name)
    monkeypatch.chdir(tmp_path)
    assert model.encode("the cat").shape == (48,)
