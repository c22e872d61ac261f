"""BatchNorm in inference mode as part of the convolution before it, while both learn.

    gamma (W * x - mean) / sigma + beta  =  (gamma / sigma W) * x + (beta - gamma / sigma mean)

The right side is computed anew at every step from W, gamma and beta, so that their gradients are those of the left
side, and no layer has to look at all values of a map a second time. Running mean and sigma stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TOLERANCE = 1e-3  # largest difference of an output, as a share of the largest output; 1e-6 is usual

_Pair = tuple[nn.Conv2d, _BatchNorm]


@contextmanager
def folded(network: nn.Module, example: Tensor) -> Iterator[int]:
    """Let a network compute the same with every BatchNorm that can be folded into the convolution before it.

    Parameters, their names and the layers stay what they are. A BatchNorm in training mode is left alone, and so is
    a network that would compute something else.

    Args:
        network: in the mode in which it is used within the context.
        example: one input, which shows what follows on what.

    Yields:
        How many BatchNorm layers are folded.
    """
    pairs, expected = _pairs(network, example)
    try:
        for convolution, norm in pairs:
            convolution.forward = partial(_convolve, convolution, norm)  # type: ignore[method-assign]
            norm.forward = partial(_after, norm)  # type: ignore[method-assign]
        if pairs and not _near(network, example, expected):
            _unfold(pairs)
            pairs = []
        yield len(pairs)
    finally:
        _unfold(pairs)


def _pairs(network: nn.Module, example: Tensor) -> tuple[list[_Pair], Tensor]:
    """Return each convolution whose output a BatchNorm in inference mode takes, and the network's output."""
    made: list[tuple[nn.Conv2d, Tensor]] = []  # the tensors are kept, so that no other one is taken for them
    pairs: list[_Pair] = []

    def note(convolution: nn.Module, _: object, output: Tensor) -> None:
        made.append((convolution, output))  # type: ignore[arg-type]

    def look(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        pairs.extend((convolution, norm) for convolution, output in made if output is inputs[0])  # type: ignore[misc]

    hooks = []
    for layer in network.modules():
        if type(layer).forward is nn.Conv2d.forward:
            hooks.append(layer.register_forward_hook(note))
        elif isinstance(layer, _BatchNorm) and not layer.training and layer.affine:
            hooks.append(layer.register_forward_pre_hook(look))
    try:
        return pairs, _output(network, example)
    finally:
        for hook in hooks:
            hook.remove()


def _convolve(convolution: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None, "it is in inference mode"
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
    weight = convolution.weight * scale[:, None, None, None]
    return convolution._conv_forward(x, weight, bias)  # type: ignore[no-any-return]


def _after(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return what is left of a BatchNorm: in timm's networks dropout and ReLU are part of the layer."""
    return norm.act(norm.drop(x)) if hasattr(norm, "act") else x  # type: ignore[operator]


def _near(network: nn.Module, example: Tensor, expected: Tensor) -> bool:
    """Tell whether a network gives what it gave before."""
    difference = (_output(network, example) - expected).abs().max()
    return bool(difference <= TOLERANCE * expected.abs().max())


@torch.no_grad()
@torch.random.fork_rng(devices=[])
def _output(network: nn.Module, example: Tensor) -> Tensor:
    """Return what a network gives for an input, with the same dropout whenever it is asked."""
    torch.manual_seed(0)
    output: Tensor = network(example)
    return output


def _unfold(pairs: list[_Pair]) -> None:
    for layer in (layer for pair in pairs for layer in pair):
        layer.__dict__.pop("forward", None)
