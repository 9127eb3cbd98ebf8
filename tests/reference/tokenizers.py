"""Tokenizers by their papers: merges one at a time over a list of pieces, nothing but Python (and `regex` for splits)."""

from __future__ import annotations

import math
import struct
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


def unigram(text: str, tokens: Sequence[str], scores: Sequence[float], unknown: int, prefix: bool) -> list[int]:
    """SentencePiece's Unigram: the pieces whose scores have the largest sum; what no piece spells is unknown."""
    ids = {token: index for index, token in enumerate(tokens)}
    text = ("\u2581" if prefix and text else "") + text.replace(" ", "\u2581")
    lost = min(scores) - 10
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        ways = [(best[end - 1][0] + lost, [*best[end - 1][1], unknown])] if text[end - 1] not in ids else []
        for begin in range(end):
            index = ids.get(text[begin:end])
            if index is not None and math.isfinite(best[begin][0]):
                ways.append((best[begin][0] + scores[index], [*best[begin][1], index]))
        best.append(max(ways, key=lambda way: way[0]))
    found: list[int] = []
    for index in best[-1][1]:
        if index != unknown or not found or found[-1] != unknown:
            found.append(index)
    return found


def charsmap(substitutes: Mapping[str, str]) -> bytes:
    """SentencePiece's precompiled charsmap: a double-array trie over UTF-8, then the texts that its leaves point at."""
    texts, at = b"", {}
    for old, new in substitutes.items():
        at[old.encode()] = len(texts)
        texts += new.encode() + b"\0"
    units, bases = {0: 0}, set()

    def place(node: int, keys: list[bytes]) -> None:
        labels = sorted({key[0] if key else 0 for key in keys})
        free = (b for b in range(1, 1 << 20) if b not in bases and not any((b ^ label) in units for label in labels))
        base = next(free)
        bases.add(base)
        units[node] |= (node ^ base) << 10 | (1 << 8 if b"" in keys else 0)
        for label in labels:
            units[base ^ label] = label
        for label in labels:
            if label == 0:
                units[base] = 1 << 31 | values[node]
            else:
                below = [key[1:] for key in keys if key and key[0] == label]
                if b"" in below:
                    values[base ^ label] = at[words[node] + bytes([label])]
                words[base ^ label] = words[node] + bytes([label])
                place(base ^ label, below)

    values: dict[int, int] = {}
    words = {0: b""}
    place(0, list(at))
    size = (max(units) // 256 + 1) * 256  # a node and a byte stay inside
    array = struct.pack(f"<{size}I", *(units.get(i, 0) for i in range(size)))
    return struct.pack("<I", len(array)) + array + texts
