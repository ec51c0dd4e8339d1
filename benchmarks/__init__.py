"""What `make bench` runs: specgen beside the peers, each module one table of docs/benchmarks.md."""
