"""The kinds of tasks, one module each; the module's name is the kind's, and `SPEC` its record."""
