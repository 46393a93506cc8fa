"""The commands. `mimic` gathers what is not a run; `lmms_eval` is upstream's command, which knows our tasks.

Nothing is imported here before a command starts, so that Ctrl-C is answered in a line from its first moment.
"""


def main() -> None:
    """The `mimic` command."""
    stoppable("commands")


def stoppable(module: str) -> None:
    """Call a module's `run`; a signal ends it with one line on stderr, also while it is imported.

    Args:
        module: of this package.
    """
    try:
        from mimic_eval.cli.stopping import run_until_stopped
    except KeyboardInterrupt:
        import sys

        print("interrupted: nothing was written\nrun the same command to start again", file=sys.stderr)
        raise SystemExit(130) from None
    run_until_stopped(module)
