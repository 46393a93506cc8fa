"""The site of the documentation is built without a warning, holds what the code has, and opens offline."""

import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import stats
from mimic_eval.cli.overview import EXAMPLES
from mimic_eval.studies import packaged
from tests.browsing import Visit
from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / "docs/site"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs_site")
    done = command(BUILDER / "build.py", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    return out / "html"


def _text(page: Path) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8"))).split())


def test_every_command_is_in_the_reference_with_its_example(site: Path) -> None:
    pages = " ".join(_text(page) for page in (site / "commands").glob("*.html"))
    assert [name for name in EXAMPLES if f"mimic {name}¶" not in pages] == []
    assert [name for name, example in EXAMPLES.items() if example not in pages] == []
    assert "--n-images <str> Images per doc, a number or a range. [default: 2-6]" in pages
    assert "--output_path" in pages


def test_every_study_has_a_section_with_its_published_numbers(site: Path) -> None:
    pages = " ".join(_text(page) for page in (site / "studies").glob("*.html"))
    assert [name for name in packaged() if f"{name}: " not in pages] == []
    assert "LLaVA-OV-0.5B none 44.7 29.7 8.3 22.8 26.4" in pages


def test_every_public_name_is_documented(site: Path) -> None:
    import mimic_eval

    page = (site / "python/stats.html").read_text()
    assert [name for name in stats.__all__ if f'id="stats.{name}"' not in page] == []
    page = (site / "python/mimic_eval.html").read_text()
    names = [name for name in mimic_eval.__all__ if not name.startswith("__")]
    assert [name for name in names if f'id="mimic_eval.{name}"' not in page] == []
    assert "rule_of_three(" in _text(site / "python/stats.html")


def test_a_link_without_a_target_is_an_error(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "_static").mkdir(parents=True)
    shutil.copyfile(BUILDER / "conf.py", source / "conf.py")
    (source / "other.md").write_text("---\norphan: true\n---\n# Other\n\n## There\n")
    links = ("other.md#there", "nowhere.md", "other.md#nowhere", "#nowhere")
    (source / "index.md").write_text("# Page\n\n" + "\n\n".join(f"[link]({link})" for link in links))
    (tmp_path / "make.py").write_text(
        f"import sys\nfrom pathlib import Path\nsys.path.insert(0, {str(BUILDER)!r})\n"
        "from build import make_html\nraise SystemExit(make_html(Path('source'), Path('html')))\n"
    )
    done = command(tmp_path / "make.py", cwd=tmp_path)
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(warnings) == 3
    assert all("nowhere" in line for line in warnings)


def test_the_site_opens_from_disk_and_its_search_works(site: Path, browser: Any) -> None:
    visit = Visit(browser, site, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = visit.open("index.html")
    assert page.locator("h1").inner_text().startswith("mimic-eval")
    assert page.locator("img").first.evaluate("image => image.naturalWidth") > 0
    for name in ("models.html", "studies/ar.html", "python/stats.html", "commands/data.html"):
        wide = visit.open(name).evaluate("document.documentElement.scrollWidth")
        assert wide == 390, name
    page = visit.open("search.html?q=wilson")
    page.locator("#search-results li a", has_text="stats.wilson").first.click()
    assert page.url.startswith((site / "python/stats.html").as_uri())
    visit.close()
