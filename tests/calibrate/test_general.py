"""The mix of texts that the package carries."""

import pytest

from aerogel.calibrate.general import FILE, general_documents, general_texts, with_general

DOMAINS = {
    "encyclopedia", "dictionary", "news", "conversation", "questions", "captions", "reviews", "docs", "code", "languages",
    "literature",
}  # fmt: skip


def test_it_has_every_kind_of_text_and_is_small():
    documents = general_documents()
    assert documents.keys() == DOMAINS and FILE.stat().st_size < 1_000_000
    for domain, texts in documents.items():
        assert sum(map(len, texts)) > 40_000, domain
        assert all(text == text.strip() and text for text in texts), domain
    assert any("\n" in text for text in documents["code"]) and not any(
        "\\n" in text for text in documents["literature"]
    )


def test_it_is_of_many_languages():
    text = "".join(general_documents()["languages"])
    for first, last in ("а", "я"), ("ぁ", "ん"), ("一", "龥"), ("ا", "ي"), ("가", "힣"), ("à", "ü"):
        assert sum(first <= letter <= last for letter in text) > 300, first


def test_pieces_are_the_documents_whole_and_of_every_length():
    documents, pieces = general_documents(), general_texts()
    for domain in DOMAINS:
        whole = "".join("".join(documents[domain]).split())
        assert "".join("".join(pieces[domain]).split()) == whole
    lengths = sorted(len(piece) for piece in pieces["encyclopedia"])
    assert lengths[len(lengths) // 10] < 200 and lengths[-len(lengths) // 10] > 600


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_share_of_it(share):
    own = ["a text of one's own, " + str(i) for i in range(400)]
    mixed = with_general(own, share, seed=3)
    assert mixed == with_general(own, share, seed=3)
    ours = [text for text in mixed if text not in own]
    assert mixed[: len(own)] == (own if share < 1 else mixed[: len(own)])
    if share < 1:
        whole = sum(map(len, mixed))
        assert sum(map(len, ours)) / whole == pytest.approx(share, abs=0.15)
    else:
        assert ours == mixed == [text for texts in general_texts().values() for text in texts]
