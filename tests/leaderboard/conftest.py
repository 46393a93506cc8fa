"""The site that the browser's tests look at, made once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import Visit
from tests.makers.site import make_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard with boards of every kind, some of its names and answers hostile."""
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Visit]:
    """A visit of the site, at whose end nothing must have gone wrong."""
    visit = Visit(browser, site)
    yield visit
    visit.close()
