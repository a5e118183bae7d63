"""Boards over SSH, by paramiko on a socket of our own."""
