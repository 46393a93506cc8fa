"""FOCUS: a pass for each image and one of noise alone, whose logits are combined (METHODS 5)."""

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from model_adapters.interventions.focus import Noise
from model_adapters.interventions.focus.noise import CONSTANT, NoisePicture
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.passes import Passes, PassInput, StepCounts


class Focus(NoIntervention):
    """l = mean over k of l_k - lambda l_0; see `FocusPasses`, whose arguments these are."""

    name = "focus"

    def __init__(
        self,
        *,
        lam: float = 0.1,
        noise: Noise = "imagenet_uniform",
        shared_noise: bool = False,
        noise_seed: int = 0,
        cut: float | None = None,
    ) -> None:
        self.passes = FocusPasses(
            lam=lam, noise=noise, shared_noise=shared_noise, noise_seed=noise_seed, cut=cut
        )
        self._settings = {
            "lambda": lam,
            "noise": noise,
            "shared_noise": shared_noise,
            "noise_seed": noise_seed,
            "cut": cut,
        }

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return dict(self._settings)


class FocusPasses(Passes):
    """M + 1 passes over a doc of M images, M of at least 2: pass 0 shows noise, pass k image k and noise.

    Noise has the size of the picture that it replaces, so that every pass has as many tokens. A doc of fewer
    images is one pass, as with `mask=none`.

    Args:
        lam: the weight of pass 0, taken off the mean of the others.
        noise: what replaces an image.
        shared_noise: an image is replaced by the same noise in all passes; else each pass has its own.
        noise_seed: with the doc, the pass and the image what noise is drawn for.
        cut: a token with less than this share of the largest probability by the mean logits is not chosen
            (Li et al. 2023), or None.
    """

    def __init__(
        self, *, lam: float, noise: Noise, shared_noise: bool, noise_seed: int, cut: float | None
    ) -> None:
        self.lam = lam
        self.noise = noise
        self.shared_noise = shared_noise
        self.noise_seed = noise_seed
        self.cut = cut
        self.seeded = noise not in CONSTANT

    def expand(self, doc: PassInput) -> tuple[PassInput, ...]:
        """See `Passes.expand`: pass 0 first."""
        places = range(len(doc.pictures))
        if len(places) < 2:
            return (doc,)
        shared = [self._noise(doc, place, "shared") for place in places] if self.shared_noise else None
        passes = []
        for number in range(len(places) + 1):
            noise = shared or [self._noise(doc, place, number) for place in places]
            pictures = [doc.pictures[p] if p == number - 1 else noise[p] for p in places]
            passes.append(replace(doc, pictures=tuple(pictures), query=None))
        return tuple(passes)

    def combine_doc(self, logits: Tensor, doc: int, counts: StepCounts) -> Tensor:
        """See `Passes.combine_doc`; with a cut, ``steps`` and ``cut_steps``, those that it decided."""
        mean = logits[1:].mean(dim=0)
        combined = mean - self.lam * logits[0]
        impossible = logits.isneginf().any(dim=0)
        combined = combined.masked_fill(impossible, -math.inf)
        if self.cut is None:
            return combined
        left = mean >= mean.max() + math.log(self.cut)
        counts.add(doc, "steps", left.any())
        counts.add(doc, "cut_steps", ~left[combined.argmax()])
        return combined.masked_fill(~left, -math.inf)

    def _noise(self, doc: PassInput, place: int, number: int | str) -> NoisePicture:
        seed = f"{self.noise_seed}/{doc.seed}/{number}/{place}"
        return NoisePicture(self.noise, doc.pictures[place].image.size, seed)
