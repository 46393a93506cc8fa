"""`mimic show`: the page shows the docs as they are, opens offline and trusts no text."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mimic_eval.records import TASK_KINDS, UserError
from mimic_tasks.build import BuildOptions, build
from mimic_tasks.show import summarize_folder
from mimic_tasks.show.page import render_page
from tests.makers.coco import MadeCoco, make_coco

HOSTILE = '<img src=x onerror="alert(1)"> & co'


class Page(HTMLParser):
    """The start tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def made_folder(made: MadeCoco, out: Path, **changes: object) -> Path:
    build(BuildOptions((made.annotations,), (made.images,), out, docs=12, **changes), progress=False)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def tasks(made_coco: MadeCoco, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_folder(made_coco, tmp_path_factory.mktemp("show") / "tasks")


@pytest.fixture(scope="module")
def page(tasks: Path) -> Page:
    return Page(render_page(summarize_folder(tasks)))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    from mimic_eval import cli

    monkeypatch.setattr("sys.argv", ["mimic", "show", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_summary_is_json_and_a_second_one_is_the_same(tasks: Path) -> None:
    first, second = (json.dumps(dataclasses.asdict(summarize_folder(tasks))) for _ in range(2))
    assert first == second
    assert json.loads(first)["seed"] == 0


def test_each_doc_is_shown_with_its_images_in_order(tasks: Path) -> None:
    for part in summarize_folder(tasks).tasks:
        rows = pq.read_table(tasks / part.kind / "test.parquet").to_pylist()
        assert [doc.id for doc in part.docs] == [row["id"] for row in rows]
        for doc, row in zip(part.docs, rows, strict=True):
            assert (doc.question, doc.answer) == (row["question"], row["gt"])
            assert [image.image_id for image in doc.images] == [str(i) for i in row["image_ids"]]
            shown = [[(box.label, box.x, box.target) for box in image.boxes] for image in doc.images]
            assert shown == [[(b["class"], b["x"], b["target"]) for b in of] for of in row["boxes"]]


def test_the_charts_count_every_doc_also_those_beyond_the_limit(tasks: Path) -> None:
    manifest = json.loads((tasks / "manifest.json").read_text())["tasks"]
    for part in summarize_folder(tasks, limit=3).tasks:
        assert (len(part.docs), part.total) == (3, 12)
        for chart, name in zip(part.charts, ("answers", "sizes", "spreads"), strict=True):
            assert {bar.label: bar.count for bar in chart.bars} == manifest[part.kind][name]
            assert max(bar.length for bar in chart.bars) == 1


def test_a_picture_that_many_docs_show_is_on_the_page_once(tasks: Path, page: Page) -> None:
    pictures = [str(tag["href"]) for tag in page.of("image")]
    uses = [str(tag["href"]) for tag in page.of("use")]
    assert len(set(pictures)) == len(pictures) < len(uses)
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in pictures)
    assert set(uses) == {f"#{tag['id']}" for tag in page.of("image")}


def test_the_page_asks_for_nothing_from_outside(tasks: Path, page: Page) -> None:
    text = render_page(summarize_folder(tasks))
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert "url(" not in text
    assert all("src" not in attributes for _, attributes in page.tags)
    assert not page.of("link")
    assert all(str(a["href"]).startswith(("#", "data:")) for _, a in page.tags if "href" in a)


def test_every_picture_has_a_text_that_says_what_is_in_it(page: Page) -> None:
    drawn = [tag for tag in page.of("svg") if tag.get("role") == "img"]
    assert all(tag["aria-label"] for tag in drawn)
    assert any(
        re.fullmatch(r"Image 1 of \d+, id \d+: \d .*\(target\).*", str(t["aria-label"])) for t in drawn
    )


def test_the_page_is_whole_without_scripts(page: Page) -> None:
    assert [a for a in page.of("form") if "hidden" in a] == page.of("form")  # filters need the script
    assert not [a for a in page.of("article") if "hidden" in a]
    assert {str(a["id"]) for a in page.of("input") if a["type"] == "radio"} == {
        "boxes-all", "boxes-targets", "boxes-none",
    }  # fmt: skip


def test_a_hostile_class_name_is_text_and_never_markup(tmp_path: Path) -> None:
    made = make_coco(tmp_path / "coco")
    data = json.loads(made.annotations.read_text())
    for record in data["categories"]:
        if record["name"] == "dog":
            record["name"] = HOSTILE
    made.annotations.write_text(json.dumps(data))
    folder = made_folder(made, tmp_path / "t", tasks=("counting",), label="</title><script>alert(2)</script>")
    text = render_page(summarize_folder(folder))
    page = Page(text)
    assert HOSTILE in page.text
    assert not page.of("img")
    assert len(page.of("script")) == 1
    assert not [
        attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)
    ]
    assert "</title><script>" not in text


def test_a_picture_that_cannot_be_decoded_is_named_and_the_rest_is_shown(tasks: Path, tmp_path: Path) -> None:
    table = pq.read_table(tasks / "common/test.parquet")
    rows = table.to_pylist()
    rows[0]["images"][0]["bytes"] = b"no picture"
    (tmp_path / "t/common").mkdir(parents=True)
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "t/common/test.parquet")
    summary = summarize_folder(tmp_path / "t")
    first, second, *_ = summary.tasks[0].docs[0].images
    assert first.source is None
    assert str(second.source).removeprefix("#") in summary.pictures
    assert (
        "Cannot be shown: not a JPEG, PNG, WebP, BMP, TIFF or GIF picture" in Page(render_page(summary)).text
    )


def test_the_command_writes_the_page_and_overwrites_only_with_force(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, tasks, "--task", "mimic_common", "--limit", "2") == 0
    assert "mimic_common: 2 of 12 docs shown" in capsys.readouterr().out
    written = (tmp_path / "tasks.html").read_text()
    assert len(Page(written).of("article")) == 2
    assert run(monkeypatch, tasks) == 2
    assert "exists: --overwrite replaces it" in capsys.readouterr().err
    assert (tmp_path / "tasks.html").read_text() == written
    assert run(monkeypatch, tasks, "--force") == 0
    assert len(Page((tmp_path / "tasks.html").read_text()).of("article")) == 12 * len(TASK_KINDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["."], "holds no task"),
        (["missing"], "no such folder"),
        (["{tasks}", "--limit", "0"], "--docs must be at least 1, got 0"),
        (["{tasks}", "--task", "comon"], "Unknown task 'comon'. Did you mean 'common'?"),
        (["{tasks}", "--out", "."], "is a folder: name a file"),
        (["{tasks}", "--out", "no/where.html"], "no such folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *(argument.format(tasks=tasks) for argument in arguments)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_task_that_the_folder_lacks_is_named(made_coco: MadeCoco, tmp_path: Path) -> None:
    folder = made_folder(made_coco, tmp_path / "t", tasks=("common",))
    with pytest.raises(UserError, match=r"Unknown task 'oddone'\. Valid: common"):
        summarize_folder(folder, kinds=["oddone"])
