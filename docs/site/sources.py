"""README.md, the pages of docs/ and what they link to, as Sphinx reads them."""

import json
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!`)(\[[^\]\n]*(?:\n[^\]\n]*)?\]\()([^)\s]+)(\))")
"""A Markdown link or picture: text, target, end."""
FENCE = re.compile(r"^(```+).*?^\1 *$", re.MULTILINE | re.DOTALL)


class BrokenLinkError(ValueError):
    """A link of a page to a file that does not exist."""


class Sources:
    """The folder that Sphinx reads, filled page by page.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._copied: set[Path] = set()

    def write(self, name: str, text: str) -> None:
        """Write a page that is made here."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def page(self, path: Path, *, after: str = "", orphan: bool = False) -> None:
        """Copy a page of the repository, and all files that it links to.

        A link whose text is the file's name gets the title of the page instead.

        Args:
            path: of a Markdown file or a notebook.
            after: text behind the page's.
            orphan: whether no table of contents names the page.

        Raises:
            BrokenLinkError: a link to a file that does not exist.
        """
        if path in self._copied:
            return
        self._copied.add(path)
        notebook = path.suffix == ".ipynb"
        text = notebook_text(path) if notebook else path.read_text(encoding="utf-8")
        name = self.name(path)
        blocks: list[str] = []

        def hide(match: re.Match[str]) -> str:
            blocks.append(match[0])
            return f"\0{len(blocks) - 1}\0"

        def linked(match: re.Match[str]) -> str:
            start = "[](" if match[1] == f"[{match[2]}](" and match[2].endswith(".md") else match[1]
            return f"{start}{self._target(path, match[2])}{match[3]}"

        text = LINK.sub(linked, FENCE.sub(hide, text))
        text = re.sub(r"\0(\d+)\0", lambda match: blocks[int(match[1])], text)
        self.write(name, ("---\norphan: true\n---\n" if orphan else "") + text + after)

    def name(self, path: Path) -> str:
        """The page that a file of the repository becomes."""
        if path == ROOT / "README.md":
            return "index.md"
        if path.parent == DOCS:
            return f"{path.stem}.md"
        if path.name == "README.md":
            return f"{path.parent.name}.md"
        return f"{path.stem}.md"

    def _target(self, path: Path, target: str) -> str:
        """A link's target in the site; files that are no pages are copied."""
        if re.match(r"[a-z]+:|#", target):
            return target
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve()
        if not there.exists():
            raise BrokenLinkError(f"{path.relative_to(ROOT)} links to {file}, which does not exist")
        if there.suffix in (".md", ".ipynb"):
            if there.parent != DOCS and there != ROOT / "README.md":
                self.page(there, orphan=there.name == "README.md")
            return f"/{self.name(there)}" + (f"#{anchor}" if anchor else "")
        at = Path("files") / there.relative_to(ROOT)
        (self.folder / at).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(there, self.folder / at)
        return f"/{at}"


def notebook_text(path: Path) -> str:
    """A notebook of plain Python as Markdown: its texts, its code, and what it prints."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join(line for output in cell["outputs"] for line in output["text"]).rstrip()
        if printed:
            parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"
