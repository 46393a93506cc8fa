"""The picture that a link to the site is shown with (Open Graph), and the address it needs."""

import io
import re
from collections.abc import Sequence
from typing import Any

from mimic_eval.records import UserError

NAME = "images/share.jpg"
_SIZE = (1200, 630)
_GROUND, _INK, _SOFT = "#fafaf8", "#1d1f21", "#585d62"
_ASKS = "Do vision-language models reason over several images?"
_EDGE, _GAP, _TOP, _HIGH = 60, 20, 250, 320


def checked_url(url: str) -> str:
    """The address of a site, with a slash at its end; an empty one stays.

    Raises:
        UserError: no address of a web site.
    """
    if url and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[^\s\"'<>\\?#]*)?", url):
        raise UserError(
            f"--url must be the address of the site, as https://example.org/board/; got {url!r:.80}"
        )
    return f"{url.rstrip('/')}/" if url else ""


def share_picture(title: str, pictures: Sequence[bytes]) -> bytes:
    """A JPEG of 1200 x 630: the site's title, the question that it answers, and some images.

    Args:
        title: of the site.
        pictures: JPEGs, of which the first four are drawn.
    """
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", _SIZE, _GROUND)
    draw = ImageDraw.Draw(canvas)
    fonts: list[Any] = [ImageFont.load_default(size) for size in (64, 36)]
    room = _SIZE[0] - 2 * _EDGE
    shown = title
    while shown and draw.textlength(shown, fonts[0]) > room:
        shown = shown[:-2].rstrip() + "…" if len(shown) > 2 else ""
    draw.text((_EDGE, 60), shown, _INK, fonts[0])
    draw.text((_EDGE, 160), _ASKS, _SOFT, fonts[1])
    left = _EDGE
    for data in pictures[:4]:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        width = round(picture.width * _HIGH / picture.height)
        if left + width > _SIZE[0] - _EDGE:
            break
        canvas.paste(picture.resize((width, _HIGH), Image.Resampling.LANCZOS), (left, _TOP))
        left += width + _GAP
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=88)
    return out.getvalue()
