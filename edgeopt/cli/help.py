"""The text of `edgeopt --help`; a test holds it against the commands that really exist."""

HELP = """\
"""
