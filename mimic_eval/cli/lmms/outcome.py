"""What became of the evaluations of a command line."""

from dataclasses import dataclass, field

from mimic_eval.cli.lmms.outputs import NewFolder

USER, FAILED = 2, 1


@dataclass
class Outcome:
    """Failures with their exit codes, and the tables to print.

    Attributes:
        errors: (exit code, message).
        tables: of the runs that have results.
        folders: where their files are.
        uncovered: upstream's tables are printed too: on request, or as they have tasks that ours lack.
        started: the evaluation at hand is past upstream's checks of its arguments.
        new_folder: where files go if the user names no folder.
    """

    errors: list[tuple[int, str]] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    uncovered: bool = False
    started: bool = False
    new_folder: NewFolder | None = None

    def fail(self, code: int, message: str) -> None:
        """Enter a failure."""
        self.errors.append((code, " ".join(message.split())))


def cause(error: BaseException) -> str:
    """One line for an exception; what a retry gave up on is its cause."""
    error = given_up(error)
    missing = _missing_module(error)
    if missing is not None:
        return f"the package {missing} is missing: pip install {missing}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "Found no NVIDIA driver" in lines[0]:  # several of upstream's models ignore --device
        return "this machine has no GPU that torch can use: add device_map=cpu to --model_args"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def given_up(error: BaseException) -> BaseException:
    """The exception that upstream's retries gave up on; else the exception itself."""
    attempt = getattr(error, "last_attempt", None)
    return error if attempt is None else attempt.exception() or error


def _missing_module(error: BaseException) -> str | None:
    """The module that an import did not find, of the error or of what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ModuleNotFoundError) and seen.name:
            return seen.name.split(".")[0]
        seen = seen.__cause__
    return None
