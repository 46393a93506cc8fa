"""Orders: a pass for each cyclic shift of a doc's images, whose logits are averaged (METHODS 5)."""

from dataclasses import replace
from typing import Any

from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.passes import Passes, PassInput


class Orders(NoIntervention):
    """The mean of the logits over cyclic shifts; see `OrderPasses`, whose argument this is."""

    name = "orders"

    def __init__(self, *, shifts: int | None = None) -> None:
        self._shifts = shifts
        self.passes = OrderPasses(shifts)

    def settings(self) -> dict[str, Any]:
        """`shifts`."""
        return {"shifts": "all" if self._shifts is None else str(self._shifts)}


class OrderPasses(Passes):
    """P passes over a doc of M images, each with the images in another cyclic shift; the text stays.

    All M shifts are taken in an order that is the same for every shift of the doc, so that not even rounding
    tells them apart: the answer cannot depend on which of them the doc is shown in.

    Args:
        shifts: P, or None for all M. Fewer than M begin with the doc's order and are spread evenly: pass k
            shifts by k M / P, rounded down.
    """

    def __init__(self, shifts: int | None) -> None:
        self.shifts = shifts

    def expand(self, doc: PassInput) -> tuple[PassInput, ...]:
        """See `Passes.expand`."""
        images = len(doc.pictures)
        if images < 2:
            return (doc,)
        if self.shifts is None or self.shifts >= images:
            hashes = [picture.sha256 for picture in doc.pictures]
            first = min(range(images), key=lambda start: hashes[start:] + hashes[:start])
            starts = [(first + number) % images for number in range(images)]
        else:
            starts = [number * images // self.shifts for number in range(self.shifts)]
        if starts == [0]:
            return (doc,)
        return tuple(
            replace(doc, pictures=doc.pictures[start:] + doc.pictures[:start], query=None) for start in starts
        )
