"""Models behind HTTP: the routes of OpenAI, of text-embeddings-inference and of rerankers, for `aerogel serve`.

Needs the packages of `pip install aerogel[serve]`.
"""
