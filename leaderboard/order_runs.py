"""Runs of one model that differ in `order=` only: several image orders of the docs of any task.

So order effects of tasks without a permuted form, and of lmms-eval's other tasks, are measured too.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from leaderboard.arms import Arm
from leaderboard.labels import text, usual_settings
from leaderboard.pairing import Doc, docs_of
from mimic_eval.records import Ordering, Sample, UserError

SETTING = "order"


def merge_orders(arms: Sequence[Arm]) -> list[Arm]:
    """The arms, those of one model under several `order=` as one whose docs have as many orders.

    The merged arm has the tasks, and the metrics of tasks that are not ours, that all of them ran; its
    orders are the settings, ``fixed`` first. Positions of images are not known.

    Raises:
        UserError: two of them ran a task on different docs, or have no task in common.
    """
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        settings = {key: text(value) for key, value in arm.settings.items() if key != SETTING}
        groups.setdefault(json.dumps([arm.model, sorted(settings.items())]), []).append(arm)
    merged: list[Arm] = []
    for group in groups.values():
        several = len({_order(arm) for arm in group}) == len(group) > 1
        merged += [_merged(sorted(group, key=_rank))] if several else group
    return merged


def _order(arm: Arm) -> str:
    return text(usual_settings(arm.settings)[SETTING])


def _rank(arm: Arm) -> tuple[bool, str]:
    return _order(arm) != "fixed", _order(arm)


def _merged(group: Sequence[Arm]) -> Arm:
    first = group[0]
    tasks = [_plain(arm) for arm in group]
    common = [task for task in tasks[0] if all(task in others for others in tasks)]
    if not common:
        paths = " and ".join(str(arm.path) for arm in group)
        raise UserError(f"{paths} differ in {SETTING}= only, and ran no task in common")
    orders = [_order(arm) for arm in group]
    permuted = {task: samples for task, samples in first.samples.items() if _is_permuted(samples)}
    samples = {task: _in_orders(group, orders, task, [one[task] for one in tasks]) for task in common}
    settings = {key: value for key, value in first.settings.items() if key != SETTING}
    notes = tuple(dict.fromkeys(note for arm in group for note in arm.notes))
    path = Path(" + ".join(str(arm.path) for arm in group))  # for messages
    return replace(
        first, path=path, settings=settings, samples={**permuted, **samples}, notes=notes, upstream={}
    )


def _is_permuted(samples: Sequence[Sample]) -> bool:
    return bool(samples) and samples[0].ordering is not None


def _plain(arm: Arm) -> Mapping[str, Sequence[Sample]]:
    """The samples of each task of one order, and of each metric of the others."""
    ours = {task: samples for task, samples in arm.samples.items() if not _is_permuted(samples)}
    return {**ours, **{f"{task} {metric}": scores.samples for (task, metric), scores in arm.upstream.items()}}


def _in_orders(
    group: Sequence[Arm], orders: Sequence[str], task: str, of_arms: Sequence[Sequence[Sample]]
) -> list[Sample]:
    docs = [docs_of(samples) for samples in of_arms]
    for arm, others in zip(group[1:], docs[1:], strict=True):
        if others.keys() != docs[0].keys():
            raise UserError(
                f"{group[0].path} and {arm.path} ran {task} on different docs: run both on the same data "
                "and limit"
            )
    return [
        _ordered(docs_of_arm[key], key, orders, number)
        for key in docs[0]
        for number, docs_of_arm in enumerate(docs)
    ]


def _ordered(doc: Doc, key: tuple[str, int], orders: Sequence[str], number: int) -> Sample:
    ordering = Ordering(
        base_doc_id=doc.doc_id,
        base_hash=f"{key[0]}~{key[1]}",
        order=(zlib.crc32(orders[number].encode()),),  # names the order; which image is where is not known
        order_index=number,
        n_orders=len(orders),
        orders=f"{SETTING}={', '.join(orders)}",
        order_seed=0,
        target_positions=None,
    )
    return replace(doc.samples[0], ordering=ordering)
