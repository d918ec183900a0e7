"""The napari plugin: a door to the registry and the pipeline, without logic of its own."""
