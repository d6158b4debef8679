"""Tables of silver and gold copied to databases that a site has already (docs/sinks.md)."""
