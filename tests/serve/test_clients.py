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


def test_llama_index(address, loaded):
    pytest.importorskip("llama_index.embeddings.openai_like")
    pytest.importorskip("llama_index.llms.openai_like")
    from llama_index.core.llms import ChatMessage
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.llms.openai_like import OpenAILike

    common = {"api_base": f"{address}/v1", "api_key": "secret"}
    embeddings = OpenAILikeEmbedding(model_name="embedder", **common)
    expected = loaded["embedder"].encode(TEXTS, normalize=True)
    np.testing.assert_allclose(embeddings.get_text_embedding_batch(TEXTS), expected, atol=1e-6)
    llm = OpenAILike(model="writer", is_chat_model=True, max_tokens=6, temperature=0, **common)
    said = loaded["writer"].chat([{"role": "user", "content": "hi"}], 6)
    assert llm.chat([ChatMessage(role="user", content="hi")]).message.content == said
    assert "".join(one.delta for one in llm.stream_chat([ChatMessage(role="user", content="hi")])) == said


def test_haystack(address, loaded):
    pytest.importorskip("haystack")
    from haystack import Document
    from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.utils import Secret

    common = {"api_base_url": f"{address}/v1", "api_key": Secret.from_token("secret")}
    expected = loaded["embedder"].encode(TEXTS, normalize=True)
    found = OpenAITextEmbedder(model="embedder", **common).run(TEXTS[0])["embedding"]
    np.testing.assert_allclose(found, expected[0], atol=1e-6)
    documents = OpenAIDocumentEmbedder(model="embedder", progress_bar=False, **common).run(
        [Document(content=t) for t in TEXTS]
    )
    np.testing.assert_allclose([one.embedding for one in documents["documents"]], expected, atol=1e-6)
    options = {"max_completion_tokens": 6, "temperature": 0}
    chat = OpenAIChatGenerator(model="writer", generation_kwargs=options, **common)
    said = chat.run([ChatMessage.from_user("hi")])["replies"][0].text
    assert said == loaded["writer"].chat([{"role": "user", "content": "hi"}], 6)
