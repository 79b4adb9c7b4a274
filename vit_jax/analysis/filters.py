"""The principal components of a model's first filters (2010.11929, Figure 7, left)."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

COUNT = 28  # as in the paper's figure


def patch_kernel(model: Any) -> Float[np.ndarray, "height width 3 filters"]:
    """Returns the kernel with which a model meets the pixels.

    It is the patch embedding of a ViT or a Mixer, and the first convolution of a hybrid or a BiT. The kernel of a
    convolution is the stored one, before the model standardises it.
    """
    arch = model.arch
    if arch.family == "bit":
        layer = model.resnet.conv_root
    elif arch.family == "mixer":
        layer = model.stem
    else:
        layer = model.embedding if arch.stages is None else model.stem.conv_root
    return np.asarray(layer.kernel[...], np.float32)


def principal_components(
    kernel: Float[np.ndarray, "height width 3 filters"], count: int = COUNT
) -> tuple[Float[np.ndarray, "components height width 3"], Float[np.ndarray, " components"]]:
    """Returns the first principal components of the filters, and the share of the variance that each explains.

    Each filter is one point, and the mean of all filters is subtracted. The components have unit length; the one that
    explains the most is the first.

    Args:
        kernel: the filters, along the last axis.
        count: the largest number of components. There are fewer if there are fewer filters, or if a filter has fewer
            weights.
    """
    points = np.moveaxis(kernel, -1, 0).reshape(kernel.shape[-1], -1)
    found = PCA(min(count, *points.shape), svd_solver="full").fit(points)
    return found.components_.reshape(-1, *kernel.shape[:3]), found.explained_variance_ratio_
