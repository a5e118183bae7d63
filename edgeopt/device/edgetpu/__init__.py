"""Edge TPUs on a device: what is there, which runtime may open it, and why one does not."""
