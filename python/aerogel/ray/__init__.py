"""Many machines, with Ray (`pip install aerogel[ray]`); docs/scale.md shows how.

aerogel.ray.embed_dataset("texts/", "out/", "model")                      # files in, Parquet out; `aerogel embed-dataset`
ds.map_batches(aerogel.ray.Embed("model", column="text"), ...)            # Ray Data; also Classify, Rerank, Generate
serve.run(aerogel.ray.serve_app("model", max_replicas=8))                 # Ray Serve

Ray itself is imported by what needs it, when it is called.
"""

from __future__ import annotations

from aerogel.ray.dataset import Embedded, embed_dataset
from aerogel.ray.serving import serve_app, serve_app_of
from aerogel.ray.stages import Classify, Embed, Generate, Rerank

__all__ = ["Classify", "Embed", "Embedded", "Generate", "Rerank", "embed_dataset", "serve_app", "serve_app_of"]
