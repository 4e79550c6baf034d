"""What the tests are held against: definitions in float64 NumPy, and the cases that several tests share."""
