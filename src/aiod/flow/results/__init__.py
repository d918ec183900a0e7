"""What comes out: labels, objects, pictures, exports, scores."""
