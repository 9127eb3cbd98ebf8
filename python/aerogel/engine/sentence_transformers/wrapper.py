"""What the classes share: the arguments of their constructors, and the model inside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from aerogel._util.checks import shown, text
from aerogel.checkpoint import hub
from aerogel.engine.model import Model, load
from aerogel.errors import AerogelError, DataError

#: Arguments for PyTorch's loading under which nothing changes here.
_LOADING = ("torch_dtype", "dtype", "attn_implementation", "device_map", "low_cpu_mem_usage", "use_safetensors")

W = TypeVar("W", bound="Wrapper")


class Wrapper:
    """A `Model` behind the names of sentence-transformers.

    Args:
        model_name_or_path: as `aerogel.load` takes it, packed models too.
        device: "cpu", the only one there is.
        prompts: what stands before texts, by name; added to those of the model's files.
        default_prompt_name: the one that is used unless a call names one.
        cache_folder, revision, local_files_only, token: of the download, where it is a model id.
        trust_remote_code: no code of a model is ever run; a model of a known family does not need any.
        model_kwargs, processor_kwargs, tokenizer_kwargs, config_kwargs: empty, or what only says how PyTorch loads.
        backend: "torch", as which the results are the same.
        load_options: of `aerogel.load`: threads, format, pooling ...

    Raises:
        AerogelError: the model cannot be loaded, or an argument asks for what aerogel does not do.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        backend: str = "torch",
        **load_options: Any,
    ) -> None:
        check_device(device)
        if backend != "torch":
            raise AerogelError(f"backend: expected 'torch', as aerogel is a backend of its own, got {shown(backend)}")
        _refuse("model_kwargs", model_kwargs, _LOADING)
        _refuse("processor_kwargs", processor_kwargs, ())
        _refuse("tokenizer_kwargs", tokenizer_kwargs, ())
        _refuse("config_kwargs", config_kwargs, ("trust_remote_code",))
        path: str | os.PathLike[str] = model_name_or_path
        download = {"revision": revision, "cache_dir": cache_folder, "token": token}
        download = {key: value for key, value in download.items() if value is not None}
        if local_files_only:
            download["local_files_only"] = True
        if download and isinstance(path, str) and not os.path.exists(os.path.expanduser(path)):
            path = hub.download(path, **download)
        #: The model inside.
        self.model: Model = load(path, **load_options)
        #: What stands before texts, by name.
        self.prompts: dict[str, str] = {**self.model.prompts, **_prompts(prompts)}
        #: The prompt that is used unless a call names one.
        self.default_prompt_name = default_prompt_name
        if default_prompt_name is None:
            self.default_prompt_name = self.model.default_prompt_name
        elif default_prompt_name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise AerogelError(f"default_prompt_name: expected one of {known}, got {shown(default_prompt_name)}")

    def prompt_of(self, prompt: str | None, prompt_name: str | None) -> str:
        """What stands before each text: `prompt`, else the one of the name, else the default."""
        if prompt is not None:
            return text("prompt", prompt, DataError)
        name = self.default_prompt_name if prompt_name is None else prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise AerogelError(f"prompt_name: expected one of {', '.join(self.prompts) or 'none'}, got {shown(name)}")
        return self.prompts[name]

    def task_prompt(self, prompt: str | None, prompt_name: str | None, names: Sequence[str]) -> str | None:
        """The prompt's name: the caller's, else the first of `names` that the model has; None: the default, if any."""
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    @property
    def model_card_data(self) -> _ModelCard:
        """Where evaluators leave their results; nothing keeps them."""
        return _ModelCard()

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.json."""
        return self.model.config

    @property
    def device(self) -> Any:
        """PyTorch's device "cpu", or its name where PyTorch is not installed."""
        try:
            import torch
        except ImportError:
            return "cpu"
        return torch.device("cpu")

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a text: longer ones are cut."""
        return self.model.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.model.max_tokens = value

    def get_max_seq_length(self) -> int:
        """`max_seq_length`."""
        return self.max_seq_length

    def eval(self: W) -> W:
        """Itself: it never trains."""
        return self

    def to(self: W, device: Any) -> W:
        """Itself, where it is asked to be on the CPU."""
        check_device(device)
        return self

    def cpu(self: W) -> W:
        """Itself."""
        return self

    def close(self) -> None:
        """Gives the model's memory back."""
        self.model.close()

    def __enter__(self: W) -> W:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"


class _ModelCard:
    """There is no model card to be written: models here are not trained."""

    def set_evaluation_metrics(self, *_: Any, **__: Any) -> None:
        """Nothing."""


def check_device(device: Any) -> None:
    """Raises AerogelError unless the device is None or a CPU, or a list of such."""
    for one in device if isinstance(device, (list, tuple)) else [device]:
        if one is not None and str(one).partition(":")[0] != "cpu":
            raise AerogelError(f"device: expected 'cpu', as aerogel runs on CPUs, got {shown(one)}")


def refuse_options(where: str, options: Mapping[str, Any]) -> None:
    """Raises AerogelError for arguments that are not known; `pool` and `chunk_size`, which spread the work over
    processes, change no result: threads do it here. `task` chooses modules that the models here do not have."""
    unknown = [key for key in options if key not in ("pool", "chunk_size", "device", "task")]
    if unknown:
        raise AerogelError(f"{where}: expected arguments that it has, got {', '.join(unknown)}")
    check_device(options.get("device"))


def taken_texts(name: str, inputs: Any, options: dict[str, Any], old: str) -> Any:
    """The inputs, under the name of today or, in `options`, under an older one."""
    found = options.pop(old) if inputs is None and old in options else inputs
    if found is None:
        raise DataError(f"{name}: expected texts, got none")
    return found


def _refuse(name: str, given: Mapping[str, Any] | None, harmless: tuple[str, ...]) -> None:
    wrong = [str(key) for key in _mapping(name, given) if key not in harmless]
    if wrong:
        raise AerogelError(
            f"{name}: expected none of {', '.join(wrong)}, as they change what the model computes: write them into its files"
        )


def _prompts(given: Mapping[str, str] | None) -> dict[str, str]:
    return {text("prompts", key): text("prompts", value) for key, value in _mapping("prompts", given).items()}


def _mapping(name: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise AerogelError(f"{name}: expected a mapping, got {shown(given)}")
    return given
