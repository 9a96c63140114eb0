"""Values that every part of the project agrees on."""

IGNORE_INDEX = -1
"""Label of pixels that count in no loss and no metric."""
