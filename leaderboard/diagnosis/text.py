"""A diagnosis for a terminal."""

from collections.abc import Mapping
from typing import Any

_HEADERS = ("test", "docs", "shift", "95 %", "p", "p (Holm)", "family")


def render_text(content: Mapping[str, Any]) -> str:
    """The tests of a summary as a table, what was left out, and the notes.

    Args:
        content: of `diagnose.json` or `compare.json`.
    """
    from tabulate import tabulate

    rows = [
        (
            test["name"], test["n"], f"{test['shift']:+.4f}", f"[{test['low']:+.4f}, {test['high']:+.4f}]",
            f"{test['pvalue']:.3g}", f"{test['holm']:.3g}", test["family"],
        )
        for test in content["tests"]
    ]  # fmt: skip
    lines = [tabulate(rows, headers=_HEADERS, disable_numparse=True), ""]
    names = sorted({str(test["test"]) for test in content["tests"]})
    lines.append(f"Shift: Hodges-Lehmann. Tests over docs of this image pool: {'; '.join(names)}.")
    results = content["results"]
    left_out = {key: n for key, n in results.get("left_out", {}).items() if n}
    gone = ", ".join(f"{n} {_REASONS.get(key, key)}" for key, n in left_out.items())
    lines.append(f"{results['docs']} docs" + (f"; left out: {gone}." if gone else "."))
    return "\n".join([*lines, *content["notes"]])


_REASONS = {
    "one_image": "with one image",
    "unscorable": "that cannot be shown",
    "only_a": "only in the first run",
    "only_b": "only in the second run",
}
