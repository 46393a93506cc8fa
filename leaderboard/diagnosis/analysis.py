"""What a diagnosed run says, figure by figure (METHODS 8; papers/001 Fig. 2; arXiv 2601.07812 Fig. 4, 5)."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from leaderboard.diagnosis.reading import QUARTILES, Diagnosis, mean_of
from leaderboard.diagnosis.results import (
    MOST_DISTANCE,
    Band,
    Plot,
    Series,
    Summary,
    Test,
    estimate,
    paired,
    points,
)
from leaderboard.diagnosis.within import (
    change_to_last,
    first_image,
    in_words,
    last_image,
    lines_by_images,
    slope_text,
    spearman_of_layer,
    spearman_of_place,
)
from stats import bootstrap, entropy_null, holm

Floats = npt.NDArray[np.float64]

PRIMARY = "primary tests"

_MOST_NOTES = 4
"""Sentences on the tail of the entropy; `diagnose.json` has all numbers of images."""


def analysed(run: Diagnosis) -> Summary:
    """All figures and tests of a run."""
    summary = Summary()
    summary.facts["docs"] = len(run.docs)
    summary.facts["docs_by_images"] = {str(m): n for m, n in sorted(Counter(run.images.tolist()).items())}
    primary: list[Test] = []
    for part in (_inter_intra, _recurrence, _sink_share, _entropy, _places, _roles, _boxes):
        primary += part(run, summary)
    summary.tests = [*in_family(primary, PRIMARY), *summary.tests]
    return summary


def in_family(tests: list[Test], family: str) -> list[Test]:
    """The tests with Holm's adjustment over all of them."""
    if not tests:
        return []
    adjusted = holm([test.pvalue for test in tests]).adjusted
    name = f"{family} ({len(tests)})"
    return [test._replace(holm=p, family=name) for test, p in zip(tests, adjusted, strict=True)]


def _layers(run: Diagnosis) -> list[float]:
    return [float(layer) for layer in range(run.layers)]


def crossing(intra: Floats, inter: Floats) -> float | None:
    """Where intra-image attention rises above inter-image attention for good; None if it does not.

    Args:
        intra: (L), by layer.
        inter: (L).

    Returns:
        The layer, interpolated between the two layers of the last crossing.
    """
    lead = intra - inter
    known = np.flatnonzero(~np.isnan(lead))
    lead = lead[known]
    below = np.flatnonzero(lead <= 0)
    if not len(lead) or lead[-1] <= 0 or not len(below):
        return None
    i = int(below[-1])
    return float(known[i] + (known[i + 1] - known[i]) * -lead[i] / (lead[i + 1] - lead[i]))


def _inter_intra(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    intra, inter = run.by_layer["intra"], run.by_layer["inter"]

    def of_docs(docs: npt.NDArray[np.int64]) -> float | None:
        return crossing(mean_of(intra[docs], axis=0), mean_of(inter[docs], axis=0))

    found = bootstrap(of_docs, len(run.docs), draws=1000)
    summary.facts["crossing"] = vars(found)
    note = "No crossing: the mean of intra-image attention does not end above that of inter-image attention."
    if found.estimate is not None:
        ends = "" if found.low is None else f" [{found.low:.1f}, {found.high:.1f}]"
        note = (
            f"Intra-image attention stays above from layer {found.estimate:.1f}{ends} on "
            f"({found.method}; {found.undefined:.0%} of {found.draws} resamples have no crossing)."
        )
    summary.plots.append(
        Plot(
            "inter_intra",
            "Attention of image tokens within their image and to other images",
            "decoder layer",
            "attention of a row, mean over heads",
            (
                Series("own image (intra)", points(_layers(run), intra)),
                Series("other images (inter)", points(_layers(run), inter)),
            ),
            ("Rows of all images; the first image has none before it.", note),
            mark=None if found.estimate is None else (found.estimate, "crossing"),
        )
    )
    lead = run.by_quartile("intra") - run.by_quartile("inter")
    quarters = [
        paired(f"intra - inter, quartile {q + 1}", "which attention is larger at this depth", lead[:, q])
        for q in range(QUARTILES)
    ]
    summary.tests += in_family([test for test in quarters if test], "intra - inter by quartile of depth")
    last = paired(
        "intra - inter, second half - first half",
        "whether intra-image attention gains on inter-image attention with depth",
        mean_of(lead[:, 2:], axis=1) - mean_of(lead[:, :2], axis=1),
        bounds=(-2.0, 2.0),
    )
    yield from _some(last)


def _recurrence(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    if "sink_share" not in run.by_image:
        return
    if "recurrence" not in run.by_layer:
        summary.notes.append("Recurrence of sinks: no doc has sinks with places in two of its images.")
        return
    real, random = run.by_layer["recurrence"], run.by_layer["recurrence_random"]
    bounds = (0.0, MOST_DISTANCE)
    summary.plots.append(
        Plot(
            "recurrence",
            "Distance between the sinks of a doc's images",
            "decoder layer",
            "symmetric Chamfer distance (sides of a picture)",
            (
                Series("sinks", points(_layers(run), real, bounds=bounds)),
                Series("random places, as many", points(_layers(run), random, bounds=bounds)),
            ),
            (
                "Mean over pairs of images that both have sinks (Eq. 5, 6); lower: sinks are at the same "
                "places. A layer has the docs with such a pair.",
            ),
        )
    )
    summary.facts["recurrence"] = estimate(mean_of(real, axis=1), bounds=bounds)
    summary.facts["recurrence_random"] = estimate(mean_of(random, axis=1), bounds=bounds)
    yield from _some(
        paired(
            "distance of sinks - of random places",
            "whether sinks recur at the same places",
            mean_of(real, axis=1) - mean_of(random, axis=1),
            bounds=(-MOST_DISTANCE, MOST_DISTANCE),
        )
    )


def _sink_share(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    if "sink_share" not in run.by_image:
        summary.notes.append("Sinks were not looked for: no recurrence and no sink share.")
        return
    share = mean_of(run.by_image["sink_share"], axis=1)  # (D, M)
    slope = change_to_last(run, share)
    summary.facts["sink_share"] = {"first_to_last": slope, "spearman": spearman_of_place(run, share)}
    summary.plots.append(
        Plot(
            "sink_share",
            "Share of an image's attention to itself that its sinks take",
            "image",
            "sink share (zeta, Eq. 7), mean over layers",
            lines_by_images(run, share),
            (slope_text(slope),),
        )
    )
    yield from _some(
        paired(
            "sink share, first - last image",
            "whether sinks take more of earlier images",
            first_image(share) - last_image(run, share),
        )
    )


def _entropy(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    names = [name for name in ("answer", "question") if f"entropy_{name}" in run.by_layer]
    if not names:
        return
    x = [1.0, 2.0, 3.0, 4.0]
    counts = Counter(run.images.tolist())
    nulls = {m: entropy_null(m) for m in counts}
    shares = {m: n / len(run.docs) for m, n in counts.items()}
    low, middle, high = (
        sum(shares[m] * nulls[m].quantile(share) for m in counts) for share in (0.025, 0.5, 0.975)
    )
    by_quartile = {name: run.by_quartile(f"entropy_{name}") for name in names}
    band = Band("Dirichlet(1): 95 % and median", tuple(x), (low,) * 4, (high,) * 4, (middle,) * 4)
    main = by_quartile[names[0]]
    rho = spearman_of_layer(run, run.by_layer[f"entropy_{names[0]}"])
    tails = {}
    for m, null in sorted(nulls.items()):
        last = main[run.images == m, 3]
        if not np.isnan(last).all():
            median = float(np.nanmedian(last))
            tails[str(m)] = {
                "docs": counts[m], "median_of_last_quartile": median,
                "p_higher_than_null": null.pvalue_high(median), "null_median": null.quantile(0.5),
                "draws": null.draws, "seed": null.seed,
            }  # fmt: skip
    summary.facts["entropy"] = {
        **{name: [estimate(values[:, q]) for q in range(4)] for name, values in by_quartile.items()},
        "null": tails,
        "spearman_of_layer": rho,
    }
    mixed = "; of docs with several numbers of images the mean of their bands" if len(counts) > 1 else ""
    summary.plots.append(
        Plot(
            "entropy",
            "How evenly attention is spread over the images",
            "quartile of depth",
            "normalised entropy over images (Eq. 8)",
            tuple(Series(f"{name} rows", points(x, by_quartile[name])) for name in names),
            (
                f"1: even over the images, 0: on one of them. Band: shares drawn evenly from the simplex"
                f"{mixed}.",
                *(
                    f"{m} images ({of_m['docs']} docs): median of the last quartile "
                    f"{of_m['median_of_last_quartile']:.3f}, share of the null at or above it "
                    f"{of_m['p_higher_than_null']:.3f}."
                    for m, of_m in list(tails.items())[:_MOST_NOTES]
                ),
                in_words("Spearman's rho of layer and entropy within a doc", rho),
            ),
            ticks=tuple((at, f"Q{at:.0f}") for at in x),
            band=band,
            top=1.0,
        )
    )
    steps = [
        paired(
            f"entropy ({names[0]} rows), quartile {q + 2} - {q + 1}",
            "whether attention is more even deeper in the decoder",
            main[:, q + 1] - main[:, q],
        )
        for q in range(3)
    ]
    summary.tests += in_family([test for test in steps if test], "entropy of adjacent quartiles")
    yield from _some(
        paired(
            f"entropy ({names[0]} rows), last - first quartile",
            "whether attention is more even at the end of the decoder",
            main[:, 3] - main[:, 0],
        )
    )


def _places(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    name = "answer_to_image"
    if name not in run.by_image:
        return
    by_place = mean_of(run.by_image[name], axis=1)
    slope = change_to_last(run, by_place)
    summary.facts["answer_to_image"] = {"first_to_last": slope, "spearman": spearman_of_place(run, by_place)}
    summary.plots.append(
        Plot(
            "answer_by_place",
            "Attention of the answer to each image",
            "image",
            "attention of a row (mean of heads, layers)",
            lines_by_images(run, by_place),
            ("Rows that predict the answer's tokens.", slope_text(slope)),
        )
    )
    yield from _some(
        paired(
            "answer to image, last - first image",
            "whether the answer attends more to later images",
            last_image(run, by_place) - first_image(by_place),
        )
    )


def _roles(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    name = "answer_to_image"
    both = (run.targets == 1).any(axis=1) & (run.targets == 0).any(axis=1)
    if name not in run.by_image or np.isnan(run.targets).all():
        summary.notes.append("Targets and distractors: the docs have no boxes of a MIMIC task.")
        return
    if not both.any():
        summary.notes.append("Targets and distractors: no doc has both.")
        return
    to_image = run.by_image[name]
    by_role = {
        role: mean_of(np.where((run.targets == value)[:, None], to_image, np.nan), axis=2)
        for role, value in (("target", 1), ("distractor", 0))
    }
    for values in by_role.values():
        values[~both] = np.nan
    summary.facts["answer_by_role"] = {
        role: estimate(mean_of(values, axis=1)) for role, values in by_role.items()
    }
    summary.plots.append(
        Plot(
            "answer_by_role",
            "Attention of the answer to target images and to distractors",
            "decoder layer",
            "attention of a row to one image, mean over heads",
            tuple(Series(f"{role}s", points(_layers(run), values)) for role, values in by_role.items()),
            (
                f"Docs with both: {int(both.sum())} of {len(run.docs)}. "
                "Rows that predict the answer's tokens.",
            ),
        )
    )
    yield from _some(
        paired(
            "answer to image, target - distractor",
            "whether the answer attends more to images that hold a target",
            mean_of(by_role["target"], axis=1) - mean_of(by_role["distractor"], axis=1),
        )
    )


def _boxes(run: Diagnosis, summary: Summary) -> Iterator[Test]:
    if "tokens_in_boxes" not in run.of_doc or "answer_in_boxes" not in run.by_layer:
        summary.notes.append("Share inside the truth boxes: no boxes that can be mapped to image tokens.")
        return
    tokens = run.of_doc["tokens_in_boxes"]
    names = [name for name in ("answer", "question") if f"{name}_in_boxes" in run.by_layer]
    x = _layers(run)
    even = estimate(tokens)
    level = (even["estimate"],) * 2
    ends = tuple(level[0] if even[end] is None else even[end] for end in ("low", "high"))
    summary.facts["in_boxes"] = {
        "tokens": even,
        **{name: estimate(mean_of(run.by_layer[f"{name}_in_boxes"], axis=1)) for name in names},
    }
    summary.plots.append(
        Plot(
            "in_boxes",
            "Share of attention to images that lies in the truth boxes",
            "decoder layer",
            "share of attention to all images",
            tuple(Series(f"{name} rows", points(x, run.by_layer[f"{name}_in_boxes"])) for name in names),
            ("Truth boxes: those of target classes. Band: the share of image tokens that are in them.",),
            band=Band("tokens in the boxes", (x[0], x[-1]), (ends[0],) * 2, (ends[1],) * 2, (level[0],) * 2),
        )
    )
    yield from _some(
        paired(
            "attention in boxes - tokens in boxes (answer rows)",
            "whether the answer attends to targets more than evenly",
            mean_of(run.by_layer["answer_in_boxes"], axis=1) - tokens,
        )
    )


def _some(test: Test | None) -> Iterator[Test]:
    if test is not None:
        yield test
