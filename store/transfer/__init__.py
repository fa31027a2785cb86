"""Features from and to other formats.

    import_release.py       the `.pt` folders of the original PAVE release
    import_npy.py           a folder of `.npy` files
    import_hdf5.py          arrays in HDF5, and our own HDF5 exports (export_hdf5.py)
    safetensors_folder.py   our own safetensors exports, both ways

Every import is a list of samples that `import_stream.py` brings into parts and commits.
"""
