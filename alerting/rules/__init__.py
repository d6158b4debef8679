"""Rule packs, one YAML file each, read by :mod:`alerting.pack`."""
