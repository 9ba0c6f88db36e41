"""Ways to pay once for a chart that several questions share."""
