"""Tokens to text one at a time, and the bytes that byte-level tokens stand for."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING

from aerogel._util.checks import whole_number
from aerogel.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers


class StreamDecoder:
    """Incremental decoding: the pieces that `push` and `flush` return join to what `decode` gives for all ids at once.

    A character whose bytes are not all there yet is held back, so half a character is never printed. Where a tokenizer falls
    back to bytes and a run of them is no UTF-8, `decode` gives up the whole run; here, what came before stays.
    """

    _begin: int
    _done: int

    def __init__(
        self, decode: Callable[[list[int], bool], str], table: ByteLevelDecoder | None, skip_special: bool = True
    ) -> None:
        """`decode`: ids and skip_special to text; `table`: the tokens' bytes, where the tokenizer's decoder is ByteLevel."""
        self._decode = decode
        self._skip_special = skip_special
        self._table = table
        self._reset()

    def push(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        token = token_id(token)
        if self._table is not None:
            return self._utf8.decode(self._table.bytes_of(token, self._skip_special))
        self._ids.append(token)
        old, new = self._window()
        # A trailing U+FFFD may be the beginning of a character, of which at most 3 bytes can be here already.
        unfinished = new.endswith("\ufffd") and len(self._ids) - self._done < 4
        if new == old:  # a token without text begins no character
            self._done = len(self._ids)
        if unfinished or len(new) <= len(old):
            return ""
        self._begin, self._done = self._done, len(self._ids)
        return new[len(old) :]

    def flush(self) -> str:
        """What was held back, at the end of the text. The decoder can then be used for another."""
        if self._table is not None:
            return self._utf8.decode(b"", final=True)
        old, new = self._window()
        self._reset()
        return new[len(old) :]

    def _window(self) -> tuple[str, str]:
        """What has been returned of the last tokens, and all of their text.

        Decoders other than ByteLevel look at the tokens around: the first of a text loses its space, pieces join. So a
        window is decoded, from `_begin`, with one returned piece before what is new after `_done`.
        """
        decode = self._decode
        return (
            decode(self._ids[self._begin : self._done], self._skip_special),
            decode(self._ids[self._begin :], self._skip_special),
        )

    def _reset(self) -> None:
        # Invalid bytes become U+FFFD, by the same rule (maximal subparts) as in the tokenizers package.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._ids: list[int] = []
        self._begin = 0
        self._done = 0


class ByteLevelDecoder:
    """Token to bytes for the GPT-2 alphabet, in which every byte is one printable character."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._special = {id for id, token in backend.get_added_tokens_decoder().items() if token.special}
        self._byte_of = {char: byte for byte, char in enumerate(byte_alphabet())}

    def bytes_of(self, token: int, skip_special: bool) -> bytes:
        if skip_special and token in self._special:
            return b""
        text = self._backend.id_to_token(token)
        if text is None:  # decode() skips unknown ids too
            return b""
        try:
            return bytes(self._byte_of[char] for char in text)
        except KeyError:  # an added token outside the alphabet is literal text
            return str(text).encode("utf-8")


def token_id(token: int) -> int:
    """The id, or TokenizerError if it is none."""
    return whole_number("token id", token, 0, 2**32 - 1, TokenizerError)


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary: itself if printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
