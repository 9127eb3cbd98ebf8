import dataclasses

import pytest

from aerogel.compression.choices import resolved
from aerogel.compression.recipe import Calibration, Fold, Prune, Quantize, Recipe, with_values
from aerogel.errors import RecipeError
from aerogel.structure import StructureRecipe

WHOLE = """
version: 1
seed: 7
pack: small
calibration:
  files: [train.txt, sub/more.csv]
  samples: 64
prune:
  method: wanda
  sparsity: 1
  layers: {"layers.0.*": 0.5, "*.ffn.up": 0}
fold: {alpha: 0.75}
quantize: {weights: "int8", embeddings: none, rounding: nearest}
"""


def test_a_whole_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text(WHOLE)
    recipe = Recipe.read(tmp_path / "r.yaml")
    assert recipe == Recipe(
        seed=7,
        pack="small",
        calibration=Calibration((str(tmp_path / "train.txt"), str(tmp_path / "sub" / "more.csv")), samples=64),
        prune=Prune(method="wanda", sparsity=1.0, layers={"layers.0.*": 0.5, "*.ffn.up": 0.0}),
        fold=Fold(0.75),
        quantize=Quantize(embeddings="none", rounding="nearest"),
    )


def test_plain_values_and_yaml_make_the_same_recipe_again(tmp_path):
    structure = StructureRecipe(ffn=0.75, heads=(2, 3), layers=(0, 2))
    recipe = Recipe(structure=structure, prune=Prune(pattern="8:64", budget="uniform"), fold=Fold(), seed=3)
    assert Recipe.of(recipe.as_dict()) == recipe
    (tmp_path / "r.yaml").write_text(recipe.as_yaml())
    assert Recipe.read(tmp_path / "r.yaml") == recipe
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert Recipe.read(tmp_path / "empty.yaml") == Recipe()


def test_values_replace_those_of_a_recipe():
    recipe = Recipe(prune=Prune(sparsity=0.5), seed=1)
    changed = with_values(recipe, {"prune.pattern": "2:4", "fold.alpha": 0.25, "calibration.files": ("a.txt",)})
    assert changed.prune == Prune(sparsity=0.5, pattern="2:4") and changed.fold == Fold(0.25)
    assert changed.calibration.files == ("a.txt",) and changed.seed == 1
    assert recipe == Recipe(prune=Prune(sparsity=0.5), seed=1)
    with pytest.raises(RecipeError, match=r"prune\.nonsense"):
        with_values(recipe, {"prune.nonsense": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prun: {}", r"prun: unknown, did you mean prune\?"),
        ("prune: {sparsty: 1}", r"prune\.sparsty: unknown, did you mean sparsity\?"),
        ("prune: {zzz: 1}", r"prune\.zzz: unknown, only method, sparsity"),
        ("prune: [1]", r"prune: expected keys and values, got \[1\]"),
        ("[1, 2]", "expected keys and values"),
        ("just text", "expected keys and values"),
        ("prune: {sparsity: much}", r"prune\.sparsity: expected a number, got 'much'"),
        ("prune: {sparsity: true}", r"prune\.sparsity: expected a number, got True"),
        ("prune: {sparsity: 1.5}", "from 0 to 1, got 1.5"),
        ("prune: {sparsity: .nan}", "expected a number, got nan"),
        ("prune: {method: magic}", r"prune\.method: 'magic' is unknown, only magnitude"),
        ("prune: {pattern: blob}", "blob"),
        ("prune: {pattern: '8:64', sparsity: 0.5}", "contradicts"),
        ("prune: {threshold: -1}", "0 or more"),
        ("prune: {threshold: 0.1, sparsity: 0.5}", "exclude each other"),
        ("prune: {threshold: 0.1, pattern: '2:4'}", "unstructured only"),
        ("prune: {layers: {a: 2}}", r"prune\.layers\.a: expected a number from 0 to 1"),
        ("prune: {layers: {a: b}}", r"prune\.layers\.a: expected a number"),
        ("quantize: {weights: int3}", "int3"),
        ("quantize: {rounding: up}", r"quantize\.rounding: 'up' is unknown, only nearest, compensated"),
        ("quantize: {activations: none}", "only dynamic, static"),
        ("calibration: {files: one.txt}", r"calibration\.files: expected a list"),
        ("calibration: {files: [1]}", r"calibration\.files\[0\]: expected a text, got 1"),
        ("calibration: {samples: 0}", "at least 1"),
        ("calibration: {tokens: 1.5}", "expected a whole number"),
        ("calibration: {total: 0}", "at least 1"),
        ("fold: {alpha: 7}", r"fold\.alpha"),
        ("structure: {ffn: half}", r"structure\.ffn: expected a number, got 'half'"),
        ("structure: {ffn: [0.5, x]}", r"structure\.ffn\[1\]: expected a number, got 'x'"),
        ("structure: {ffn: 1.5}", "1.5"),
        ("prune: {steps: 0}", "at least 1"),
        ("pack: tight", "only plain, small"),
        ("seed: -1", "at least 0"),
        ("version: 2", "expected 1, got 2"),
        ("prune: {unclosed", "expected YAML"),
        ("a: !!python/object:os.system {}", "expected YAML"),
    ],
)
def test_errors_name_their_place(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message) as error:
        Recipe.read(tmp_path / "r.yaml")
    assert "r.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"b{i}: &b{i} [{','.join(['*b' + str(i - 1) if i else '*a'] * 10)}]\n" for i in range(8)),
            "stand for more",
        ),
        ("a: &a [*a]", "stands for what it is in"),
        ("[" * 2000, "expected YAML"),
        ("seed: 2023-99-99", "expected YAML"),
        ("seed: 1" + "0" * 6000, "expected YAML"),
        ("# " + "x" * (1 << 20), "at most 1048576 characters"),
    ],
    ids=["aliases of aliases", "cycle", "nested", "date", "digits", "length"],
)
def test_texts_that_stand_for_too_much(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        Recipe.read(tmp_path / "r.yaml")


def test_aliases_within_reason(tmp_path):
    (tmp_path / "r.yaml").write_text("prune: {sparsity: &s 0.5, layers: {a: *s, b: *s}}")
    assert Recipe.read(tmp_path / "r.yaml").prune.layers == {"a": 0.5, "b": 0.5}


def test_a_recipe_is_not_changed_by_anyone():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("prune", "method", "sparsity"),
    [
        ({}, "magnitude", 0.0),
        ({"sparsity": 0.5}, "magnitude", 0.5),
        ({"pattern": "2:4"}, "magnitude", 0.5),
        ({"pattern": "8:64", "method": "magnitude"}, "magnitude", 0.875),
        ({"sparsity": 0.9, "method": "magnitude"}, "magnitude", 0.9),
        ({"layers": {"layers.0.*": 0.5}}, "magnitude", 0.0),
    ],
)
def test_without_texts_little_or_by_name(prune, method, sparsity):
    found = resolved(Recipe.of({"prune": prune})).prune
    assert (found.method, found.sparsity) == (method, sparsity)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"prune": {"sparsity": 0.51}}, "51% sparsity without calibration texts"),
        ({"prune": {"pattern": "8:64"}}, "88% sparsity without calibration texts"),
        ({"prune": {"layers": {"layers.0.*": 0.6}}}, "60% sparsity without calibration texts"),
        ({"prune": {"method": "obs", "sparsity": 0.5}}, "prune.method: obs needs calibration texts"),
        ({"quantize": {"rounding": "compensated"}}, "compensated needs calibration texts"),
        ({"quantize": {"activations": "static"}}, "activations: static needs calibration texts"),
        ({"fold": {}}, "fold: needs calibration texts"),
        ({"structure": {"ffn": 0.5}}, "structure.ffn: score 'contribution' and compensate need calibration texts"),
        ({"structure": {"heads": 0.5, "score": "weights"}}, "structure.heads: compensate need calibration texts"),
        ({"prune": {"method": "admm"}}, "prune.method: admm prunes nothing without a sparsity"),
        ({"prune": {"pattern": "1x4"}}, "prune.pattern: 1x4 prunes nothing without a sparsity"),
        ({"prune": {"budget": "owl"}}, "prune.budget: owl prunes nothing without a sparsity"),
        ({"calibration": {"files": ["t.txt"]}}, "nothing uses the texts: int8 does not need them"),
    ],
)
def test_nothing_is_ruined_or_ignored_unsaid(recipe, message):
    with pytest.raises(RecipeError, match=message):
        resolved(Recipe.of(recipe))


@pytest.mark.parametrize(
    "recipe",
    [{"prune": {"sparsity": 0.8}}, {"prune": {"sparsity": 0}}, {"quantize": {"weights": "int4:g64"}}, {"fold": {}}],
)
def test_texts_allow_more(recipe):
    assert resolved(Recipe.of({**recipe, "calibration": {"files": ["t.txt"]}}))
