"""Ways in and out of the lakehouse for other systems."""
