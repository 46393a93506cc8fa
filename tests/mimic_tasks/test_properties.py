"""Random sources and requests: every doc of every build against an oracle that reads only the JSON.

Deterministic by default. To search wider, ``MIMIC_PROPERTY_EXAMPLES=20 pytest -k properties``
draws 20 times as many examples, and others every time.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from mimic_eval.records import UserError
from mimic_tasks import image_store
from mimic_tasks.build import build, plan_only
from mimic_tasks.planning import Range
from tests.makers.random_sources import (
    Picture,
    Request,
    Sketch,
    Thing,
    requests,
    sketches,
    small_requests,
    write,
)
from tests.oracles.properties import check_build, existing, key_of, read_docs
from tests.oracles.property_truth import Truth, read_truth

pytestmark = pytest.mark.slow
WIDER = int(os.environ.get("MIMIC_PROPERTY_EXAMPLES", "0"))


def searched(examples: int) -> settings:
    return settings(
        max_examples=examples * max(WIDER, 1),
        deadline=None,
        derandomize=not WIDER,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def opened_pictures() -> Iterator[set[int]]:
    """The ids of the pictures that a build opens; the files are named after them."""
    opened: set[int] = set()
    real = image_store.read_checked

    def read_checked(path: Path, **size: int) -> Any:
        opened.add(int(path.stem))
        return real(path, **size)

    with mock.patch.object(image_store, "read_checked", read_checked):
        yield opened


def sketch_and(
    sketch: st.SearchStrategy[Sketch], *, small: bool = False
) -> st.SearchStrategy[tuple[Sketch, Request]]:
    return sketch.flatmap(lambda s: st.tuples(st.just(s), small_requests() if small else requests(s)))


@given(drawn=sketch_and(sketches()))
@searched(36)
def test_every_doc_and_the_manifest_follow_from_the_annotations_alone(drawn: tuple[Sketch, Request]) -> None:
    sketch, request = drawn
    with tempfile.TemporaryDirectory() as folder:
        source = write(sketch, Path(folder))
        truth = read_truth(source)
        out = Path(folder) / "out"
        try:
            options = request.options(source, out)
            with opened_pictures() as opened:
                build(options, progress=False)
        except UserError as error:
            event(f"refused: {str(error).split(':')[0][-60:]}")
            assert not out.exists()
            check_refusal(str(error), truth, request)
            return
        event("built")
        check_build(out, truth, request, opened)


def check_refusal(message: str, truth: Truth, request: Request) -> None:
    """A request that small docs could serve is refused only because one of its tasks cannot have all docs."""
    if not any(picture.shown for picture in truth.pictures.values()):
        assert "holds no annotated image" in message
        return
    if message.startswith("0 of"):
        assert all(picture.flaw == "missing" for picture in truth.pictures.values())
        return
    shapes = [
        (s, d)
        for s in range(*_steps(request.spread or Range(1, 64)))
        for d in range(*_steps(request.distractors or Range(0, 64)))
        if request.n_images is None or request.n_images.low <= s + d <= request.n_images.high
        if d or request.distractors or not request.hard
    ]
    if not shapes:
        assert "no doc can have --n-images" in message
        return
    if "need a total of at least" in message:
        least = int(message.split()[0])
        assert request.split != "unbalanced"
        assert request.total.high < least == min(s for s, _ in shapes)
        return
    if request.allow_fewer:
        assert not any(any(True for _ in existing(k, truth, request, certain=True)) for k in request.tasks)
    else:
        hints = ("Ask for fewer --docs", "Widen the options", "needs at least")
        assert any(hint in message for hint in hints), message


def _steps(numbers: Range) -> tuple[int, int]:
    return numbers.low, numbers.high + 1


@given(drawn=sketch_and(sketches(least=1, most=6), small=True))
@searched(110)
def test_a_build_of_a_tiny_source_has_only_docs_that_exist_and_some_if_any_do(
    drawn: tuple[Sketch, Request],
) -> None:
    sketch, request = drawn
    (kind,) = request.tasks
    with tempfile.TemporaryDirectory() as folder:
        source = write(sketch, Path(folder))
        truth = read_truth(source)
        possible = set(existing(kind, truth, request, certain=False, most=6))
        certain = set(existing(kind, truth, request, certain=True, most=6))
        built = set()
        try:
            options = request.options(source, Path(folder) / "out")
            with opened_pictures() as opened:
                build(options, progress=False)
        except UserError as error:
            event(f"{kind}: refused")
            check_refusal(str(error), truth, request)
        else:
            event(f"{kind}: built")
            check_build(options.out, truth, request, opened)
            built = {key_of(doc) for doc in read_docs(options.out)[kind]}
        assert built <= possible
        assert built or not certain, f"none built, these exist: {certain}"
        if len(built) < request.docs:
            event(f"{kind}: all found" if certain <= built else f"{kind}: some missed")
            if certain - built:
                event(f"{kind}: missed {len(certain - built)} of {len(certain)}")


def test_a_picture_without_annotations_is_in_no_odd_one_doc(tmp_path: Path) -> None:
    """The dog is in one of three images, the cat in two; the third shows nothing: by our rule no doc."""
    things = ((Thing(0), Thing(1)), (Thing(1),), ())
    sketch = Sketch((("dog", "animal"), ("cat", "animal")), tuple(Picture(40, 30, "png", t) for t in things))
    request = Request(tasks=("oddone",), docs=1, n_images=Range(3, 3))
    with pytest.raises(UserError, match="no task has a doc"):
        build(request.options(write(sketch, tmp_path), tmp_path / "out"), progress=False)


@given(drawn=sketch_and(sketches(most=15, clean=True)))
@searched(12)
def test_the_plan_is_what_a_build_draws_where_all_pictures_are_sound(drawn: tuple[Sketch, Request]) -> None:
    sketch, request = drawn
    with tempfile.TemporaryDirectory() as folder:
        source = write(sketch, Path(folder))
        try:
            planned = plan_only(request.options(source, Path(folder) / "out"))["tasks"]
        except UserError as error:
            refused = str(error)
        else:
            out = build(request.options(source, Path(folder) / "out"), progress=False).out
            manifest = json.loads((out / "manifest.json").read_text())
            planned = json.loads(json.dumps(planned))
            assert manifest["tasks"] == {kind: task for kind, task in planned.items() if task["docs"]}
            return
        with pytest.raises(UserError, match=f"^{re.escape(refused)}$"):
            build(request.options(source, Path(folder) / "out"), progress=False)


@given(drawn=sketch_and(sketches(most=12)))
@searched(12)
def test_the_same_request_gives_the_same_bytes(drawn: tuple[Sketch, Request]) -> None:
    sketch, request = drawn
    with tempfile.TemporaryDirectory() as folder:
        source = write(sketch, Path(folder))
        files = []
        for name in ("one", "two"):
            try:
                build(request.options(source, Path(folder) / name), progress=False)
            except UserError:
                return
            out = Path(folder) / name
            files.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
        assert files[0] == files[1]
