"""Where the tokens of an image lie in its picture, against the real processors and packing."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_adapters.models import LlavaOvMask
from model_adapters.relevance.places import (
    TokenPlaces,
    any_resolution,
    grid,
    joined,
    nowhere,
    padded_square,
    pooled,
    tiles,
    with_newlines,
)
from tests.makers.boxes import boxes, hit, plain


def test_a_grid_fills_the_picture_row_by_row() -> None:
    places = grid(2, 3)
    assert places.length == 6
    assert places.token.tolist() == list(range(6))
    torch.testing.assert_close(places.parts[4], torch.tensor([1 / 3, 0.5, 2 / 3, 1.0], dtype=torch.float64))
    torch.testing.assert_close(places.centres[2], torch.tensor([5 / 6, 0.25], dtype=torch.float64))


def test_a_token_is_grounded_if_it_shares_area_with_a_box_and_not_an_edge() -> None:
    places = grid(3, 3)
    third = 1 / 3
    assert hit(places, (third, third, 2 * third, 2 * third)) == [4]
    assert hit(places, (third - 0.01, third, 2 * third, 2 * third)) == [3, 4]
    assert hit(places, (0, 0, 1, 1)) == list(range(9))
    assert hit(places, (0.1, 0.1, 0.11, 0.11), (0.9, 0.9, 1, 1)) == [0, 8]
    assert hit(places, (0.1, 0.1, 0.1, 0.9)) == []  # a box without area
    assert hit(places) == []
    for side in (5, 7, 13, 27):
        for i in range(side):
            assert hit(grid(side, side), (i / side, 0, (i + 1) / side, 1 / side)) == [i]
    for tenth in range(1, 8):  # edges meet whatever rounding says
        start, step = tenth / 10, (1 - tenth / 10) / 30
        shifted = grid(1, 10, view=(start, 0, start + 10 * step, 1))
        for i in range(10):
            assert hit(shifted, (start + i * step, 0, start + (i + 1) * step, 1)) == [i]


def test_overlap_is_that_of_a_slow_loop_on_random_boxes() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((1, 1), (3, 5), (8, 2)):
        corners = torch.rand(4, 2, 2, generator=generator, dtype=torch.float64).sort(dim=1).values
        own = corners.reshape(-1, 4)
        places = grid(rows, columns)
        want = []
        for i in range(rows):
            for j in range(columns):
                x = [min((j + 1) / columns, b[2]) - max(j / columns, b[0]) for b in own.tolist()]
                y = [min((i + 1) / rows, b[3]) - max(i / rows, b[1]) for b in own.tolist()]
                want.append(any(a > 0 and c > 0 for a, c in zip(x, y, strict=True)))
        assert places.overlapping(own).tolist() == want


def test_newline_tokens_are_never_grounded() -> None:
    places = joined([grid(2, 2), nowhere(1)])
    assert places.is_place.tolist() == [True] * 4 + [False]
    assert hit(places, (0, 0, 1, 1)) == [0, 1, 2, 3]
    rows = with_newlines(grid(2, 3), 3)
    assert rows.is_place.tolist() == [True, True, True, False] * 2
    assert rows.parts[3:].tolist() == grid(2, 3).parts[3:].tolist()


def test_a_padded_square_shows_the_picture_where_the_processor_put_it(tiny: Path) -> None:
    """The places are measured: one bright cell of the picture at a time goes through the real processor."""
    family = LlavaOvMask(pretrained=str(tiny), mask="none").family
    processor = family.processor
    for height, width in ((48, 96), (96, 48), (48, 48), (40, 97)):
        picture = plain((width, height))
        places = family.places({}, [[picture, picture]])[0][0]
        black = processor.image_processor(
            images=[[plain((width, height)), plain((width, height))]], return_tensors="pt"
        )["pixel_values"][0, 0]
        for x0, y0 in ((0, 0), (width - 8, height - 8), (width // 2 - 4, height // 2 - 4)):
            lit = plain((width, height))
            lit.paste((255, 255, 255), (x0, y0, x0 + 8, y0 + 8))
            pixels = processor.image_processor(images=[[lit, lit]], return_tensors="pt")["pixel_values"][0, 0]
            light = (pixels - black).abs().sum(0).reshape(6, 8, 6, 8).sum((1, 3)).flatten()
            box = boxes((x0 / width, y0 / height, (x0 + 8) / width, (y0 + 8) / height))
            want = places.overlapping(box)[:-1]
            assert not places.is_place[-1]  # the newline
            assert want[light > 0.05 * light.sum()].all()  # bicubic resizing spills a little
            assert want[light.argmax()]
        off = black.sum(0).reshape(6, 8, 6, 8)
        padding = (off.amax((1, 3)) == off.amin((1, 3))) & (off.amax((1, 3)) > off.min() + 1)
        assert not places.is_place[:-1][padding.flatten()].any()


def test_tokens_over_the_padding_are_cut_at_the_pictures_edge() -> None:
    places = padded_square(3, 3, size=(50, 100))  # the picture is in the middle half
    assert places.is_place.all()
    torch.testing.assert_close(places.parts[0], torch.tensor([0, 0, 1 / 3, 1 / 6], dtype=torch.float64))
    assert padded_square(4, 4, size=(50, 100)).is_place.tolist() == [False] * 4 + [True] * 8 + [False] * 4
    assert padded_square(9, 9, size=(70, 70)).parts.equal(grid(9, 9).parts)


def test_tile_tokens_go_by_their_place_in_the_whole_picture_and_the_thumbnail_is_the_whole() -> None:
    places = tiles(2, 3, tokens=(2, 2), thumbnail=True)
    assert places.length == 7 * 4
    assert hit(places, (0.34, 0.51, 0.49, 0.74)) == [4 * 4, 24 + 2]  # tile (1, 1), its first token
    whole = grid(4, 6)  # the tiles' tokens are a grid in another order
    order = [
        (2 * r + i) * 6 + 2 * c + j for r in range(2) for c in range(3) for i in range(2) for j in range(2)
    ]
    torch.testing.assert_close(places.parts[:24], whole.parts[order])
    torch.testing.assert_close(places.parts[24:], grid(2, 2).parts)
    assert tiles(1, 1, tokens=(16, 16), thumbnail=False).parts.equal(grid(16, 16).parts)


def gradient(size: tuple[int, int]) -> Image.Image:
    """Red grows from left to right, green from top to bottom, both from 0 to 255."""
    x, y = (np.linspace(0, 255, side) for side in size)
    red, green = np.meshgrid(x, y)
    return Image.fromarray(np.stack([red, green, 0 * red], axis=-1).round().astype(np.uint8))


def test_internvls_tokens_lie_as_its_processor_and_pixel_shuffle_put_them() -> None:
    from transformers import GotOcr2ImageProcessor
    from transformers.models.internvl.modeling_internvl import InternVLModel

    processor = GotOcr2ImageProcessor(
        size={"height": 64, "width": 64},
        crop_to_patches=True,
        max_patches=6,
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
    )
    made = processor(images=gradient((300, 200)), return_tensors="pt")
    assert made["pixel_values"].shape[0] == 3 * 2 + 1
    patches = made["pixel_values"].reshape(7, 3, 8, 8, 8, 8).mean((3, 5)).permute(0, 2, 3, 1).contiguous()
    merged = InternVLModel.pixel_shuffle(None, patches, 0.5).reshape(7 * 16, 4, 3).mean(1)
    places = tiles(2, 3, tokens=(4, 4), thumbnail=True)
    assert (places.centres - merged[:, :2]).abs().max() < 0.02


def test_qwens_merged_tokens_are_a_grid_over_the_picture() -> None:
    from transformers import Qwen2VLImageProcessor

    processor = Qwen2VLImageProcessor(patch_size=14, merge_size=2, image_mean=[0, 0, 0], image_std=[1, 1, 1])
    made = processor(images=gradient((280, 168)), return_tensors="pt")
    _, rows, columns = made["image_grid_thw"][0].tolist()
    merged = made["pixel_values"].reshape(-1, 4, 3, 2 * 14 * 14).mean((1, 3))
    places = grid(rows // 2, columns // 2)
    assert places.length == len(merged) == 6 * 10
    assert (places.centres - merged[:, :2]).abs().max() < 0.02


PINPOINTS = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]
SIZES = [(480, 640), (640, 480), (97, 1003), (1003, 97), (384, 384), (2000, 1500), (30, 30), (333, 800)]


def places_of_one(size: tuple[int, int], pinpoints: list[list[int]], tile: int, tokens: int) -> TokenPlaces:
    from transformers.image_processing_utils import select_best_resolution

    canvas = select_best_resolution(size, pinpoints)
    return any_resolution(size=size, canvas=canvas, tile=tile, tokens=tokens, most_tiles=9)


@pytest.mark.parametrize("size", SIZES)
def test_any_resolution_has_the_tokens_and_places_that_the_model_packs(size: tuple[int, int]) -> None:
    """transformers' own packing is run on features that hold each token's place on the canvas."""
    from transformers import LlavaOnevisionConfig
    from transformers.image_processing_utils import select_best_resolution
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

    config = LlavaOnevisionConfig(image_grid_pinpoints=PINPOINTS)
    config.vision_config.image_size, config.vision_config.patch_size = 384, 14
    side = 27
    height, width = select_best_resolution(size, PINPOINTS)
    rows, columns = height // 384, width // 384
    y, x = torch.meshgrid(
        (torch.arange(rows * side) + 0.5) / (rows * side) * height,
        (torch.arange(columns * side) + 0.5) / (columns * side) * width,
        indexing="ij",
    )
    scale = min(width / size[1], height / size[0])
    shown = min(math.ceil(size[0] * scale), height), min(math.ceil(size[1] * scale), width)
    shown = (shown[0], width) if width / size[1] < height / size[0] else (height, shown[1])
    place = torch.stack(
        [(x - (width - shown[1]) // 2) / shown[1], (y - (height - shown[0]) // 2) / shown[0]], dim=-1
    )
    tiled = (
        place.reshape(rows, side, columns, side, 2).transpose(1, 2).reshape(rows * columns, side * side, 2)
    )
    base = grid(side, side).centres.float()[None]
    packed, _ = LlavaOnevisionModel.pack_image_features(
        type("Model", (), {"config": config})(),
        [torch.cat([base, tiled])],
        torch.tensor([size]),
        image_newline=torch.full((2,), torch.nan),
    )
    places = places_of_one(size, PINPOINTS, 384, side)
    assert len(packed[0]) == places.length
    newline = packed[0].isnan().any(dim=-1)
    assert not places.is_place[newline].any()
    inside = ((packed[0] > 0) & (packed[0] < 1)).all(dim=-1)
    assert places.is_place[inside].all()
    at = torch.zeros(places.length, 2, dtype=torch.float64)
    at[places.token] = places.centres
    extent = torch.zeros(places.length, 2, dtype=torch.float64)
    extent[places.token] = places.parts[:, 2:] - places.parts[:, :2]
    base_view = torch.arange(places.length) < side * side
    full = torch.where(base_view[:, None], 1 / side, extent[inside & ~base_view].median(dim=0).values)
    whole = inside & (extent > 0.999 * full).all(dim=-1)  # a token cut at the picture's edge moves its centre
    assert whole[inside].float().mean() > 0.8
    # torch's bilinear shrinking takes the centres of the map's cells
    assert (at[whole] - packed[0][whole]).abs().max() < 2e-3


def test_any_resolution_fills_the_span_that_the_family_found(tiny: Path) -> None:
    family = LlavaOvMask(pretrained=str(tiny), mask="none").family
    for size in ((50, 80), (48, 48), (200, 31), (90, 100), (7, 300)):
        image = plain((size[1], size[0]))
        text = family.prompt([{"role": "user", "content": [{"type": "image"}]}])
        batch = family.prepare([[image]], [text])
        ((place,),) = family.places(batch.inputs, [[image]])
        assert batch.layouts[0].images[0].length == place.length


def test_a_pooled_token_is_where_its_tokens_are_and_not_in_between() -> None:
    places = pooled(joined([grid(3, 3), nowhere(1)]), 2, closing=1)
    assert places.length == 5 + 1
    assert places.token.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert hit(places, (0.4, 0.0, 0.6, 0.2)) == [0]  # tokens 0 and 1
    assert hit(places, (0.0, 0.4, 0.2, 0.6)) == [1]  # token 3, the first of the second row, with token 2
    assert hit(places, (0.4, 0.4, 0.6, 0.6)) == [2]  # not token 1, whose bounding box would hold the centre
    assert not places.is_place[5]
    means = places.mean(torch.arange(9.0))
    assert means.tolist() == [0.5, 2.5, 4.5, 6.5, 8.0, 0.0]


@pytest.mark.parametrize("factor", [1, 2, 5, 64])
def test_pooled_places_are_as_long_as_pooled_tokens(factor: int) -> None:
    from model_adapters.pooling import pool_sequence

    for rows, columns in ((1, 1), (3, 4), (5, 7)):
        tokens = rows * columns
        places = pooled(joined([grid(rows, columns), nowhere(1)]), factor, closing=1)
        windows = pool_sequence(torch.arange(float(tokens))[:, None], factor)
        assert places.length == len(windows) + 1
        mean = places.mean(torch.arange(float(tokens)))
        torch.testing.assert_close(mean[:-1], windows[:, 0])


def test_a_pooled_window_of_newlines_alone_is_not_of_a_place() -> None:
    assert pooled(nowhere(4), 2).is_place.tolist() == [False, False]
    assert pooled(with_newlines(grid(2, 1), 1), 2).is_place.tolist() == [True, True]
