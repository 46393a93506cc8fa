"""A page in a browser that records every request to the outside and every fault."""

from pathlib import Path
from typing import Any


class Visit:
    """A page of a site or a single file, and what was wrong with it.

    Args:
        browser: of the fixture of that name.
        root: the site's folder, or the file.
        **options: of the browser's context.
    """

    def __init__(self, browser: Any, root: Path, **options: Any) -> None:
        self.root = root
        self.page = browser.new_context(**options).new_page()
        self.wrong: list[str] = []
        self.page.on("request", self._requested)
        self.page.on("requestfailed", self._failed)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._logged)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.root.as_uri(), "data:", "blob:")):
            self.wrong.append(request.url)

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # a picture that was not loaded when the page was left
            self.wrong.append(f"{request.failure}: {request.url}")

    def _logged(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def open(self, name: str = "") -> Any:
        """A page of the site by its name and fragment, or the file."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.root.as_uri()}/{name}" if name else self.root.as_uri())
        return self.page

    def close(self) -> None:
        """End the visit, which must have been without a fault."""
        assert self.wrong == []
        self.page.context.close()
