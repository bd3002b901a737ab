"""The 68 points of iBUG / Multi-PIE among MediaPipe's 478.

Right and left are the subject's. Order of the 68: jaw from the right ear to the left (0-16), right brow from its
outer end (17-21), left brow from its inner end (22-26), nose bridge downwards (27-30), nose base from the right
(31-35), right eye from its outer corner, upper lid first (36-41), left eye from its inner corner (42-47), outer
lips from the right corner, upper first (48-59), inner lips likewise (60-67).
"""

#: MediaPipe index of each iBUG point.
IBUG68: tuple[int, ...] = (
    *(127, 234, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 454, 356),  # jaw
    *(70, 63, 105, 66, 107),  # right brow
    *(336, 296, 334, 293, 300),  # left brow
    *(168, 197, 5, 4),  # nose bridge
    *(98, 97, 2, 326, 327),  # nose base
    *(33, 160, 158, 133, 153, 144),  # right eye
    *(362, 385, 387, 263, 373, 380),  # left eye
    *(61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91),  # outer lips
    *(78, 81, 13, 311, 308, 402, 14, 178),  # inner lips
)

#: Positions within the 68.
JAW = slice(0, 17)
RIGHT_BROW, LEFT_BROW = slice(17, 22), slice(22, 27)
NOSE = slice(27, 36)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
OUTER_LIPS, INNER_LIPS = slice(48, 60), slice(60, 68)

#: Outer eye corners (right, left) among the 478: the usual unit of landmark errors.
OUTER_EYE_CORNERS = (33, 263)
