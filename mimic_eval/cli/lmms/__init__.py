"""`lmms_eval`: upstream's command, which knows our tasks and reports a failed run.

Upstream catches every failure and exits 0 (LMMS_EVAL trap 1). Here some of its functions are wrapped, not
replaced, so that all flags and files stay upstream's. `arguments` is what can be seen wrong before anything
is loaded, `config` a config file's values, `wrappers` wraps functions of upstream, `outputs` how
its files appear, `run` the command.
"""


def main() -> None:
    """The `lmms_eval` command, also ``python -m mimic_tasks``."""
    from mimic_eval.cli import stoppable

    stoppable("lmms.run")
