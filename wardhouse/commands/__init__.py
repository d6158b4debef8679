"""One module a command: its options and help, and a call of what does the work. Heavy imports stay inside functions."""
