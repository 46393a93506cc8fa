"""SoFA: an image's rows also see the tokens of later images, with a weight sigma (METHODS 5).

With the output O_c of causal attention and Z_c, what its softmax divides by, and O_f and Z_f over later
images, a row of an image gives (Z_c O_c + sigma Z_f O_f) / (Z_c + sigma Z_f): one softmax, to whose later
keys log sigma is added. Text rows and generated tokens stay causal.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from model_adapters.interventions.base import LayerView
from model_adapters.interventions.biased import Biased, Edited, plain_bias
from model_adapters.interventions.mass import Attended, attend_with_lse
from model_adapters.segments import merge_with_lse


class Sofa(Biased):
    """`sofa`.

    Where the base model lets an image's tokens see each other in both directions they keep their weight of 1.
    A sliding window limits how far a row sees back; later images are opened in full.

    Args:
        sigma: within [0, 1]; 0 is the base model, bit for bit.
        own_image: a row also sees the later tokens of its own image, with sigma.

    Raises:
        ValueError: sigma is outside of [0, 1].
    """

    name = "sofa"
    merges = True
    _pairs, _mass, _deed = "opened_pairs", "moved_mass", "opened"

    def __init__(self, *, sigma: float = 0.5, own_image: bool = False) -> None:
        if not 0 <= sigma <= 1:
            raise ValueError(f"`sigma` must be within [0, 1], got {sigma}")
        self.sigma = sigma
        self.own_image = own_image

    def settings(self) -> dict[str, Any]:
        """`sigma` and `own_image`."""
        return {"sigma": self.sigma, "own_image": self.own_image}

    def rows(self, view: LayerView, doc: int, device: torch.device) -> Tensor:
        """See `Biased.rows`: of all images but the last, of that too if its own tokens are opened."""
        layout = view.layouts[doc]
        images = layout.images if self.own_image else layout.images[:-1]
        if not self.sigma or not images:
            return torch.empty(0, dtype=torch.long, device=device)
        return torch.cat([image.indices(device) for image in images])

    def bias(
        self, view: LayerView, doc: int, rows: Tensor, keys: Tensor, seen: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """See `Biased.bias`: log sigma at later visual tokens that the base model hides."""
        bias = plain_bias(seen, dtype)
        if not self.sigma:
            return bias
        image = view.layouts[doc].image_numbers(keys.device)
        of_rows, of_keys = image[rows][:, None], image[keys]
        later = (of_keys > of_rows) & (of_rows >= 0)
        if self.own_image:
            later |= (of_keys == of_rows) & (of_rows >= 0) & (keys > rows[:, None])
        return bias.masked_fill_(later & ~seen, math.log(self.sigma))

    def segments(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        view: LayerView,
        doc: int,
        *,
        plain: Attended | None,
        scale: float,
    ) -> Iterator[Edited]:
        """See `Biased.segments`: for each image a call over the tokens of all later ones."""
        assert plain is not None
        layout = view.layouts[doc]
        visual = torch.cat([image.indices(query.device) for image in layout.images])
        images = query[None, :, visual], key[None, :, visual], value[None, :, visual]
        log, end = math.log(self.sigma), 0
        for image in layout.images:
            start, end = end, end + image.length
            rows, later = visual[start:end], [x[:, :, end:] for x in images[1:]]
            parts = [Attended(plain.out[None, :, rows], plain.lse[None, :, rows])]
            pairs = torch.full((image.length,), len(visual) - end, device=query.device)
            if end < len(visual):
                parts.append(attend_with_lse(images[0][:, :, start:end], *later, scale=scale, causal=False))
            if self.own_image and image.length > 1:
                parts.append(_behind(*(x[:, :, start:end] for x in images), scale=scale))
                pairs = pairs + torch.arange(image.length - 1, -1, -1, device=query.device)
            if len(parts) > 1:
                out, lse = merge_with_lse(parts, [0.0, *(log for _ in parts[1:])])
                yield Edited(rows, out[0], lse[0], pairs)


def _behind(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Attended:
    """Attention of each row over the keys behind it: causal attention of the reversed sequence.

    Args:
        query: (B, H, P, D), P at least 2.
        key: (B, KV, P, D).
        value: (B, KV, P, D).
        scale: factor on the scores.

    Returns:
        (B, H, P, D) and (B, H, P); the last row, with no key, has zeros and a lse of -inf.
    """
    turned = (query[:, :, :-1].flip(2), key[:, :, 1:].flip(2), value[:, :, 1:].flip(2))
    out, lse = attend_with_lse(*turned, scale=scale, causal=True)
    pad = torch.nn.functional.pad
    return Attended(pad(out.flip(2), (0, 0, 0, 1)), pad(lse.flip(2), (0, 1), value=-math.inf))
