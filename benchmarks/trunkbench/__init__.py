"""The benchmark of channels-trunk and its peers: see benchmarks/README.md."""
