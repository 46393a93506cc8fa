"""The HTML page of a review: one file that opens without a network."""

import json
from dataclasses import asdict
from pathlib import Path

from mimic_tasks.review import Review


def render_review(review: Review) -> str:
    """The page as HTML; it holds no truth and makes no request to the outside."""
    from jinja2 import Environment, StrictUndefined

    template = (Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    data = {"id": review.id, "title": review.title, "docs": [asdict(doc) for doc in review.docs]}
    # Inside a script element only "<" could end it.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return environment.from_string(template).render(review=review, data=text)
