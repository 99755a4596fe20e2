"""Small hosts for what `slicer-core` lacks of Slicer: the application's names, and the base classes of a module.

Written for these tests from Slicer's documented behaviour; scene, nodes, logics and files are Slicer's own.
"""
