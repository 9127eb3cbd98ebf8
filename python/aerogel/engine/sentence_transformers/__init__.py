"""Classes that stand where sentence-transformers' classes of the same names stand: change the import, keep the program."""

from __future__ import annotations

from aerogel.engine.sentence_transformers.cross_encoder import CrossEncoder
from aerogel.engine.sentence_transformers.sentence_transformer import SentenceTransformer
from aerogel.engine.sentence_transformers.sparse_encoder import SparseEncoder

__all__ = ["CrossEncoder", "SentenceTransformer", "SparseEncoder"]
