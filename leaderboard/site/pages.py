"""Records to HTML; every text in it is escaped, and it makes no request to the outside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leaderboard.sentences import points
from leaderboard.site.charts import FEW
from leaderboard.site.controls import NOT_CONTROLLED
from leaderboard.site.looks import DARK, DASHES, LIGHT
from leaderboard.site.texts import measured, readable, unbroken
from leaderboard.site.untrusted import host_of
from mimic_eval.viewer import TEMPLATES

_TEMPLATES = Path(__file__).parent / "templates"

MENU = (
    ("Overview", "index.html"),
    ("Tasks and docs", "tasks.html"),
    ("Head to head", "pairs.html"),
    ("Robustness", "robustness.html"),
    ("Method", "method.html"),
)
WHY = ("Why", "why.html")
STUDIES = ("Studies", "studies.html")
ASSETS = ("tables.js", "charts.js", "filters.js", "overview.js", "docs.js", "pairs.js")


class Pages:
    """The site's templates.

    Args:
        title: of the site.
        menu: names and files of its pages.
        url: where the site will be, ending with a slash; pages then name their address and a picture.
        picture: the file of that picture, or empty for none.
    """

    def __init__(
        self, title: str, *, menu: Sequence[tuple[str, str]] = MENU, url: str = "", picture: str = ""
    ) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self._environment = Environment(
            loader=FileSystemLoader([_TEMPLATES, TEMPLATES]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            readable=readable, unbroken=unbroken, points=points, measured=measured, host=host_of
        )
        self._environment.globals.update(not_controlled=NOT_CONTROLLED, few=FEW)
        self.site = {"title": title, "pages": menu, "url": url, "picture": picture}

    def render(self, template: str, name: str, **values: Any) -> str:
        """A page.

        Args:
            template: its name without ``.html.j2``.
            name: of the file, below the site.
            **values: what the template shows.
        """
        root = "../" * name.count("/")
        page = self._environment.get_template(f"{template}.html.j2")
        return page.render(site=self.site, root=root, here=name, **values)

    def load(self, template: str) -> None:
        """Compile a template before processes start, each of which would.

        Args:
            template: as in `render`.
        """
        self._environment.get_template(f"{template}.html.j2")

    def assets(self) -> Mapping[str, str]:
        """The style and the scripts, by name."""
        style = self._environment.get_template("site.css").render(light=LIGHT, dark=DARK, dashes=DASHES)
        scripts = {name: (_TEMPLATES / name).read_text(encoding="utf-8") for name in ASSETS}
        return {"site.css": style, **scripts}
