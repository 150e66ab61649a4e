"""What a cell, a row or a batch is drawn from: bijections, normals, observations, bins, points."""
