"""How a sentence-transformers model makes one embedding of a text: its modules, the prompts and the length limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel.architectures import Pooling, Refused, Settings
from aerogel.checkpoint.config import read_json, read_optional_json
from aerogel.checkpoint.sentence_modules import TokenDense, read_modules
from aerogel.errors import ConfigError, UnsupportedModelError

#: The file of the prompts, beside modules.json.
PROMPTS = "config_sentence_transformers.json"
#: How embeddings can be compared.
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
#: How vectors of tokens are, by the name that PyLate gives it.
_MAXSIM = "MaxSim"
_COLBERT = (
    "vectors of tokens are those of the text as it is given: without markers, tokens beside it, or words left out"
)
SENTENCE_TRANSFORMERS = Settings(
    PROMPTS,
    used={
        "prompts": "what stands before a text, by name",
        "default_prompt_name": "the one that is used unless encode is told otherwise",
        "truncate_dim": "so many numbers of an embedding are kept",
        "similarity_fn_name": "how embeddings are compared; MaxSim: how vectors of tokens always are",
        "activation_fn": "what predict does to a classifier's scores",
    },
    harmless={
        "__version__": "where the file comes from",
        "model_type": "the modules say it",
        **dict.fromkeys(("query_prefix", "document_prefix", "query_length", "document_length"), _COLBERT),
        **dict.fromkeys(("do_query_expansion", "attend_to_expansion_tokens", "skiplist_words"), _COLBERT),
    },
)
TRANSFORMER = Settings(
    "sentence_bert_config.json",
    used={"max_seq_length": "the most tokens of a text", "do_lower_case": "whether texts are lower-cased first"},
    harmless={
        "tokenizer_name_or_path": "the tokenizer is that of the folder",
        "unpad_inputs": "batches are ragged",
        "modality_config": "texts only",
        "model_args": "how weights are loaded",
        "model_kwargs": "how weights are loaded",
        "cache_dir": "where files are kept",
        "model_name_or_path": "the model is that of the folder",
        **dict.fromkeys(("query_length", "document_length", "query_expansion"), _COLBERT),
    },
    refused={
        "transformer_task": Refused(
            "another head", ("feature-extraction", "fill-mask", "sequence-classification", "text-generation")
        ),
        "module_output_name": Refused(
            "hidden states or the head's scores", ("token_embeddings", "scores", "causal_logits")
        ),
        **dict.fromkeys(
            ("tokenizer_args", "processor_kwargs", "processing_kwargs", "config_args", "config_kwargs"),
            Refused("arguments for other files: write them there", ()),
        ),
    },
)


@dataclass(frozen=True)
class Prompts:
    """What stands before a text, such as "query: ".

    Attributes:
        texts: by their names.
        default: the name of the one that is used where the caller names none; None: none is.
        pooled: whether the tokens of a prompt count in the embedding.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    pooled: bool = True


@dataclass(frozen=True)
class SentenceTransformer:
    """What a sentence-transformers folder says beside the model itself.

    Attributes:
        similarity: how embeddings are compared, None where the files do not say.
        terms: what a sparse encoder makes of its logits, None where it is none.
        activation: the name of what is done to a classifier's scores, None where the files do not say.
        files: parameter of a module after the pooling -> the folder of the module, and its name there.
        tokens: linears that make a vector of each token.
        table: whether the model is a table of embeddings.
        queries: the folder of a table of weights that makes a sparse encoder's embeddings of queries.
    """

    model_folder: Path
    pooling: Pooling | None
    max_tokens: int | None
    lowercase: bool
    prompts: Prompts
    similarity: str | None
    activation: str | None
    terms: str | None
    files: Mapping[str, tuple[Path, str]]
    tokens: tuple[TokenDense, ...] = ()
    table: bool = False
    queries: Path | None = None


def read_sentence_transformer(folder: Path) -> SentenceTransformer | None:
    """Reads modules.json and what it points to; None if there is no modules.json.

    Raises:
        ConfigError: a file is broken.
        UnsupportedModelError: a module, a pooling mode or a setting that aerogel does not have.
    """
    if not (folder / "modules.json").exists():
        return None
    modules = read_modules(folder)
    settings = _settings(modules.model)
    max_tokens = settings.get("max_seq_length")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ConfigError(f"{modules.model}: max_seq_length: expected a positive whole number, got {max_tokens!r:.80}")
    path = folder / PROMPTS
    said = read_optional_json(path)
    SENTENCE_TRANSFORMERS.check(said, path)
    dimensions = said.get("truncate_dim")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise ConfigError(f"{path}: truncate_dim: expected a positive whole number, got {dimensions!r:.80}")
    pooling = Pooling(modules.modes, modules.normalize, modules.steps, dimensions) if modules.modes else None
    lowercase = settings.get("do_lower_case") is True
    return SentenceTransformer(
        modules.model,
        pooling,
        max_tokens,
        lowercase,
        _prompts(said, path, modules.pooled),
        _similarity(said, path),
        _word(said, "activation_fn", path),
        modules.terms,
        modules.files,
        modules.tokens,
        modules.table,
        modules.queries,
    )


def _similarity(settings: Mapping[str, Any], path: Path) -> str | None:
    name = _word(settings, "similarity_fn_name", path)
    if name == _MAXSIM:
        return None
    if name is not None and name not in SIMILARITIES:
        raise UnsupportedModelError(
            f"{path}: similarity_fn_name: expected one of {', '.join(SIMILARITIES)}, got {name!r:.80}"
        )
    return name


def _word(settings: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = settings.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{path}: {key}: expected a string, got {value!r:.80}")
    return value


def _prompts(settings: Mapping[str, Any], path: Path, pooled: bool) -> Prompts:
    texts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ConfigError(f"{path}: prompts: expected an object of strings, got {texts!r:.80}")
    if default is not None and (not isinstance(default, str) or default not in texts):
        raise ConfigError(
            f"{path}: default_prompt_name: expected one of {', '.join(texts) or 'none'}, got {default!r:.80}"
        )
    return Prompts(texts, default, pooled)


def _settings(folder: Path) -> dict[str, Any]:
    # Older versions of sentence-transformers named this file after the architecture.
    for path in (folder / "sentence_bert_config.json", *sorted(folder.glob("sentence_*_config.json"))):
        if path.exists():
            settings = read_json(path)
            TRANSFORMER.check(settings, path)
            return settings
    return {}


def score_activation(config: Mapping[str, Any], path: Path) -> str | None:
    """What a CrossEncoder's config.json says is done to its scores, by PyTorch's name; None where it does not."""
    ours = config.get("sentence_transformers")
    if isinstance(ours, Mapping) and ours.get("activation_fn") is not None:
        return _word(ours, "activation_fn", path)
    return _word(config, "sbert_ce_default_activation_function", path)  # before version 4
