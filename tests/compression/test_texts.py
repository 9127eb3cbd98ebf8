"""Which texts a compression is calibrated on."""

import pytest

import aerogel
from aerogel.architectures import architecture_of
from aerogel.checkpoint import open_checkpoint
from aerogel.compression.recipe import Calibration, Recipe
from aerogel.compression.texts import calibration_sequences, general_sequences, shares, text_hashes, with_default_texts
from aerogel.errors import RecipeError


@pytest.mark.parametrize(
    ("files", "mix", "expected"),
    [
        (("general",), None, {"general": 1.0}),
        (("a.txt",), None, {"": 1.0}),
        (("a.txt", "b.txt"), 0.25, {"": 0.75, "general": 0.25}),
        (("a.txt", "general"), None, {"": 0.5, "general": 0.5}),
        (("general", "self"), None, {"self": 0.5, "general": 0.5}),
        (("a.txt", "self"), 0.5, {"": 0.25, "self": 0.25, "general": 0.5}),
        (("a.txt", "general"), 0.0, {"": 1.0}),
    ],
)
def test_shares(files, mix, expected):
    assert shares(Calibration(files, mix)) == expected


@pytest.mark.parametrize(("files", "mix"), [((), 0.5), (("general",), 0.5), (("a.txt",), 1.5)])
def test_a_share_without_anything_beside_it(files, mix):
    with pytest.raises(RecipeError, match="calibration.mix"):
        Calibration(files, mix)


@pytest.mark.parametrize(
    ("recipe", "pays"),
    [
        ({"prune": {"sparsity": 0.3}}, True),
        ({"prune": {"pattern": "8:64"}}, True),
        ({"prune": {"layers": {"layers.0.*": 0.3}}}, True),
        ({"prune": {"sparsity": 0.3, "method": "obs"}}, True),
        ({"prune": {"sparsity": 0.3, "method": "magnitude", "budget": "owl"}}, True),
        ({"prune": {"sparsity": 0.3, "method": "magnitude"}}, False),
        ({"prune": {"sparsity": 0.0}}, False),
        ({"prune": {"threshold": 0.1}}, False),
        ({"fold": {}}, True),
        ({"quantize": {"activations": "static"}}, True),
        ({"quantize": {"weights": "int4:g64"}}, False),
        ({"quantize": {"weights": "auto:4.5bits"}}, True),
        ({"structure": {"ffn": 0.5}}, True),
        ({"structure": {"ffn": 0.5, "score": "weights", "compensate": False}}, False),
        ({}, False),
    ],
)
def test_the_mix_is_taken_where_texts_pay(bert_folder, recipe, pays):
    given = with_default_texts(Recipe.of(recipe), open_checkpoint(bert_folder))
    assert given.calibration.files == (("general",) if pays else ())
    assert with_default_texts(
        Recipe.of({**recipe, "calibration": {"files": ["t"]}}), open_checkpoint(bert_folder)
    ) == Recipe.of({**recipe, "calibration": {"files": ["t"]}})


def test_every_domain_has_its_part(bert_folder, llama_folder):
    for folder, running in ((bert_folder, False), (llama_folder, True)):
        checkpoint = open_checkpoint(folder)
        found = general_sequences(checkpoint, 16, 1100, running, seed=1)
        assert 700 < sum(map(len, found)) <= 1100 and max(map(len, found)) <= 16
        assert found == general_sequences(checkpoint, 16, 1100, running, seed=1)
    few = general_sequences(open_checkpoint(bert_folder), 16, 10**4, False, samples=22)
    assert len(few) == 22


def test_files_and_the_mix_together(bert_folder, tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("the cat sat on the mat\n" * 600)
    checkpoint = open_checkpoint(bert_folder)
    recipe = Recipe(calibration=Calibration((str(file),), 0.5, total=400, tokens=16))
    found = calibration_sequences(recipe, architecture_of(checkpoint), checkpoint)
    own = checkpoint.tokenizer().encode(["the cat sat on the mat"], 16)[0]
    assert found is not None and 0.4 < sum(len(ids) for ids in found if ids == own) / sum(map(len, found)) < 0.6
    assert text_hashes((str(file), "self"), 0.5).keys() == {str(file), "general"}
    report = aerogel.compress(bert_folder, tmp_path / "out", 0.5, calibrate=file, mix=0.5, recipe=recipe)
    assert report.recipe["calibration"]["mix"] == 0.5 and "general" in report.sources


def test_a_language_model_writes_its_own(llama_folder, bert_folder, tmp_path):
    checkpoint = open_checkpoint(llama_folder)
    recipe = Recipe(calibration=Calibration(("self",), total=96, tokens=16))
    found = calibration_sequences(recipe, architecture_of(checkpoint), checkpoint, 1)
    assert found is not None and [len(ids) for ids in found] == [16] * 6 and len({tuple(ids) for ids in found}) == 6
    assert found == calibration_sequences(recipe, architecture_of(checkpoint), checkpoint, 1)
    with pytest.raises(RecipeError, match="self: only a language model writes"):
        aerogel.compress(bert_folder, tmp_path / "no", 0.5, calibrate="self")


def test_a_recipe_in_a_file_names_the_mix_by_its_word(tmp_path):
    (tmp_path / "r.yaml").write_text("calibration: {files: [general, t.txt, self]}")
    assert Recipe.read(tmp_path / "r.yaml").calibration.files == ("general", str(tmp_path / "t.txt"), "self")
