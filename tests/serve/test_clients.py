"""With the clients that people have, where they are installed, against a server on a real socket."""

from __future__ import annotations

import threading

import numpy as np
import pytest

TEXTS = ["the cat sat on the mat", "a big dog"]


@pytest.fixture(scope="module")
def address(make):
    pytest.importorskip("uvicorn")
    from aerogel.serve.server import listening, run

    where, address = listening("127.0.0.1", 0, None)
    ready = threading.Event()
    app = make(api_key="secret", hosts=("127.0.0.1",), max_new_tokens=32)
    threading.Thread(target=run, args=(app, where, ready.set, 1.0), daemon=True).start()
    assert ready.wait(30)
    return address


def test_openai(address, loaded):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0)
    assert "writer" in [one.id for one in client.models.list()]
    found = client.embeddings.create(input=TEXTS, model="embedder")  # in base64, as this client asks
    expected = loaded["embedder"].encode(TEXTS, normalize=True)
    np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-6)
    talk = [{"role": "user", "content": "hi"}]
    said = {"model": "writer", "messages": talk, "max_tokens": 6, "temperature": 0}
    whole = client.chat.completions.create(**said)
    assert whole.choices[0].message.content == loaded["writer"].chat(talk, 6)
    parts = list(client.chat.completions.create(**said, stream=True, stream_options={"include_usage": True}))
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage
    text = client.completions.create(model="writer", prompt="abc", max_tokens=4, temperature=0, logprobs=1).choices[0]
    assert text.text == loaded["writer"].generate("abc", 4) and len(text.logprobs.tokens) >= 1
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.embeddings.create(input="a", model="nobody")
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="writer", messages=talk, n=99)
    assert error.value.param == "n"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="other", max_retries=0).models.list()


def test_huggingface_hub(address, loaded):
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import InferenceClient

    def client(path):
        return InferenceClient(model=address + path, token="secret")

    expected = loaded["embedder"].encode(TEXTS, normalize=True)
    np.testing.assert_allclose(client("").feature_extraction(TEXTS), expected, atol=1e-6)
    similar = client("/similarity").sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(similar, expected[1:] @ expected[0], atol=1e-6)
    talk = [{"role": "user", "content": "hi"}]
    hub = InferenceClient(base_url=address, api_key="secret")
    found = hub.chat_completion(talk, model="writer", max_tokens=6, temperature=0)
    assert found.choices[0].message.content == loaded["writer"].chat(talk, 6)


def test_langchain(address, loaded):
    langchain = pytest.importorskip("langchain_openai")
    common = {"base_url": f"{address}/v1", "api_key": "secret"}
    # Texts, not the tokens of OpenAI's own models.
    embeddings = langchain.OpenAIEmbeddings(model="embedder", check_embedding_ctx_length=False, **common)
    np.testing.assert_allclose(
        embeddings.embed_documents(TEXTS), loaded["embedder"].encode(TEXTS, normalize=True), atol=1e-6
    )
    chat = langchain.ChatOpenAI(model="writer", max_tokens=6, temperature=0, **common)
    assert chat.invoke("hi").content == loaded["writer"].chat([{"role": "user", "content": "hi"}], 6)
