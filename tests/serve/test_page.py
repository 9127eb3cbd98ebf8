"""The page at `/` in a real browser, where one is installed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from . import browser


@pytest.fixture(scope="module")
def address(make):
    pytest.importorskip("uvicorn")
    from aerogel.serve.server import listening, run

    where, address = listening("127.0.0.1", 0, None)
    ready = threading.Event()
    app = make(hosts=("127.0.0.1",), max_new_tokens=32)
    threading.Thread(target=run, args=(app, where, ready.set, 1.0), daemon=True).start()
    assert ready.wait(30)
    return address


@pytest.fixture
def page(tmp_path):
    binary = browser.found()
    if binary is None:
        pytest.skip("Chromium is not installed")
    page = browser.Page(binary, tmp_path / "profile")
    yield page
    page.close()


def test_all_of_it(page, address):
    page.go(f"{address}/")
    page.until("document.querySelector('#model').options.length")
    assert page.value("[...document.querySelector('#model').options].map((one) => one.value)") == [
        "embedder",
        "reranker",
    ]

    # Search: all texts, the most alike first; with a model that embeds, and with one that ranks.
    page.value("document.querySelector('#texts').value = 'the cat\\n<b>a dog</b>\\n\\nthe mat'")
    page.value("document.querySelector('#query').value = 'the cat'")
    rows = "[...document.querySelectorAll('#found li:not(.empty)')].map((one) => one.children[0].textContent)"
    page.value("document.querySelector('#search-form').requestSubmit()")
    found = page.until(f"{rows}.length && {rows}")
    assert found[0] == "the cat" and sorted(found) == ["<b>a dog</b>", "the cat", "the mat"]
    assert page.value("document.querySelector('#found code').textContent") == "1.000"
    page.value(
        "document.querySelector('#model').value = 'reranker'; document.querySelector('#found').replaceChildren()"
    )
    page.value("document.querySelector('#search-form').requestSubmit()")
    assert sorted(page.until(f"{rows}.length && {rows}")) == sorted(found)

    # Chat: it grows while it is read, and ends with a count.
    page.value("document.querySelector('[data-tab=chat]').click()")
    page.value("document.querySelector('#said').value = 'hi'; document.querySelector('#temperature').value = 0")
    page.value("""
        window.seen = new Set();
        new MutationObserver(() => seen.add(document.querySelector('#talk .assistant')?.textContent))
            .observe(document.querySelector('#talk'), {childList: true, subtree: true, characterData: true});
        document.querySelector('#chat-form').requestSubmit()
    """)
    page.until(
        "document.querySelector('#chat-time').textContent.includes(' tokens') && document.querySelector('#stop').disabled"
    )
    assert page.value("document.querySelector('#talk .user').textContent") == "hi" and page.value("seen.size") > 1

    # Metrics: what was asked has been counted, and the curves move.
    page.value("document.querySelector('[data-tab=metrics]').click()")
    answered = "Number(document.querySelector('#figures dd')?.textContent)"
    assert page.until(answered) >= 3
    page.value("ask('/embed', {inputs: 'a', model: 'embedder'}).then((answer) => answer.status)")
    page.until("document.querySelectorAll('#speed polyline').length && past.length >= 2")

    # Explain: the shares are a whole.
    page.value("document.querySelector('[data-tab=explain]').click()")
    page.until("document.querySelectorAll('#layers rect').length > 3")
    shares = page.value(
        "[...document.querySelectorAll('#parts td:nth-child(3)')].map((one) => parseFloat(one.textContent))"
    )
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))

    page.go(f"{address}/docs")
    page.until("document.body.textContent.includes('/v1/embeddings')")
    assert page.complaints == []
    foreign = [one for one in page.requests if not one.startswith((address, "about:", "data:"))]
    assert foreign == [] and len(page.requests) > 10


def test_what_goes_wrong_is_said(page, make):
    from aerogel.serve.server import listening, run

    where, address = listening("127.0.0.1", 0, None)
    ready = threading.Event()
    app = make(["embedder"], api_key="secret")
    threading.Thread(target=run, args=(app, where, ready.set, 1.0), daemon=True).start()
    assert ready.wait(30)
    page.go(f"{address}/")
    said = page.until("!document.querySelector('#error').hidden && document.querySelector('#error').textContent")
    assert "401" in said and "API key" in said
    page.value("key.value = 'secret'; key.dispatchEvent(new Event('change'))")
    page.until("document.querySelector('#error').hidden && document.querySelector('#model').options.length")
    page.value("document.querySelector('[data-tab=chat]').click()")
    assert "None of the served models" in page.value("document.querySelector('#error').textContent")


def test_its_pictures_are_small():
    folder = Path(__file__).parents[2] / "docs" / "img"
    pictures = sorted(folder.glob("serve-*.png"))
    assert len(pictures) == 4 and all(os.path.getsize(one) < 150_000 for one in pictures)
