"""What is uniform is an ordinary model: Transformers makes it of the config and takes the tensors."""

import numpy as np
import pytest

from aerogel.architectures import architecture_of
from aerogel.exporting.uniform import uniform
from aerogel.structure import StructureRecipe, prune_structure

from . import models


@pytest.mark.parametrize(
    "name, amounts",
    [
        ("bert", {"ffn": 0.5, "layers": [1]}),
        ("llama", {"ffn": 0.5, "heads": 0.5, "hidden": 40, "layers": [0]}),
        ("qwen2", {"ffn": 0.25, "queries": 4}),
    ],
)
def test_a_smaller_model_in_transformers(tmp_path, name, amounts):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = models.tiny(tmp_path, name)
    found, _ = models.statistics(model)
    smaller = prune_structure(model.checkpoint, StructureRecipe(**amounts), found)
    ids = models.ids_for(smaller.config)
    ours = models.run(smaller, tmp_path / "out", ids)
    smaller = uniform(smaller, architecture_of(smaller))  # Transformers wants heads that divide the hidden width
    kind = getattr(transformers, {"bert": "Bert", "llama": "Llama", "qwen2": "Qwen2"}[name] + "Model")
    options = {"add_pooling_layer": False} if name == "bert" else {}
    settings = {key: value for key, value in smaller.config.items() if key not in ("architectures", "model_type")}
    peer = kind(kind.config_class(**settings), **options).eval()
    peer.load_state_dict({tensor: torch.tensor(smaller.array(tensor)) for tensor in smaller.names()}, strict=True)
    with torch.no_grad():
        expected = peer(torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)
