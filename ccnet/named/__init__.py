"""Published data sets: their classes, what their label files store, where their splits lie."""
