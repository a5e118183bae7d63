"""The host's side of the Python agent: what it is asked, sent and believed."""
