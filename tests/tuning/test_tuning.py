"""The measured choice of kernel formats: the choice itself on made-up times, then real measuring on small layers."""

import dataclasses
import json
import logging

import numpy as np
import pytest

import aerogel
from aerogel import _core, tuning
from aerogel.errors import AerogelError
from aerogel.tuning import ROWS, Layer, Times, Tuner, choose, measure
from aerogel.tuning.cache import Cache
from aerogel.tuning.measure import part_rows

EVEN = dict.fromkeys(ROWS, 1.0)


def times(tiles=(), **formats):
    """format=(seconds at 1, 4, 16, 32 and 128 rows, bytes); what lies between follows."""
    made = {}
    for format, (seconds, _) in formats.items():
        few = Times({format: dict(zip((1, 4, 16, 32, 128), seconds, strict=True))})
        made[format] = {rows: few.at(format, rows) for rows in ROWS}
    return Times(made, {f: nbytes for f, (_, nbytes) in formats.items()}, dict(tiles))


DENSE = ([1, 4, 16, 32, 128], 100)


def test_the_fastest_form_serves_alone_where_it_always_wins():
    found = choose(times(dense=DENSE, sparse=([0.5, 2, 8, 16, 64], 60)), EVEN, "dense")
    assert found == [("sparse", None)]


def test_dense_runs_where_sparse_loses():
    found = choose(times(dense=DENSE, sparse=([2, 8, 20, 40, 150], 20)), EVEN, "dense")
    assert found == [("dense", None)]


def test_two_forms_share_the_rows_at_their_crossing():
    found = choose(times(dense=DENSE, few=([0.2, 1, 6, 30, 200], 40), many=([9, 9, 9, 9, 40], 50)), EVEN, "dense")
    assert [f for f, _ in found] == ["few", "many"] and found[1][1] is None
    assert 16 < found[0][1] < 32  # 6 against 9, then 30 against 9


def test_a_second_form_must_be_worth_its_memory():
    close = times(dense=DENSE, few=([0.5, 2, 8, 16, 64.5], 60), many=([0.51, 2, 8, 16, 64], 60))
    assert len(choose(close, EVEN, "dense")) == 1


def test_memory_limits_the_forms():
    measured = times(dense=DENSE, few=([0.2, 1, 6, 12, 90], 40), many=([0.9, 3.9, 9, 9, 30], 70))
    assert len(choose(measured, EVEN, "dense")) == 2
    assert choose(measured, EVEN, "dense", memory=1.0) in ([("few", None)], [("many", None)])
    assert choose(measured, EVEN, "dense", memory=0.5) == [("few", None)]
    assert choose(measured, EVEN, "dense", memory=0.1) == [("few", None)]  # nothing fits: the smallest
    slow = times(dense=DENSE, few=([0.2, 1, 6, 12, 90], 40), small=([2, 3, 6, 12, 90], 30))
    assert choose(slow, EVEN, "dense", memory=0.1) == [("small", None)], "even if it is slower than dense somewhere"


def test_never_slower_than_dense_at_a_measured_row_count():
    # `sparse` is the better one on the whole, but loses at 128 rows: dense serves those.
    found = choose(times(dense=DENSE, sparse=([0.1, 0.4, 1.6, 3, 140], 30)), EVEN, "dense")
    assert found[0][0] == "sparse" and found[1] == ("dense", None)


def test_times_are_interpolated():
    measured = times(dense=DENSE)
    assert measured.at("dense", 1) == 1 and measured.at("dense", 256) == pytest.approx(256)
    assert 4 < measured.at("dense", 8) < 16
    assert measured.of([("dense", None)], 32) == pytest.approx(32)


def test_rows_behind_whole_tiles_are_the_others():
    measured = times({"many": 32}, dense=DENSE, few=([0.5, 2, 8, 30, 150], 10), many=([9, 9, 9, 9, 36], 10))
    forms = [("few", 16), ("many", None)]
    assert measured.shared(forms, 33) == [("many", 32), ("few", 1)] and measured.of(forms, 33) == pytest.approx(9.5)
    for rows in (16, 17, 32, 56, 64):  # few, a tile begun, whole tiles, and a rest that is as well off there
        assert len(measured.shared(forms, rows)) == 1
    assert measured.at("many", 33) == pytest.approx(18) and measured.at("dense", 33) == pytest.approx(33)


def test_never_slower_than_dense_just_above_a_tile():
    # Dense takes 33 tokens in little more than 32, and `many` wins at each measured number of rows, but not there.
    slow = ([8, 10, 20, 32, 128], 100)
    measured = times({"many": 32}, dense=slow, many=([7.9, 9.9, 19.8, 31.5, 126], 50))
    assert all(measured.seconds["many"][r] < measured.seconds["dense"][r] for r in ROWS)
    assert measured.at("many", 33) > 1.1 * measured.at("dense", 33)
    assert choose(measured, EVEN, "dense")[-1] == ("dense", None)
    assert choose(dataclasses.replace(measured, tiles={}), EVEN, "dense") == [("many", None)]


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda w: w, "unstructured"),
        (lambda w: np.where((np.arange(256) + np.arange(64)[:, None]) % 8 < 1, w, 0), "8:64"),
        (lambda w: np.where((np.arange(256) + np.arange(64)[:, None]) % 4 < 2, w, 0), "2:4"),
        (lambda w: np.where(np.arange(256) % 8 < 4, w, 0), "1x4"),  # 4:8 that happens to be blocks too
        (lambda w: np.where(np.isin(np.arange(256) % 8, (0, 3, 5, 6)), w, 0), "2:4x4"),
        (lambda w: np.where(np.isin((np.arange(256) + np.arange(64)[:, None]) % 8, (0, 1, 2, 6)), w, 0), "4:8"),
        (lambda w: np.where(np.arange(256) % 32 < 4, w, 0), "1x4"),
        (lambda w: w * (w[::4, :] > 1).repeat(4, axis=0), "4x1"),
        (lambda w: w * (w[::2, :] > 1).repeat(2, axis=0), "2x1"),
        (lambda w: np.where(np.arange(256) % 8 < 1, w, 0), "8:64x4"),
        (lambda w: np.where((np.arange(256) + np.arange(64)[:, None] // 2) % 8 < 1, w, 0), "8:64x2"),
        (lambda w: 0 * w, "empty"),
    ],
)
def test_patterns_are_recognised(make, name):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 256)).astype(np.float32)
    if name == "unstructured":
        w[rng.random(w.shape) < 0.7] = 0
    w = np.ascontiguousarray(make(w), np.float32)
    source = _core.WeightSource(256)
    source.add_dense("w", w)
    facts = source.pattern()
    assert tuning.pattern_name(facts, *w.shape) == name
    assert facts["nonzeros"] == np.count_nonzero(w)
    rows = np.count_nonzero(w, axis=1)
    assert (facts["least_in_row"], facts["most_in_row"]) == (rows.min(), rows.max())
    assert facts["empty_rows"] == (rows == 0).sum() and facts["empty_columns"] == (w == 0).all(0).sum()
    for width in (4, 8, 64):
        assert facts[f"most_in_{width}"] == np.count_nonzero(w.reshape(64, -1, width), axis=2).max()
    for rows in (2, 4):
        assert facts[f"rows{rows}"] == (w.reshape(-1, rows, 256) != 0).any(1).sum()
    assert facts["blocks4"] == (w.reshape(64, -1, 4) != 0).any(2).sum()


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    """Measuring is on, and remembered in a folder of the test's own."""
    monkeypatch.setenv("AEROGEL_TUNE", "on")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("numbers", ["int8", "float32", "int4", "codebook4", "sparse codebook4", "int8g"])
def test_measuring_is_remembered(tuned, numbers):
    source, alive = tuning.random_source(numbers, 96, 128, 0.8)
    tuner = Tuner(1)
    assert tuner.known(source) is None
    forms = tuner.measure(source)
    assert tuner.known(source) == forms and tuner.measured[0].numbers == numbers
    weight = _core.pack(source, forms)
    assert [(form["format"], form["max_rows"]) for form in weight.forms] == forms
    (file,) = tuned.glob("kernels-*.json")
    stored = json.loads(file.read_text())
    assert stored["isa"] == aerogel.isa() and len(stored["layers"]) == 1
    Cache._shared.clear()  # as a new process
    assert Tuner(1).known(source) == forms
    assert Tuner(2).known(source) is None  # of other threads nothing is known
    del alive


def test_dense_layers_are_not_measured(tuned):
    for numbers, format in (("int8", "dense_q8"), ("int8g", "grouped_q8"), ("sparse codebook4", "dense_q8")):
        source, alive = tuning.random_source(numbers, 64, 64, 0.1)
        assert Tuner(1).known(source) == format
        assert not tuned.exists()
        del alive


@pytest.mark.parametrize("numbers", ["int4", "codebook4"])
def test_dense_layers_of_four_bits_are_measured(tuned, numbers):
    source, alive = tuning.random_source(numbers, 64, 64, 0.0)
    tuner = Tuner(1, memory=0.6)
    assert tuner.known(source) is None and tuner.measure(source) == [("dense_q4", None)]
    assert tuning.formats_of(tuner.measured[0]) == ["dense_q8", "dense_q4"] or aerogel.isa() == "neon"
    del alive


@pytest.mark.parametrize("numbers", list(tuning.FORMATS))
def test_kinds_of_numbers(numbers):
    source, alive = tuning.random_source(numbers, 40, 160, 0.5)
    assert tuning.numbers_of(source) == numbers
    for format in {f for formats in tuning.FORMATS.values() for f in formats}:
        held = format in tuning.FORMATS[numbers]
        if numbers not in (
            "float32",
            "bf16",
            "float16",
            "int8g",
            "blocks",
        ):  # floats hold more than they are measured for
            assert source.holds(format) == held, format
    with pytest.raises(AerogelError, match="banana"):
        source.holds("banana")
    del alive


def test_groups_that_no_kernel_takes_run_as_floats():
    codes, scale = np.ones((4, 64), np.int8), np.ones((4, 8), np.float32)
    source = _core.WeightSource(64)
    source.add_dense_q8("w", codes, scale, group=8)
    assert tuning.numbers_of(source) == "float32" and Tuner(1).known(source) == "dense_f32"
    with pytest.raises(AerogelError, match="multiple of 16"):
        _core.pack(source, "grouped_q8")


def entry(second="1", nbytes="1"):
    """A cache file whose one layer has these numbers."""
    rows = ", ".join(f'"{r}": {second}' for r in ROWS)
    return f'{{"layers": {{"x": {{"seconds": {{"dense_q8": {{{rows}}}}}, "nbytes": {{"dense_q8": {nbytes}}}}}}}}}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"layers": {"x": 1}}',
        '{"layers": {"x": {"seconds": {}, "nbytes": {}}}}',
        "\xff",
        "[" * 100_000,
        entry("NaN"),
        entry("Infinity"),
        entry("0"),
        entry(nbytes="Infinity"),
        entry(nbytes="0"),
    ],
)
def test_a_broken_cache_is_replaced(tuned, content, caplog):
    source, alive = tuning.random_source("int8", 32, 64, 0.8)
    Tuner(1).measure(source)
    (file,) = tuned.glob("*.json")
    file.write_text(content, encoding="latin-1")
    Cache._shared.clear()
    with caplog.at_level(logging.WARNING, "aerogel"):
        assert Tuner(1).known(source) is None
    assert "measured again" in caplog.text
    Tuner(1).measure(source)
    Cache._shared.clear()
    assert Tuner(1).known(source) is not None
    del alive


@pytest.mark.parametrize("unknown", [True, False])
def test_times_of_other_formats_are_not_used(tuned, unknown):
    source, alive = tuning.random_source("int8", 32, 64, 0.8)
    Tuner(1).measure(source)
    (file,) = tuned.iterdir()
    stored = json.loads(file.read_text())
    (times,) = stored["layers"].values()
    dense = times["seconds"]["dense_q8"] if unknown else times["seconds"].pop("dense_q8")
    if unknown:
        times["seconds"]["banana"], times["nbytes"]["banana"] = dense, 1
    file.write_text(json.dumps(stored))
    Cache._shared.clear()
    assert Tuner(1).known(source) is None
    assert Tuner(1).measure(source)
    del alive


def test_layers_of_other_processes_are_kept(tuned):
    first, alive = tuning.random_source("int8", 32, 64, 0.8)
    second, also = tuning.random_source("int8", 64, 64, 0.8)
    Tuner(1).measure(first)
    ours = Cache._shared.copy()
    Cache._shared.clear()
    Tuner(1).measure(second)
    Cache._shared.update(ours)
    Tuner(1).measure(second)
    Cache._shared.clear()
    assert Tuner(1).known(first) and Tuner(1).known(second)
    assert [file.suffix for file in tuned.iterdir()] == [".json"]  # nothing half written is left
    del alive, also


def test_a_limit_of_memory_needs_measuring(monkeypatch, caplog):
    monkeypatch.setenv("AEROGEL_TUNE", "off")
    with caplog.at_level(logging.WARNING, "aerogel"):
        Tuner(1, memory=1.0)
    assert "the limit of memory is not kept" in caplog.text


def test_a_cache_folder_that_cannot_be_written_is_no_error(tuned, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "file" / "below"))
    source, alive = tuning.random_source("int8", 32, 64, 0.8)
    tuner = Tuner(1)
    assert tuner.measure(source) == tuner.known(source)
    del alive


def test_settings_are_checked(monkeypatch):
    monkeypatch.setenv("AEROGEL_TUNE", "")
    assert tuning.enabled()
    with pytest.raises(AerogelError, match="memory: expected a positive"):
        Tuner(1, memory=0)
    monkeypatch.setenv("AEROGEL_TUNE", "perhaps")
    with pytest.raises(AerogelError, match="AEROGEL_TUNE: expected on or off, got 'perhaps'"):
        tuning.enabled()
    with pytest.raises(AerogelError, match="AEROGEL_TUNE"):  # also where nothing is to be measured
        Tuner(1)


@pytest.mark.parametrize("numbers", list(tuning.FORMATS))
@pytest.mark.parametrize("sparsity", [0.0, 0.6])
def test_a_part_of_the_rows(numbers, sparsity):
    source, alive = tuning.random_source(numbers, 8 * 7 + 5, 96, sparsity)
    part = source.spread(24, 8)
    rows = [*range(8), *range(16, 24), *range(32, 40)]  # runs of 8 of the 7 that are whole, from 0, 2 1/3 and 4 2/3 on
    format = tuning.dense_format(numbers)
    whole, some = _core.pack(source, format), _core.pack(part, format)
    assert (part.n, part.k, part.numbers) == (24, 96, source.numbers)
    np.testing.assert_array_equal([some.row(i) for i in range(24)], [whole.row(i) for i in rows])
    assert some.nonzeros == sum(np.count_nonzero(whole.row(i)) for i in rows)
    assert part.sparsity == 1 - some.nonzeros / (24 * 96)
    x = np.random.default_rng(0).standard_normal((3, 96)).astype(np.float32)
    for other in tuning.formats_of(tuning.layer_of(part, 1)):
        np.testing.assert_array_equal(
            _core.linear(_core.pack(part, other), x), _core.linear(_core.pack(source, other), x)[:, rows]
        )
    for wrong in (0, 4, 20, 64):
        with pytest.raises(AerogelError, match="multiple of 8 rows of at most 61"):
            source.spread(wrong, 8)
    del alive


def test_stacked_parts_are_spread_too():
    source = _core.WeightSource(32)
    stacked = np.arange(1, 1 + 40 * 32, dtype=np.float32).reshape(40, 32)
    for name, part in (("a", stacked[:12]), ("b", stacked[12:])):
        source.add_dense(name, part)
    part = _core.pack(source.spread(16, 8), "dense_f32")
    np.testing.assert_array_equal([part.row(i) for i in range(16)], stacked[[*range(8), *range(16, 24)]])


def test_only_large_layers_from_memory_are_measured_in_part():
    assert part_rows(Layer("int8", 9728, 896, 0.8, "unstructured", 2, False)) == 9728
    assert part_rows(Layer("int8", 9728, 896, 0.8, "unstructured", 2, True)) == 4736
    assert part_rows(Layer("int8", 9728, 896, 0.8, "unstructured", 16, True)) == 9728
    assert part_rows(Layer("int8", 768, 768, 0.8, "unstructured", 1, True)) == 768


def test_times_of_a_part_are_scaled(tuned, monkeypatch):
    monkeypatch.setattr(measure, "PART_WEIGHTS", 1 << 14)
    source, alive = tuning.random_source("int8", 640, 256, 0.8)
    times = tuning.measured(source, tuning.layer_of(source, 1, True))
    assert part_rows(tuning.layer_of(source, 1, True)) == 64
    for format, nbytes in times.nbytes.items():
        assert nbytes == pytest.approx(_core.pack(source, format).nbytes, rel=0.03)
    del alive


def test_forms_do_not_change_the_answer(tuned):
    rng = np.random.default_rng(1)
    w = rng.standard_normal((80, 130)).astype(np.float32)
    w[rng.random(w.shape) < 0.8] = 0
    layer = aerogel.Linear(w)
    formats = tuning.candidates("int8")
    source, alive = tuning.random_source("int8", 80, 130, 0.8)
    pairs = [[(a, 7), (b, None)] for a in formats for b in formats if a != b]
    for rows in (1, 7, 8, 37, 40):
        x = rng.standard_normal((rows, 130)).astype(np.float32)
        np.testing.assert_array_equal(layer(x), aerogel.Linear(w, format="dense_q8")(x))
        expected = _core.linear(_core.pack(source, "dense_q8"), x)
        for pair in pairs:
            np.testing.assert_array_equal(_core.linear(_core.pack(source, pair), x, threads=2), expected)
    del alive


def test_bad_forms_are_refused():
    source, alive = tuning.random_source("int8", 16, 64, 0.5)
    for forms, match in (
        ([], "at least one"),
        ([("dense_q8", 4)], "last one to serve any"),
        ([("dense_q8", None), ("gathered_q8", None)], "rising"),
        ([("dense_q8", 0), ("gathered_q8", None)], "rising"),
        ([("dense_f32", None)], "takes float values"),
        ([("banana", None)], "banana"),
    ):
        with pytest.raises(AerogelError, match=match):
            _core.pack(source, forms)
    with pytest.raises(AerogelError, match="expected \\[16, 64\\]"):
        other, kept = tuning.random_source("int8", 16, 32, 0.5)
        _core.time_linears([_core.pack(source, "dense_q8"), _core.pack(other, "dense_q8")], 1)
    del alive


def test_a_model_measures_once(tuned, bert_folder, tmp_path, caplog):
    aerogel.compress(bert_folder, tmp_path / "sparse", sparsity=0.8, method="magnitude")
    with caplog.at_level(logging.INFO, "aerogel"):
        first = aerogel.load(tmp_path / "sparse")
    assert "measured the kernels of" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "aerogel"):
        second = aerogel.load(tmp_path / "sparse")
    assert "measured" not in caplog.text
    dense = aerogel.load(tmp_path / "sparse", format="dense")
    texts = ["a text", "another one"]
    np.testing.assert_array_equal(first.encode(texts), second.encode(texts))
    np.testing.assert_array_equal(first.encode(texts), dense.encode(texts))
    caplog.clear()
    assert aerogel.load(tmp_path / "sparse", memory=0.01).nbytes <= first.nbytes
    assert "memory=0.01 is not kept by" in caplog.text and "of its dense form" in caplog.text
    with pytest.raises(AerogelError, match="memory: goes with format"):
        aerogel.load(tmp_path / "sparse", memory=1, format="dense")
    caplog.clear()
    aerogel.load(tmp_path / "sparse", memory=2)
    assert "memory" not in caplog.text


def test_layers_are_told_apart():
    layers = {
        str(Layer("int8", 8, 8, 0.8, "unstructured", threads, streamed)) for threads in (1, 2) for streamed in (0, 1)
    }
    assert len(layers) == 4


@pytest.mark.parametrize("pattern", ["4x1", "2x1", "8:64x4", "2:4x2"])
def test_formats_that_store_blocks_are_measured_where_there_are_blocks(monkeypatch, pattern):
    monkeypatch.setattr("aerogel.tuning.layers.candidates", lambda numbers: list(tuning.FORMATS[numbers]))

    def special(of):
        formats = tuning.formats_of(tuning.Layer("int8", 64, 256, 0.8, of, 1))
        return {f for f in formats if f in ("blocks_q8", "rows_q8", "gathered_rows_q8")}

    assert special(pattern) == {"rows_q8", "gathered_rows_q8"}
    assert special("1x4") == {"blocks_q8"}
    assert special("8:64") == special("unstructured") == set()
