"""What people send who want to break it, against a whole application with `LadingPlugin`."""
