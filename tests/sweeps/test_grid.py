import pytest

from aerogel.errors import RecipeError
from aerogel.sweeps.grid import label_of, name_of, parse_grid, points_of


def test_values_are_numbers_where_they_look_like_it():
    assert parse_grid("sparsity=0,0.5  pattern=8:64,unstructured quant=int8") == {
        "sparsity": [0, 0.5],
        "pattern": ["8:64", "unstructured"],
        "quant": ["int8"],
    }


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "got nothing"),
        ("sparsity", "expected KEY=VALUE,... with spaces between, got 'sparsity'"),
        ("sparsity=", "got 'sparsity='"),
        ("=1", "got '=1'"),
        ("sparsity=0.5, 0.7", "got 'sparsity=0.5,'"),
        ("sparsity=0.5 sparsity=0.7", "sparsity is there twice"),
    ],
)
def test_texts_that_are_no_grid(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_grid(text)


def test_every_combination_once():
    assert points_of(parse_grid("sparsity=0.5,0.8 quant=int8,bf16")) == [
        {"sparsity": s, "quant": q} for s in (0.5, 0.8) for q in ("int8", "bf16")
    ]
    assert points_of({"sparsity": [0.5, 0.5]}) == [{"sparsity": 0.5}]


def test_a_pattern_with_a_sparsity_of_its_own_is_one_point():
    found = points_of(parse_grid("sparsity=0.5,0.875 pattern=unstructured,8:64"))
    assert {"pattern": "8:64"} in found and len([p for p in found if p["pattern"] == "8:64"]) == 2
    # 8:64 is 87.5 % sparse: that one may be said beside it
    assert [p.get("sparsity") for p in found if p["pattern"] == "8:64"] == [None, 0.875]
    assert points_of(parse_grid("sparsity=0.5,0.7 pattern=8:64")) == [{"pattern": "8:64"}]


@pytest.mark.parametrize(
    "text,message",
    [
        ("sparsty=0.5", "sparsty: unknown, expected some of sparsity, pattern, quant"),
        ("out=x", "out: unknown"),
        ("sparsity=2", "from 0 to 1, got 2"),
        ("sparsity=half", "expected a number from 0 to 1, got 'half'"),
        ("sparsity=2 pattern=8:64", "2"),
        ("pattern=9000:64", "pattern"),
        ("sparsity=0.5 pattern=checkered", "checkered"),
        ("quant=int8,int3", "int3"),
    ],
)
def test_points_that_do_not_exist(text, message):
    with pytest.raises(RecipeError, match=message):
        points_of(parse_grid(text))


def test_names():
    point = {"sparsity": 0.5, "pattern": "8:64", "calibration": "../a b/c.txt"}
    name = name_of(point)
    assert name.startswith("sparsity=0.5,pattern=8-64,calibration=") and "/" not in name and " " not in name
    among = [{"sparsity": 0.5, "quant": "int8"}, {"sparsity": 0.8, "quant": "int8"}]
    assert [label_of(p, among) for p in among] == ["0.5", "0.8"]
    assert label_of(among[0], among[:1]) == "0.5 int8"
