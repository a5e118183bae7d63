"""Android phones: the adb program as a process, files over its own protocol."""
