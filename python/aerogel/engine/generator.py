"""A language model's texts: generation and conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from aerogel._core import Session
from aerogel.engine.core import Core
from aerogel.engine.generation.calls import Prompt, acomplete, astream, complete, stream, tokens
from aerogel.engine.generation.chat import chat_text, chat_tokens
from aerogel.engine.generation.completion import Completion
from aerogel.engine.generation.conversation import Conversation
from aerogel.engine.generation.source import Source


class Generator(Core):
    """`generate`, `complete`, `stream`, `chat` and what belongs to them."""

    @overload
    def generate(self, text: Prompt, *args: Any, **options: Any) -> str: ...
    @overload
    def generate(self, text: Sequence[Prompt], *args: Any, **options: Any) -> list[str]: ...
    def generate(
        self,
        text: Any,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | Sequence[int] | None = None,
        stream: bool | Callable[[str], None] = False,
        repetition_penalty: float | None = None,
        *,
        chat: bool = False,
        stop: str | Sequence[str] | Sequence[Sequence[str]] = (),
        min_p: float | None = None,
        typical_p: float | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] | None = None,
        json_schema: Mapping[str, Any] | str | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        lookup: int = 0,
        draft: Generator | None = None,
    ) -> Any:
        """Continues a text, or many at once.

        Many texts are run together, which takes little longer than one alone: each step reads the weights once for all.

        Args:
            text: the prompt, as it is; or its token ids; or a list of prompts.
            max_new_tokens: the most tokens to generate; the model's end token, or its last position, ends the text earlier.
            temperature: 0 always takes the most likely token; higher values are more random. The options below choose the
                tokens that are sampled from, one after another in the order top_k, top_p, min_p, typical_p.
            top_k: the k most likely tokens.
            top_p: the most likely tokens whose probabilities add up to p.
            seed: the random seed; the same seed gives the same text. Of many texts number i has seed + i, or its own.
            stream: True prints pieces to stdout as they come; a callable receives them. For one text.
            repetition_penalty: logits of tokens that are in the text already are divided by it (multiplied below 0); 1:
                none. Unless given what the model's generation_config.json says. What else that says about which tokens
                may come (no_repeat_ngram_size, suppress_tokens, min_new_tokens ...) is done too; its temperature, top_k
                and top_p are not used: these are the caller's.
            chat: the text is what a user says to the model: the model's chat template is put around it (see `chat`).
            stop: strings that end the text, and are not in it; or a list of them for each text.
            min_p: tokens at least so likely as this part of the most likely one.
            typical_p: the tokens nearest to the expected information whose probabilities add up to p.
            presence_penalty: subtracted from the logits of tokens that were generated already.
            frequency_penalty: subtracted from them once for each time.
            logit_bias: {token id: what is added to its logit}; 100 or -100 as good as forces or forbids it.
            json_schema: the text is JSON of this schema (a dict, or JSON); "{}": any JSON. Needs `aerogel[grammar]`.
            regex: the text matches this regular expression as a whole.
            grammar: the text is of this grammar, in Lark's syntax as llguidance reads it.
            lookup: guess up to so many tokens ahead from what is in the text already, and check them in one pass. The text
                stays the same; it comes sooner where it repeats itself or the prompt, as in code and summaries.
            draft: a smaller model with the same tokens that guesses ahead; the text stays the same.

        Returns:
            The new text, without the prompt; a list of texts for a list of prompts.
        """
        found = complete(
            self.as_source(),
            text,
            chat,
            {
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "seed": seed,
                "repetition_penalty": repetition_penalty,
                "stop": stop,
                "min_p": min_p,
                "typical_p": typical_p,
                "presence_penalty": presence_penalty,
                "frequency_penalty": frequency_penalty,
                "logit_bias": logit_bias,
                "json_schema": json_schema,
                "regex": regex,
                "grammar": grammar,
                "lookup": lookup,
                "draft": draft,
            },
            stream,
        )
        return [one.text for one in found] if isinstance(found, list) else found.text

    @overload
    def complete(self, text: Prompt, *, chat: bool = False, **options: Any) -> Completion: ...
    @overload
    def complete(self, text: Sequence[Prompt], *, chat: bool = False, **options: Any) -> list[Completion]: ...
    def complete(self, text: Any, *, chat: bool = False, **options: Any) -> Any:
        """`generate` with all that is known of the text: tokens, why it has ended, and with `logprobs=n` how likely each
        token was, and the n likeliest in its place.

        Args:
            text: as `generate`.
            chat: as `generate`.
            **options: `logprobs`, and those of `generate` but `stream`.
        """
        return complete(self.as_source(), text, chat, options)

    def stream(self, text: Prompt, *, chat: bool = False, **options: Any) -> Iterator[str]:
        """The text of `generate`, piece by piece as it is written; the options are `generate`'s. Nothing is computed that
        is not asked for."""
        return stream(self.as_source(), text, chat, options)

    async def agenerate(self, text: Any, *, chat: bool = False, **options: Any) -> Any:
        """`generate` for asyncio: in a thread, and ended before the next token where the task is cancelled."""
        found = await acomplete(self.as_source(), text, chat, options)
        return [one.text for one in found] if isinstance(found, list) else found.text

    def astream(self, text: Prompt, *, chat: bool = False, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio: in a thread, and ended before the next token where the iterator is closed or the task
        cancelled."""
        return astream(self.as_source(), text, chat, options)

    def conversation(
        self,
        system: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Conversation:
        """A conversation that goes on: `say` gives an answer, and what was said before is not computed again.

        Args:
            system: what the model is told first.
            tools: as `chat`.
            template: as `chat`.
            template_arguments: as `chat`.
            **options: as `generate`; 512 new tokens unless given.
        """
        chat = {"tools": tools, "template": template, "template_arguments": template_arguments}
        return Conversation(
            self.as_source, lambda: Session(self._plan, self.kv_cache), system, chat, {"max_new_tokens": 512, **options}
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_new_tokens: int = 512,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str:
        """The model's answer in a conversation, as its chat template writes it.

        Args:
            messages: [{"role": "user", "content": "..."}], and whatever else the template reads of them.
            max_new_tokens: the most tokens of the answer.
            tools: JSON schemas of functions that the model may call.
            documents: texts to answer from, where the template knows them: [{"title": "...", "text": "..."}].
            template: the name of one of the model's templates, or Jinja; unless given "tool_use" with tools, or the default.
            template_arguments: what else the template reads, such as {"enable_thinking": False}.
            continue_final_message: go on with the last message instead of answering it.
            **options: as `generate`: temperature, stream ...

        Returns:
            The answer. Tool calls are in it as the model writes them.

        Raises:
            ChatTemplateError: the model has no template, or it is broken, or refuses the messages.
        """
        prompt = self.chat_tokens(
            messages,
            tools=tools,
            documents=documents,
            template=template,
            template_arguments=template_arguments,
            continue_final_message=continue_final_message,
        )
        return self.generate(prompt, max_new_tokens, **options)

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        add_generation_prompt: bool | None = None,
    ) -> str:
        """A conversation as the model's chat template writes it: the prompt of `chat`, whose arguments these are.

        `add_generation_prompt`: end with what begins an answer; unless given yes, if the last message is not continued.
        """
        return chat_text(
            self.as_source(),
            messages,
            tools,
            documents,
            template,
            template_arguments,
            continue_final_message,
            add_generation_prompt,
        )

    def chat_tokens(self, messages: Sequence[Mapping[str, Any]], *args: Any, **options: Any) -> list[int]:
        """The token ids of `chat_text`, whose arguments these are. They can be given to `generate`."""
        return chat_tokens(self.as_source(), messages, *args, **options)

    def generate_tokens(
        self,
        token_ids: Sequence[int] | np.ndarray,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[int] | None = None,
        repetition_penalty: float | None = None,
    ) -> Iterator[int]:
        """Yields new tokens one by one, without the token that ended the text.

        `stop` are those that do: the model's own unless given, none if empty. The other arguments are `generate`'s.
        """
        options = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "repetition_penalty": repetition_penalty,
        }
        return tokens(self.as_source(), token_ids, stop, options)

    @property
    def kv_cache(self) -> str:
        """As what generations keep keys and values: "float32", "float16" or "int8"."""
        return self._open.kv_cache

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of keys and values that a token of a text takes while it is written; they are taken for 64 tokens at a time.
        Texts that begin alike, in one call, have the common tokens once."""
        return int(self._plan.cache_token_bytes(self.kv_cache))

    def as_source(self) -> Source:
        """This model as generations see it."""
        return Source(self._checkpoint, self._architecture, self._session, self._check_open, self._said)
