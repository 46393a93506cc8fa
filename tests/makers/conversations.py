"""Small pictures and conversations in LLaVA's JSON."""

import json
from pathlib import Path

from PIL import Image

COUNTS = (2, 3, 1, 0, 2, 4, 1, 2)
"""Images of each sample."""


def make_conversations(out: Path) -> Path:
    """Eight samples of 0 to 4 images, some of two turns, one with two images within its second question.

    Args:
        out: the folder for the pictures and ``data.json``.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        picture = Image.effect_noise((40 + 8 * number, 48), 70 + number).convert("RGB")
        picture.putpixel((0, 0), (255, number, 0))
        picture.save(out / f"{number}.png")
    records = []
    for i, n in enumerate(COUNTS):
        turns = [("human", "<image>\n" * n + f"How many cats, {i}?"), ("gpt", f"{i} cats")]
        if i % 3 == 0:
            turns += [("human", "And dogs?"), ("gpt", "none")]
        if i == 4:
            turns += [("human", "Compare <image> with <image>, please."), ("gpt", "a dog")]
        names = [f"{(i + j) % 5}.png" for j in range(n + 2 * (i == 4))]
        said = [{"from": role, "value": text} for role, text in turns]
        records.append({"id": f"s{i}", **({"image": names} if names else {}), "conversations": said})
    (out / "data.json").write_text(json.dumps(records, indent=0))
    return out / "data.json"
