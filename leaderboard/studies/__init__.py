"""The page, figures and tables of a study, from the folder that `mimic reproduce` wrote (METHODS 17)."""
