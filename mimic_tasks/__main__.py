"""``python -m mimic_tasks``: the `lmms_eval` command, for `torchrun` and `accelerate launch`."""

from mimic_eval.cli.lmms import main

if __name__ == "__main__":
    main()
