"""Measures durable against the disk it runs on: `python -m benchmarks`, and against peers: `python -m benchmarks.peers`."""
