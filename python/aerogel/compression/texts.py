"""Which texts a compression is calibrated on: files of the user's, the general mix, what a language model writes itself."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aerogel.architectures import Architecture
from aerogel.budget import budget
from aerogel.budget.bits import bits_of
from aerogel.calibrate import GENERAL, SELF, read_texts, sequences
from aerogel.calibrate.aside import split
from aerogel.calibrate.general import FILE, general_documents, general_texts
from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.messages import calibration_texts
from aerogel.compression.own_texts import own_sequences
from aerogel.compression.recipe import Calibration, Recipe
from aerogel.errors import AerogelError, RecipeError
from aerogel.prune import METHODS, Windowed, parse_pattern
from aerogel.structure import score

log = logging.getLogger("aerogel")

#: Fewer calibration texts than this are said to be few.
FEW_TEXTS = 500
#: Tokens that are run at most unless it is said: of an encoder, of a language model.
TOTAL, TOTAL_OF_WINDOWS = 65536, 32768
#: Of the general mix beside files, unless it is said.
HALF = 0.5
#: Of the mix that are looked at, for each token that is taken.
CHARACTERS = 12


def with_default_texts(recipe: Recipe, checkpoint: Checkpoint) -> Recipe:
    """The recipe with the general mix where texts are needed, or pay, and none are given; as it is for a model that reads
    none."""
    if recipe.calibration.files or not _pays(recipe):
        return recipe
    try:
        checkpoint.tokenizer()
    except AerogelError as error:
        log.info("calibration: not on the general mix: %s", error)
        return recipe
    return dataclasses.replace(recipe, calibration=dataclasses.replace(recipe.calibration, files=(GENERAL,)))


def _pays(recipe: Recipe) -> bool:
    prune, quantize = recipe.prune, recipe.quantize
    pattern = parse_pattern(prune.pattern, prune.sparsity)
    sparsity = pattern.sparsity if prune.sparsity is None and isinstance(pattern, Windowed) else prune.sparsity
    if any((sparsity, *prune.layers.values())) and prune.threshold is None:
        if prune.method is None or METHODS[prune.method].needs == "gram" or budget(prune.budget).needs == "gram":
            return True
    structure = recipe.structure
    seen = structure is not None and (score(structure.score).needs != "nothing" or structure.compensate)
    seen = seen or bits_of(quantize.weights) is not None
    return seen or recipe.fold is not None or quantize.rounding == "compensated" or quantize.activations == "static"


def total_of(calibration: Calibration, running: bool) -> int:
    """Tokens that are run at most; `running`: of a language model."""
    return calibration.total or (TOTAL_OF_WINDOWS if running else TOTAL)


def shares(calibration: Calibration) -> dict[str, float]:
    """Which part of the tokens comes of the user's files (under ""), of the general mix and of the model itself."""
    own = [""] if any(name not in (GENERAL, SELF) for name in calibration.files) else []
    others = own + ([SELF] if SELF in calibration.files else [])
    mix = calibration.mix
    if mix is None:
        mix = 0.0 if GENERAL not in calibration.files else HALF if others else 1.0
    found = {name: (1 - mix) / len(others) for name in others}
    return {name: share for name, share in {**found, GENERAL: mix}.items() if share > 0}


def calibration_sequences(
    recipe: Recipe, architecture: Architecture, checkpoint: Checkpoint, threads: int | None = None
) -> list[list[int]] | None:
    """The token sequences of the recipe's texts; None without any."""
    wanted = recipe.calibration
    if not wanted.files:
        return None
    running = architecture.generates
    long = running or checkpoint.messages is not None  # an instruction takes its part
    tokens = min(wanted.tokens or (512 if long else 128), architecture.max_positions)
    tokens = min(tokens, checkpoint.max_tokens or tokens)
    found: list[list[int]] = []
    parts = shares(wanted)
    for name, share in parts.items():
        total = max(1, round(total_of(wanted, running) * share))
        samples = wanted.samples and max(1, round(wanted.samples * share))
        if name == SELF:
            if not running:
                raise RecipeError(
                    f"calibration: {SELF}: only a language model writes texts of its own; give files, or {GENERAL}"
                )
            found += own_sequences(checkpoint, tokens, total, samples, recipe.seed, threads)
        elif name == GENERAL:
            found += general_sequences(checkpoint, tokens, total, running, samples, recipe.seed)
        else:
            files = [file for file in wanted.files if file not in (GENERAL, SELF)]
            texts = [text for file in files for text in split(read_texts(Path(file)), running)[0]]
            if not running and len(texts) < FEW_TEXTS and len(parts) == 1:
                log.warning("calibration: %d texts are few: from about %d on results are steady", len(texts), FEW_TEXTS)
            prompts, tokenizer = calibration_texts(checkpoint, texts)
            found += sequences(prompts, tokenizer, tokens, total, running, samples, recipe.seed)
    return found


def general_sequences(
    checkpoint: Checkpoint, tokens: int, total: int, running: bool, samples: int | None = None, seed: int = 0
) -> list[list[int]]:
    """Token sequences of the general mix, about as many tokens of each domain; see `aerogel.calibrate.sequences`."""
    domains = general_documents() if running else general_texts()
    found: list[list[int]] = []
    for number, texts in enumerate(domains.values(), 1):
        limit = None if samples is None else samples * number // len(domains) - len(found)
        left = total * number // len(domains) - sum(map(len, found))
        if left > 0 and limit != 0:
            some = _some(texts, left, None if running else tokens, seed)  # no more is tokenized than is needed
            prompts, tokenizer = calibration_texts(checkpoint, some)
            found += sequences(prompts, tokenizer, tokens, left, running, limit, seed)
    return found


def _some(texts: Sequence[str], total: int, each: int | None, seed: int) -> list[str]:
    """Texts in their order, chosen at random: enough to take so many tokens from, of each at most `each`."""
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    lengths = np.array([len(texts[i]) for i in order])
    if each is not None:
        lengths = np.minimum(lengths, CHARACTERS * each)
    count = int(np.searchsorted(np.cumsum(lengths), CHARACTERS * total)) + 1
    return [texts[i] for i in sorted(order[:count])]


def text_hashes(files: tuple[str, ...], mix: float | None) -> Mapping[str, str]:
    """What the texts were, by the name that the recipe has for them."""
    found = {}
    for name in dict.fromkeys((*files, *([GENERAL] if mix else []))):
        if name != SELF:
            path = FILE if name == GENERAL else Path(name)
            found[name] = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return found
