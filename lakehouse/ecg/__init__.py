"""ECG: chunks of a waveform as monitors and records give them, and the beats and rhythm that are found in them."""
