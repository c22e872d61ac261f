import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stockpot.model.activation_maps import activation_maps, residual

values = st.floats(-4, 4, width=32)


@given(arrays(np.float32, (2, 5, 3, 4), elements=values), arrays(np.float32, (6, 5), elements=values))
def test_a_map_averages_to_its_logit(maps, weight):
    """mean(cam) + bias is the logit that GAP and the head compute, for every photo and class."""
    bias = np.arange(6, dtype=np.float32)
    logits = maps.mean(axis=(2, 3)) @ weight.T + bias
    cams = activation_maps(maps, weight)
    assert cams.shape == (2, 6, 3, 4)
    assert residual(cams, bias, logits) < 1e-4
    assert residual(cams, bias + 1, logits) > 0.9  # the check can fail


def test_one_cell_is_the_weighted_sum_of_its_channels():
    """By hand: 2 x 1 - 1 x 3 in the first cell, signed and not rescaled."""
    maps = np.array([[[1.0, 0.0]], [[3.0, 5.0]]], dtype=np.float32)  # C = 2, h = 1, w = 2
    cam = activation_maps(maps, np.array([[2.0, -1.0]], dtype=np.float32))
    assert cam.tolist() == [[[-1.0, -5.0]]]
