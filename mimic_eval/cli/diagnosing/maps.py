"""Pictures with the attention of some rows drawn over each image, before and after the mask (METHODS 8)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimic_eval.records import Unscorable, UserError

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from mimic_eval.cli.diagnosing.run import Job
    from model_adapters.diagnostics.observing import Watcher


def draw_maps(job: "Job", watcher: "Watcher", requests: Sequence["Instance"]) -> Iterator[Path]:
    """One PNG for each doc of ``--maps``; under a mask a row of images without it comes first.

    Raises:
        UserError: no such doc, rows or layers, or a model whose tokens show no parts of a picture.
    """
    from model_adapters.diagnostics.maps import attention_of, drawn, rows_of
    from model_adapters.interventions.none.kernel import NoIntervention
    from model_adapters.layers import parse_layers

    if not watcher.model.family.has_places:
        raise UserError(
            f"--maps: the tokens of {watcher.model.family.name} show no parts of a picture: leave it out"
        )
    layers = parse_layers(job.map_layers, watcher.depth) & watcher.layers
    mask = watcher.model.engine.intervention.name
    for request in [_request(text, requests) for text in job.maps]:
        try:
            shown = watcher.show(request)
        except Unscorable as reason:
            raise UserError(f"--maps: {request.args[4]} doc {request.args[3]}: {reason}") from reason
        groups = rows_of(job.map_rows, shown.images)
        seen = {"none": watcher.watch(shown, tokens=True, intervention=NoIntervention())}
        if mask != "none":
            seen[mask] = watcher.watch(shown, tokens=True)
        of_images = {name: attention_of(one, groups, layers) for name, one in seen.items()}
        places = next(iter(seen.values())).rectangles
        picture = drawn(shown.single.images, of_images, places)
        rows = job.map_rows.replace(":", "_")
        path = job.out / "maps" / f"{request.args[4]}-{request.args[3]}-{rows}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        yield path


def _request(text: str, requests: Sequence["Instance"]) -> "Instance":
    """The request of ``TASK:NUMBER``, or of a number if there is one task."""
    task, _, number = text.rpartition(":")
    tasks = sorted({str(request.args[4]) for request in requests})
    if not task and len(tasks) > 1:
        raise UserError(f"--maps {text}: several tasks have such a doc, name one: {tasks[0]}:{text}")
    for request in requests:
        if str(request.args[3]) == number and request.args[4] == (task or tasks[0]):
            return request
    raise UserError(
        f"--maps {text}: no such doc among the {len(requests)} that are run ({', '.join(tasks)}); docs are "
        "numbered from 0, and --docs says how many"
    )
