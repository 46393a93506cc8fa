"""SoFA as a matrix (METHODS 5): the oracle of `kernel`."""

from torch import Tensor

from model_adapters.layout import Layout


def factors(layout: Layout, seen: Tensor, *, sigma: float, own_image: bool = False) -> Tensor:
    """The factor on exp(score) of each row and key, float64 (N, N): Eq. 2's interpolated mask.

    Args:
        layout: of length N.
        seen: bool (N, N), what the base model lets a row see: factor 1.
        sigma: the factor of tokens of later images, where the base model hides them.
        own_image: also of the row's own image, later than the row.
    """
    out = seen.double()
    for m, image in enumerate(layout.images):
        for later, other in enumerate(layout.images[m:]):
            for i in image.indices().tolist():
                for j in other.indices().tolist():
                    if (later or own_image) and j > i and not seen[i, j]:
                        out[i, j] = sigma
    return out
