"""Runs on the device: standard library only, Python 3.7 grammar, pushed as one zip file.

A JSON request on stdin; JSON lines on stdout, the first with the schema. It loads the model, times
`invoke` and nothing else, reads what the board says about itself, and judges nothing: statistics
and validity are the host's. The runtimes are imported inside functions; numpy comes with them.

All imports among these files are relative: on the device the package has another name.
"""
