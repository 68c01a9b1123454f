"""Choose the numeric precision of the convolutions on a device."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from unet.config.section import Precision


def choose_precision(asked: "Precision | Literal['auto']", device: "torch.device") -> "Precision":
    """Return the precision of the convolutions; `auto` is bfloat16 on a GPU that supports bfloat16, else float32."""
    import torch

    if asked == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return asked
