"""aerogel distill and finetune, and the files that they read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aerogel.cli.app import app
from aerogel.errors import AerogelError, DataError
from aerogel.train.texts import read_labelled, read_texts

from .. import tiny_models


def run(*args, code: int = 0):
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_distill_then_compress(bert_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    (tmp_path / "a.txt").write_text(
        "\n".join(f"the {a} sat on the {b}" for a in tiny_models.WORDS for b in "cat dog".split())
    )
    out = tmp_path / "out"
    said = run(
        "distill", bert_folder, "-o", out, "--text", tmp_path / "a.txt", "--steps", 3, "--sparsity", 0.5, "-t", 1
    )
    assert "3 steps" in said.stderr and "50.0% of the linear weights are zero" in said.stderr and said.stdout == ""
    assert "pruned, every layer fitted to the texts" in said.stderr
    run("compress", out, "-o", tmp_path / "packed", "--sparsity", 0)


def test_distill_in_stages(bert_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    (tmp_path / "a.txt").write_text("\n".join(tiny_models.WORDS))
    args = ("-o", tmp_path / "out", "--text", tmp_path / "a.txt", "--steps", 3, "--sparsity", 0.5, "--stages", 2)
    said = run("distill", bert_folder, *args, "--augment", 0.5, "-t", 1)
    assert "50.0% of the linear weights are zero" in said.stderr and "fitted" not in said.stderr


def test_finetune(bert_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    (tmp_path / "a.tsv").write_text("the cat\t1\nthe tree\t0\n" * 9)
    said = run("finetune", bert_folder, "-o", tmp_path / "out", "--data", tmp_path / "a.tsv", "--steps", 2, "-t", 1)
    assert "2 steps" in said.stderr and "0.0% of the linear weights are zero" in said.stderr


def test_texts_are_lines_once_each_and_documents_are_cut_into_sentences(tmp_path: Path) -> None:
    document = " ".join(f"This is sentence number {i}, of many. Is it?" for i in range(20))
    (tmp_path / "a").write_text(f"one\n\n two \none\n{document}\n")
    texts = read_texts([tmp_path / "a", tmp_path / "a"])
    assert texts[:3] == ["one", "two", "This is sentence number 0, of many."] and texts.count("Is it?") == 1
    assert read_texts([tmp_path / "a"], sentences=False)[-1] == document


@pytest.mark.parametrize("line", ["no label", "text\t-1", "text\tx", "\t1", "text\t1.0"])
def test_labels_that_are_none_are_named_with_their_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "a").write_text(f"fine\t1\n\n{line}\n")
    with pytest.raises(DataError, match="line 3: expected text, a tab and a label"):
        read_labelled(tmp_path / "a")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_texts([tmp_path / "a"])


def test_without_torch_the_error_names_the_extra_and_the_rest_works() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import aerogel, aerogel.train, aerogel.errors\n"
        "print(aerogel.train.cubic(1, 0, 0.5))\n"
        "try: aerogel.train.distill\n"
        "except aerogel.errors.AerogelError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["0.5", "aerogel.train.distill needs PyTorch: pip install 'aerogel[train]'"], (
        done.stderr
    )


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, aerogel.train, aerogel.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr
    assert issubclass(AerogelError, Exception)
