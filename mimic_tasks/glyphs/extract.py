"""Extracts the packaged sprites from the Noto Color Emoji font: ``python extract.py FONT [--out FOLDER]``.

Nothing imports this file; README.md beside it says which font the packaged sprites were made from.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

STRIKE = 109
"""The one bitmap size of the font, in pixels per em."""

CODE_POINTS = {
    "person": 0x1F9CD,
    "bicycle": 0x1F6B2,
    "car": 0x1F697,
    "motorcycle": 0x1F3CD,
    "airplane": 0x2708,
    "bus": 0x1F68D,
    "train": 0x1F682,
    "truck": 0x1F69A,
    "boat": 0x26F5,
    "traffic light": 0x1F6A6,
    "stop sign": 0x1F6D1,
    "bird": 0x1F426,
    "cat": 0x1F408,
    "dog": 0x1F415,
    "horse": 0x1F40E,
    "sheep": 0x1F411,
    "cow": 0x1F404,
    "elephant": 0x1F418,
    "bear": 0x1F43B,
    "zebra": 0x1F993,
    "giraffe": 0x1F992,
    "backpack": 0x1F392,
    "umbrella": 0x2602,
    "handbag": 0x1F45C,
    "suitcase": 0x1F9F3,
    "frisbee": 0x1F94F,
    "sports ball": 0x26BD,
    "kite": 0x1FA81,
    "skateboard": 0x1F6F9,
    "bottle": 0x1F37E,
    "wine glass": 0x1F377,
    "cup": 0x2615,
    "knife": 0x1F52A,
    "spoon": 0x1F944,
    "bowl": 0x1F35A,
    "banana": 0x1F34C,
    "apple": 0x1F34E,
    "sandwich": 0x1F96A,
    "orange": 0x1F34A,
    "broccoli": 0x1F966,
    "carrot": 0x1F955,
    "hot dog": 0x1F32D,
    "pizza": 0x1F355,
    "donut": 0x1F369,
    "cake": 0x1F382,
    "chair": 0x1FA91,
    "couch": 0x1F6CB,
    "potted plant": 0x1FAB4,
    "bed": 0x1F6CF,
    "toilet": 0x1F6BD,
    "tv": 0x1F4FA,
    "laptop": 0x1F4BB,
    "mouse": 0x1F5B1,
    "cell phone": 0x1F4F1,
    "book": 0x1F4D6,
    "clock": 0x1F552,
    "vase": 0x1F3FA,
    "scissors": 0x2702,
    "toothbrush": 0x1FAA5,
}
"""COCO class name -> the emoji that shows it."""


def extract(font: Path, out: Path) -> None:
    """Write one RGBA PNG per class, trimmed to the glyph's alpha box, into `out`."""
    face = ImageFont.truetype(str(font), size=STRIKE, layout_engine=ImageFont.Layout.BASIC)
    for name, code_point in CODE_POINTS.items():
        sheet = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
        ImageDraw.Draw(sheet).text((20, 20), chr(code_point), font=face, embedded_color=True)
        # Pillow blends the glyph into transparent black, which leaves its colours multiplied by its alpha.
        sheet = Image.frombytes("RGBa", sheet.size, sheet.tobytes()).convert("RGBA")
        box = sheet.getchannel("A").getbbox()
        if box is None:
            raise SystemExit(f"{font} has no glyph for '{name}' (U+{code_point:X})")
        sheet.crop(box).save(out / f"{name.replace(' ', '_')}.png", optimize=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Extract the sprites of mimic scenes from Noto Color Emoji.")
    parser.add_argument("font", type=Path, help="NotoColorEmoji.ttf (the bitmap font, CBDT)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder [this one]")
    arguments = parser.parse_args()
    extract(arguments.font, arguments.out)


if __name__ == "__main__":
    main()
