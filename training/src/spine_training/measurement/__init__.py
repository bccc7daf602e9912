"""The measurement CNN: disc height and canal AP diameter in mm from a patch around a disc."""
