"""The cases on which forecasts of memory are judged, and the others from which was learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from gpu_optimizer.models import find_model
from gpu_optimizer.training_step import Batch, StepConfig, Workload


@dataclass(frozen=True, slots=True)
class Case:
    """A model of the registry or of this file, and what is done with it."""

    model: str
    batch: int
    step: StepConfig
    seq: int = 512

    @property
    def name(self) -> str:
        """Everything that tells it from the others."""
        step = self.step
        done = step.mode if step.mode == "infer" else f"{step.mode} {step.optimizer}"
        extras = [
            f"{self.model} b{self.batch} {done} {step.precision}",
            f"s{self.seq}" if "llama" in self.model else "",
            "checkpointed" if step.is_checkpointed else "",
            f"accumulate {step.n_accumulate}" if step.n_accumulate > 1 else "",
            f"+{step.n_new_tokens} tokens" if step.n_new_tokens else "",
        ]
        return " ".join(filter(None, extras))

    def workload(self) -> Workload:
        """Return the model, its batch and its loss."""
        if self.model in _OWN:
            return _OWN[self.model](self)
        entry = find_model(self.model)
        return entry.workload(self.batch, self.seq, is_checkpointed=self.step.is_checkpointed)


class UNet(nn.Module):
    """A U-Net of four levels (Ronneberger et al., 2015) with batch normalization, at 128 px."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        self.down = nn.ModuleList(
            _double(before, after) for before, after in zip([3, *widths], widths, strict=False)
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_double(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return two channels for each pixel."""
        skips: list[torch.Tensor] = []
        rows = images
        for level, block in enumerate(self.down):
            rows = block(functional.max_pool2d(rows, 2) if level else rows)
            skips.append(rows)
        for skip, rise, block in zip(skips[-2::-1], self.rise, self.up, strict=True):
            rows = block(torch.cat([skip, rise(rows)], dim=1))
        output: torch.Tensor = self.head(rows)
        return output


def _double(before: int, after: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv2d(width, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _unet(case: Case) -> Workload:
    def inputs() -> Batch:
        return {
            "images": torch.zeros(case.batch, 3, 128, 128),
            "labels": torch.zeros(case.batch, 128, 128, dtype=torch.long),
        }

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        return functional.cross_entropy(model(batch["images"]), batch["labels"])

    return Workload(UNet, inputs, loss)


def _llama_blocks(case: Case) -> Workload:
    """Return the first blocks of Llama-7B between its embedding and its head."""
    n_blocks = int(case.model.split("-")[2])
    whole = find_model("llama-7b").workload(
        case.batch, case.seq, is_checkpointed=case.step.is_checkpointed
    )

    def make() -> nn.Module:
        from transformers import LlamaConfig, LlamaForCausalLM

        model: nn.Module = LlamaForCausalLM(LlamaConfig(num_hidden_layers=n_blocks))
        if case.step.is_checkpointed:
            model.gradient_checkpointing_enable()  # type: ignore[operator]
        return model

    return Workload(make, whole.inputs_fn, whole.loss_fn)


_OWN: Final[Mapping[str, Callable[[Case], Workload]]] = {
    "unet": _unet,
    "llama-7b-2-blocks": _llama_blocks,
    "llama-7b-4-blocks": _llama_blocks,
}
_INFER: Final = "infer"
CASES: Final = (
    Case("resnet50", 64, StepConfig("train", "momentum", "fp32")),
    Case("resnet50", 48, StepConfig("train", "adamw", "amp")),
    Case("resnet50", 64, StepConfig(_INFER, precision="fp32")),
    Case("vit_b_16", 32, StepConfig("train", "adamw", "fp32")),
    Case("vit_b_16", 32, StepConfig("train", "sgd", "amp-bf16")),
    Case("vit_b_16", 64, StepConfig(_INFER, precision="bf16")),
    Case("timm:convnext_tiny", 32, StepConfig("train", "adamw", "bf16")),
    Case("timm:swin_tiny_patch4_window7_224", 16, StepConfig("train", "momentum", "amp")),
    Case("timm:vit_small_patch16_224", 48, StepConfig("train", "adamw", is_checkpointed=True)),
    Case("timm:efficientnet_b0", 64, StepConfig(_INFER, precision="amp")),
    Case("torchvision:mobilenet_v3_large", 64, StepConfig("train", "sgd", "fp32")),
    Case("torchvision:densenet121", 16, StepConfig("train", "adamw", "fp32")),
    Case("unet", 16, StepConfig("train", "adamw", "amp")),
    Case("unet", 8, StepConfig("train", "momentum", "fp32", n_accumulate=2)),
    Case("llama-7b-4-blocks", 2, StepConfig("train", "adamw", "bf16"), seq=1024),
    Case("llama-7b-4-blocks", 2, StepConfig("train", "sgd", "bf16", is_checkpointed=True), 2048),
    Case("llama-7b-4-blocks", 1, StepConfig("train", "adamw", "amp-bf16"), seq=1024),
    Case("llama-7b-4-blocks", 4, StepConfig(_INFER, precision="bf16", n_new_tokens=4), seq=1024),
    Case("llama-7b", 1, StepConfig(_INFER, precision="bf16"), seq=1024),
    Case("yolo11n-pose", 16, StepConfig(_INFER, precision="fp32")),
)
"""Judged."""
LEARNED: Final = (
    Case("torchvision:resnet18", 32, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:resnet18", 24, StepConfig("train", "sgd", "fp32")),
    Case("torchvision:resnet34", 16, StepConfig("train", "adamw", "amp")),
    Case("torchvision:resnet18", 48, StepConfig(_INFER, precision="amp")),
    Case("torchvision:resnet18", 64, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:resnet18", 96, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:resnet34", 40, StepConfig("train", "sgd", "amp")),
    Case("torchvision:resnet34", 128, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:wide_resnet50_2", 40, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:wide_resnet50_2", 32, StepConfig("train", "momentum", "amp")),
    Case("torchvision:resnet34", 24, StepConfig(_INFER, precision="bf16")),
    Case("torchvision:wide_resnet50_2", 8, StepConfig("train", "momentum", "fp32")),
    Case("torchvision:vgg11_bn", 16, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:vgg11_bn", 8, StepConfig("train", "sgd", "amp")),
    Case("torchvision:mobilenet_v2", 32, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:mobilenet_v2", 96, StepConfig(_INFER, precision="fp32")),
    Case("torchvision:mobilenet_v2", 24, StepConfig("train", "momentum", "amp")),
    Case("timm:resnext50_32x4d", 12, StepConfig("train", "sgd", "fp32")),
    Case("timm:regnety_008", 32, StepConfig(_INFER, precision="amp")),
    Case("timm:convnext_atto", 16, StepConfig("train", "adamw", "bf16")),
    Case("timm:vit_tiny_patch16_224", 24, StepConfig("train", "adamw", "fp32")),
    Case("timm:vit_tiny_patch16_224", 24, StepConfig("train", "adamw", is_checkpointed=True)),
    Case("timm:deit_small_patch16_224", 16, StepConfig("train", "sgd", "amp-bf16")),
    Case("timm:deit_small_patch16_224", 32, StepConfig(_INFER, precision="bf16")),
    Case("torchvision:squeezenet1_1", 32, StepConfig("train", "sgd", "fp32", n_accumulate=2)),
    Case("unet", 4, StepConfig("train", "sgd", "fp32")),
    Case("unet", 16, StepConfig("train", "adamw", "fp32")),
    Case("unet", 24, StepConfig(_INFER, precision="amp")),
    Case("timm:vit_tiny_patch16_224", 64, StepConfig("train", "adamw", is_checkpointed=True)),
    Case("llama-7b-2-blocks", 1, StepConfig("train", "adamw", "bf16"), seq=512),
    Case("llama-7b-2-blocks", 1, StepConfig("train", "sgd", "bf16", is_checkpointed=True), 512),
    Case("yolo11n-pose", 4, StepConfig(_INFER, precision="fp32")),
    Case("unet", 12, StepConfig("train", "sgd", "amp")),
    Case("unet", 24, StepConfig("train", "adamw", "amp")),
    Case("yolo11n-pose", 24, StepConfig(_INFER, precision="fp32")),
)
"""Learned from: other models, or other batches and modes, than are judged."""
