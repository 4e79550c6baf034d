"""`keras-shapley explain`: pictures of relevance, and one line for an error."""
