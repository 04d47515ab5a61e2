"""The made corpus: python -m data_prep.synthetic."""
