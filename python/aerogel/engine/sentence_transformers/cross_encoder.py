"""CrossEncoder by another engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from aerogel._util.checks import flag, function
from aerogel._util.checks import texts as check_texts
from aerogel.checkpoint.rerank import OWN
from aerogel.engine.rerank import is_single
from aerogel.engine.sentence_transformers.wrapper import Wrapper, refuse_options, taken_texts
from aerogel.engine.tensors import as_tensor, from_torch
from aerogel.errors import AerogelError, UnsupportedModelError


class CrossEncoder(Wrapper):
    """Scores pairs of texts, with the calls of sentence-transformers' class of this name.

    Args:
        model_name_or_path: as `aerogel.load` takes it, packed models too (`model_name`, by its older name).
        num_labels: how many scores the model gives: only what it has.
        max_length: the most tokens of a pair, longer ones are cut.
        activation_fn: a function of scores [n, labels], tensors where PyTorch is installed; unless given as the model's
            files say, else the sigmoid where there is one label (`default_activation_function`, by its older name).
        options: see `Wrapper`.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[[Any], Any] | None = None,
        default_activation_function: Callable[[Any], Any] | None = None,
        model_name: str | None = None,
        **options: Any,
    ) -> None:
        name = model_name if model_name_or_path is None else model_name_or_path
        if name is None:
            raise AerogelError("model_name_or_path: expected a model, got none")
        # A language model is asked by its own template here, as sentence-transformers does it.
        super().__init__(name, **{"rerank": OWN, **options})
        if "scores" not in self.model.outputs:
            given = ", ".join(self.model.outputs)
            self.close()
            raise UnsupportedModelError(
                f"{name}: not a classifier or reranker: expected a model that gives scores, got one that gives {given}"
            )
        if num_labels not in (None, self.num_labels):
            raise AerogelError(f"num_labels: expected {self.num_labels}, as the model has, got {num_labels!r:.80}")
        if max_length is not None:
            self.max_seq_length = max_length
        #: What is done to scores unless a call says otherwise; None: as the model's files say.
        self.activation_fn = activation_fn if activation_fn is not None else default_activation_function
        function("activation_fn", self.activation_fn)

    @property
    def num_labels(self) -> int:
        """How many scores a pair gets."""
        return len(self.model.labels)

    @property
    def max_length(self) -> int:
        """`max_seq_length`, by its older name."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    def predict(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Any], Any] | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        **options: Any,
    ) -> Any:
        """Scores pairs of texts.

        Args:
            inputs: [(first, second), ...] or one pair (`sentences`, by its older name).
            prompt_name: the prompt before the first text of each pair, one of `prompts`.
            prompt: the prompt itself.
            batch_size: the most pairs that are run at once; unless given as many as are fast.
            show_progress_bar: show a bar on stderr.
            activation_fn: a function of scores [n, labels]; unless given the model's own.
            apply_softmax: scores of several labels that sum to 1.
            convert_to_numpy: give an array; False: a list of tensors.
            convert_to_tensor: give one tensor.
            device: "cpu".
            options: pool and chunk_size change nothing.

        Returns:
            float32 [n], or [n, labels] where there are several; without the first axis for one pair.
        """
        refuse_options("predict", {**{k: v for k, v in options.items() if k != "sentences"}, "device": device})
        pairs = taken_texts("inputs", inputs, options, "sentences")
        wanted = self.activation_fn if activation_fn is None else activation_fn
        function("activation_fn", wanted)
        found = self.model.predict(
            pairs,
            activation_fn=None if wanted is None else from_torch(wanted),
            apply_softmax=bool(apply_softmax),
            prompt=self.prompt_of(prompt, prompt_name),
            batch_size=batch_size,
            show_progress_bar=bool(show_progress_bar),
        )
        if flag("convert_to_tensor", convert_to_tensor):
            return as_tensor(found)
        if flag("convert_to_numpy", convert_to_numpy):
            return found
        return as_tensor(found) if is_single(pairs) else [as_tensor(score) for score in found]

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Orders documents by their scores for a query, the best first: [{"corpus_id", "score", "text" if wanted}, ...].

        Args:
            query: one text.
            documents: what to order.
            top_k: how many to return; all unless given.
            return_documents: return their texts too.
            prompt_name: the prompt before the query, one of `prompts`.
            prompt: the prompt itself.
            batch_size: the most pairs that are run at once; unless given as many as are fast.
            show_progress_bar: show a bar on stderr.
            activation_fn: a function of scores [n, 1]; unless given the model's own.
            options: apply_softmax, convert_to_numpy, convert_to_tensor and num_workers change nothing here.

        Raises:
            UnsupportedModelError: the model has several labels.
        """
        refuse_options("rank", {key: value for key, value in options.items() if key not in _OLD})
        wanted = self.activation_fn if activation_fn is None else activation_fn
        function("activation_fn", wanted)
        return self.model.rank(
            query,
            check_texts("documents", documents),
            top_k,
            return_documents,
            activation_fn=None if wanted is None else from_torch(wanted),
            prompt=self.prompt_of(prompt, prompt_name),
            batch_size=batch_size,
            show_progress_bar=bool(show_progress_bar),
        )


#: What rank took once, and what changes nothing here: scores are numbers in the end.
_OLD = ("apply_softmax", "convert_to_numpy", "convert_to_tensor", "num_workers")
