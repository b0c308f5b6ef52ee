"""Where bytes lie: the protocols of a backend, and the two that lading ships, each imported by who uses it."""
