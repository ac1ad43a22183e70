"""Captioners: loading, losses, decoding, freezing, adapters and attention maps."""
