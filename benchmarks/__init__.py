"""What lading costs, against what it stands on: `make bench`, or `python -m benchmarks [--quick] [name ...]`."""
