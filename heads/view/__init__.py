"""What a viewer needs of a head, apart from showing it: opening files, controls, editing, light, saving.

path ──> `opened` (fits, tracks, meshes, clouds, RGB-D) ──> `editor` (values by `controls`, undo, transfer)
     ──> vertices, `lighting` ──> viewers;  `saving` writes what is shown
"""
