"""Steps before the model and on its labels, exact whatever the box."""
