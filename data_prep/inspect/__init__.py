"""A page about a corpus: python -m data_prep.inspect."""
