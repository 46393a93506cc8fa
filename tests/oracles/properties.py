"""What a built folder must be, recomputed from the COCO JSON and the picture files alone (METHODS 2, 13).

This is the oracle of the property tests: it shares no code with the planners, the pool or the verification.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.makers.random_sources import Request
from tests.oracles.property_truth import REPEATED, Picture, Truth

COLUMNS = (
    "images",
    "question",
    "gt",
    "task",
    "idx",
    "id",
    "targets",
    "category",
    "image_ids",
    "n_images",
    "k",
    "spread",
    "distractors",
    "split",
    "cell",
    "source",
    "boxes",
    "content_hash",
)
NOT_COUNTED, NOT_LISTED = {"apple"}, {"kitchen", "person"}
LEAST = {"counting": 1, "listing": 1, "common": 2, "oddone": 3}
Key = tuple[frozenset[str], frozenset[int]]


def read_docs(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The docs of every parquet file of a built folder, by task."""
    return {path.parent.name: pq.read_table(path).to_pylist() for path in sorted(out.rglob("*.parquet"))}


def key_of(doc: dict[str, Any]) -> Key:
    return frozenset(doc["targets"]), frozenset(doc["image_ids"])


def check_build(out: Path, truth: Truth, request: Request, opened: set[int]) -> None:
    """Every doc of a built folder, and its manifest. `opened` are the pictures that the build looked at."""
    manifest = json.loads((out / "manifest.json").read_text())
    docs = read_docs(out)
    assert set(docs) == set(manifest["tasks"])
    assert set(docs) <= set(request.tasks)
    assert docs
    if not request.allow_fewer:
        assert {kind: len(rows) for kind, rows in docs.items()} == dict.fromkeys(request.tasks, request.docs)
    for kind, rows in docs.items():
        for i, doc in enumerate(rows):
            assert (doc["idx"], doc["source"], doc["cell"]) == (i, "random", None)
            _check_columns(kind, doc, truth)
            _check_answer(kind, doc, truth)
            _check_controls(kind, doc, truth, request)
        _check_task(rows, manifest["tasks"][kind], request)
    _check_manifest(manifest, docs, truth, opened)


def _check_columns(kind: str, doc: dict[str, Any], truth: Truth) -> None:
    assert tuple(doc) == COLUMNS
    pictures = [truth.pictures[i] for i in doc["image_ids"]]
    stored = [image["bytes"] for image in doc["images"]]
    assert stored == [picture.data for picture in pictures]
    assert len({picture.pixels for picture in pictures}) == len(set(doc["image_ids"])) == len(pictures)
    assert all(picture.flaw is None for picture in pictures)
    targets = set(doc["targets"])
    for picture, boxes in zip(pictures, doc["boxes"], strict=True):
        assert boxes == [
            {"class": thing.name}
            | dict(zip(("x", "y", "width", "height"), thing.box, strict=True))
            | {"target": thing.name in targets, "small": thing.small, "crowd": thing.crowd}
            for thing in picture.shown
        ]
    spread = sum(bool(picture.names & targets) for picture in pictures)
    assert doc["n_images"] == len(pictures)
    assert doc["spread"] == spread
    assert doc["distractors"] == len(pictures) - spread
    assert doc["k"] == len(doc["targets"]) == len(targets)
    hashes = [hashlib.sha256(data).hexdigest() for data in stored]
    record = json.dumps([kind, doc["question"], doc["gt"], hashes], ensure_ascii=False)
    assert doc["content_hash"] == hashlib.sha256(record.encode()).hexdigest()
    assert doc["task"] == (f"counting_{doc['split']}" if kind == "counting" else kind)
    assert (doc["split"] in ("balanced", "unbalanced")) if kind == "counting" else doc["split"] is None
    assert (doc["category"] is None) == (kind != "listing")


def _check_answer(kind: str, doc: dict[str, Any], truth: Truth) -> None:
    """gt and targets follow from the annotations, and from nothing else."""
    pictures = [truth.pictures[i] for i in doc["image_ids"]]
    targets = doc["targets"]
    for picture in pictures:
        assert not picture.unclear & set(targets)
    if kind == "counting":
        counts = {name: sum(picture.count(name) for picture in pictures) for name in targets}
        assert min(counts.values()) >= 1
        many = ", ".join(f"{name}: {count}" for name, count in counts.items())
        assert doc["gt"] == (many if len(targets) > 1 else str(counts[targets[0]]))
        places = [doc["question"].lower().find(_stem(name)) for name in targets]
        assert -1 not in places
        return
    assert doc["gt"] == ", ".join(targets)
    if kind == "listing":
        group = truth.members[doc["category"]]
        assert targets == sorted(set().union(*(picture.names for picture in pictures)) & group)
        assert not any(_not_to_be_listed(picture, group) for picture in pictures)
        assert truth.listable(doc["category"])
        assert doc["category"] in doc["question"]
        return
    (answer,) = targets
    seen = Counter(name for picture in pictures for name in picture.names)
    if kind == "common":
        assert [name for name in seen if seen[name] == len(pictures)] == [answer]
    else:
        assert 0 < 2 * seen[answer] < len(pictures)
    assert _only(kind, answer, pictures)


THRESHOLDS = (Fraction(0), Fraction(1, 100), Fraction(1, 20))


def _only(kind: str, answer: str, pictures: list[Picture]) -> bool:
    """No other class may be the answer; what it is a kind of is none."""
    rivals = set(pictures[0].kinds) - {answer} - pictures[0].kinds[answer]
    n = len(pictures)
    if kind == "common":
        return not any(all(name in picture.maybe() for picture in pictures) for name in rivals)
    for least in THRESHOLDS:
        for name in rivals:
            certain = sum(name in picture.certain(least) for picture in pictures)
            boxed = sum(name in picture.seen(least) for picture in pictures)
            if any(name in picture.maybe(least) for picture in pictures) and 2 * certain <= n:
                return False
            if boxed and 2 * boxed <= n:
                return False
    return True


def _not_to_be_listed(picture: Picture, group: set[str]) -> set[str]:
    """The classes of a category that keep a picture from being used for it."""
    by_a_listed_one = frozenset(
        a
        for thing in picture.shown
        if thing.name in group and thing.name not in picture.unclear
        for a in picture.kinds[thing.name]
    )
    return (picture.unclear - (by_a_listed_one - picture.possible() - picture.names)) & group


def _stem(name: str) -> str:
    return "pe" if name == "person" else name  # persons, people


def _check_controls(kind: str, doc: dict[str, Any], truth: Truth, request: Request) -> None:
    assert obeys(kind, doc, request)
    if request.classes is not None:
        assert set(doc["targets"]) <= set(request.classes)
    elif kind == "counting" and request.profile == "countable":
        assert not set(doc["targets"]) & NOT_COUNTED
    if kind == "listing" and request.profile == "countable":
        assert doc["category"] not in NOT_LISTED
    pictures = [truth.pictures[i] for i in doc["image_ids"]]
    if kind == "counting" and request.hard:
        for picture in pictures:
            if not picture.maybe() & set(doc["targets"]):
                assert _is_hard(picture, doc["targets"], truth, strict=False)
    if request.confusable and kind in ("common", "oddone"):
        assert _within(confusables(pictures, doc["targets"][0]), request.confusable)


def confusables(pictures: list[Picture], answer: str) -> int:
    """How many other classes are in all images but one."""
    seen = Counter(name for picture in pictures for name in picture.names if name != answer)
    return sum(count == len(pictures) - 1 for count in seen.values())


def _is_hard(picture: Picture, targets: list[str], truth: Truth, *, strict: bool) -> bool:
    """Another class of a target's super-category is in the picture; `strict`: for everyone to see."""
    kin = set().union(*(truth.members[truth.category[name]] for name in targets if truth.category[name]))
    names = {thing.name for thing in picture.shown if thing.clear} if strict else picture.maybe()
    return bool(names & (kin - set(targets)))


def _within(number: int, asked: tuple[int, int] | None) -> bool:
    return asked is None or asked[0] <= number <= asked[1]


def obeys(kind: str, doc: dict[str, Any], request: Request) -> bool:
    """The number controls of a request."""
    sizes = request.n_images or (2, 6)
    if kind == "counting" and request.n_images is None and (request.spread or request.distractors):
        sizes = (1, 64)  # N = s + d may follow from the other two
    right = _within(doc["n_images"], sizes) and doc["n_images"] >= LEAST[kind]
    if kind == "counting":
        total = sum(int(number) for number in doc["gt"].replace(",", "").split() if number.isdigit())
        right &= _within(doc["spread"], request.spread) and _within(doc["distractors"], request.distractors)
        right &= doc["k"] == request.k and request.split in ("both", doc["split"])
        right &= doc["split"] == "unbalanced" or _within(total, request.total)
    if kind == "listing":
        right &= _within(doc["k"], request.listed)
    if kind == "oddone":
        right &= _within(doc["spread"], request.minority)
    return right


def _check_task(rows: list[dict[str, Any]], task: dict[str, Any], request: Request) -> None:
    assert 1 <= len(rows) <= request.docs
    assert len({key_of(doc) for doc in rows}) == len(rows)
    uses = Counter(image for doc in rows for image in doc["image_ids"])
    if request.max_reuse is not None:
        assert max(uses.values()) <= request.max_reuse
    answers = Counter(doc["gt"] for doc in rows)
    if len(rows) >= 5 and not request.narrowed():
        assert max(answers.values()) <= 0.4 * len(rows)
    assert (task["docs"], task["asked"]) == (len(rows), request.docs)
    assert bool(task["shortage"]) == (len(rows) < request.docs)
    assert task["images"] == len(uses)
    assert task["largest_reuse"] == max(uses.values())
    assert task["answers"] == dict(answers)
    assert task["sizes"] == {str(n): c for n, c in Counter(doc["n_images"] for doc in rows).items()}
    assert task["spreads"] == {str(s): c for s, c in Counter(doc["spread"] for doc in rows).items()}
    groups = _clusters(rows)
    assert task["clusters"]["count"] == len(groups)
    assert task["clusters"]["largest_share"] == round(max(map(len, groups)) / len(rows), 4)
    by_label: dict[int, set[int]] = defaultdict(set)
    for i, label in enumerate(task["clusters"]["labels"]):
        by_label[label].add(i)
    assert sorted(map(sorted, by_label.values())) == sorted(map(sorted, groups))


def _clusters(rows: list[dict[str, Any]]) -> list[set[int]]:
    """Docs that hang together by shared pictures."""
    groups: list[tuple[set[int], set[int]]] = []
    for i, doc in enumerate(rows):
        members, images = {i}, set(doc["image_ids"])
        apart = []
        for group in groups:
            if group[1] & images:
                members |= group[0]
                images |= group[1]
            else:
                apart.append(group)
        groups = [*apart, (members, images)]
    return [members for members, _ in groups]


def _check_manifest(
    manifest: dict[str, Any], docs: dict[str, list[dict[str, Any]]], truth: Truth, opened: set[int]
) -> None:
    things = [thing for picture in truth.pictures.values() for thing in picture.shown]
    source = manifest["source"]
    assert source["images"] == len(truth.pictures)
    assert source["annotations"] == len(things)
    assert source["changed"].get(REPEATED, 0) == truth.repeated
    assert source["small"]["count"] == sum(thing.small for thing in things)
    assert source["crowd"]["count"] == sum(thing.crowd for thing in things)
    assert manifest["images_checked"] == len(opened)
    dropped = {record["image_id"]: record["reason"] for record in manifest["images_dropped"]}
    assert len(dropped) == len(manifest["images_dropped"])
    assert set(dropped) <= opened
    used = {image for rows in docs.values() for doc in rows for image in doc["image_ids"]}
    assert used <= opened - set(dropped)
    copies: dict[bytes | None, list[Picture]] = defaultdict(list)
    for image in opened:
        picture = truth.pictures[image]
        if picture.flaw:
            assert picture.flaw in dropped[image]
        else:
            copies[picture.pixels].append(picture)
    for group in copies.values():
        kept = [picture for picture in group if picture.image_id not in dropped]
        alike = len({picture.shown for picture in group}) == 1
        assert len(kept) == (1 if alike else 0), [picture.image_id for picture in group]
        assert all(
            "shows the same as image" in dropped[picture.image_id]
            for picture in group
            if picture.image_id in dropped
        )


def existing(kind: str, truth: Truth, request: Request, *, certain: bool, most: int = 3) -> Iterator[Key]:
    """Every doc of up to `most` images that METHODS 2 allows, by brute force.

    Args:
        most: images a doc; of a source with many pictures no more than three can be gone through.
        certain: leave out what a careful builder may leave out: pictures that have a twin; Listing of a
            category of which one class only is annotated or whose name is a class's but for case, and with
            a picture that shows nothing of the category; Odd-One with a picture without annotations; hard
            distractors whose other class is small or a crowd; the unbalanced half of a single doc.
    """
    pictures = truth.usable(twins=not certain)
    low, high = request.n_images or (2, 6)
    for n in range(max(low, LEAST[kind]), min(high, most) + 1):
        for some in combinations(pictures, n):
            if len({picture.pixels for picture in some}) < n:
                continue
            images = frozenset(picture.image_id for picture in some)
            for targets, doc in _candidates(kind, list(some), truth, request, certain=certain):
                right = obeys(kind, {"n_images": n, "distractors": n - doc["spread"], **doc}, request)
                if right and (request.classes is None or targets <= set(request.classes)):
                    yield targets, images


def _candidates(
    kind: str, pictures: list[Picture], truth: Truth, request: Request, *, certain: bool
) -> Iterator[tuple[frozenset[str], dict[str, Any]]]:
    """The targets that pictures can be asked for, each with the numbers that the controls restrict."""
    seen = Counter(name for picture in pictures for name in picture.names)
    unclear = frozenset().union(*(picture.unclear for picture in pictures))
    n = len(pictures)
    if kind == "counting":
        asked = set(seen) - unclear
        if request.profile == "countable" and request.classes is None:
            asked -= NOT_COUNTED
        for targets in map(frozenset, combinations(sorted(asked), request.k)):
            others = [picture for picture in pictures if not picture.names & targets]
            if request.hard and not others and request.distractors is None:
                continue
            if request.hard and not all(
                _is_hard(picture, list(targets), truth, strict=certain) for picture in others
            ):
                continue
            total = sum(picture.count(name) for picture in pictures for name in targets)
            numbers = {"k": request.k, "gt": str(total), "spread": n - len(others)}
            alone = certain and request.split == "both" and request.docs == 1  # one doc cannot be halved
            for split in ("balanced", "unbalanced")[: 1 if alone else 2]:
                yield targets, {**numbers, "split": split}
    if kind == "listing":
        for category, group in truth.members.items():
            targets = frozenset(seen) & group
            blurred = set().union(*(_not_to_be_listed(picture, group) for picture in pictures))
            if not targets or blurred or not truth.listable(category):
                continue
            if request.profile == "countable" and category in NOT_LISTED:
                continue
            spread = sum(bool(picture.names & group) for picture in pictures)
            annotated = {name for p in truth.usable(twins=False) for name in p.names} & group
            named_alike = category.lower() in map(str.lower, truth.category)
            if certain and (spread < n or len(annotated) < 2 or named_alike):
                continue
            yield targets, {"k": len(targets), "spread": spread}
    if kind in ("common", "oddone"):
        for answer in set(seen) - unclear:
            if kind == "common":
                right = seen[answer] == n
            else:
                right = 2 * seen[answer] < n and all(picture.names for picture in pictures)
            right &= _only(kind, answer, pictures)
            if right and _within(confusables(pictures, answer), request.confusable):
                yield frozenset({answer}), {"spread": seen[answer]}
