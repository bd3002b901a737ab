"""Measures, and what `headlab evaluate` makes of them.

image, distributions, depth       pictures pair by pair; pictures as sets; depth maps
verification, agreement           is it the same person; are read emotions those wanted
networks, chosen, inception,
iresnet, emonet, emotion_networks the networks that metrics look with, and which of them an evaluation takes
faces, images, report, bootstrap  pictures to be measured, the evaluation of pictures, its report, its certainty
surface_score                     one surface against a true one: Chamfer distance, normals, F-score; head and face
geometry_table, table_rows        fields, linear and parametric models fitted to the same points of the same people
"""
