"""A board made ready for measuring, and put back whatever happens."""
