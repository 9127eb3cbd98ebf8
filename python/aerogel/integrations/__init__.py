"""Embedders and rerankers for LangChain, LlamaIndex and Haystack: a module each, which imports that library.

from aerogel.integrations.langchain import AerogelEmbeddings, AerogelReranker
from aerogel.integrations.llama_index import AerogelEmbedding, AerogelRerank
from aerogel.integrations.haystack import AerogelTextEmbedder, AerogelDocumentEmbedder, AerogelRanker
"""
