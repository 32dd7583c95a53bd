"""Theory beside simulation, publications and measurements: why should anybody believe it?"""
