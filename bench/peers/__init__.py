"""The same small job in other engines. Each program runs in an environment of its own and is never imported by ours."""
