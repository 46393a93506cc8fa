"""Two diagnosed runs on the same docs, as one under a mask and one without (METHODS 8)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leaderboard.diagnosis.analysis import in_family
from leaderboard.diagnosis.output import write_summary
from leaderboard.diagnosis.reading import QUARTILES, Diagnosis, mean_of, read_diagnosis
from leaderboard.diagnosis.results import MOST_DISTANCE, Band, Plot, Series, Summary, paired, points
from mimic_eval.records import UserError, image_order
from stats import entropy_null

Floats = npt.NDArray[np.float64]

_CHANGE = ", B - A"


def write_comparison(before: Path, after: Path, out: Path) -> None:
    """Compare two folders, and write `compare.json` and the figures.

    Raises:
        UserError: a folder without a finished run, runs without a doc in common, or of other decoders.
    """
    a, b = read_diagnosis(before), read_diagnosis(after)
    summary = compared(a, b)
    out.mkdir(parents=True, exist_ok=True)
    write_summary(out, summary, run={"a": dict(a.run), "b": dict(b.run)}, name="compare.json")


def compared(a: Diagnosis, b: Diagnosis) -> Summary:
    """Paired tests of every number of a doc that both runs have, B - A, and the figures that show both.

    Raises:
        UserError: no doc in common, or decoders of other depths.
    """
    if a.layers != b.layers:
        raise UserError(f"{a.name} has {a.layers} layers, {b.name} {b.layers}: layers cannot be paired")
    both = [key for key in a.docs if key in set(b.docs)]
    if not both:
        raise UserError(f"{a.name} and {b.name} have no doc in common (task and content hash)")
    place_a, place_b = ({key: i for i, key in enumerate(run.docs)} for run in (a, b))
    names = _names(a, b)
    left = a.chosen([place_a[key] for key in both])
    right = b.chosen([place_b[key] for key in both])
    summary = Summary()
    summary.facts |= {
        "docs": len(both),
        "left_out": {"only_a": len(a.docs) - len(both), "only_b": len(b.docs) - len(both)},
        "names": list(names),
    }
    tests = []
    for name, bounds, one, other in _numbers(left, right):
        test = paired(name, f"whether {name.removesuffix(_CHANGE)} changes", other - one, bounds=bounds)
        if test is not None:
            tests.append(test)
    summary.tests = in_family(tests, "all measures of the comparison")
    summary.plots = list(_plots(left, right, names))
    summary.notes = [f"A: {names[0]} ({a.name}). B: {names[1]} ({b.name})."]
    return summary


def _names(a: Diagnosis, b: Diagnosis) -> tuple[str, str]:
    """The runs by what differs in their settings: the mask, if it does."""
    runs = [dict(run.run.get("run") or {}) for run in (a, b)]
    if runs[0].get("mask") != runs[1].get("mask"):
        return str(runs[0].get("mask")), str(runs[1].get("mask"))
    differ = [key for key in sorted({*runs[0], *runs[1]}) if runs[0].get(key) != runs[1].get(key)]
    if differ:
        first, second = (", ".join(f"{key} {run.get(key)}" for key in differ[:2])[:60] for run in runs)
        return first, second
    return f"A, {a.name}", f"B, {b.name}"


def _numbers(a: Diagnosis, b: Diagnosis) -> Iterator[tuple[str, tuple[float, float], Floats, Floats]]:
    """Name, bounds of a difference, and each doc's number in both runs."""
    share = (-1.0, 1.0)
    for rows in ("answer", "question"):
        name = f"entropy_{rows}"
        if name in a.by_layer and name in b.by_layer:
            one, other = a.by_quartile(name), b.by_quartile(name)
            for q in range(QUARTILES):
                yield f"entropy ({rows} rows), quartile {q + 1}{_CHANGE}", share, one[:, q], other[:, q]
    for name, words in _OF_LAYERS.items():
        if name in a.by_layer and name in b.by_layer:
            bounds = (-MOST_DISTANCE, MOST_DISTANCE) if name == "recurrence" else share
            one, other = (mean_of(run.by_layer[name], axis=1) for run in (a, b))
            yield words + _CHANGE, bounds, one, other
    if "sink_share" in a.by_image and "sink_share" in b.by_image:
        one, other = (mean_of(run.by_image["sink_share"], axis=(1, 2)) for run in (a, b))
        yield f"sink share{_CHANGE}", share, one, other
    for name, words in _OF_IMAGES.items():
        gained = _earlier_minus_later(a, b, name)
        if not np.isnan(gained).all():
            yield f"{words} of the same image, earlier - later place", share, np.zeros(len(gained)), gained
    one, other = (_to_role(run, 1) - _to_role(run, 0) for run in (a, b))
    yield f"answer to targets - to distractors{_CHANGE}", (-2.0, 2.0), one, other


_OF_LAYERS = {
    "intra": "intra-image attention",
    "inter": "inter-image attention",
    "recurrence": "distance of sinks",
    "answer_in_boxes": "share in the truth boxes (answer rows)",
}


_OF_IMAGES = {"sink_share": "sink share", "answer_to_image": "answer to image"}


def _earlier_minus_later(a: Diagnosis, b: Diagnosis, name: str) -> Floats:
    """(D): a measure of the same image where it comes earlier minus where it comes later (METHODS 8).

    The mean over the images of a doc that two runs with different ``order=`` show at different places; NaN
    without such an image.
    """
    gained = np.full(len(a.docs), np.nan)
    if name not in a.by_image or name not in b.by_image:
        return gained
    by_place = [mean_of(run.by_image[name], axis=1) for run in (a, b)]
    for doc, ((_, content_hash, _), m) in enumerate(zip(a.docs, a.images.tolist(), strict=True)):
        orders = [_order_of(run, content_hash, m) for run in (a, b)]
        place_a, place_b = (np.argsort(order) for order in orders)
        moved = place_a != place_b
        difference = by_place[0][doc, place_a] - by_place[1][doc, place_b]
        signed = np.where(place_a < place_b, difference, -difference)[moved]
        gained[doc] = mean_of(signed, axis=0)
    return gained


def _order_of(run: Diagnosis, content_hash: str, images: int) -> list[int]:
    """The doc's image at each place of a run."""
    order = image_order(str(run.run["run"].get("order") or "fixed"), content_hash=content_hash, n=images)
    return list(range(images)) if order is None else list(order)


def _to_role(run: Diagnosis, role: int) -> Floats:
    """(D): the answer's attention to one image of a role."""
    if "answer_to_image" not in run.by_image:
        return np.full(len(run.docs), np.nan)
    chosen = np.where((run.targets == role)[:, None], run.by_image["answer_to_image"], np.nan)
    return mean_of(chosen, axis=(1, 2))


def _plots(a: Diagnosis, b: Diagnosis, names: tuple[str, str]) -> Iterator[Plot]:
    layers = [float(layer) for layer in range(a.layers)]
    runs = list(zip((a, b), names, strict=True))
    if all("entropy_answer" in run.by_layer for run in (a, b)):
        nulls = [entropy_null(int(m)) for m in a.images]
        low, middle, high = (
            float(np.mean([null.quantile(share) for null in nulls])) for share in (0.025, 0.5, 0.975)
        )
        x = (1.0, 2.0, 3.0, 4.0)
        yield Plot(
            "entropy", "How evenly attention is spread over the images, in both runs", "quartile of depth",
            "normalised entropy over images (Eq. 8)",
            tuple(Series(name, points(x, run.by_quartile("entropy_answer"))) for run, name in runs),
            ("Rows that predict the answer's tokens; the same docs. Band: shares drawn evenly.",),
            ticks=tuple((at, f"Q{at:.0f}") for at in x),
            band=Band("Dirichlet(1): 95 % and median", x, (low,) * 4, (high,) * 4, (middle,) * 4),
            top=1.0,
        )  # fmt: skip
    yield Plot(
        "inter_intra", "Attention of image tokens within and between images, in both runs", "decoder layer",
        "attention of a row, mean over heads",
        tuple(
            Series(f"{kind}, {name}", points(layers, run.by_layer[kind]))
            for run, name in runs
            for kind in ("intra", "inter")
        ),
        ("The same docs.",),
    )  # fmt: skip
    if all("answer_in_boxes" in run.by_layer for run in (a, b)):
        yield Plot(
            "in_boxes", "Share of attention to images that lies in the truth boxes, in both runs",
            "decoder layer", "share of attention to all images",
            tuple(Series(name, points(layers, run.by_layer["answer_in_boxes"])) for run, name in runs),
            ("Rows that predict the answer's tokens; the same docs.",),
        )  # fmt: skip
