"""Answers from the web (Lazaridou et al. 2022, arXiv 2203.05115): search, guarded fetching, evidence, scorers."""
