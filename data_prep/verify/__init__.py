"""Is the corpus complete and sound? python -m data_prep.verify."""
