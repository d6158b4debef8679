"""Pure transforms: DataFrames in, a DataFrame out. They never read, write or look for a session."""
