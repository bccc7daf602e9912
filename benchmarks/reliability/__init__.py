"""What shows that SpineServe keeps working: fuzzing, faults under load, long runs.

``make fuzz``, ``make chaos`` and ``make soak`` run its modules; each ends in a table.
"""
