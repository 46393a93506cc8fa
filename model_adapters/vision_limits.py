"""How much of a picture a model may look at: limits of its processor as arguments (docs/models.md)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mimic_eval.records import UserError

if TYPE_CHECKING:
    from model_adapters.families.base import Family

LIMITS = ("min_pixels", "max_pixels", "max_tiles", "image_size")
"""Arguments; each is of the families that name it in `Family.limits`."""


def apply_limits(family: "Family", model: Any, given: Mapping[str, int]) -> None:
    """Set limits of a family's processor, and of the model where it computes with them.

    Args:
        family: around its processor.
        model: the model.
        given: by name, of `LIMITS`.

    Raises:
        UserError: a limit that the family does not have, or that it cannot keep.
    """
    for name, value in given.items():
        if name not in family.limits:
            has = f"it takes {', '.join(family.limits)}" if family.limits else "it takes no such limit"
            raise UserError(f"{name}={value} is not used by {family.name}: {has}")
    if given:
        family.set_limits(model, given)


def set_pixels(processor: Any, given: Mapping[str, int], *, least: int) -> None:
    """Limit the pixels of a picture (Qwen-VL): ``min_pixels``, ``max_pixels``.

    Args:
        processor: with an image processor whose `size` holds both.
        given: of the two.
        least: pixels of one token.

    Raises:
        UserError: fewer than a token, or a least above the most.
    """
    images = processor.image_processor
    low = given.get("min_pixels", images.size["shortest_edge"])
    high = given.get("max_pixels", images.size["longest_edge"])
    if high < least:
        raise UserError(f"max_pixels={high} is less than a token shows ({least} pixels)")
    if low > high:
        raise UserError(f"min_pixels={low} is more than max_pixels={high}")
    images.size = {"shortest_edge": low, "longest_edge": high}


def set_pinpoints(processor: Any, config: Any, most: int, *, tile: int) -> None:
    """Limit the tiles of a picture that is alone (LLaVA-OneVision) or of any picture (LLaVA-NeXT).

    Args:
        processor: with an image processor whose `image_grid_pinpoints` are the canvases in pixels.
        config: of the model, which computes with the same.
        most: tiles of the largest canvas that stays.
        tile: pixels a side of a tile.

    Raises:
        UserError: no canvas is that small.
    """
    images = processor.image_processor
    points = [point for point in images.image_grid_pinpoints if point[0] * point[1] <= most * tile * tile]
    if not points:
        least = min(height * width for height, width in images.image_grid_pinpoints) // tile**2
        raise UserError(f"max_tiles={most}: this checkpoint's smallest canvas has {least} tiles")
    images.image_grid_pinpoints = config.image_grid_pinpoints = points
