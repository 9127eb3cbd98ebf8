import ast
import io
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
from typer.testing import CliRunner

import aerogel
from aerogel.cli import app as cli
from aerogel.cli.app import app
from aerogel.errors import AerogelError, RecipeError

from .. import tiny_models

runner = CliRunner()


def run(*args, code=0, **options):
    result = runner.invoke(app, [str(arg) for arg in args], catch_exceptions=False, **options)
    assert result.exit_code == code, result.output
    return result


def shell(*args, stdin=b"", **env):
    return subprocess.run(
        [sys.executable, "-m", "aerogel", *map(str, args)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **env},
        timeout=120,
    )


@pytest.fixture(scope="module")
def packed(bert_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "packed"
    run("compress", bert_folder, "-o", out, "--sparsity", "0.9", "--method", "magnitude")
    return out


def test_every_file_with_a_command_is_registered_and_shares_nothing_with_other_commands():
    folder = Path(cli.__file__).parent
    files = {
        file.stem: {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for file in folder.glob("*.py")
        for tree in [ast.parse(file.read_text(encoding="utf-8"))]
    }
    commands = [name.replace("-", "_") for name in cli.COMMANDS]
    assert sorted(commands) == sorted(name for name, functions in files.items() if "command" in functions)
    for name in commands:
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        assert not [other for other in commands if f"from aerogel.cli.{other} " in text], name


def test_help_names_every_command():
    text = run("--help").stdout
    assert all(f" {name} " in text for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name):
    text = run(name, "--help").stdout
    assert name == "export" or "--threads" in text


def test_help_waits_for_nothing_that_only_commands_need():
    code = "import sys, aerogel.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    loaded = set(done.stdout.split())
    assert "aerogel.cli.compress" in loaded
    heavy = {"numpy", "torch", "yaml", "tokenizers", "rich.progress"}
    heavy |= {f"aerogel.{room}" for room in ("checkpoint", "engine", "compression", "bench", "evaluate", "train")}
    assert not loaded & heavy


def test_the_command_that_is_installed_is_this_one():
    [script] = metadata.entry_points(group="console_scripts", name="aerogel")
    assert script.load() is cli.main


def test_version():
    assert run("--version").stdout.strip() == f"aerogel {aerogel.__version__} ({aerogel.isa()})"


def test_compress_says_what_it_did_on_stderr(bert_folder, tmp_path):
    result = run(
        "compress",
        bert_folder,
        "-o",
        tmp_path / "out",
        "--pattern",
        "8:64",
        "--method",
        "magnitude",
        "--quant",
        "none",
        "--threads",
        2,
    )
    assert result.stdout == "" and "smaller than float32" in result.stderr
    recipe = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]["recipe"]
    assert recipe["prune"]["pattern"] == "8:64" and recipe["quantize"]["weights"] == "none"


def test_info(packed):
    facts = json.loads(run("info", packed, "--json").stdout)
    assert len(facts["layers"]) == 8 and len({layer["name"] for layer in facts["layers"]}) == 8
    layer = facts["layers"][0]
    assert layer["name"] == "layers.0.attention.qkv" and layer["shape"] == [144, 48]
    assert layer["sparsity"] == pytest.approx(0.9, abs=0.01)
    assert layer["bits_per_weight"] == pytest.approx(8 * layer["bytes"] / (144 * 48))
    totals = facts["totals"]
    assert (
        totals["disk_bytes"]
        == (packed / "model.safetensors").stat().st_size
        < totals["int8_bytes"]
        < totals["fp32_bytes"]
    )
    assert "layers.0.attention.qkv" in run("info", packed).stdout


def test_embed_three_ways(packed, tmp_path):
    texts = ["the cat", "", "a dog\u2028sat"]
    expected = aerogel.load(packed).encode(texts)
    file = tmp_path / "texts"
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    lines = [json.loads(line) for line in run("embed", packed, file, "--json").stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert np.array_equal(np.array([line["embedding"] for line in lines], np.float32), expected)
    printed = run("embed", packed, input=file.read_bytes()).stdout
    assert np.array_equal(np.array([line.split() for line in printed.splitlines()], np.float32), expected)
    run("embed", packed, "-", "--npy", tmp_path / "out", input=file.read_bytes())
    assert np.array_equal(np.load(tmp_path / "out"), expected)
    assert run("embed", packed, input=b"").stdout == ""


def test_generate(llama_folder):
    text = aerogel.load(llama_folder).generate("the cat", max_new_tokens=6)
    assert run("generate", llama_folder, "-p", "the cat", "-n", 6).stdout == text + "\n"
    assert run("generate", llama_folder, "-p", "-", "-n", 6, input=b"the cat\n").stdout == text + "\n"
    sampled = [
        run("generate", llama_folder, "-p", "the cat", "--temperature", 1.2, "--seed", 3).stdout for _ in range(2)
    ]
    assert sampled[0] == sampled[1]


def test_quant_runs_a_float_model_in_another_scheme(bert_folder, llama_folder, packed, tmp_path):
    exact, rounded = aerogel.load(bert_folder), aerogel.load(bert_folder, quant="int4")
    printed = np.array([run("embed", bert_folder, "--quant", "int4", input=b"the cat\n").stdout.split()], np.float32)
    assert np.array_equal(printed, rounded.encode(["the cat"])) and not np.array_equal(
        printed, exact.encode(["the cat"])
    )
    text = aerogel.load(llama_folder, quant="codebook:16").generate("the cat", max_new_tokens=6)
    assert run("generate", llama_folder, "-p", "the cat", "-n", 6, "--quant", "codebook:16").stdout == text + "\n"
    sts = tmp_path / "sts.csv"
    sts.write_text("".join(f"the cat sat,the {w} ran,{i}\n" for i, w in enumerate(["cat", "dog", "mat", "tree"])))
    run("eval", bert_folder, "--sts", sts, "--quant", "int8", "--json", tmp_path / "score.json")
    assert json.loads((tmp_path / "score.json").read_text())["quantization"] == "int8"
    for command in (["embed"], ["generate", "-p", "x"], ["bench", "--peers", "none"], ["eval", "--sts", sts]):
        with pytest.raises(RecipeError, match="packed model is run as it was packed"):
            run(command[0], packed, *command[1:], "--quant", "int8", input=b"")
    assert "not compressed, float32 weights" in run("info", bert_folder).stdout
    assert json.loads(run("info", packed, "--json").stdout)["quantization"] == "int8"


def test_generate_with_its_options(llama_folder, tmp_path):
    model = aerogel.load(llama_folder)
    whole = model.generate("the cat", 9)
    assert run("generate", llama_folder, "-p", "the cat", "-n", 9, "--lookup", 4).stdout == whole + "\n"
    assert run("generate", llama_folder, "-p", "the cat", "-n", 9, "--draft", llama_folder).stdout == whole + "\n"
    stopped = run("generate", llama_folder, "-p", "the cat", "-n", 9, "--stop", "nothing", "--stop", whole[4:7]).stdout
    assert stopped == whole[: whole.index(whole[4:7])] + "\n"
    options = {"temperature": 1.1, "min_p": 0.01, "typical_p": 0.95, "presence_penalty": 0.5, "frequency_penalty": 0.1}
    words = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), value)]
    wanted = model.generate("the cat", 9, seed=3, **options)
    assert run("generate", llama_folder, "-p", "the cat", "-n", 9, "--seed", 3, *words).stdout == wanted + "\n"


def test_generate_in_a_form(tmp_path):
    pytest.importorskip("llguidance")
    model = tiny_models.byte_llama(tmp_path / "bytes")
    assert run("generate", model, "-p", "x", "--regex", "cat|dog").stdout in ("cat\n", "dog\n")
    (tmp_path / "rules.lark").write_text('start: "cat" | "tree"')
    assert run("generate", model, "-p", "x", "--grammar", tmp_path / "rules.lark").stdout in ("cat\n", "tree\n")
    (tmp_path / "schema.json").write_text('{"enum": [3]}')
    assert run("generate", model, "-p", "x", "--json-schema", tmp_path / "schema.json").stdout == "3\n"
    assert run("generate", model, "-p", "x", "--json-schema", '{"const": "a"}').stdout == '"a"\n'
    with pytest.raises(AerogelError, match="cannot be read"):
        run("generate", model, "-p", "x", "--json-schema", tmp_path / "none.json")


TALK = "<s>{% for m in messages %}{{ m.role[0] }} {{ m.content }} </s>{% endfor %}on"


@pytest.fixture
def talker(llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "talker")
    (folder / "chat_template.jinja").write_text(TALK)
    return folder


def test_chat(talker):
    model = aerogel.load(talker)
    said, answers = [{"role": "system", "content": "the mat"}], []
    for line in ("the cat sat", "a dog"):
        said.append({"role": "user", "content": line})
        answers.append(model.chat(said, 6))
        said.append({"role": "assistant", "content": answers[-1]})
    lines = b"the cat sat\n\na dog\n/reset\nthe cat sat\n/what\n/quit\nnot said\n"
    result = run("chat", talker, "--system", "the mat", "-n", 6, input=lines)
    assert result.stdout.splitlines() == [*answers, answers[0]]
    assert "/what: no such command" in result.stderr
    assert (
        run("generate", talker, "--chat", "-p", "the cat sat", "-n", 6).stdout
        == model.generate("the cat sat", 6, chat=True) + "\n"
    )


def test_chat_needs_a_template(llama_folder):
    with pytest.raises(AerogelError, match="the model has no chat template"):
        run("chat", llama_folder, input=b"hi\n")


def test_a_template_by_name_or_from_a_file(llama_folder, tmp_path):
    model = aerogel.load(llama_folder)
    (tmp_path / "t.jinja").write_text("the {{ messages[0].content }}")
    for given, template in (("zephyr", "zephyr"), (tmp_path / "t.jinja", "the {{ messages[0].content }}")):
        answer = model.chat([{"role": "user", "content": "cat sat"}], 6, template=template) + "\n"
        options = ("--chat-template", given, "-n", 6)
        assert run("chat", llama_folder, *options, input=b"cat sat\n").stdout == answer
        assert run("generate", llama_folder, "-p", "cat sat", *options).stdout == answer


def test_a_template_that_is_no_file(llama_folder, tmp_path):
    for given, said in (
        (tmp_path / "no.jinja", "no.jinja: cannot be read"),
        ("gema", "chat template: expected Jinja or one"),
    ):
        with pytest.raises(AerogelError, match=said):
            run("generate", llama_folder, "-p", "cat sat", "--chat-template", given)
    long = "the {{ messages[0].content }}" + "{#" + "x" * 300 + "#}"  # longer than a file's name may be
    result = run("generate", llama_folder, "-p", "sat", "-n", 2, "--chat-template", long)
    assert result.stdout == aerogel.load(llama_folder).generate("sat", 2, chat=long) + "\n"


def test_chat_quantizes_a_float_model_too(talker):
    quantized = aerogel.load(talker, quant="int4:g32").chat([{"role": "user", "content": "the cat"}], 6)
    assert run("chat", talker, "--quant", "int4:g32", "-n", 6, input=b"the cat\n").stdout == quantized + "\n"


def test_bench_keeps_no_keys_of_an_encoder(packed):
    with pytest.raises(AerogelError, match="kv_cache: goes with a language model"):
        run("bench", packed, "--kv-cache", "int8")


def test_usage_errors_exit_with_2(packed):
    run("banana", code=2)
    run("compress", packed, code=2)
    run("compress", packed, "-o", "x", "--sparsity", "2", code=2)
    run("embed", packed, "--json", "--npy", "x", code=2)


def test_errors_raise_inside():
    with pytest.raises(AerogelError):
        run("info", "no/such folder")


def test_an_error_is_one_line(tmp_path):
    result = shell("info", tmp_path)
    assert result.returncode == 1 and result.stdout == b""
    assert result.stderr.startswith(b"aerogel: ") and result.stderr.count(b"\n") == 1
    for result in (shell("info", tmp_path, AEROGEL_DEBUG="1"), shell("--debug", "info", tmp_path)):
        assert result.returncode == 1 and b"Traceback" in result.stderr
    result = shell("embed", tmp_path / "no file at all", stdin=b"text")
    assert result.returncode == 1 and b"Traceback" not in result.stderr


def test_names_with_brackets_are_no_markup(packed, tmp_path):
    folder = tmp_path / "model[/v2]"
    run("compress", packed, "-o", folder, "--sparsity", "0.9", "--method", "magnitude")
    assert f"{folder}: bert" in run("info", folder).stdout.replace("\n", "")


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def greedy():
        raise MemoryError

    monkeypatch.setattr(cli, "app", greedy)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "aerogel: not enough memory\n"


def test_text_that_is_not_utf8(packed):
    result = shell("embed", packed, stdin=b"\xff\xfe\n")
    assert result.returncode == 1 and b"expected UTF-8" in result.stderr and result.stderr.count(b"\n") == 1


def test_the_process_end_to_end(packed):
    result = shell("--verbose", "embed", packed, "--json", stdin="the cat\ndéjà\n".encode())
    assert result.returncode == 0
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["the cat", "déjà"]
    assert b"aerogel runs on" in result.stderr


def test_help_tells_defaults_that_depend():
    """Square brackets are markup to the printer of help, and would vanish."""
    text = " ".join(run("compress", "--help").stdout.replace("│", " ").split())
    assert "[default: all available cores]" in text and "\\[" not in text


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def test_text_from_windows_is_embedded_as_it_comes_whatever_the_locale(packed, tmp_path):
    plain, windows = tmp_path / "plain.txt", tmp_path / "windows.txt"
    plain.write_bytes("the cät\n\na dog\n".encode())
    windows.write_bytes(b"\xef\xbb\xbf" + "the cät\r\n\r\na dog\r\n".encode())
    expected = run("embed", packed, plain).stdout
    assert expected.count("\n") == 3 and run("embed", packed, windows).stdout == expected
    command = [sys.executable, "-m", "aerogel", "embed", str(packed), str(windows), "--json"]
    done = subprocess.run(command, env={**os.environ, **ASCII}, capture_output=True)
    assert done.returncode == 0 and done.stderr == b"" and b"c\\u00e4t" in done.stdout
    run("embed", packed, windows, "--npy", tmp_path / "v.npy")
    rows = np.loadtxt(io.StringIO(expected), dtype=np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), rows)
    with pytest.raises(AerogelError, match="--overwrite"):
        run("embed", packed, windows, "--npy", tmp_path / "v.npy")
    run("embed", packed, windows, "--npy", tmp_path / "v.npy", "--overwrite")
    with pytest.raises(AerogelError, match="is what is read"):
        run("embed", packed, windows, "--npy", windows, "--overwrite")


def test_embedding_needs_no_more_than_a_part_of_the_texts(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("aerogel.cli.embed.PART", 2)
    (tmp_path / "t.txt").write_text("the cat\na dog\nsat on\nthe mat\nran\n")
    whole = run("embed", packed, tmp_path / "t.txt").stdout
    monkeypatch.setattr("aerogel.cli.embed.PART", 100)
    assert run("embed", packed, tmp_path / "t.txt").stdout == whole and whole.count("\n") == 5


def test_what_is_no_terminal_has_lines_of_progress_and_whole_tables(packed, monkeypatch, capsys):
    import aerogel.cli.console as shown

    monkeypatch.setattr(shown, "EVERY", 0.0)
    said = []
    monkeypatch.setattr(shown, "say", said.append)
    with shown.progress_bar("Compressing " + "a/long/path/" * 9 + "model") as step:
        step(1, 3, "first")
        step(3, 3, "last")
    (line,) = said
    assert line.endswith("path/model: 1 of 3 (first)") and len(line) < 80
    assert "…" not in run("info", packed).stdout and "layers.0.attention.qkv" in run("info", packed).stdout


def test_evaluation_texts_that_were_fitted_to_are_said(bert_folder, tmp_path):
    sts = tmp_path / "sts.csv"
    sts.write_text("".join(f"the cat sat,the {w} ran,{i}\n" for i, w in enumerate(["cat", "dog", "mat", "tree"])))
    done = run("compress", bert_folder, "-o", tmp_path / "out", "--sparsity", 0.6, "-c", sts, "--sts", sts)
    said, sat = "100% of the evaluation texts are calibration texts", "CALIBRATED ON ONLY"
    assert said in done.stderr and sat in done.stderr
    assert done.stderr.index(said) < done.stderr.index("weight error"), "before the work"
