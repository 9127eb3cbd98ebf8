"""Tokenizers by their papers: merges one at a time over a list of pieces, nothing but Python (and `regex` for splits)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence


def bytes_as_characters() -> dict[int, str]:
    """GPT-2's alphabet: a printable character for each byte."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {byte: chr(byte) for byte in kept}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(kept))
    return table


def split(text: str, patterns: Sequence[str]) -> list[str]:
    """The text cut by one pattern after another: matches, and what lies between them."""
    import regex

    pieces = [text]
    for pattern in patterns:
        found = []
        for piece in pieces:
            at = 0
            for match in regex.finditer(pattern, piece):
                found += [piece[at : match.start()], match.group()]
                at = match.end()
            found.append(piece[at:])
        pieces = [piece for piece in found if piece]
    return pieces


def byte_level(
    text: str,
    ids: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    patterns: Sequence[str],
    whole_words: bool = False,
    nfc: bool = False,
) -> list[int]:
    """Byte-level BPE (GPT-2). `whole_words`: a word that the vocabulary has is one token, whatever the merges say."""
    alphabet = bytes_as_characters()
    found = []
    for word in split(unicodedata.normalize("NFC", text) if nfc else text, patterns):
        pieces = [alphabet[byte] for byte in word.encode()]
        if whole_words and "".join(pieces) in ids:
            found.append(ids["".join(pieces)])
            continue
        while True:
            ranks = [merges.index(pair) for pair in zip(pieces, pieces[1:], strict=False) if pair in merges]
            if not ranks:
                break
            pair, at, merged = merges[min(ranks)], 0, []
            while at < len(pieces):
                fits = tuple(pieces[at : at + 2]) == pair
                merged.append("".join(pair) if fits else pieces[at])
                at += 2 if fits else 1
            pieces = merged
        found += [ids[piece] for piece in pieces if piece in ids]
    return found


def sentencepiece(text: str, tokens: Sequence[str], scores: Sequence[float], unknown: int, prefix: bool) -> list[int]:
    """SentencePiece's BPE: of all neighbours whose union is a token, the best scored (the leftmost) become one."""
    ids = {token: index for index, token in enumerate(tokens)}
    pieces = list(("\u2581" if prefix and text else "") + text.replace(" ", "\u2581"))
    while True:
        unions = [
            (-scores[ids[a + b]], i) for i, (a, b) in enumerate(zip(pieces, pieces[1:], strict=False)) if a + b in ids
        ]
        if not unions:
            break
        i = min(unions)[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    found: list[int] = []
    lost = False  # neighbours without a token become one unknown
    for piece in pieces:
        data = [f"<0x{byte:02X}>" for byte in piece.encode()]
        if piece in ids:
            found.append(ids[piece])
        elif all(name in ids for name in data):
            found += [ids[name] for name in data]
        elif not lost:
            found.append(unknown)
        lost = piece not in ids and not all(name in ids for name in data)
    return found
