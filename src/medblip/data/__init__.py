"""Images and captions in, batches out; knows no model."""
