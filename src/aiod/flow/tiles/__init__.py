"""Tiles: planned, run, kept, joined, written."""
