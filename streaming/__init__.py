"""The Spark jobs, and what feeds them: simulator and replay."""
