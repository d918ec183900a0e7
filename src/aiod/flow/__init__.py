"""The pipeline: an image in, tiles, a model's own worker, tiles joined, labels and a record out."""
