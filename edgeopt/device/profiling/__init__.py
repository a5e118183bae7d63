"""Where the time of an inference goes, per operation."""
