"""Reading and writing parts, and a writer that is killed in the middle: with PyArrow, without Ray."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel.errors import CheckpointError, DataError
from aerogel.ray import parts, sources
from aerogel.ray.dataset import embed_dataset

pa = pytest.importorskip("pyarrow")

TEXTS = ["the cat sat", "", "a big\ndog", 'said "not"', "red, blue", "ümlaut"]
ROWS = [{"id": i, "text": text, "none": None} for i, text in enumerate(TEXTS)]


def write(folder, kind):
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    file = folder / f"a.{kind}"
    table = pa.Table.from_pylist(ROWS).drop_columns("none")
    if kind == "parquet":
        pq.write_table(table, file, row_group_size=4)
    elif kind == "csv":
        csv.write_csv(table, file)
    elif kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    else:
        file.write_text("\n".join(text.replace("\n", " ") for text in TEXTS) + "\n")
    return file


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "txt"])
def test_parts_read_one_by_one_are_the_rows(tmp_path, kind):
    known, pieces, _ = parts.cut(sources.find(str(write(tmp_path, kind))), 2)
    schema = sources.schema_of(known[0])
    tables = [sources.read(known[0], schema, p.row, p.rows, p.begin, p.end) for p in pieces]
    assert [len(t) for t in tables][:3] == [2, 2, 2] and all(t.schema == schema for t in tables)
    found = pa.concat_tables(tables).to_pylist()
    number = str if kind == "csv" else int
    expected = {
        "jsonl": ROWS,
        "txt": [{"text": text.replace("\n", " ")} for text in TEXTS],
    }.get(kind, [{"id": number(i), "text": text} for i, text in enumerate(TEXTS)])
    assert found == expected


def test_rows_that_cannot_be_read_are_named(tmp_path):
    file = tmp_path / "a.jsonl"

    def texts(data):
        file.write_bytes(data)
        [source], [part], _ = parts.cut(sources.find(str(file)), 10)
        schema = pa.schema([("text", pa.string())])
        return sources.texts(source, sources.read(source, schema, 0, part.rows, part.begin, part.end), "text", 0)

    with pytest.raises(DataError, match=r"a\.jsonl:2: expected a JSON object"):
        texts(b'{"text": "a"}\n{"text"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: expected a JSON object, got list"):
        texts(b'{"text": "a"}\n[]\n')
    with pytest.raises(DataError, match="expected a text, got none in row 1"):
        texts(b'{"text": "a"}\n{"other": 1}\n')
    with pytest.raises(DataError, match="rows 0 to 1"):
        texts(b'{"text": 1}\n')
    with pytest.raises(DataError, match=r":3: expected UTF-8 text, got byte 0xff"):
        texts(b"\n\n\xff\n")
    (tmp_path / "a.csv").write_bytes(b'text\n5" disk\n6" disk\n"a"\n')
    [source], [part], _ = parts.cut(sources.find(str(tmp_path / "a.csv")), 10)
    with pytest.raises(DataError, match="expected 2 rows, got 3: .* RFC 4180"):
        sources.read(source, sources.schema_of(source), 0, part.rows, part.begin, part.end)


def test_columns_that_are_not_there_or_there_twice(tmp_path, bert_folder):
    file = write(tmp_path, "parquet")
    for options, message in (
        ({"column": "body"}, "expected a column 'body', got id, text"),
        ({"keep": ["url"]}, "expected a column 'url'"),
        ({"output": "id"}, "has a column 'id' already"),
        ({"precision": "int8"}, "precision: expected one of float32, float16, binary, ubinary"),
        ({"truncate_dim": 0}, "truncate_dim: expected at least 1"),
    ):
        with pytest.raises(DataError, match=message):
            embed_dataset(file, tmp_path / "out", bert_folder, **options)
    assert not (tmp_path / "out").exists()


def writer(bert_folder, out, **said):
    from aerogel.ray.part_writer import PartWriter

    task = parts.Task(str(bert_folder), parts.fingerprint(str(bert_folder)), "text", "e", ("id",), **said)
    return PartWriter(task, pa.schema([("id", pa.int64()), ("text", pa.string())]), out, 1)


@pytest.mark.parametrize("precision", ["float32", "float16", "binary", "ubinary"])
def test_a_part_has_the_models_embeddings(tmp_path, bert_folder, precision):
    import pyarrow.parquet as pq

    [source], pieces, _ = parts.cut(sources.find(str(write(tmp_path, "parquet"))), 4)
    writer(bert_folder, tmp_path, precision=precision, truncate_dim=16).write(source, pieces[1])
    found = pq.read_table(tmp_path / pieces[1].name)
    assert found.column_names == ["id", "e"] and found["id"].to_pylist() == [4, 5]
    rows = aerogel.load(bert_folder).encode_document(TEXTS[4:], truncate_dim=16)
    if "binary" in precision:
        expected = aerogel.load(bert_folder).encode_document(TEXTS[4:], truncate_dim=16, precision=precision)
    else:
        expected = rows.astype(precision)
    np.testing.assert_array_equal(np.array(found["e"].to_pylist()), expected)
    width = expected.shape[1]
    assert found.schema.field("e").type == pa.list_(pa.from_numpy_dtype(expected.dtype), width)


def test_another_model_in_its_place_is_refused(tmp_path, bert_folder):
    from aerogel.ray.part_writer import PartWriter

    task = parts.Task(str(bert_folder), "0" * 32, "text", "e", ("id",))
    with pytest.raises(CheckpointError, match="expected the model of this run"):
        PartWriter(task, None, tmp_path, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from aerogel.ray import parts, sources
from aerogel.ray.part_writer import PartWriter

def half(table, out, **options):
    out.write(b"PAR1 and no more")
    out.flush()
    os.kill(os.getpid(), signal.SIGKILL)

folder, model = sys.argv[1:]
pq.write_table = half
[source], pieces, _ = parts.cut(sources.find(folder + "/a.parquet"), 4)
task = parts.Task(model, parts.fingerprint(model), "text", "e", ("id",))
PartWriter(task, sources.schema_of(source), Path(folder), 1).write(source, pieces[0])
"""


def test_a_writer_that_is_killed_leaves_no_part_and_the_next_one_clears_up(tmp_path, bert_folder):
    [source], pieces, _ = parts.cut(sources.find(str(write(tmp_path, "parquet"))), 4)
    environment = {**os.environ, "PYTHONPATH": str(Path(aerogel.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, bert_folder], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    left = [name for name in os.listdir(tmp_path) if "part-" in name]
    assert len(left) == 1 and left[0].endswith(".partial")
    own = writer(bert_folder, tmp_path)
    own.write(source, pieces[0])
    first = (tmp_path / pieces[0].name).read_bytes()
    own.write(source, pieces[0])  # as a second worker does that has the same part
    assert [name for name in os.listdir(tmp_path) if "part-" in name] == [pieces[0].name]
    assert (tmp_path / pieces[0].name).read_bytes() == first
