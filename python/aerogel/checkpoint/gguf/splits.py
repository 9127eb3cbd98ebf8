"""How the byte-level vocabularies of GGUF split text before merging: what `tokenizer.ggml.pre` names.

Each is what the model's own tokenizer.json does. llama.cpp, which made up the names, has some in an approximation of its own
(capitals of ASCII only), and never composes characters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Split:
    """How a byte-level BPE splits text.

    Attributes:
        patterns: applied one after another; none: GPT-2's own.
        digits: every digit alone, first.
        nfc: characters are composed before.
        add_bos: where add_bos_token is absent.
        add_sep: where add_sep_token is absent: another separator between the texts of a pair.
        ignore_merges: a whole word in the vocabulary is one token.
    """

    patterns: tuple[str, ...] = ()
    digits: bool = False
    nfc: bool = False
    add_bos: bool = False
    add_sep: bool = False
    ignore_merges: bool = False


_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_LINES = r"\s*[\r\n]+"
_LLAMA3 = rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_LINES}|{_SPACES}"
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_MARKS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_QWEN35 = rf"{_SHORT}|{_MARKS}|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_LINES}|{_SPACES}"
_SEED = rf"{_SHORT}|{_LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_LINES}|{_SPACES}"
_PHRASES = r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+"
_EXAONE_MOE = rf"{_SHORT}|{_PHRASES}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{_SPACES}"
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
# What llama.cpp falls back to; files that name it were made with it in mind.
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]")
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_WORDS, r"[0-9][0-9][0-9]")
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_JAIS2_SPACES = "".join(rf"\s{{{n}}}(?!\S)|" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"\s{1,2}(?!\S)|\s{1}"


def _cased(digits: str, ends: str, short: str = "", but: str = "") -> str:
    """Words end where a small letter is followed by a capital; `but`: letters that belong to none."""
    upper, lower = (rf"[{kinds}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]" for kinds in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
    before = r"[^\r\n\p{L}\p{N}]?"
    words = f"{before}{upper}*{lower}+{short}|{before}{upper}+{lower}*{short}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+{ends}|{_LINES}|{_SPACES}"


_GPT4O = _cased(r"\p{N}{1,3}", r"[\r\n/]*", _SHORT + "?")
_KIMI = r"[\p{Han}]+|" + _cased(r"\p{N}{1,3}", r"[\r\n]*", _SHORT + "?", r"&&[^\p{Han}]")
_YOUTU = (
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
    _cased(r"\p{N}", r"[\r\n/]*", _SHORT + "?"),
)
# Letters that have two cases, as DeepSeek's first tokenizer lists them (code points), and the signs of East Asia.
_TWO_CASES = "".join(
    "-".join(chr(int(point, 16)) for point in part.split("-"))
    for part in (
        "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1 "
        "3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A "
        "1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 "
        "1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 "
        "212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D "
        "A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F "
        "104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
    ).split()
)
_SIGNS = "[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_EAST = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK_LLM = (r"[\r\n]", rf"\s?[{_TWO_CASES}]+", r"\s?" + _SIGNS, r"\s+$", _EAST, r"\p{N}+")
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST, r"\p{N}")
_WORDS = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|" + rf"{_WORDS}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_LINES}|{_SPACES}",
)

_GPT2, _DIGITS = Split(), Split(digits=True)
_NEOX = Split(nfc=True)
_SAME_AS_QWEN2 = Split((_QWEN2,))
_LLAMA_BPE = Split((_LLAMA3,), add_bos=True, ignore_merges=True)
_OF_GPT4O = Split((_GPT4O,))
_OF_BLOOM = Split((_BLOOM,))


def _named(split: Split, names: str) -> dict[str, Split]:
    return dict.fromkeys(names.split(), split)


#: `tokenizer.ggml.pre` -> split. Many names are one splitting in llama.cpp too.
SPLITS = {
    "default": Split(_DEFAULT),
    **_named(_GPT2, "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum exaone4 jais trillion"),
    **_named(_GPT2, "granite-docling"),
    **_named(replace(_GPT2, add_sep=True), "roberta-bpe jina-v1-en jina-v2-code"),
    **_named(_NEOX, "modern-bert olmo mpt"),
    **_named(_DIGITS, "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    **_named(replace(_SAME_AS_QWEN2, nfc=True), "qwen2 deepseek-r1-qwen kormo megrez f2llmv2 stablelm2"),
    **_named(_SAME_AS_QWEN2, "hunyuan solar-open grok-2 bailingmoe bailingmoe2 llada-moe"),
    "qwen35": Split((_QWEN35,), nfc=True),
    **_named(_LLAMA_BPE, "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"),
    **_named(Split((_LLAMA3,)), "dbrx smaug-bpe glm4 chatglm-bpe"),
    "minicpm5": Split((r"\p{N}{1,3}", _LLAMA3.replace("{1,3}", "+")), ignore_merges=True),
    "jais-2": Split((_LLAMA3.replace(_SPACES, _JAIS2_SPACES),)),
    "tekken": Split((_cased(r"\p{N}", r"[\r\n/]*"),), add_bos=True, ignore_merges=True),
    **_named(_OF_GPT4O, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    "granite-embed-multi-97m": replace(_OF_GPT4O, ignore_merges=True),
    **_named(Split((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O)), "tiny_aya cohere2moe"),
    "kimi-k2": Split((_KIMI,)),
    "youtu": Split(_YOUTU, ignore_merges=True),
    "deepseek-llm": Split(_DEEPSEEK_LLM),
    "deepseek-coder": Split(_DEEPSEEK_CODER),
    **_named(Split(_DEEPSEEK_V3), "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    "falcon": Split(_FALCON),
    **_named(_OF_BLOOM, "bloom poro-chat gpt3-finnish"),
    "viking": Split((_BLOOM, r"\p{N}")),
    "seed-coder": Split((_SEED,)),
    "exaone-moe": Split((_EXAONE_MOE,)),
    "ufakzeka": Split((_QWEN2.removeprefix(_SHORT + "|"),)),
    "laguna": Split((r"[^\n]+|[\n]+", _QWEN2)),
}
