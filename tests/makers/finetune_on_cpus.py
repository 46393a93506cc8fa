"""`python -m finetune` as processes of GPUs are started, on CPUs: for `accelerate launch` with FSDP."""

import sys

from mimic_eval.cli import main
from tests.makers.processes import on_cpus

if __name__ == "__main__":
    on_cpus()
    sys.argv.insert(1, "finetune")
    main()
