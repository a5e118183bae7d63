"""The native runner: a small C program on LiteRT's C library, built, sent and read."""
