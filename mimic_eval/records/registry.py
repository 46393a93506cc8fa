"""Names that a user may choose from, and what each of them is; nothing is imported before it is chosen.

The idea is that of EleutherAI/lm-evaluation-harness (`lm_eval/api/registry.py`).
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from mimic_eval.records.errors import UserError, nearest


class Registry:
    """Named objects, each given as ``package.module:Name``.

    Packages that a user installs add names by an entry-point group, and a user may write
    ``package.module:Name`` instead of a name.

    Args:
        kind: what is chosen, for messages ("mask").
        targets: name -> ``package.module:Name``.
        group: entry-point group; no names from other packages if None.
    """

    def __init__(self, kind: str, targets: Mapping[str, str], *, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._targets = dict(targets)
        self._ours = tuple(sorted(targets))
        self._read_group = group is None

    def _all(self) -> dict[str, str]:
        """Our names and those of the group.

        Raises:
            UserError: two packages give one name.
        """
        if not self._read_group:
            for point in entry_points(group=str(self.group)):
                if self._targets.get(point.name, point.value) != point.value:
                    raise UserError(
                        f"{self.kind} '{point.name}' is defined twice: {self._targets[point.name]} and "
                        f"{point.value} (entry-point group {self.group}); uninstall one of the packages"
                    )
                self._targets[point.name] = point.value
            self._read_group = True
        return self._targets

    @property
    def ours(self) -> tuple[str, ...]:
        """The names of the table, sorted, without other packages'; nothing is read for them."""
        return self._ours

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._all()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def get(self, name: str) -> Any:
        """The object of a name, or of ``package.module:Name``.

        Raises:
            UserError: an unknown name, with the nearest one; a target that cannot be imported.
        """
        target = self._all().get(name, name)
        if ":" not in target:
            raise UserError(nearest(self.kind, name, self._all()))
        return import_target(target, f"{self.kind} '{name}'")


def import_target(target: str, what: str) -> Any:
    """The object that ``package.module:Name`` names.

    Args:
        target: as above.
        what: is imported, for the message.

    Raises:
        UserError: it cannot be imported.
    """
    module, _, attribute = target.partition(":")
    try:
        imported = import_module(module)
        for part in attribute.split("."):
            imported = getattr(imported, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{what}: {target} cannot be imported ({error})") from error
    return imported
