"""Class activation maps, exact and signed, in numpy.

A classifier that ends feature maps -> GAP -> linear head computes, for class k,

    logit_k = b_k + sum_c W_kc * mean_ij F_cij = b_k + mean_ij ( sum_c W_kc * F_cij )

so the map `cam_k = sum_c W_kc * F_c` averages to the logit without its bias: what the map shows is all that
the model used. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.

`N` photos, `C` channels, `h`, `w` cells of a feature map, `K` classes.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def activation_maps(feature_maps: NDArray[np.floating], weight: Array) -> Array:
    """Return the class activation map of every class, raw and signed.

    Args:
        feature_maps: `(..., C, h, w)`, what the backbone gives before GAP.
        weight: `(K, C)`, the head's weights.

    Returns:
        `(..., K, h, w)` in logit units: each cell says what it would add to the logit if the whole photo
        looked like it.
    """
    *batch, channels, height, width = feature_maps.shape
    flat = feature_maps.astype(np.float32, copy=False).reshape(*batch, channels, height * width)
    return np.asarray((weight @ flat).reshape(*batch, len(weight), height, width))


def residual(cams: Array, bias: Array, logits: Array) -> float:
    """Return the largest `|mean(cam) + bias - logit|` over photos and classes; 0 but for rounding.

    Args:
        cams: `(..., K, h, w)`.
        bias: `(K,)`.
        logits: `(..., K)`, computed another way: from pooled features or by the whole network.
    """
    means = cams.mean(axis=(-2, -1), dtype=np.float64)
    return float(np.abs(means + bias - logits).max())
