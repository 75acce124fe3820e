"""The control plane: the only threads of the library and its only shared state that changes.

Actors own what outlives a connection. They tell each other frozen messages and never wait for one another;
threads and tasks of the application ask them with a deadline. Nothing starts when this package is imported.
"""
