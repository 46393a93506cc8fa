"""What the attention of a diagnosed run says (METHODS 8): estimates, tests, figures, two runs compared."""
