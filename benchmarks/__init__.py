"""Measures durable against its disk (`python -m benchmarks`) and against its peers (`python -m benchmarks.peers`)."""
