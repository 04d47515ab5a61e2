"""Pretrained speech encoders: networks, weights, and the plane that their hidden states give."""
