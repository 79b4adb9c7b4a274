"""Measures of the tokens of each layer: the similarity of layers (CKA)."""

import numpy as np
from jaxtyping import Float

FEWEST = 4  # examples that the estimate needs


def cka(features: Float[np.ndarray, "layers examples width"]) -> Float[np.ndarray, "layers layers"]:
    """Returns the similarity of each pair of layers by linear centred kernel alignment (CKA, 1905.00414).

    It is 1 if the features of two layers differ by a rotation and a scale, and near 0 if they have nothing in common.
    The estimate of the alignment is the one without bias (2010.15327, equation 3), so that it does not grow when the
    features are wide and the examples few. A layer whose features are all equal has the similarity 0 with all.

    Args:
        features: the features of the same examples in each layer; at least four examples.
    """
    kernels = np.stack([_centred(layer) for layer in features]).reshape(len(features), -1)
    products = kernels @ kernels.T
    norms = np.sqrt(np.diag(products))
    return products / np.outer(*2 * [np.where(norms > 0, norms, np.inf)])


def _centred(features: Float[np.ndarray, "examples width"]) -> Float[np.ndarray, "examples examples"]:
    """Returns the Gram matrix of features, U-centred: its diagonal is zero, and so are the sums of rows and columns."""
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    count, gram = len(x), x @ x.T
    np.fill_diagonal(gram, 0)
    rows = gram.sum(axis=1) / (count - 2)
    gram += rows.sum() / (count - 1) - rows[:, None] - rows
    np.fill_diagonal(gram, 0)
    return gram
