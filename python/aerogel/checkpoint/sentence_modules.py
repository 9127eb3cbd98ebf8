"""The modules of a sentence-transformers folder: what stands in modules.json, and what each module's config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.architectures import MODES, Dense, Norm, Normalize, Refused, Settings, Step
from aerogel.checkpoint.config import read_json, read_json_list, read_optional_json
from aerogel.checkpoint.sentence_router import read_router
from aerogel.errors import ConfigError, UnsupportedModelError

#: Flag of a pooling config -> mode, in the order in which several stand side by side.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
#: What PyTorch calls the activations that a Dense module may have -> what the engine does.
ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "GELU": "gelu", "ReLU": "relu", "SiLU": "silu"}
#: How the tensors of steps with weights are named in a checkpoint; {} counts the steps.
STEP = "sentence.{}"

#: What a module of tokens reads and writes; PyLate does not say it.
_TOKENS = ("token_embeddings", "sentence_embedding")
_PLACES = {
    "module_input_name": Refused("the sentence's embedding is what a module changes", ("sentence_embedding",)),
    "module_output_name": Refused("the sentence's embedding is what a module changes", ("sentence_embedding",)),
}
MODULES = Settings(
    "modules.json",
    used={"type": "the kind of module", "path": "its folder"},
    harmless={"idx": "the order is that of the list", "name": "names only"},
    refused={"kwargs": Refused("arguments for single modules", ())},
)
POOLING = Settings(
    "1_Pooling/config.json",
    used={
        **dict.fromkeys(FLAGS, "how hidden states become an embedding"),
        "pooling_mode": "the same, since version 5: a name or a list",
        "include_prompt": "false: prompts are refused, as tokens outside the pooling are not supported",
    },
    harmless={"word_embedding_dimension": "the tensors say it", "embedding_dimension": "the tensors say it"},
    unknown="refuse",
)
NORMALIZE = Settings("2_Normalize/config.json", used={}, refused=_PLACES, unknown="refuse")
DENSE = Settings(
    "2_Dense/config.json",
    used={
        "in_features": "width of the input",
        "out_features": "width of the embedding",
        "bias": "whether there is one",
        "activation_function": f"one of PyTorch's {', '.join(ACTIVATIONS)}",
    },
    refused={**_PLACES, "use_residual": Refused("the input added to the output")},
    unknown="refuse",
)
SPLADE = Settings(
    "1_SpladePooling/config.json",
    used={"activation_function": "relu, or log1p_relu: what each token's logits become, before the logarithm"},
    harmless={
        "word_embedding_dimension": "the vocabulary",
        "embedding_dimension": "the vocabulary",
        "chunk_size": "how, not what",
    },
    refused={"pooling_strategy": Refused("the sum over a text's tokens", ("max",))},
    unknown="refuse",
)
#: What the modules of a sparse encoder that holds the model may be called.
_MODELS = ("Transformer", "MLMTransformer")
#: The module that is a table of embeddings.
STATIC = "StaticEmbedding"
#: Functions of a sparse encoder's logits.
TERM_ACTIVATIONS = ("relu", "log1p_relu")
#: The same without a pooling before it: of every token.
TOKEN_DENSE = DENSE | Settings(
    "1_Dense/config.json",
    used={"use_residual": "the input, or a linear of it, added to the output; with the activation Identity only"},
    refused=dict.fromkeys(_PLACES, Refused("a module changes what the one before it gives", _TOKENS)),
    unknown="refuse",
)
NORM = Settings("2_LayerNorm/config.json", used={"dimension": "width of the embedding"}, unknown="refuse")


@dataclass(frozen=True)
class TokenDense:
    """A linear of every token: its folder, what it is, and whether its input is added to what it makes."""

    place: Path
    dense: Dense
    residual: bool


@dataclass(frozen=True)
class Modules:
    """What modules.json lists.

    Attributes:
        model: the folder of the Transformer.
        modes: of the pooling; empty where there is none.
        steps: what follows the pooling, a last Normalize excepted.
        normalize: whether a Normalize comes last.
        pooled: whether the tokens of a prompt count in the embedding.
        terms: what a sparse encoder makes of its logits: one of TERM_ACTIVATIONS; None: it is none.
        tokens: of linears that stand before any pooling, and so make a vector of each token.
        files: parameter of a step -> the folder of its module, and its name there.
        table: whether the model is a table of embeddings, whose mean is the pooling.
        queries: the folder of a table of weights that makes embeddings of queries, where the model makes those of documents.
    """

    model: Path
    modes: tuple[str, ...]
    steps: tuple[Step, ...]
    normalize: bool
    pooled: bool
    terms: str | None
    tokens: tuple[TokenDense, ...]
    files: Mapping[str, tuple[Path, str]]
    table: bool = False
    queries: Path | None = None


def read_modules(folder: Path) -> Modules:
    """Reads modules.json and the configs of what it lists.

    Raises:
        ConfigError: a file is broken.
        UnsupportedModelError: a module, or a setting of one, that aerogel does not have.
    """
    path = folder / "modules.json"
    model, pooled, terms = folder, True, None
    modes: tuple[str, ...] | None = None
    steps: list[Step] = []
    tokens: list[TokenDense] = []
    files: dict[str, tuple[Path, str]] = {}
    table = False
    queries = None
    listed = [_module(path, folder, entry) for entry in read_json_list(path)]
    if len(listed) == 1 and listed[0][0] == "Router":
        router = read_router(listed[0][1])
        listed, queries = list(router.documents), router.queries
    for kind, place in listed:
        if kind in _MODELS:
            model = place
        elif kind == STATIC and modes is None and not tokens:
            model, table = place, True
            modes = ("mean",)
        elif kind == "SpladePooling" and modes is None:
            terms = _terms(place)
        elif kind == "Dense" and modes is None:
            tokens.append(_token_dense(place))
        elif kind == "MultiVectorMask" or (kind == "Normalize" and tokens):
            continue  # vectors of tokens always have length 1, and all of them are given
        elif kind == "Pooling" and modes is None and not tokens:
            config = _read(POOLING, place)
            modes = _modes(config, place / "config.json")
            pooled = config.get("include_prompt") is not False
        elif kind == "Normalize":
            NORMALIZE.check(read_optional_json(place / "config.json"), place / "config.json")
            steps.append(Normalize())
        elif kind in ("Dense", "LayerNorm") and modes is not None:
            name = STEP.format(sum(not isinstance(step, Normalize) for step in steps))
            step: Dense | Norm = _dense(place, name) if kind == "Dense" else _norm(place, name)
            steps.append(step)
            inside = "linear" if kind == "Dense" else "norm"
            parts = ["weight", "bias"] if not isinstance(step, Dense) or step.bias else ["weight"]
            files.update({f"{name}.{part}": (place, f"{inside}.{part}") for part in parts})
        elif kind != "Dropout":  # which does nothing outside training
            raise UnsupportedModelError(
                f"{path}: module {kind!r}: expected a Transformer, one Pooling, and Dense, LayerNorm or Normalize after it"
            )
    normalize = bool(steps) and isinstance(steps[-1], Normalize)
    return Modules(
        model,
        modes or (),
        tuple(steps[:-1] if normalize else steps),
        normalize,
        pooled,
        terms,
        tuple(tokens),
        files,
        table,
        queries,
    )


def _module(path: Path, folder: Path, module: Any) -> tuple[str, Path]:
    kind = module.get("type") if isinstance(module, dict) else None
    name = module.get("path", "") if isinstance(module, dict) else None
    if not isinstance(kind, str) or not isinstance(name, str):
        raise ConfigError(f"{path}: expected modules with a type and a path, got {module!r:.80}")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigError(f"{path}: expected the path of a module inside the folder, got {name!r}")
    MODULES.check(module, f"{path}: {name or kind}")
    return kind.rpartition(".")[2], folder / name


def _read(settings: Settings, place: Path) -> dict[str, Any]:
    path = place / "config.json"
    config = read_json(path)
    settings.check(config, path)
    return config


def _modes(config: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    wrong = [flag for flag in FLAGS if config.get(flag) is not None and not isinstance(config[flag], bool)]
    if wrong:
        raise ConfigError(f"{path}: {wrong[0]}: expected true or false, got {config[wrong[0]]!r:.80}")
    modes = [mode for flag, mode in FLAGS.items() if config.get(flag) is True]
    named = config.get("pooling_mode")
    if named is not None:
        listed = named if isinstance(named, list) else [named]
        modes = [str(mode).removesuffix("_tokens").removesuffix("token") for mode in listed]
    # sentence-transformers takes the mean where a file has no flag, or none that is true.
    modes = modes or ["mean"]
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise UnsupportedModelError(f"{path}: expected pooling modes of {', '.join(MODES)}, got {', '.join(unknown)}")
    return tuple(modes)


def _terms(place: Path) -> str:
    name = _read(SPLADE, place).get("activation_function", "relu")
    if name not in TERM_ACTIVATIONS:
        path = place / "config.json"
        raise UnsupportedModelError(
            f"{path}: activation_function: expected one of {', '.join(TERM_ACTIVATIONS)}, got {name!r:.80}"
        )
    return str(name)


def _width(config: Mapping[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if type(value) is not int or not 0 < value < 2**20:
        raise ConfigError(f"{path}: {key}: expected a positive whole number, got {value!r:.80}")
    return value


def _dense(place: Path, name: str, settings: Settings = DENSE) -> Dense:
    path = place / "config.json"
    config = _read(settings, place)
    bias = config.get("bias", True)
    if not isinstance(bias, bool):
        raise ConfigError(f"{path}: bias: expected true or false, got {bias!r:.80}")
    function = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    known = isinstance(function, str) and function.startswith("torch.nn.")
    if not known or function.rpartition(".")[2] not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"{path}: activation_function: expected PyTorch's {', '.join(ACTIVATIONS)}, got {function!r:.80}"
        )
    inputs, outputs = _width(config, "in_features", path), _width(config, "out_features", path)
    return Dense(name, inputs, outputs, bias, ACTIVATIONS[function.rpartition(".")[2]])


def _token_dense(place: Path) -> TokenDense:
    dense = _dense(place, "", TOKEN_DENSE)
    residual = read_json(place / "config.json").get("use_residual") or False
    if not isinstance(residual, bool):
        raise ConfigError(f"{place / 'config.json'}: use_residual: expected true or false, got {residual!r:.80}")
    if residual and dense.activation is not None:
        raise UnsupportedModelError(
            f"{place / 'config.json'}: use_residual: expected the activation Identity beside it, got {dense.activation}"
        )
    return TokenDense(place, dense, residual)


def _norm(place: Path, name: str) -> Norm:
    return Norm(name, _width(_read(NORM, place), "dimension", place / "config.json"))
