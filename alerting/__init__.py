"""Rule packs, bands, the alert life cycle and the router that runs it. No Spark."""
