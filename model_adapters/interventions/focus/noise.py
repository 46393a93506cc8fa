"""Pictures of noise, each a function of its seed alone: the same in every process and with every library.

A pixel is drawn by its quantile function, at 65,536 equal steps of the raw bits of PCG64, a stream that NumPy
never changes. Values of 0 to 1 become the nearest of 256 levels.
"""

import hashlib
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_adapters.interventions.focus import Noise
from model_adapters.picture import Picture

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's pixels, by channel, 0 to 1."""
DEVIATION = (0.229, 0.224, 0.225)
CONSTANT = {"gray": 127, "black": 0}
"""The level, of 255, of the kinds of one colour, which nothing is drawn for."""

_STEPS = 2**16


class NoisePicture(Picture):
    """Noise that is drawn when its image is asked for, and not kept.

    Args:
        kind: of noise.
        size: width and height.
        seed: what it is drawn for; not used by a kind of one colour.
    """

    def __init__(self, kind: Noise, size: tuple[int, int], seed: str) -> None:
        self.recurs = kind in CONSTANT
        self._recipe = (kind, size, "" if self.recurs else seed)

    @property
    def image(self) -> Image.Image:
        """RGB, drawn at each call."""
        return draw(*self._recipe)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of what it is drawn from: its pixels need not be made for it."""
        return hashlib.sha256(f"noise/{self._recipe}".encode()).hexdigest()


def draw(kind: Noise, size: tuple[int, int], seed: str) -> Image.Image:
    """A picture of noise (METHODS 5), RGB.

    Args:
        kind: ``imagenet_uniform``: mean + deviation U(0, 1), of each channel; ``gaussian``: N(0, 1) cut to
            0-1; ``uniform``: U(0, 1); ``gray``, ``black``: `CONSTANT`.
        size: width and height.
        seed: any text.
    """
    if kind in CONSTANT:
        return Image.new("RGB", size, (CONSTANT[kind],) * 3)
    width, height = size
    pixels = width * height * 3
    bits = np.random.PCG64(int.from_bytes(hashlib.sha256(seed.encode()).digest()))
    raw = bits.random_raw(-(-pixels // 4)).astype("<u8").view("<u2")[:pixels].reshape(height, width, 3)
    levels = _levels(kind)
    return Image.fromarray(np.stack([levels[c][raw[..., c]] for c in range(3)], axis=-1))


@lru_cache
def _levels(kind: Noise) -> NDArray[np.uint8]:
    """uint8 (3, 65536): the level of each channel at each step of the cumulative probability."""
    steps = (np.arange(_STEPS) + 0.5) / _STEPS
    if kind == "gaussian":
        normal = NormalDist()
        steps = np.array([normal.inv_cdf(step) for step in steps.tolist()])
    values = np.broadcast_to(steps, (3, _STEPS))
    if kind == "imagenet_uniform":
        values = np.array(MEAN)[:, None] + np.array(DEVIATION)[:, None] * steps
    levels: NDArray[np.uint8] = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    return levels
