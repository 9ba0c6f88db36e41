"""Six ways to compute a chart once for several questions."""
