"""What compression prunes of a loaded model, and what its steps take."""

import pytest

import aerogel
from aerogel.architectures import architecture_of
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.kinds import prunable
from aerogel.engine.steps import step_times


@pytest.mark.parametrize("folder", ["bert_folder", "llama_folder"])
def test_the_linears_inside_are_pruned_and_heads_are_not(request, folder):
    path = request.getfixturevalue(folder)
    model = aerogel.load(path, 1)
    steps = [*model.describe(), *model.describe()]  # a layer stands in the description of every output
    names = [step["name"] for step in prunable(steps, architecture_of(open_checkpoint(path)))]
    linears = dict.fromkeys(step["name"] for step in steps if "forms" in step)
    assert names == [name for name in linears if name.startswith("layers.")]
    assert ("head" in linears) == (folder == "llama_folder")


def test_steps_are_timed_in_turn(bert_folder, monkeypatch):
    monkeypatch.setattr("aerogel.engine.steps.SECONDS", 0.0)
    models = [aerogel.load(bert_folder, 1), aerogel.load(bert_folder, 1, quant="int8")]
    found = step_times(models, 2, 4)
    for model, steps in zip(models, found):
        assert all(seconds > 0 for _, _, seconds in steps)
        assert {name for op, name, _ in steps if op == "linear"} == {
            step["name"] for step in model.describe() if "forms" in step
        }
