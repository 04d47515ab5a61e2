"""The synthetic corpus: python -m data_prep.synthetic."""
