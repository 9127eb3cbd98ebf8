"""Masks that hold during training: a weight that was pruned stays exactly zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aerogel._util.checks import array, flag, instance, shown, text
from aerogel.errors import AerogelError, RecipeError, ShapeError

if TYPE_CHECKING:
    from transformers import TrainerCallback


class PrunedWeightError(AerogelError):
    """A pruned weight is not zero any more.

    Attributes:
        name: the tensor.
        count: how many of its pruned weights came back.
        index: the first of them, in row-major order.
    """

    def __init__(self, name: str, count: int, pruned: int, index: tuple[int, ...], value: float) -> None:
        self.name, self.count, self.index = name, count, index
        super().__init__(
            f"{name}: expected {pruned} pruned weights to be zero, got {count} that are not, "
            f"the first at {list(index)}: {value:g}"
        )


class MaskLock:
    """Keeps the zeros of a pruned model through any training loop.

        lock = MaskLock(model)                       # its zeros are its masks
        with lock.attached(optimizer):               # gradients, momentum and weights are cleared at each step
            for batch in data:
                ...
                optimizer.step()
        lock.verify()                                # raises PrunedWeightError if a pruned weight came back

    Or by hand: `lock.apply(optimizer)` after each `optimizer.step()`. For the Trainer of transformers:
    `Trainer(..., callbacks=[lock.callback()])`. `with MaskLock(model):` attaches for the block and verifies at its end.

    Parameters are looked up by name whenever they are needed, so that loading a state dict, moving the model or
    replacing a parameter does not get around the lock.
    """

    def __init__(self, model: torch.nn.Module, masks: Mapping[str, Any] | None = None) -> None:
        """
        Args:
            model: any module.
            masks: parameter's name -> bool of its shape (tensor or array), True: kept. Unless given: every parameter of
                two or more dimensions that holds zeros is locked where it does.

        Raises:
            RecipeError: `masks` names a parameter that there is not, or there are no zeros to lock.
            ShapeError: a mask does not have its parameter's shape.
        """
        self._model = instance("MaskLock: model", model, torch.nn.Module, RecipeError)
        self._pruned: dict[str, torch.Tensor] = {}
        self._bits: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # a mask, and what of a float32 it keeps
        self._handles: list[Any] = []
        if masks is None:
            for name, parameter in model.named_parameters():
                if parameter.ndim >= 2 and not parameter.detach().all():
                    self._pruned[name] = parameter.detach() == 0
            if not self._pruned:
                raise RecipeError("MaskLock: the model has no zeros to lock: prune it first, or give masks")
        else:
            for name, mask in instance("MaskLock: masks", masks, Mapping, RecipeError).items():
                self.update(name, mask)

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """Parameter's name -> bool, True: kept."""
        return {name: ~pruned for name, pruned in self._pruned.items()}

    @property
    def sparsity(self) -> float:
        """The fraction of the locked parameters' weights that are pruned."""
        size = sum(pruned.numel() for pruned in self._pruned.values())
        return sum(int(pruned.sum()) for pruned in self._pruned.values()) / size if size else 0.0

    def update(self, name: str, mask: Any, regrow: bool = False) -> None:
        """Sets the mask of one parameter, True: kept. What was pruned stays so, unless `regrow`."""
        parameter = self._parameter(name)
        kept = _mask(name, mask)
        if kept.shape != parameter.shape:
            raise ShapeError(f"{name}: mask: expected {list(parameter.shape)}, got {list(kept.shape)}")
        pruned = ~kept.to(parameter.device)
        if name in self._pruned and not flag("regrow", regrow, RecipeError):
            pruned |= self._pruned[name].to(parameter.device)
        self._pruned[name] = pruned

    @torch.no_grad()
    def apply(self, *optimizers: torch.optim.Optimizer) -> None:
        """Zeroes pruned weights, and what the optimizers remember of them (momentum, second moments)."""
        for name, parameter, pruned in self._each():
            self._clear(name, parameter, pruned)
            for optimizer in optimizers:
                # .get: an optimizer's state is a defaultdict, and an entry that appears breaks its first step
                for value in optimizer.state.get(parameter, {}).values():
                    if torch.is_tensor(value) and value.shape == parameter.shape:
                        self._clear(name, value, pruned)

    @torch.no_grad()
    def clear_gradients(self) -> None:
        """Zeroes the gradients of pruned weights (NaN and infinite ones too)."""
        for name, parameter, pruned in self._each():
            if parameter.grad is not None:
                self._clear(name, parameter.grad, pruned)

    @torch.no_grad()
    def verify(self) -> None:
        """Raises PrunedWeightError for the first tensor in which a pruned weight is not zero; NaN is not zero."""
        for name, parameter, pruned in self._each():
            wrong = (parameter != 0) & pruned
            count = int(wrong.sum())
            if count:
                index = tuple(int(i) for i in wrong.nonzero()[0])
                raise PrunedWeightError(name, count, int(pruned.sum()), index, float(parameter[index]))

    def attach(self, *optimizers: torch.optim.Optimizer) -> MaskLock:
        """From here on gradients of pruned weights are zeroed as they arise, and every step of the optimizers is followed
        by `apply`. Gradient clipping then sees the gradients of kept weights only.
        """
        self.detach()
        for name in self._pruned:
            hook = self._gradient_hook(name)
            handle = self._parameter(name).register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]  # PyTorch gives it no types
            self._handles.append(handle)
        for optimizer in optimizers:
            self._handles.append(optimizer.register_step_post_hook(lambda done, *_: self.apply(done)))
        return self

    def attached(self, *optimizers: torch.optim.Optimizer) -> MaskLock:
        """`attach`, to be used in a with statement."""
        return self.attach(*optimizers)

    def detach(self) -> None:
        """Removes what `attach` registered."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> MaskLock:
        if not self._handles:
            self.attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.detach()
        if kind is None:
            self.verify()

    def callback(self) -> TrainerCallback:
        """A callback for the Trainer of transformers: applies the masks after each step and verifies them when a
        checkpoint is saved and at the end.
        """
        from transformers import TrainerCallback

        lock = self

        class Callback(TrainerCallback):
            """Holds the masks of a MaskLock."""

            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                lock.attach()
                lock.apply()

            def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
                # accelerate wraps the optimizer; the state that matters is the inner one's
                inner = getattr(optimizer, "optimizer", optimizer)
                lock.apply(*([] if inner is None else [inner]))
                lock.verify()

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                lock.verify()

            def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                lock.detach()
                lock.verify()

        return Callback()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The masks, one bit a weight: name -> uint8 [ceil(size / 8)]; a set bit is a kept weight."""
        return {
            name: torch.from_numpy(np.packbits(~pruned.cpu().numpy().reshape(-1), bitorder="little"))
            for name, pruned in self._pruned.items()
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over the masks that `state_dict` gave, in the place of its own."""
        self._pruned = {}
        for name, bits in instance("MaskLock: state", state, Mapping, RecipeError).items():
            shape = self._parameter(name).shape
            size = shape.numel()
            if not torch.is_tensor(bits) or bits.dtype != torch.uint8 or bits.is_meta or bits.layout != torch.strided:
                raise ShapeError(
                    f"{name}: mask: expected a tensor of bytes, as state_dict gives them, got {shown(bits)}"
                )
            if bits.numel() != -(-size // 8):
                raise ShapeError(f"{name}: mask: expected {-(-size // 8)} bytes, got {bits.numel()}")
            kept = np.unpackbits(bits.cpu().numpy(), count=size, bitorder="little").astype(bool)
            self.update(name, kept.reshape(tuple(shape)))

    def _gradient_hook(self, name: str) -> Any:
        def hook(parameter: torch.nn.Parameter) -> None:
            if parameter.grad is not None:
                self._clear(name, parameter.grad, self._on(name, parameter))

        return hook

    def _clear(self, name: str, values: torch.Tensor, pruned: torch.Tensor) -> None:
        """Zeroes pruned values, NaN too. As integers where that can be done: on a CPU it takes a fifteenth of the time."""
        if values.dtype != torch.float32 or values.device.type != "cpu" or values.layout != torch.strided:
            values.masked_fill_(pruned, 0)
            return
        if name not in self._bits or self._bits[name][0] is not pruned:
            self._bits[name] = pruned, torch.where(pruned, 0, -1).to(torch.int32)
        values.detach().view(torch.int32).bitwise_and_(self._bits[name][1])

    def _each(self) -> Iterator[tuple[str, torch.nn.Parameter, torch.Tensor]]:
        for name in self._pruned:
            parameter = self._parameter(name)
            yield name, parameter, self._on(name, parameter)

    def _on(self, name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
        """The mask of pruned weights where the parameter is."""
        pruned = self._pruned[name]
        if pruned.shape != parameter.shape:
            raise ShapeError(
                f"{name}: expected the shape {list(pruned.shape)} of its mask, got {list(parameter.shape)}"
            )
        if pruned.device != parameter.device:
            pruned = self._pruned[name] = pruned.to(parameter.device)
        return pruned

    def _parameter(self, name: str) -> torch.nn.Parameter:
        try:
            return self._model.get_parameter(text("MaskLock: name", name, RecipeError))
        except AttributeError:
            raise RecipeError(f"MaskLock: {type(self._model).__name__} has no parameter {name!r}") from None


def _mask(name: str, mask: Any) -> torch.Tensor:
    """A mask as a tensor of bool; of numbers, 0 is pruned."""
    if torch.is_tensor(mask) and not mask.is_meta and mask.layout == torch.strided and not mask.dtype.is_complex:
        return mask.detach().bool()
    return torch.from_numpy(np.ascontiguousarray(array(f"{name}: mask", mask), bool))
