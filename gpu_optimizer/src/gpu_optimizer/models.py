"""The architectures that are known by name, made without weights being read or downloaded.

Under a fake mode, or with the meta device as default, making one allocates nothing.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Literal

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn import functional

from gpu_optimizer.errors import GpuOptimizerError, UnknownModelError
from gpu_optimizer.training_step import Batch, StepConfig, Workload

Kind = Literal["image", "text", "pose"]
_N_CLASSES: Final = 1000
_MAX_SUGGESTIONS: Final = 5
_LARGEST_IMAGE_PX: Final = 4096


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """An architecture of the registry.

    Attributes
    ----------
    name : str
        What users call it.
    kind : {"image", "text", "pose"}
        What it reads: pictures, with a label each to learn; tokens; pictures of which it finds
        poses, forecast for inference alone.
    make : callable
        Makes it with random weights; ``make(is_checkpointed)``.
    image_px : int
        Side of the square pictures, 0 for text.
    can_checkpoint : bool
        Whether its blocks can be recomputed in backward.
    """

    name: str
    kind: Kind
    make: Callable[[bool], nn.Module]
    image_px: int = 224
    can_checkpoint: bool = False

    def workload_of(self, step: StepConfig, batch: int, seq: int = 512) -> Workload:
        """Return `workload` for a step.

        Raises
        ------
        ValueError
            If the model cannot do what the step asks for, or a size is out of range.
        """
        if self.kind == "pose" and step.mode == "train":
            raise ValueError(f"{self.name} is known for mode 'infer' only, got 'train'")
        if step.n_new_tokens and self.kind != "text":
            raise ValueError(f"{self.name} generates no tokens, asked for {step.n_new_tokens}")
        return self.workload(batch, seq, is_checkpointed=step.is_checkpointed)

    def workload(self, batch: int, seq: int = 512, *, is_checkpointed: bool = False) -> Workload:
        """Return the model with an example batch and its usual loss.

        Parameters
        ----------
        batch : int
            Pictures or sequences, at least 1.
        seq : int
            Tokens of each sequence, at least 1; pictures do not use it.
        is_checkpointed : bool
            Whether to recompute its blocks in backward.

        Raises
        ------
        ValueError
            If a size is less than 1 or no 64-bit number, or the model cannot be checkpointed.
        """
        for name, value in (("batch", batch), ("seq", seq)):
            if not 1 <= value < 2**63:
                limit = "at least 1" if value < 1 else "below 2**63"
                raise ValueError(f"{name} must be {limit}, got {value}")
        if is_checkpointed and not self.can_checkpoint:
            raise ValueError(f"{self.name} has no blocks that can be checkpointed")
        if self.kind == "text":
            return Workload(
                lambda: self.make(is_checkpointed), lambda: _tokens(batch, seq), _next_token_loss
            )
        return Workload(
            lambda: self.make(is_checkpointed),
            lambda: _pictures(batch, self.image_px),
            _class_loss,
        )


def known_names() -> tuple[str, ...]:
    """Return the names that need no prefix, sorted."""
    return tuple(sorted(_ENTRIES))


def find_model(name: str) -> ModelEntry:
    """Return an architecture by its name.

    Parameters
    ----------
    name : str
        One of `known_names`, ``"torchvision:NAME"``, ``"timm:NAME"`` or a plain name of either.

    Raises
    ------
    UnknownModelError
        If nobody knows the name; the message lists the known ones and those that look alike.
    GpuOptimizerError
        If the library that has it is not installed.
    """
    entry = _ENTRIES.get(name.strip().lower())
    if entry is not None:
        return entry
    source, separator, rest = name.strip().partition(":")
    if separator and source in _SOURCES:
        found = _SOURCES[source](rest)
        if found is None:
            raise _unknown(name, source)
        return found
    if not separator:
        for source, find in _SOURCES.items():
            if importlib.util.find_spec(source) is not None and (found := find(name)) is not None:
                return found
    raise _unknown(name, "")


def _unknown(name: str, source: str) -> UnknownModelError:
    sources = [source] if source else [key for key in _SOURCES if importlib.util.find_spec(key)]
    others = [f"{key}:{item}" for key in sources for item in _LISTS[key]()]
    plain = name.rpartition(":")[2]
    names = {item.rpartition(":")[2]: item for item in [*others, *known_names()]}
    near = difflib.get_close_matches(plain, names, n=_MAX_SUGGESTIONS, cutoff=0.6)
    alike = f"; did you mean {', '.join(names[item] for item in near)}?" if near else ""
    return UnknownModelError(
        f"no model is called {name!r}: known are {', '.join(known_names())}, and timm:NAME and "
        f"torchvision:NAME of what these libraries have{alike}"
    )


def _library(name: str, extra: str = "gpu-optimizer[models]") -> ModuleType:
    if importlib.util.find_spec(name) is None:
        raise GpuOptimizerError(f"{name} is not installed: pip install '{extra}'")
    return importlib.import_module(name)


def _torchvision_models() -> ModuleType:
    _library("torchvision")
    return _library("torchvision.models")


def _torchvision_names() -> list[str]:
    models = _torchvision_models()
    names: list[str] = models.list_models(module=models)
    return names


def _timm_names() -> list[str]:
    names: list[str] = _library("timm").list_models()
    return names


def _torchvision(name: str) -> ModelEntry | None:
    models = _torchvision_models()
    if name not in _torchvision_names():
        return None
    # googlenet and inception warn, and answer with three outputs, unless told otherwise.
    options = {"init_weights": False, "aux_logits": False} if name in _AUXILIARY else {}
    return ModelEntry(
        f"torchvision:{name}",
        "image",
        lambda _: models.get_model(name, weights=None, **options),
        image_px=299 if name == "inception_v3" else 224,
    )


def _timm(name: str) -> ModelEntry | None:
    timm = _library("timm")
    if not timm.is_model(name):
        return None
    settings = timm.get_pretrained_cfg(name)
    size = settings.input_size[-1] if settings is not None else 224

    def make(is_checkpointed: bool) -> nn.Module:
        model = _made_apart(lambda: timm.create_model(name, pretrained=False), "meta")
        if is_checkpointed:
            model.set_grad_checkpointing()  # type: ignore[operator]
        return model

    return ModelEntry(
        f"timm:{name}", "image", make, image_px=min(size, _LARGEST_IMAGE_PX), can_checkpoint=True
    )


def _torchvision_entry(name: str) -> Callable[[bool], nn.Module]:
    return lambda _: _torchvision_models().get_model(name, weights=None)


def _llama(is_checkpointed: bool) -> nn.Module:
    """Return Llama-2-7B, which is what LlamaConfig describes by default."""
    transformers = _library("transformers")
    model: nn.Module = transformers.LlamaForCausalLM(transformers.LlamaConfig())
    if is_checkpointed:
        # The old name warns where there is the new one.
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()  # type: ignore[operator]
    return model


def _yolo(_: bool) -> nn.Module:
    _library("ultralytics", "pose-analyzer[yolo]")
    tasks = _library("ultralytics.nn.tasks")

    def make() -> nn.Module:
        model: nn.Module = tasks.PoseModel("yolo11n-pose.yaml", verbose=False)
        # Strides as plain numbers: forward reads their values, which fake tensors do not have.
        for module in model.modules():
            stride = vars(module).get("stride")
            if isinstance(stride, torch.Tensor):
                vars(module)["stride"] = tuple(stride.tolist())
        return model

    return _made_apart(make, "cpu")


def _made_apart(make: Callable[[], nn.Module], device: str) -> nn.Module:
    """Return a model whose constructor reads values of tensors, which fake ones do not have.

    It is made outside of any fake mode and gets new tensors, of the default device, afterwards.
    """
    dtype = torch.get_default_dtype()
    with unset_fake_temporarily(), torch.device(device):
        model = make()
    renewed: dict[int, torch.Tensor] = {}

    def renew(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in renewed:
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            fresh = torch.zeros(tensor.shape, dtype=kind)
            is_parameter = isinstance(tensor, nn.Parameter)
            renewed[id(tensor)] = (
                nn.Parameter(fresh, requires_grad=tensor.requires_grad) if is_parameter else fresh
            )
        return renewed[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = renew(tensor)  # type: ignore[assignment]
    return model


def _tokens(batch: int, seq: int) -> Batch:
    return {"input_ids": torch.zeros(batch, seq, dtype=torch.long)}


def _pictures(batch: int, side_px: int) -> Batch:
    return {
        "images": torch.zeros(batch, 3, side_px, side_px),
        "labels": torch.zeros(batch, dtype=torch.long),
    }


def _class_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return functional.cross_entropy(model(batch["images"]), batch["labels"])


def _next_token_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    tokens = batch["input_ids"]
    loss: torch.Tensor = model(input_ids=tokens, labels=tokens, use_cache=False).loss
    return loss


_AUXILIARY: Final = ("googlenet", "inception_v3")
_SOURCES: Final[Mapping[str, Callable[[str], ModelEntry | None]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}
_LISTS: Final[Mapping[str, Callable[[], list[str]]]] = {
    "torchvision": _torchvision_names,
    "timm": _timm_names,
}
_ENTRIES: Final[Mapping[str, ModelEntry]] = {
    "resnet50": ModelEntry("resnet50", "image", _torchvision_entry("resnet50")),
    "vit_b_16": ModelEntry("vit_b_16", "image", _torchvision_entry("vit_b_16")),
    "llama-7b": ModelEntry("llama-7b", "text", _llama, image_px=0, can_checkpoint=True),
    "yolo11n-pose": ModelEntry("yolo11n-pose", "pose", _yolo, image_px=640),
}
