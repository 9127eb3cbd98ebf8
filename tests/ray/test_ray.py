"""With Ray itself, where it is installed: what is there when workers and drivers are killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel.errors import AerogelError, CheckpointError, DataError
from aerogel.ray import Embed, embed_dataset, parts, serve_app_of
from aerogel.ray.part_writer import PartWriter

pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")

#: In one process of pytest-xdist, so that one Ray is started.
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]
WORDS = "the a cat dog sat ran on under mat tree big small red blue and not".split()
ROWS = 300


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Files of 300 rows, and those rows."""
    rng = np.random.default_rng(0)
    rows = [{"id": i, "text": " ".join(rng.choice(WORDS, rng.integers(1, 12)))} for i in range(ROWS)]
    folder = tmp_path_factory.mktemp("dataset")
    for name, some in (("a", rows[:120]), ("b", rows[120:121]), ("c", rows[121:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder, rows


def check(out, texts, model, tmp_path):
    """Every row once, in the input's order; and each file, bit for bit, what a writer makes that nobody disturbs."""
    import pyarrow.parquet as pq

    names = sorted(name for name in os.listdir(out) if not name.startswith(("_", ".")))
    assert names == [parts.part_name(i) for i in range(len(names))]
    tables = [pq.read_table(out / name) for name in names]
    found = [row for table in tables for row in table.to_pylist()]
    rows = texts[1]
    assert [(row["id"], row["text"]) for row in found] == [(row["id"], row["text"]) for row in rows]
    expected = aerogel.load(model, 1).encode([row["text"] for row in rows])
    np.testing.assert_allclose([row["embedding"] for row in found], expected, atol=1e-6)
    manifest = parts.read_manifest(out)
    (tmp_path / "calm").mkdir()
    writer = PartWriter(
        manifest.task, pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(manifest.schema))), tmp_path / "calm", 1
    )
    for part in manifest.parts:
        writer.write(manifest.sources[part.file], part)
        assert (out / part.name).read_bytes() == (tmp_path / "calm" / part.name).read_bytes(), part
    assert (out / parts.SUCCESS).exists()
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def workers():
    """The processes of workers below this one, by Linux's /proc."""
    parents, found = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text()
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                found.append(int(entry.name))
        except OSError:
            continue

    def ours(pid):
        while pid in parents:
            if pid == os.getpid():
                return True
            pid = parents[pid]
        return False

    return [pid for pid in found if ours(pid)]


def test_workers_that_are_killed(cluster, texts, bert_folder, tmp_path):
    killed = []

    def progress(done, total, name):
        assert total == ROWS
        if name and len(killed) < 3 and done > 60 * len(killed):
            [pid, *_] = workers()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    done = embed_dataset(texts[0], tmp_path / "out", bert_folder, part_rows=5, workers=2, progress=progress)
    assert len(set(killed)) == 3
    assert (done.rows, done.parts, done.parts_before) == (ROWS, 24 + 1 + 36, 0)
    check(tmp_path / "out", texts, bert_folder, tmp_path)


def test_a_driver_that_is_killed(cluster, texts, bert_folder, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "aerogel", "embed-dataset", texts[0], out, "-m", bert_folder]
    environment = {**os.environ, "PYTHONPATH": str(Path(aerogel.__file__).parents[1])}
    driver = subprocess.Popen(
        [*command, "--part-rows", "2", "--address", cluster], env=environment, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while not (out.is_dir() and len([n for n in os.listdir(out) if parts.is_part(n)]) > 10):
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()
        time.sleep(0.005)
    driver.kill()
    driver.communicate()
    there = {name: (out / name).stat().st_mtime_ns for name in os.listdir(out) if parts.is_part(name)}
    assert 10 < len(there) < 151 and not (out / parts.SUCCESS).exists()
    done = embed_dataset(texts[0], out, bert_folder)
    assert done.parts == 60 + 1 + 90 and len(there) <= done.parts_before < done.parts
    assert all((out / name).stat().st_mtime_ns == time for name, time in there.items())  # nothing is done twice
    check(out, texts, bert_folder, tmp_path)
    again = embed_dataset(texts[0], out, bert_folder)
    assert again.parts_before == again.parts == done.parts
    with pytest.raises(AerogelError, match="has parts of another run: truncate_dim: None then, 8 now"):
        embed_dataset(texts[0], out, bert_folder, truncate_dim=8)


def test_errors_of_workers_are_the_drivers(cluster, bert_folder, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "cat"}\n' * 9 + '{"text": null}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: column 'text': expected a text, got none in row 9"):
        embed_dataset(tmp_path / "a.jsonl", tmp_path / "out", bert_folder, part_rows=2, workers=1)
    assert sorted(n for n in os.listdir(tmp_path / "out") if parts.is_part(n)) == [parts.part_name(i) for i in range(4)]
    (tmp_path / "m").mkdir()
    with pytest.raises(CheckpointError, match="m: "):
        embed_dataset(tmp_path / "a.jsonl", tmp_path / "out2", tmp_path / "m", workers=1)


def test_ray_data_makes_an_actor_a_model(cluster, texts, bert_folder):
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = texts[1][:64]
    data = ray.data.from_items(rows, override_num_blocks=4)
    pool = ray.data.ActorPoolStrategy(size=2)
    found = data.map_batches(Embed(bert_folder), compute=pool, num_cpus=1, batch_size=8).take_all()
    expected = aerogel.load(bert_folder).encode_document([row["text"] for row in rows])
    assert sorted(row["id"] for row in found) == list(range(64))
    for row in found:
        np.testing.assert_array_equal(row["embedding"], expected[row["id"]])


def test_serve(cluster, bert_folder):
    import urllib.error
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    from ray import serve

    port = 18723
    serve.start(http_options={"port": port, "host": "127.0.0.1"})

    def call(route, said, status=200):
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{route}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == status
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            assert error.code == status, error.read()
            return json.loads(error.read())

    try:
        serve.run(serve_app_of({"model": str(bert_folder), "max_replicas": "2"}))
        sentences = [f"{a} {b}" for a in WORDS[:4] for b in WORDS[4:8]]
        expected = aerogel.load(bert_folder, 1).encode(sentences)
        with ThreadPoolExecutor(8) as many:
            found = list(many.map(lambda text: call("/embed", {"inputs": text})[0], sentences))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        openai = call("/v1/embeddings", {"input": sentences[:2], "model": "any"})
        np.testing.assert_allclose([row["embedding"] for row in openai["data"]], expected[:2], atol=1e-6)
        assert call("/embed", b"{", 400)["error"].startswith("expected JSON")
        assert "expected a list of strings" in call("/embed", {"inputs": 1}, 422)["error"]
        assert "at most 1024 texts" in call("/embed", {"inputs": ["a"] * 1025}, 422)["error"]
        assert call("/embed", b" " * (5 << 20), 413)["error"].startswith("expected a body")
        assert "not a classifier" in call("/rerank", {"query": "a", "texts": ["b"]}, 422)["error"]
        assert call("/none", {}, 404)["error"].endswith("got /none")
    finally:
        serve.shutdown()
