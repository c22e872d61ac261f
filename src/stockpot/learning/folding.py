"""BatchNorm in inference mode as part of the convolution before it, while both learn.

    gamma (W * x - mean) / sigma + beta  =  (gamma / sigma W) * x + (beta - gamma / sigma mean)

The right side is computed anew from W, gamma and beta whenever a convolution is applied, so that their gradients
are those of the left side, and no layer has to look at all values of a map a second time. Mean and sigma stay as
they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TOLERANCE = 1e-2  # largest difference of an output, as a share of the largest output; 1e-6 is usual

_Pair = tuple[nn.Conv2d, _BatchNorm]


@contextmanager
def folded(network: nn.Module, example: Tensor) -> Iterator[int]:
    """Let a network compute the same with every BatchNorm that can be folded into the convolution before it.

    Parameters, their names, buffers and the layers stay what they are. A BatchNorm in training mode is left alone,
    and so is a network that would compute something else.

    Args:
        network: in the mode in which it is used within the context.
        example: one input, which shows what follows on what.

    Yields:
        How many BatchNorm layers are folded.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and _can_be_folded(layer)]
    pairs = _same_with(network, example, _pairs(network, example, norms)) if norms else []
    try:
        _fold(pairs)
        yield len(pairs)
    finally:
        _unfold(pairs)


def _can_be_folded(norm: _BatchNorm) -> bool:
    return not norm.training and norm.affine and norm.running_mean is not None


def _pairs(network: nn.Module, example: Tensor, norms: Sequence[_BatchNorm]) -> list[_Pair]:
    """Return each convolution whose output one of some BatchNorm layers takes."""
    made: list[tuple[nn.Conv2d, Tensor]] = []  # the tensors are kept, so that no other one is taken for them
    pairs: list[_Pair] = []

    def note(convolution: nn.Module, _: object, output: Tensor) -> None:
        made.append((convolution, output))  # type: ignore[arg-type]

    def look(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        pairs.extend((convolution, norm) for convolution, output in made if output is inputs[0])  # type: ignore[misc]

    convolutions = [layer for layer in network.modules() if type(layer).forward is nn.Conv2d.forward]
    hooks = [layer.register_forward_hook(note) for layer in convolutions]
    hooks += [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        _output(network, example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _same_with(network: nn.Module, example: Tensor, pairs: list[_Pair]) -> list[_Pair]:
    """Return the pairs if the network gives the same with them folded, whatever gamma and beta are, else none."""
    learns = [tensor.data for _, norm in pairs for tensor in (norm.weight, norm.bias)]
    kept = [tensor.clone() for tensor in learns]
    try:
        for tensor in learns:  # a fresh BatchNorm changes nothing, so that nothing could be told from it
            tensor.mul_(torch.linspace(0.5, 1.5, len(tensor)).to(tensor)).add_(0.1)
        expected = _output(network, example)
        _fold(pairs)
        difference = (_output(network, example) - expected).abs().max()
    finally:
        _unfold(pairs)
        for tensor, value in zip(learns, kept, strict=True):
            tensor.copy_(value)
    return pairs if difference <= TOLERANCE * expected.abs().max() else []


def _fold(pairs: list[_Pair]) -> None:
    for convolution, norm in pairs:
        convolution.forward = partial(_convolve, convolution, norm)  # type: ignore[method-assign]
        norm.forward = partial(_after, norm)  # type: ignore[method-assign]


def _unfold(pairs: list[_Pair]) -> None:
    for layer in (layer for pair in pairs for layer in pair):
        layer.__dict__.pop("forward", None)


def _convolve(convolution: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None, "else it is not folded"
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
    weight = convolution.weight * scale[:, None, None, None]
    return convolution._conv_forward(x, weight, bias)  # type: ignore[no-any-return]


def _after(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return what is left of a BatchNorm: in timm's networks dropout and ReLU are part of the layer."""
    return norm.act(norm.drop(x)) if hasattr(norm, "act") else x  # type: ignore[operator]


@torch.no_grad()
def _output(network: nn.Module, example: Tensor) -> Tensor:
    """Return what a network gives in inference mode; its modes and buffers stay as they are."""
    modes = {layer: layer.training for layer in network.modules()}
    try:
        output: Tensor = network.eval()(example)
        return output
    finally:
        for layer, mode in modes.items():
            layer.training = mode
