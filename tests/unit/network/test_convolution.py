"""Every form of a convolution has the values and gradients of PyTorch's own layer, in channels-last layout."""

import pytest
import torch
from torch.nn.functional import conv3d, conv_transpose3d

from unet.config.model import ModelConfig
from unet.network import convolution
from unet.network.centre_crop import centre_crop
from unet.network.convolution import Convolution3d, UpConvolution3d
from unet.network.model import build_model

LAST = torch.channels_last_3d

FORMS = {
    "fold": (1, 8, 8, (32, 42, 6), 3),
    "fold-concatenated": (2, 16, 4, (5, 6, 8), 3),
    "odd-width": (2, 8, 8, (5, 10, 11), 3),
    "stack": (2, 1, 8, (5, 9, 8), 3),
    "halve-even": (1, 16, 16, (6, 7, 8), 3),
    "halve-odd": (1, 16, 16, (7, 7, 8), 3),
    "halve-two": (1, 16, 16, (4, 5, 5), 3),
    "one-section": (1, 16, 16, (3, 5, 5), 3),
    "linear": (2, 8, 3, (3, 4, 5), 1),
    "linear-one-channel": (2, 1, 8, (3, 4, 5), 1),
}


def gradients_of(y: torch.Tensor, x: torch.Tensor, layer: torch.nn.Module) -> list[torch.Tensor]:
    above = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad(y, [x, layer.weight, layer.bias], above.to(y.dtype)))


def assert_equal_to_double(layer, reference, x) -> None:
    """Compare values and gradients with those of a reference in double precision."""
    y = layer(x)
    found = gradients_of(y, x, layer)
    exact = layer.double()
    x64 = x.detach().double().requires_grad_()
    expected = reference(x64, exact.weight, exact.bias)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(found, gradients_of(expected, x64, exact), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=2e-5 * b.abs().max().item())
    assert y.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_convolution(form: str, padding: int) -> None:
    torch.manual_seed(0)
    n, channels, features, size, kernel = FORMS[form]
    padding = padding if kernel == 3 else 0
    layer = Convolution3d(channels, features, kernel, padding=padding)
    x = torch.randn(n, channels, *size).contiguous(memory_format=LAST).requires_grad_()
    assert_equal_to_double(layer, lambda *tensors: conv3d(*tensors, padding=padding), x)


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 2, 2)])
def test_an_up_convolution_interleaves_what_a_matrix_product_gives(factor) -> None:
    torch.manual_seed(0)
    layer = UpConvolution3d(6, 3, factor, stride=factor)
    x = torch.randn(2, 6, 3, 4, 5).contiguous(memory_format=LAST).requires_grad_()
    assert_equal_to_double(layer, lambda *tensors: conv_transpose3d(*tensors, stride=factor), x)


def test_each_form_is_chosen_where_it_is_fast(monkeypatch) -> None:
    chosen = []
    for name in ("folded", "stacked", "halved"):
        function = getattr(convolution, f"{name}_convolution")
        monkeypatch.setattr(
            convolution,
            f"{name}_convolution",
            lambda *tensors, name=name, function=function: chosen.append(name) or function(*tensors),
        )
    expected = {"fold": "folded", "odd-width": None, "stack": "stacked", "halve-odd": "halved"}
    for form, name in expected.items():
        n, channels, features, size, kernel = FORMS[form]
        chosen.clear()
        Convolution3d(channels, features, kernel)(torch.randn(n, channels, *size))
        assert chosen == ([name] if name else [])


def test_other_devices_use_the_layer_itself(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "convolution3", None)
    layer = Convolution3d(2, 3, 3)
    assert layer.to("meta")(torch.empty(1, 2, 5, 5, 5, device="meta")).shape == (1, 3, 3, 3, 3)


@pytest.mark.parametrize("layer", [Convolution3d(*sizes) for sizes in ((1, 4, 3), (4, 4, 3), (4, 2, 1), (1, 4, 1))])
def test_in_bfloat16_a_layer_computes_what_pytorch_computes(layer) -> None:
    """Compare gradients in float32, within the precision of bfloat16."""
    x = torch.randn(1, layer.in_channels, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), torch.nn.functional.conv3d(x, layer.weight, layer.bias)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
    ours.float().pow(2).sum().backward()
    (expected,) = torch.autograd.grad(theirs.float().pow(2).sum(), layer.weight)
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_no_gradient_of_a_network_leaves_the_channels_last_layout(dimensions: int) -> None:
    """A gradient in another layout makes PyTorch copy in every layer below."""
    layout = torch.channels_last if dimensions == 2 else LAST
    config = ModelConfig(dimensions=dimensions, depth=2, base_channels=4, normalisation="batch", dropout=0)
    network = build_model(config).to(memory_format=layout)
    seen = []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_full_backward_hook(lambda _m, _i, above, name=name: seen.append((name, above[0])))
            module.inplace = False
    network(torch.randn(2, 1, *(20,) * dimensions).contiguous(memory_format=layout)).sum().backward()
    assert len(seen) == 6
    assert [name for name, above in seen if not above.is_contiguous(memory_format=layout)] == []


def test_the_gradient_of_a_crop_is_zero_on_the_rim() -> None:
    x = torch.randn(2, 3, 6, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    (centre_crop(x, [2, 4]) ** 2).sum().backward()
    expected = torch.zeros(2, 3, 6, 8)
    expected[:, :, 2:4, 2:6] = 2 * x.detach()[:, :, 2:4, 2:6]
    torch.testing.assert_close(x.grad, expected)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
