"""What breaks the stack on purpose, and what is held against it afterwards."""
