"""What the keys of a file mean: used, harmless or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aerogel import load
from aerogel.architectures import FAMILIES, Architecture, Refused, Settings, architecture_of
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import UnsupportedModelError

from .. import tiny_models


class Recorded(Mapping[str, Any]):
    """A config that remembers which of its keys were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values, self.asked = values, set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self.values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)


@pytest.mark.parametrize("fixture", ["bert_folder", "llama_folder"])
def test_what_a_family_reads_is_declared(fixture: str, request: pytest.FixtureRequest) -> None:
    checkpoint = open_checkpoint(request.getfixturevalue(fixture))
    family = type(architecture_of(checkpoint))
    config = Recorded(checkpoint.config)
    family(config, checkpoint.names(), checkpoint.pooling)
    assert {"hidden_size", "num_hidden_layers"} <= config.asked
    assert not config.asked - set(family.settings.used)


#: Of decoders, what makes a family read all that it knows.
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4},
    "qwen3": {"use_sliding_window": True, "sliding_window": 4},
    "mistral": {"sliding_window": 4},
    "ministral": {"sliding_window": 4},
    "smollm3": {"use_sliding_window": True, "sliding_window": 4},
    "granite": {},
    "phi3": {"sliding_window": 4, "partial_rotary_factor": 0.5},
    "olmo2": {},
    "olmo3": {"sliding_window": 4},
    "exaone4": {"sliding_window": 4},
    "starcoder2": {"sliding_window": 4},
    "stablelm": {"partial_rotary_factor": 0.5, "head_dim": None, "hidden_size": 96},
    "gpt_neox": {"rotary_pct": 0.5, "head_dim": None, "hidden_size": 96, "num_key_value_heads": None},
    "phi": {"partial_rotary_factor": 0.5},
    "lfm2": {"full_attn_idxs": [1], "block_ff_dim": 96},
}


@pytest.mark.parametrize("head", ["ForCausalLM", "ForSequenceClassification"])
@pytest.mark.parametrize("model_type", DECODERS)
def test_what_a_decoder_reads_is_declared(model_type: str, head: str) -> None:
    values = {**tiny_models.LLAMA, **DECODERS[model_type], "model_type": model_type, "architectures": [f"X{head}"]}
    family = FAMILIES[model_type]
    family.settings.check(values, "config")
    config = Recorded(values)
    made = family(config, ["lm_head.weight", "embed_out.weight"], None)
    assert {"hidden_size"} <= config.asked and {"hidden_act", "is_causal"} <= config.asked | set(
        family.settings.refused
    )
    undeclared = config.asked - set(family.settings.used) - set(family.settings.harmless) - set(family.settings.refused)
    assert not undeclared, undeclared
    assert len(made.details.rotaries) == len(made.details.windows) == 2


@pytest.mark.parametrize("family", dict.fromkeys(FAMILIES.values()), ids=lambda family: family.__name__)
def test_no_key_means_two_things(family: type[Architecture]) -> None:
    settings = family.settings
    kinds = [set(settings.used), set(settings.harmless), set(settings.refused)]
    assert not kinds[0] & kinds[1] and not kinds[0] & kinds[2] and not kinds[1] & kinds[2]


TABLE = Settings(
    "x.json",
    used={"width": "width", "mode_*": "modes"},
    harmless={"note": "a note"},
    refused={"cap": Refused("scores are capped", (0, 0.0)), "mode_odd": Refused("odd")},
)


@pytest.mark.parametrize(
    "values",
    [
        {"width": 3, "note": 4},
        {"cap": 0, "mode_any": 7},
        {"cap": None},
        {"cap": []},
        {"mode_odd": False},
        {"new": None},
    ],
)
def test_known_settings_pass(values: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    TABLE.check(values, "here")
    assert not caplog.records


@pytest.mark.parametrize(("key", "value"), [("cap", 3), ("cap", False), ("mode_odd", True), ("mode_odd", "x")])
def test_what_would_change_the_answer_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=f"here: {key}: {value!r} is not supported"):
        TABLE.check({"width": 1, key: value}, "here")


def test_unknown_settings_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        TABLE.check({"new": 1, "width": 2, "newer": {}}, "a file seen once")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a file seen once" in caplog.text and "new, newer" in caplog.text
    with pytest.raises(UnsupportedModelError, match="got new"):
        Settings("x.json", {}, unknown="refuse").check({"new": 1}, "here")


def test_the_later_table_wins() -> None:
    both = TABLE | Settings("y.json", used={"cap": "read"}, refused={"note": Refused("no")})
    both.check({"cap": 3}, "here")
    with pytest.raises(UnsupportedModelError, match="note"):
        both.check({"note": True}, "here")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {"pruned_heads": {"0": [1]}}),
        ("bert", {"is_encoder_decoder": True}),
        ("bert", {"embedding_size": 16}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("bert", {"auto_map": {"AutoModel": "modeling.Other"}}),
        ("llama", {"attn_logit_softcapping": 50.0}),
        ("llama", {"residual_multiplier": 0.2}),
        ("llama", {"use_qk_norm": True}),
        ("llama", {"num_local_experts": 8}),
        ("llama", {"use_bidirectional_attention": True}),
    ],
)
def test_models_that_compute_something_else(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    config = {**(tiny_models.BERT if kind == "bert" else tiny_models.LLAMA), **changes}
    weights = tiny_models.bert_weights(config) if kind == "bert" else tiny_models.llama_weights(config)
    folder = tiny_models.write(tmp_path / "m", config, weights, prefix="" if kind == "bert" else "model.")
    [key] = changes
    with pytest.raises(UnsupportedModelError, match=key):
        load(folder)
