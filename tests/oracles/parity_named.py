"""The named families beside those of the parity table: spans and places, known without our code."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.makers.parity_docs import INTERNVL_TILES, QWEN_GRIDS, Doc, FamilyCase, Rectangle, Span, cells, runs

Places = list[Rectangle | None]
SIZES = ((80, 50), (60, 97), (64, 64), (40, 120))
"""Widths and heights."""


def each_run(ids: Sequence[int], token: int, images: int) -> list[list[Span]]:
    """Images of one run, with text between them."""
    return [[run] for run in runs(ids, token)]


def five_runs(ids: Sequence[int], token: int, images: int) -> list[list[Span]]:
    """Idefics2: four quarters of a picture, then the picture."""
    found = runs(ids, token)
    return [found[first : first + 5] for first in range(0, len(found), 5)]


def to_global(ids: Sequence[int], token: int, images: int) -> list[list[Span]]:
    """Idefics3: the last run of an image comes after <global-img>, two ids after <image>."""
    found: list[list[Span]] = [[]]
    for run in runs(ids, token):
        found[-1].append(run)
        if ids[run[0] - 1] == token + 2:
            found.append([])
    assert not found.pop()
    return found


def whole_grid(image: Image.Image, tokens: int, *, side: int, missing: int = 0) -> Places:
    """A square grid over a stretched picture, without its first tokens."""
    return cells(side, side, 0, 0, 1, 1)[missing:]


def anywhere(image: Image.Image, tokens: int) -> Places:
    """Latents: the tokens are of all of the picture."""
    return [(0.0, 0.0, 1.0, 1.0)] * tokens


def _qwen(image: Image.Image, tokens: int) -> Places:
    rows, columns = QWEN_GRIDS[image.size]
    return cells(rows, columns, 0, 0, 1, 1)


def _tiled(image: Image.Image, tokens: int, *, counts: dict[tuple[int, int], tuple[int, int]]) -> Places:
    """2 x 2 tokens a tile, and then 2 x 2 for all of the picture if it has several tiles."""
    rows, columns = counts[image.size]
    found: Places = []
    for r in range(rows):
        for c in range(columns):
            found += cells(2, 2, c / columns, r / rows, (c + 1) / columns, (r + 1) / rows)
    return found if rows * columns == 1 else found + cells(2, 2, 0, 0, 1, 1)


IDEFICS3_TILES = {(80, 50): (2, 2), (40, 120): (2, 1), (120, 40): (1, 2), (64, 64): (2, 2)}


def _cropped(image: Image.Image, tokens: int) -> Places:
    """CLIP: the shorter side becomes 32 pixels, and 32 x 32 in the middle are 4 x 4 tokens."""
    short, (width, height) = min(image.size), image.size
    across, down = short / width / 2, short / height / 2
    return cells(4, 4, 0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)


NEXT_MAPS: dict[tuple[int, int], tuple[int, int, Rectangle]] = {
    (80, 50): (2, 4, (0, 0.1, 1, 0.9)),  # 32 x 20 pixels on 32 x 32, of which 8 to 24 down are kept
    (60, 97): (4, 2, (0.1, 0, 0.9, 1)),  # 20 x 32 pixels on 32 x 32, of which 8 to 24 across are kept
    (64, 64): (4, 4, (0, 0, 1, 1)),
    (40, 120): (6, 2, (0, 0, 1, 1)),
}


def _next(image: Image.Image, tokens: int) -> Places:
    """LLaVA-NeXT: 2 x 2 tokens for all of the picture, then the tiles' map with newlines."""
    rows, columns, view = NEXT_MAPS[image.size]
    mapped, found = cells(rows, columns, *view), list[Rectangle | None](cells(2, 2, 0, 0, 1, 1))
    for r in range(rows):
        found += [*mapped[r * columns : (r + 1) * columns], None]
    return found


def _mantis_processor(checkpoint: Path) -> Any:
    """What Mantis' own processor does, for one word <image> per image."""
    from transformers import AutoTokenizer, LlavaProcessor, SiglipImageProcessor

    return LlavaProcessor(
        SiglipImageProcessor.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
        patch_size=8,
        vision_feature_select_strategy="default",
    )


def _mantis_prompt(doc: Doc) -> str:
    """By conversation.py and mllava/processing_llava.py of TIGER-AI-Lab/Mantis."""
    shown = "".join(f"(image {m + 1}: <Image><image></Image>)" for m in range(len(doc.images)))
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    system = "You are a pirate chatbot who always responds in pirate speak!"
    turns = [head.format("system") + system, head.format("user") + shown + doc.text]
    return "".join(turn + "<|eot_id|>" for turn in turns) + head.format("assistant")


def _made(name: str, **how: Any) -> Callable[..., None]:
    """A maker of tiny checkpoints."""

    def make(out: Path, **more: Any) -> None:
        from model_adapters import tiny

        getattr(tiny, f"make_tiny_{name}")(out, **how, **more)

    return make


NAMED: dict[str, FamilyCase] = {
    "qwen2_5_vl": FamilyCase("qwen2_5_vl", tuple(QWEN_GRIDS), each_run, _qwen),
    "qwen3_vl": FamilyCase("qwen3_vl", tuple(QWEN_GRIDS), each_run, _qwen),
    "internvl3_5": FamilyCase(
        "internvl",
        tuple(INTERNVL_TILES),
        each_run,
        partial(_tiled, counts=INTERNVL_TILES),
        make=_made("internvl", decoder="qwen3"),
    ),
    "gemma3": FamilyCase("gemma3", SIZES, each_run, partial(whole_grid, side=4)),
    "idefics2": FamilyCase("idefics2", SIZES, five_runs, anywhere, latents=True),
    "mantis_idefics2": FamilyCase(
        "idefics2",
        SIZES,
        each_run,
        anywhere,
        model="mantis_mask",
        make=_made("idefics2", splits=False),
        latents=True,
    ),
    "idefics3": FamilyCase(
        "idefics3", tuple(IDEFICS3_TILES), to_global, partial(_tiled, counts=IDEFICS3_TILES)
    ),
    "smolvlm": FamilyCase(
        "smolvlm", tuple(IDEFICS3_TILES), to_global, partial(_tiled, counts=IDEFICS3_TILES)
    ),
    "llava_1_5": FamilyCase("llava", SIZES, each_run, _cropped, make=_made("llava_1_5")),
    "llava_next": FamilyCase("llava_next", tuple(NEXT_MAPS), each_run, _next),
    "mantis": FamilyCase(
        "mantis",
        SIZES,
        each_run,
        partial(whole_grid, side=4, missing=1),
        processor=_mantis_processor,
        prompt=_mantis_prompt,
    ),
}
