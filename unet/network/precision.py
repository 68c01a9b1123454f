"""Choose the numeric precision of the convolutions on a device."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from unet.config.section import Precision


def choose_precision(asked: "Precision | Literal['auto', 'fastest']", device: "torch.device") -> "Precision":
    """Return the precision of the convolutions.

    `auto` is bfloat16 on a GPU that supports it, else float32. `fastest` is bfloat16 on a CPU with AMX as well. A GPU
    that is not at hand, for which a run is planned, is assumed to support it.
    """
    import torch

    if asked != "auto" and asked != "fastest":
        return asked
    if device.type == "cuda":
        unsupported = torch.cuda.is_available() and not torch.cuda.is_bf16_supported()
        return "float32" if unsupported else "bfloat16"
    return "bfloat16" if asked == "fastest" and cpu_multiplies_bfloat16() else "float32"


def cpu_multiplies_bfloat16() -> bool:
    """Return whether the CPU has instructions that multiply matrices of bfloat16 (AMX).

    Without them bfloat16 is slower than float32. The answer is no if PyTorch cannot say.
    """
    import torch

    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
