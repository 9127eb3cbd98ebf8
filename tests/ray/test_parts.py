"""Cutting a dataset, names, the manifest and what a restart accepts: without Ray."""

import json
import os
import random
import sys
from dataclasses import replace

import pytest

from aerogel.errors import AerogelError, CheckpointError, DataError
from aerogel.ray import embed_dataset, parts, serve_app, sources
from aerogel.ray.ledger import Ledger

TASK = parts.Task("m", "f" * 32, "text", "embedding", ("text",))


def bytes_of(path, part):
    return path.read_bytes()[part.begin : part.end]


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_parts_of_lines_are_the_file(tmp_path, monkeypatch, end, mark):
    monkeypatch.setattr(sources, "_CHUNK", 7)  # lines over several reads
    rng = random.Random(0)
    for count in (1, 2, 3, 5, 6, 11):
        lines = [b"x" * rng.choice((0, 1, 9, 20)) for _ in range(count - 1)] + [b"last"]
        file = tmp_path / "a.txt"
        file.write_bytes(mark + b"\n".join(lines) + end)
        [known], pieces, size = parts.cut(sources.find(str(file)), 3)
        assert (known.rows, known.head, size) == (count, len(mark), 3)
        assert [p.row for p in pieces] == list(range(0, count, 3)) and sum(p.rows for p in pieces) == count
        found = [bytes_of(file, p).removesuffix(b"\n").split(b"\n") for p in pieces]
        assert [len(rows) for rows in found] == [p.rows for p in pieces]
        assert [row for rows in found for row in rows] == lines
        assert pieces[0].begin == len(mark) and pieces[-1].end == file.stat().st_size


def test_lines_of_csv_end_outside_of_quotes(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_CHUNK", 5)
    file = tmp_path / "a.csv"
    file.write_bytes(b'"te\nxt",n\r\n"a\nb",1\r\nc,2\r\n"d""\n""",3\r\ne,4\r\n')
    [known], pieces, _ = parts.cut(sources.find(str(file)), 2)
    assert (known.head, known.rows) == (11, 4)
    assert [bytes_of(file, p) for p in pieces] == [b'"a\nb",1\r\nc,2\r\n', b'"d""\n""",3\r\ne,4\r\n']
    for text, rows, head in ((b"text", 0, 4), (b"text\n", 0, 5), (b"", 0, 0), (b"text\na", 1, 5)):
        file.write_bytes(text)
        [known], pieces, _ = parts.cut(sources.find(str(file)), 2)
        assert (known.rows, known.head, len(pieces)) == (rows, head, min(rows, 1))


def test_a_default_size_makes_some_64_parts(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"t\n" * 20_000)
    (tmp_path / "b.txt").write_bytes(b"t\n" * 700)
    (tmp_path / "_c.txt").write_bytes(b"t\n")
    (tmp_path / "notes.md").write_bytes(b"t\n")
    known, pieces, size = parts.cut(sources.find(str(tmp_path)), None)
    assert [source.rows for source in known] == [20_000, 700] and size == 512
    assert [p.name for p in pieces] == [f"part-{i:08d}.parquet" for i in range(40 + 2)]
    assert [(p.file, p.row, p.rows) for p in pieces[38:]] == [
        (0, 19456, 512),
        (0, 19968, 32),
        (1, 0, 512),
        (1, 512, 188),
    ]
    assert all(p.end - p.begin == 2 * p.rows for p in pieces)


def test_what_is_no_dataset(tmp_path):
    for name in ("a.txt", "b.jsonl", "c.bin"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="of one kind, got jsonl and txt"):
        sources.find(str(tmp_path))
    with pytest.raises(DataError, match="got none"):
        sources.find(str(tmp_path / "none*"))
    with pytest.raises(DataError, match=r"c\.bin: expected a file with one of"):
        sources.find(str(tmp_path / "c.bin"))
    assert [s.kind for s in sources.find(str(tmp_path / "b.*"))] == ["jsonl"]


def test_a_restart_needs_the_same_run(tmp_path):
    file, out = tmp_path / "a.txt", tmp_path / "out"
    file.write_bytes(b"a\nb\nc\n")
    found = sources.find(str(file))
    known, pieces, size = parts.cut(found, 2)
    parts.prepare_folder(out, False)
    assert parts.read_manifest(out) is None
    manifest = parts.Manifest(TASK, known, pieces, size, "00")
    manifest.write(out)
    assert parts.read_manifest(out) == manifest and manifest.rows == 3
    assert manifest.missing(out) == list(pieces)
    (out / pieces[0].name).write_bytes(b"")
    (out / f".{pieces[1].name}.abcdefgh.partial").write_bytes(b"")
    assert manifest.missing(out) == [pieces[1]]
    assert parts.differences(manifest, replace(TASK, model="elsewhere"), found, None) == []
    other = parts.differences(manifest, replace(TASK, fingerprint="0", truncate_dim=8), found, 3)
    assert [text.partition(":")[0] for text in other] == ["fingerprint", "truncate_dim", "part_rows"]
    os.utime(file, ns=(1, 1))
    assert parts.differences(manifest, TASK, sources.find(str(file)), 2) == [f"{file} changed since"]
    assert parts.differences(manifest, TASK, [], 2) == [f"{file} is gone"]


def test_only_a_runs_folder_is_written_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(AerogelError, match=r"got one with thesis\.txt"):
        parts.prepare_folder(tmp_path / "mine", True)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / parts.part_name(0)).write_text("x")
    with pytest.raises(AerogelError, match="got one with part-00000000"):
        parts.prepare_folder(tmp_path / "parts", True)
    (tmp_path / "parts" / parts.MANIFEST).write_text("{}")
    with pytest.raises(DataError, match="expected the manifest of a run"):
        parts.read_manifest(tmp_path / "parts")
    (tmp_path / "parts" / parts.MANIFEST).write_text(json.dumps({"version": 2}))
    with pytest.raises(DataError, match="expected version 1, got 2"):
        parts.read_manifest(tmp_path / "parts")
    parts.prepare_folder(tmp_path / "parts", False)
    assert len(os.listdir(tmp_path / "parts")) == 2
    parts.prepare_folder(tmp_path / "parts", True)
    assert os.listdir(tmp_path / "parts") == []


def test_a_fingerprint_is_of_the_contents(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_WHOLE", 100)
    monkeypatch.setattr(parts, "_END", 10)
    for name in ("a", "b"):
        (tmp_path / name / ".cache").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model").write_bytes(b"x" * 200)
    (tmp_path / "b" / ".cache" / "notes").write_text("of the hub")
    first = parts.fingerprint(str(tmp_path / "a"))
    assert first == parts.fingerprint(str(tmp_path / "b")) and len(first) == 32
    (tmp_path / "b" / "model").write_bytes(b"x" * 199 + b"y")
    assert first != parts.fingerprint(str(tmp_path / "b"))
    assert parts.fingerprint(str(tmp_path / "a" / "model")) != first
    with pytest.raises(CheckpointError, match="no such file"):
        parts.fingerprint(str(tmp_path / "none"))


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_without_a_library_the_extra_is_named(tmp_path, bert_folder, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "a.txt").write_text("cat\n")
    if missing == "ray":
        pytest.importorskip("pyarrow")
        with pytest.raises(AerogelError, match=r"needs Ray Serve: pip install aerogel\[ray\]"):
            serve_app(bert_folder)
    with pytest.raises(AerogelError, match=r"need (Ray|PyArrow): pip install aerogel\[ray\]"):
        embed_dataset(tmp_path / "a.txt", tmp_path / "out", bert_folder)


def test_a_lost_part_comes_first_and_not_for_ever():
    pieces = [parts.Part(parts.part_name(i), 0, i, 1, 0, 0) for i in range(3)]
    ledger = Ledger(pieces, 1)
    first = ledger.take()
    assert first is pieces[0] and len(ledger) == 2
    ledger.lost(first, "killed")
    assert ledger.take() is first
    with pytest.raises(
        AerogelError, match=r"part-00000000\.parquet: 2 workers were lost over it, the last one: killed"
    ):
        ledger.lost(first, "killed")
    assert [ledger.take(), ledger.take(), ledger.take()] == [pieces[1], pieces[2], None]
    ledger.start_lost("memory")
    ledger.started()
    ledger.start_lost("memory")
    with pytest.raises(AerogelError, match="2 workers were lost while they started"):
        ledger.start_lost("memory")
