"""The SQL of each engine and how its rows are read. Imports no driver."""
