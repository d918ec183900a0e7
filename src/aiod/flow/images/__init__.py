"""Images in: every format as axes TCZYX, read box by box."""
