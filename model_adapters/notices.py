"""What a run says on stderr of its answers: reused, unscored, unchanged, too long."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model_adapters.doc_prompt import DocPrompt
from model_adapters.journal import Journal
from model_adapters.tuning import Tuning


def say(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr)


def say_opened(journal: Journal) -> None:
    """What was met when a journal was opened: answers of other versions, and records of another model."""
    if journal.foreign:
        say(f"ignored {journal.foreign} answers of another model in the journal {journal.folder}")
    if not journal.folder.exists() and (others := journal.other_versions()):
        say(
            f"{others} journals of this model and these settings are not reused: they were written by other "
            "versions of mimic-eval, torch or transformers"
        )


def say_reused(journal: Journal, *, docs: int) -> None:
    """How many answers of a run came from the journal, and how many of its lines were damaged."""
    if journal.reused:
        say(
            f"reused {journal.reused} of {docs} answers from the cache in {journal.folder} "
            "(journal=off to disable)"
        )
    if journal.damaged:
        say(f"ignored {journal.damaged} damaged lines of the journal")


def stored_answers(journal: Journal | None) -> str:
    """What a stopped run leaves, in one sentence."""
    answers = 0 if journal is None else journal.stored + journal.reused
    if journal is None or not answers:
        return "no answers were saved; run the same command to start again"
    return f"{answers} answers are saved in {journal.folder}; run the same command to resume"


def say_tuned(tuning: Tuning, settings: Mapping[str, Any]) -> None:
    """What ``tuned=`` set, and whether the value was chosen under other settings than the run's."""
    say(tuning.notice())
    if other := tuning.other_settings(settings):
        say(other)


def say_read_only(journal: Journal) -> None:
    """That new answers are not stored."""
    say(
        f"the answer journal {journal.folder} is read-only ({journal.read_only}): its answers are reused, "
        "new ones are not saved; set MIMIC_CACHE to another folder"
    )


def say_effects(
    mask: str,
    effects: Mapping[str, Any],
    describe: Callable[[Mapping[str, Any]], Sequence[str]] | None = None,
) -> None:
    """What a mask did and cost, in how many docs it changed nothing, and too long prompts.

    Args:
        mask: its name.
        effects: as `summarize_effects` makes them.
        describe: the intervention's (`Intervention.describe`).
    """
    if passes := effects.get("passes"):
        say(_passes_line(mask, passes))
    edits = effects.get("edits", {})
    for line in _count_lines(mask, edits, describe):
        say(line)
    if edits.get("docs_unchanged"):
        why = ""
        if "docs_without_sinks" in edits:
            why = f": {edits['docs_without_sinks']} have no sinks"
            if (ungrounded := edits.get("docs_without_grounded")) is not None:
                why = f"{why}, {ungrounded} no grounded tokens"
        say(f"mask={mask} changed nothing in {edits['docs_unchanged']} of {edits['docs']} docs{why}")
    if calibrated_on := effects.get("calibrated_on"):
        say(
            f"{calibrated_on['docs']} of the docs are among those that the sinks were calibrated on (with "
            "their pictures and questions, without their truths); the results say so"
        )
    if long := effects.get("long_prompts"):
        say(
            f"{long['docs']} docs have prompts longer than the model was made for: up to {long['longest']} "
            f"tokens, its max_position_embeddings is {long['limit']}; their answers may be worse for it"
        )


def say_marks(rule: str, effects: Mapping[str, Any]) -> None:
    """What became of marks as ``<image>`` in the texts of a run's docs."""
    counts = effects.get("image_marks")
    if not counts:
        return
    what = {
        "remove": "removed (image_marks=interleave puts the images there)",
        "interleave": "the images stand there",
        "text": "left as text",
    }[rule]
    parts = [f"{counts['docs']} docs have {counts['marks']} marks for images in their text: {what}"]
    if counts["extra_marks"]:
        parts.append(f"{counts['extra_marks']} marks without an image were removed")
    if counts["images_first"]:
        parts.append(f"{counts['images_first']} images without a mark came first")
    say("; ".join(parts))


def _passes_line(mask: str, passes: Mapping[str, Any]) -> str:
    """What a mask of several passes cost."""
    parts = [
        f"mask={mask} answered {passes['docs']} docs in {passes['passes']} passes, {passes['most']} at most "
        f"for one doc, which show {passes['pictures']} different pictures"
    ]
    if passes["docs_in_one_pass"]:
        parts.append(f"docs of one pass, as with mask=none: {passes['docs_in_one_pass']}")
    if "cut_steps" in passes:
        parts.append(f"the cut decided {passes['cut_steps']} of {passes['steps']} tokens")
    return "; ".join(parts)


def _count_lines(
    mask: str,
    edits: Mapping[str, Any],
    describe: Callable[[Mapping[str, Any]], Sequence[str]] | None,
) -> Sequence[str]:
    """What the intervention counted: in its own words, where it has any."""
    counts = edits.get("counts", {})
    if not counts:
        return []
    if describe is not None and (lines := describe(counts)):
        return lines
    parts = ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in counts.items())
    return [f"mask={mask}, over {edits['docs']} docs: {parts}"]


def say_unscored(failed: Sequence[str], *, docs: int) -> None:
    """The unscored docs, each with its reason."""
    if failed:
        say(f"{len(failed)} of {docs} docs are unscored:")
        for line in failed:
            say(f"  {line}")


def too_large(doc: DocPrompt, *, passes: int = 1) -> str:
    """The message for a doc that memory does not hold."""
    several = f" in {passes} passes, which run together" if passes > 1 else ""
    return (
        f"out of memory with {doc.name} alone ({len(doc.pictures)} images{several}): use another device, a "
        f"smaller dtype, pool=2 or more, {'a mask of fewer passes, ' if passes > 1 else ''}or docs of fewer "
        "images"
    )
