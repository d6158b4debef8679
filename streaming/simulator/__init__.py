"""Patients who do not exist: vital signs with episodes and faults, and the truth about every message sent.

``cohort`` says who lies where, ``physiology`` what their monitors read, ``episodes`` when they fall ill, ``transients``
when it only looks so, ``faults`` what goes wrong on the way, ``simulation`` makes records of it, ``truth`` writes it
down, ``sender`` keeps time, ``regenerate`` makes a run again.
"""
