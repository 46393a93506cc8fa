"""``python -m mimic_eval``: the `mimic` command, for `torchrun` and `accelerate launch`."""

import os
import sys

if __name__ == "__main__":
    # `python -m` puts the working folder first, where a user's stats.py would hide our package of that name.
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if sys.path[0] in ("", os.getcwd()) and os.path.realpath(sys.path[0]) != root:
        del sys.path[0]
    from mimic_eval.cli import main

    main()
