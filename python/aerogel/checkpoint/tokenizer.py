"""Text to token ids and back, through the `tokenizers` package."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel._util.checks import flag, items, text, whole_number
from aerogel._util.checks import path as as_path
from aerogel._util.checks import texts as check_texts
from aerogel._util.text import not_utf8
from aerogel.architectures import family_of
from aerogel.checkpoint.config import read_optional_json
from aerogel.checkpoint.decoding import ByteLevelDecoder, StreamDecoder, token_id
from aerogel.checkpoint.generation import token_ids
from aerogel.checkpoint.pieces import Pieces, pieces_of, windows
from aerogel.checkpoint.tokenizer_bpe import FILES, byte_level_bpe
from aerogel.checkpoint.tokenizer_settings import TokenizerSettings
from aerogel.errors import AerogelError, TokenizerError

if TYPE_CHECKING:
    import tokenizers

#: SentencePiece's files, which Transformers makes a tokenizer.json of.
_SENTENCEPIECE = ("sentencepiece*.model", "spiece.model", "spm.model", "tokenizer.model")


class Tokenizer:
    """A model's tokenizer with its special tokens. Immutable: threads may share it.

    Attributes:
        bos_id: the token that begins a text, or None.
        eos_ids: the tokens that end a generation; may be empty.
        cuts_left: long texts lose their beginning, not their end.
        types: the texts of a pair have the types 0 and 1; otherwise both have 0.
        unk_id: the token that stands for what the vocabulary lacks, or None.
        limit: where its file says that texts are cut, or None. Nothing here does it.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        bos_id: int | None = None,
        eos_ids: Sequence[int] = (),
        where: object = "",
        cuts_left: bool = False,
        types: bool = True,
        unk_id: int | None = None,
    ) -> None:
        # Files often carry the truncation and padding of their training run: batches here are ragged and uncut.
        self.limit: int | None = (backend.truncation or {}).get("max_length")
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._where = where or "tokenizer"
        self._prefix, self._suffix = _around(backend, self._where)
        self._byte_decoder: ByteLevelDecoder | None = None
        self._lock = threading.Lock()
        self.bos_id = bos_id
        self.eos_ids = tuple(eos_ids)
        self.cuts_left = cuts_left
        self.types = types
        self.unk_id = unk_id

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str], max_tokens: int | None = None, special: bool = True) -> list[list[int]]:
        """Each text's token ids with the model's special tokens, cut to `max_tokens` with these kept.

        `special` False adds none: for texts that a chat template has made, which have theirs.

        Raises:
            TokenizerError: `max_tokens` leaves no room for text.
        """
        before, after = (self._prefix, self._suffix) if flag("special", special, TokenizerError) else ([], [])
        room = self._room(max_tokens, len(before) + len(after))
        with named(self._where):
            encoded = self._backend.encode_batch_fast(_texts(texts), add_special_tokens=False)
        return [before + self._cut(encoding.ids, room) + after for encoding in encoded]

    def encode_pair(
        self, first: Sequence[str], second: Sequence[str], max_tokens: int | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and type ids of the pairs (first[i], second[i]); the longer text of a pair is cut first.

        Raises:
            TokenizerError: the lists differ in length, or `max_tokens` leaves no room for text.
        """
        first, second = _texts(first), _texts(second)
        if len(first) != len(second):
            raise TokenizerError(f"{self._where}: pairs: expected as many texts, got {len(first)} and {len(second)}")
        room = self._room(max_tokens, self._backend.num_special_tokens_to_add(is_pair=True), texts=2)
        ids, types = [], []
        with named(self._where):
            encoded = self._backend.encode_batch_fast([*first, *second], add_special_tokens=False)
            for a, b in zip(encoded[: len(first)], encoded[len(first) :], strict=True):
                if room is not None and len(a) + len(b) > room:
                    keep_a, keep_b = _longest_first(len(a), len(b), room)
                    a.truncate(keep_a, direction=self._side)
                    b.truncate(keep_b, direction=self._side)
                pair = self._backend.post_process(a, b)
                ids.append(pair.ids)
                types.append(pair.type_ids if self.types else [0] * len(pair.ids))
        return ids, types

    def pieces(
        self, first: str, second: str | None = None, max_tokens: int | None = None, stride: int | None = None
    ) -> list[Pieces]:
        """A text or a pair in tokens that know where they stand in it.

        Args:
            first: the text.
            second: what goes with it.
            max_tokens: the most tokens of one window, special ones included; None: no limit.
            stride: so many tokens of a window are the end of the one before: as many windows are made as the (second) text
                needs. None: one, cut.

        Raises:
            TokenizerError: `max_tokens` leaves no room for text, or no more than `stride`.
        """
        given = _texts([first] if second is None else [first, second])
        room = self._room(max_tokens, self._backend.num_special_tokens_to_add(is_pair=len(given) > 1))
        with named(self._where):
            whole = pieces_of(self._backend.encode(given[0], given[1] if len(given) > 1 else None))
        others = sum(source == 0 for source in whole.sources) if len(given) > 1 else 0
        if room is not None and room <= others:
            raise TokenizerError(
                f"{self._where}: max_tokens: expected more than {max_tokens}: the first text takes {others} of them"
            )
        if stride is not None and room is not None and stride >= room - others:
            raise TokenizerError(
                f"{self._where}: stride: expected less than {room - others}, all of a window, got {stride}"
            )
        return windows(whole, len(given) - 1, None if room is None else room - others, stride, self.cuts_left)

    @property
    def around(self) -> frozenset[int]:
        """The tokens that stand around every text."""
        return frozenset(self._prefix + self._suffix)

    @property
    def before(self) -> int:
        """How many tokens `encode` puts before a text."""
        return len(self._prefix)

    @property
    def after(self) -> int:
        """How many it puts behind one."""
        return len(self._suffix)

    def ordinary_ids(self) -> list[int]:
        """The tokens that text is made of: all but those that were added to the vocabulary, special ones among them."""
        apart = self.around | self._backend.get_added_tokens_decoder().keys()
        return [token for token in range(self.vocab_size) if token not in apart]

    @property
    def marks_parts(self) -> bool:
        """Whether the vocabulary tells tokens inside a word from those that begin one."""
        return bool(getattr(self._backend.model, "continuing_subword_prefix", None))

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of the tokens."""
        known = [token_id(id) for id in items("token ids", ids, TokenizerError)]
        skip_special = flag("skip_special", skip_special, TokenizerError)
        with named(self._where):
            return str(self._backend.decode(known, skip_special_tokens=skip_special))

    def stream(self, skip_special: bool = True) -> StreamDecoder:
        """A decoder that takes one token at a time, for printing while a model generates."""
        skip_special = flag("skip_special", skip_special, TokenizerError)
        return StreamDecoder(self.decode, self._bytes_decoder(), skip_special)

    def id_of(self, token: str) -> int | None:
        """The id of the token with exactly this text, or None."""
        with named(self._where):
            return self._backend.token_to_id(text("token", token, TokenizerError))

    def vocabulary(self) -> dict[str, int]:
        """Every token's text and id, added ones included."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    def token_of(self, id: int) -> str | None:
        """The text of the token with this id, or None."""
        with named(self._where):
            return self._backend.id_to_token(token_id(id))

    def as_json(self) -> str:
        """What `save` writes."""
        with named(self._where):
            return str(self._backend.to_str())

    def save(self, folder: Path | str) -> Path:
        """Writes tokenizer.json into the folder and returns its path. `bos_id` and `eos_ids` belong in config.json."""
        path = as_path("folder", folder, TokenizerError) / "tokenizer.json"
        with named(path):
            self._backend.save(str(path), pretty=False)
        return path

    def _room(self, max_tokens: int | None, special: int, texts: int = 1) -> int | None:
        if max_tokens is None:
            return None
        max_tokens = whole_number(f"{self._where}: max_tokens", max_tokens, 0, error=TokenizerError)
        if max_tokens < special + texts:
            raise TokenizerError(
                f"{self._where}: max_tokens: expected at least {special + texts} ({special} special), got {max_tokens}"
            )
        return max_tokens - special

    @property
    def _side(self) -> str:
        """The end that is cut, in the words of `tokenizers`."""
        return "left" if self.cuts_left else "right"

    def _cut(self, ids: list[int], room: int | None) -> list[int]:
        if room is None or len(ids) <= room:
            return ids
        return ids[len(ids) - room :] if self.cuts_left else ids[:room]

    def _bytes_decoder(self) -> ByteLevelDecoder | None:
        """The table of this tokenizer's bytes per token, if its decoder is ByteLevel."""
        with self._lock:
            if self._byte_decoder is None and type(self._backend.decoder).__name__ == "ByteLevel":
                self._byte_decoder = ByteLevelDecoder(self._backend)
            return self._byte_decoder


def _around(backend: tokenizers.Tokenizer, where: object) -> tuple[list[int], list[int]]:
    """The ids that the post-processor puts before and after a text."""
    if backend.post_processor is None:
        return [], []
    # The package shows no more of a post-processor than its JSON.
    return _tokens_around(json.loads(backend.post_processor.__getstate__()), where)


def _tokens_around(processor: dict[str, Any], where: object) -> tuple[list[int], list[int]]:
    kind = processor["type"]
    if kind == "Sequence":
        before: list[int] = []
        after: list[int] = []
        for inner in processor["processors"]:
            left, right = _tokens_around(inner, where)
            before, after = left + before, after + right
        return before, after
    if kind in ("BertProcessing", "RobertaProcessing"):
        return [processor["cls"][1]], [processor["sep"][1]]
    if kind == "TemplateProcessing":
        pieces = processor["single"]
        texts = [i for i, piece in enumerate(pieces) if "Sequence" in piece]
        if len(texts) != 1 or pieces[texts[0]]["Sequence"]["id"] != "A":
            raise TokenizerError(f"{where}: post_processor: expected the text once in a template, got {pieces!r:.200}")
        ids = [
            processor["special_tokens"][p["SpecialToken"]["id"]]["ids"] if "SpecialToken" in p else [] for p in pieces
        ]
        return sum(ids[: texts[0]], []), sum(ids[texts[0] :], [])
    if kind == "ByteLevel":  # moves offsets only
        return [], []
    raise TokenizerError(f"{where}: post_processor: {kind!r} is not supported")


def load_tokenizer(folder: Path, config: dict[str, Any], lowercase: bool = False) -> Tokenizer:
    """The tokenizer of a Hugging Face style folder: tokenizer.json, or vocab.txt for BERT, or vocab.json and merges.txt
    for RoBERTa, GPT-2 and OPT.

    Args:
        folder: where the files are.
        config: the model's config, for its special ids and, with vocab.txt, its model_type.
        lowercase: lower the text first (sentence-transformers' do_lower_case).

    Raises:
        TokenizerError: the files are missing or broken.
    """
    import tokenizers

    family = family_of(config)
    path = folder / "tokenizer.json"
    settings = TokenizerSettings(folder)
    if path.exists():
        with named(path):
            backend = tokenizers.Tokenizer.from_file(str(path))
            settings.apply(backend)
    elif (folder / "vocab.txt").exists() and family is not None and family.wordpiece:
        path = folder / "vocab.txt"
        settings.check_class()
        backend = _wordpiece_from_vocab(path, settings)
    elif all((folder / name).exists() for name in FILES) and family is not None and family.byte_level is not None:
        path = folder / FILES[0]
        with named(path):
            backend = byte_level_bpe(folder, settings, family.byte_level)
    else:
        found = next((f"a {file.name} alone" for name in _SENTENCEPIECE for file in folder.glob(name)), "neither")
        raise TokenizerError(
            f"{folder}: expected a tokenizer.json (or, for BERT, a vocab.txt), found {found}. "
            "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one"
        )
    if lowercase:
        steps = [tokenizers.normalizers.Lowercase()]
        backend.normalizer = tokenizers.normalizers.Sequence(
            steps if backend.normalizer is None else [*steps, backend.normalizer]
        )
    if family is not None and not family.adds_special:
        backend.post_processor = None
    cuts_left = settings.cuts_left(backend.truncation)
    bos, eos = _special_ids(folder, config, settings, backend)
    unknown = settings.token("unk_token") or getattr(backend.model, "unk_token", None)
    unk_id = None if unknown is None else backend.token_to_id(unknown)
    return Tokenizer(backend, bos, eos, path, cuts_left, settings.types(), unk_id)


def wordpiece(tokens: Sequence[str], lowercase: bool, where: object, **normalizer: Any) -> tokenizers.Tokenizer:
    """BERT's tokenizer over a vocabulary in which "##" marks pieces inside a word."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    vocab = {token: index for index, token in enumerate(tokens)}
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in vocab]
    if missing:
        raise TokenizerError(f"{where}: expected BERT's special tokens, {', '.join(missing)} missing")
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocab]
    backend.add_special_tokens([tokenizers.AddedToken(token, normalized=False, special=True) for token in special])
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, **normalizer)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _wordpiece_from_vocab(path: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TokenizerError(not_utf8(path, error)) from error
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: cannot be read: {error}") from error
    # Not splitlines(): a vocabulary may hold the other characters that it takes for line ends.
    tokens = text.removesuffix("\n").split("\n")
    backend = wordpiece(
        tokens,
        settings.flag("do_lower_case", True) is not False,
        path,
        handle_chinese_chars=settings.flag("tokenize_chinese_chars", True),
        strip_accents=settings.flag("strip_accents"),
    )
    settings.add_tokens(backend)
    return backend


def _special_ids(
    folder: Path, config: dict[str, Any], settings: TokenizerSettings, backend: tokenizers.Tokenizer
) -> tuple[int | None, list[int]]:
    """BOS and EOS: generation_config.json says it best, then config.json, then the tokenizer's own settings."""
    generation = read_optional_json(folder / "generation_config.json")

    def find(key: str) -> list[int]:
        for source in (generation, config):
            where = folder / ("generation_config.json" if source is generation else "config.json")
            ids = token_ids(f"{where}: {key}_id", source.get(f"{key}_id"))
            if ids:
                return list(ids)
        content = settings.token(key)
        index = backend.token_to_id(content) if content is not None else None
        return [] if index is None else [index]

    return next(iter(find("bos_token")), None), find("eos_token")


def _texts(texts: Sequence[str]) -> list[str]:
    # A single string is a sequence of strings too, and would be encoded letter by letter.
    return check_texts("texts", texts, TokenizerError)


def _longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """How many tokens of each text stay, cutting one token at a time from the longer: the rule of `tokenizers`."""
    short, long = min(a, b), max(a, b)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if a <= b else (long, short)


@contextmanager
def named(where: object) -> Iterator[None]:
    """Turns what the tokenizers package throws into a TokenizerError; it has no exception types of its own."""
    try:
        yield
    except AerogelError:
        raise
    except Exception as error:
        raise TokenizerError(f"{where}: {error}") from error
    except BaseException as error:
        # A panic in its Rust code; not an Exception, but no reason to end the process either.
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{where}: {error}") from error
