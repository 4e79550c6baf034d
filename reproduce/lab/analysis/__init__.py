"""How results are read: a module for each figure, table or study, of the same name.

Each module holds the paper's numbers, the statistics, the table and the picture. The script that makes the results and
the report both use it. What needs no training is also computed there.
"""
