"""The soak: processes that work, fail and are killed, and then a count of what is there: `make soak`."""
