"""Where the tokens of an image lie in its picture (METHODS 7): families describe it with these functions.

Coordinates are normalised: (0, 0) is the picture's top left corner, (1, 1) its bottom right. Grids are
row by row. A token has *parts*: one for a token of a grid, none for a token that is not of a place (newline
tokens, padding around the picture), several for a token that was pooled from several.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Rectangle = tuple[float, float, float, float]
"""x0, y0, x1, y1."""

WHOLE: Rectangle = (0.0, 0.0, 1.0, 1.0)
_TOUCH = 1e-6  # of a side: rectangles that share an edge do not overlap, whatever rounding says


class TokenPlaces(NamedTuple):
    """Where the tokens of one image's span lie.

    Attributes:
        length: P, tokens of the span.
        parts: float64 (R, 4), rectangles x0, y0, x1, y1 within 0-1, each of positive area.
        token: int64 (R,), the token of each part, 0..P-1, rising.
    """

    length: int
    parts: Tensor
    token: Tensor

    @property
    def is_place(self) -> Tensor:
        """bool (P,), True = the token shows a part of the picture."""
        hit_tokens = torch.zeros(self.length, dtype=torch.bool)
        hit_tokens[self.token] = True
        return hit_tokens

    @property
    def centres(self) -> Tensor:
        """float64 (R, 2), x and y of each part's centre."""
        return (self.parts[:, :2] + self.parts[:, 2:]) / 2

    def overlapping(self, boxes: Tensor) -> Tensor:
        """The tokens that share area with a box; a common edge is none.

        Args:
            boxes: (n, 4), x0, y0, x1, y1, normalised.

        Returns:
            bool (P,).
        """
        boxes = boxes.to(self.parts)
        corner0 = torch.maximum(self.parts[:, None, :2], boxes[None, :, :2])
        corner1 = torch.minimum(self.parts[:, None, 2:], boxes[None, :, 2:])
        hit = (corner1 - corner0 > _TOUCH).all(dim=-1).any(dim=-1)
        hit_tokens = torch.zeros(self.length, dtype=torch.bool)
        hit_tokens[self.token[hit]] = True
        return hit_tokens

    def under(self, mask: Tensor) -> Tensor:
        """The tokens that share area with a pixel of a mask; a common edge is none.

        Args:
            mask: bool (h, w), of all of the picture.

        Returns:
            bool (P,).
        """
        sides = torch.tensor([mask.shape[1], mask.shape[0]], dtype=torch.float64)
        sums = torch.nn.functional.pad(mask.long().cumsum(0).cumsum(1), (1, 0, 1, 0))  # of all above and left
        x0, y0 = ((self.parts[:, :2] + _TOUCH) * sides).floor().long().unbind(-1)
        x1, y1 = ((self.parts[:, 2:] - _TOUCH) * sides).ceil().long().unbind(-1)
        hit = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0] > 0
        hit_tokens = torch.zeros(self.length, dtype=torch.bool)
        hit_tokens[self.token[hit]] = True
        return hit_tokens

    def mean(self, values: Tensor) -> Tensor:
        """The mean over each token's parts; 0 for a token that is not of a place.

        Args:
            values: (R,), of each part.

        Returns:
            (P,), in the dtype of `values`.
        """
        total = values.new_zeros(self.length).index_add_(0, self.token, values)
        return total / torch.bincount(self.token, minlength=self.length).clamp(min=1)


def nowhere(count: int) -> TokenPlaces:
    """Tokens that are not of a place, such as newline tokens."""
    return TokenPlaces(count, torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))


def grid(rows: int, columns: int, *, view: Rectangle = WHOLE) -> TokenPlaces:
    """A grid of tokens, row by row: base views, thumbnails, tiles, and Qwen's merged patches.

    Args:
        rows: of tokens (Qwen: patch rows / merge size).
        columns: of tokens.
        view: what the grid shows, in the picture's coordinates. It may reach beyond the picture: the tokens
            at its border are cut at the picture's edge, and tokens outside of it are not of a place.
    """
    x0, y0, x1, y1 = view
    x = x0 + (x1 - x0) * torch.arange(columns + 1, dtype=torch.float64) / columns
    y = y0 + (y1 - y0) * torch.arange(rows + 1, dtype=torch.float64) / rows
    top, left = torch.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = torch.meshgrid(y[1:], x[1:], indexing="ij")
    parts = torch.stack([left, top, right, bottom], dim=-1).reshape(-1, 4).clamp(0, 1)
    token = (parts[:, 2:] - parts[:, :2] > _TOUCH).all(dim=-1).nonzero().flatten()
    return TokenPlaces(rows * columns, parts[token], token)


def joined(pieces: Sequence[TokenPlaces]) -> TokenPlaces:
    """Pieces of one span, one after the other."""
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + piece.length)
    return TokenPlaces(
        starts[-1],
        torch.cat([piece.parts for piece in pieces]),
        torch.cat([piece.token + start for piece, start in zip(pieces, starts, strict=False)]),
    )


def padded_square(rows: int, columns: int, *, size: tuple[int, int]) -> TokenPlaces:
    """A grid over the picture padded to a square: LLaVA-OneVision's base view where it shows several images.

    Args:
        rows: of tokens.
        columns: of tokens.
        size: height and width of the picture in pixels. The larger half of an odd padding is at the
            bottom or right, as the processor does it.
    """
    height, width = size
    side = max(size)
    left, top = (side - width) // 2, (side - height) // 2
    view = (-left / width, -top / height, (side - left) / width, (side - top) / height)
    return grid(rows, columns, view=view)


def tiles(rows: int, columns: int, *, tokens: tuple[int, int], thumbnail: bool) -> TokenPlaces:
    """A picture resized to rows x columns tiles, tile after tile, and maybe a thumbnail of it (InternVL).

    Args:
        rows: of tiles.
        columns: of tiles.
        tokens: rows and columns of tokens in a tile and in the thumbnail; (16, 16) for a 448-pixel tile.
        thumbnail: a view of all of the picture follows the tiles.
    """
    views = [
        (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]
    return joined([grid(*tokens, view=view) for view in (*views, *([WHOLE] if thumbnail else []))])


def any_resolution(
    *, size: tuple[int, int], canvas: tuple[int, int], tile: int, tokens: int, most_tiles: float
) -> TokenPlaces:
    """LLaVA-NeXT's images, LLaVA-OneVision's only image: base view, then a map with newlines after its rows.

    The picture is fitted into the canvas, centred, cut into tiles; their tokens make one map, whose padding
    is cut off again in units of tokens, and which is shrunk if it holds many more than `most_tiles` tiles
    (transformers: `LlavaOnevisionImageProcessor._pad_for_patching`, `pack_image_features`, `unpad_image`).

    Args:
        size: height and width of the picture in pixels.
        canvas: height and width of the chosen pinpoint (`select_best_resolution`), multiples of `tile`.
        tile: pixels a side of a tile.
        tokens: a side of a tile; 27 for 384 pixels.
        most_tiles: of ``anyres_max_9``: 9; LLaVA-NeXT's map is never shrunk: infinity.
    """
    fitted = _fitted(size, canvas)
    rows, columns = (side // tile * tokens for side in canvas)
    cut_rows, cut_columns = _token_padding(size, rows, columns)
    pixels = tile / tokens
    starts = [
        (side - extent) // 2 for side, extent in zip(canvas, fitted, strict=True)
    ]  # of the picture on the canvas
    y0, y1 = ((row * pixels - starts[0]) / fitted[0] for row in (cut_rows, rows - cut_rows))
    x0, x1 = ((column * pixels - starts[1]) / fitted[1] for column in (cut_columns, columns - cut_columns))
    rows, columns = rows - 2 * cut_rows, columns - 2 * cut_columns
    ratio = math.sqrt(rows * columns / (most_tiles * tokens**2))
    if ratio > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    feature_map = grid(rows, columns, view=(x0, y0, x1, y1))
    return joined([grid(tokens, tokens), with_newlines(feature_map, columns)])


def without_first(places: TokenPlaces) -> TokenPlaces:
    """The same without the first token, which the decoder does not get."""
    rest = places.token > 0
    return TokenPlaces(places.length - 1, places.parts[rest], places.token[rest] - 1)


def with_newlines(places: TokenPlaces, columns: int) -> TokenPlaces:
    """A token that is not of a place after each row of a grid.

    Args:
        places: a grid's, a multiple of `columns` tokens.
        columns: of the grid.
    """
    token = places.token + places.token // columns
    return TokenPlaces(places.length + places.length // columns, places.parts, token)


def pooled(places: TokenPlaces, factor: int, *, closing: int = 0) -> TokenPlaces:
    """The places after 1-D pooling (METHODS 2): a pooled token has the parts of all its tokens.

    Args:
        places: of the sequence before pooling.
        factor: window and stride; the last window may hold fewer.
        closing: tokens at the end that are not pooled (`Family.closing_tokens`).
    """
    end = places.length - closing
    windows = -(-end // factor)
    token = torch.where(places.token < end, places.token // factor, places.token - end + windows)
    return TokenPlaces(windows + closing, places.parts, token)


def _fitted(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture scaled into a canvas (transformers: `get_patch_output_size`)."""
    scale_height, scale_width = canvas[0] / size[0], canvas[1] / size[1]
    if scale_width < scale_height:
        return min(math.ceil(size[0] * scale_width), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(size[1] * scale_height), canvas[1])


def _token_padding(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """Rows cut at top and bottom, and columns cut at left and right (transformers: `unpad_image`)."""
    height, width = size
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2
