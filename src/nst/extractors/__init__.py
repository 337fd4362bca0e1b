"""Feature extractors: networks whose layers losses compare."""
