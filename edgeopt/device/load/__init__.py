"""Throughput, and latency under load."""
