"""Graphs: neighbour lists, edge vectors, batches with labels, statistics of a data set."""
