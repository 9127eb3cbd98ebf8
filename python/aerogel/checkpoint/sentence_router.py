"""Models with a way for queries and another for documents: sentence-transformers' Router module.

Read is that of sparse encoders without inference for queries (arXiv 2411.04403): documents go through a masked language
model, queries through a table of one weight a token, which `aerogel.checkpoint.query_terms` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.architectures import Refused, Settings
from aerogel.checkpoint.config import read_json, write_json
from aerogel.errors import ConfigError, UnsupportedModelError

FILE = "router_config.json"
ROUTER = Settings(
    FILE,
    used={
        "types": "the kinds of modules, by their folders",
        "structure": "the modules of each way",
        "parameters": "documents' has to be the way of a text that is said to be neither",
    },
    unknown="refuse",
)
PARAMETERS = Settings(
    f"{FILE}: parameters",
    used={"default_route": "only that of documents"},
    harmless={"allow_empty_key": "default_route says it"},
    refused={"route_mappings": Refused("ways by the kind of input", ())},
    unknown="refuse",
)
#: The module that is a table of weights.
TERMS = "SparseStaticEmbedding"


@dataclass(frozen=True)
class Router:
    """What a router's config lists.

    Attributes:
        documents: kinds and folders of the modules for documents, and for texts that are said to be neither.
        queries: the folder of the table for queries.
    """

    documents: tuple[tuple[str, Path], ...]
    queries: Path


def read_router(folder: Path) -> Router:
    """Reads a router's config.

    Raises:
        ConfigError: the file is broken.
        UnsupportedModelError: the ways are others.
    """
    path = folder / FILE
    config = read_json(path)
    ROUTER.check(config, path)
    types, structure, parameters = (_mapping(config, key, path) for key in ("types", "structure", "parameters"))
    PARAMETERS.check(parameters, f"{path}: parameters")
    ways = {name: _way(types, listed, folder, path) for name, listed in structure.items()}
    kinds = {name: [kind for kind, _ in way] for name, way in ways.items()}
    default = parameters.get("default_route") or next(iter(ways), None)
    if set(ways) != {"query", "document"} or kinds["query"] != [TERMS] or default != "document":
        raise UnsupportedModelError(
            f"{path}: expected {TERMS} for queries, a masked language model for documents, and documents unless said, got "
            f"{kinds!s:.200} and {default!r:.80}"
        )
    return Router(ways["document"], ways["query"][0][1])


def write_router(folder: Path, pooling: str, queries: str) -> None:
    """Writes the config of a router whose masked language model is in `folder` itself.

    Args:
        folder: of the model.
        pooling: the folder in it of what follows the masked language model.
        queries: the folder in it of the table for queries.
    """
    package = "sentence_transformers.sparse_encoder.models."
    types = {"": "MLMTransformer", pooling: "SpladePooling", queries: TERMS}
    config = {
        "types": {name: package + kind for name, kind in types.items()},
        "structure": {"query": [queries], "document": ["", pooling]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    write_json(folder / FILE, config)


def _mapping(config: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = config.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key}: expected an object, got {value!r:.80}")
    return value


def _way(types: Mapping[str, Any], listed: Any, folder: Path, path: Path) -> tuple[tuple[str, Path], ...]:
    if not isinstance(listed, list) or not all(isinstance(types.get(str(name)), str) for name in listed):
        raise ConfigError(f"{path}: structure: expected lists of modules that types names, got {listed!r:.80}")
    outside = [name for name in listed if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise ConfigError(f"{path}: expected the path of a module inside the folder, got {outside[0]!r}")
    return tuple((types[name].rpartition(".")[2], folder / name) for name in listed)
